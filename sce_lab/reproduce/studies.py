"""What the tournament, SCE's options and the referee say, as Markdown: numbers and sentences follow from records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sce_lab.data import DATASETS
from sce_lab.explain.hypotheses import HELPS, HURTS, verdicts
from sce_lab.losses import LOSSES
from sce_lab.memory import format_bytes
from sce_lab.reproduce.findings import findings
from sce_lab.reproduce.matches import MATCHES, in_words
from sce_lab.reproduce.report import for_readers, heading, results_table
from sce_lab.reproduce.variants import PLAIN
from sce_lab.training.config import completed

_NOT_YET = "Nothing of this has been recorded yet: `{}` does it."


def markdown(table: pd.DataFrame) -> str:
    """A table of text in Markdown; all columns but the first, and those of words, are numbers."""
    sides = ["---" if i == 0 or name == "what it changes" else "--:" for i, name in enumerate(table.columns)]
    rows = [table.columns, sides, *table.to_numpy()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def tournament_markdown(
    records: Sequence[dict[str, Any]], baselines: Sequence[dict[str, Any]] = (), folder: Path | None = None
) -> str:
    """For each data set of the tournament a table, and how its losses compare on the same users.

    Args:
        records: of the tournament; those whose test is not opened yet are not shown.
        baselines: of the same data sets, by their names in the tournament.
        folder: of the records, where their ranks are.
    """
    tested = [record for record in records if "tested_at" in record]
    parts = []
    for name, rules in _meetings(tested):
        mine = [record for record in tested if record["dataset"] == name and _rules_of(record) == rules]
        mine.sort(key=lambda record: -record["mean"]["NDCG@10"])
        table = results_table(mine, [record for record in baselines if record["dataset"] == name])
        table = table[~table["published"] & ~table["together"]]
        shown = for_readers(table).drop(columns=["minutes"])
        shown.insert(4, "validation NDCG@10", ["" if pd.isna(v) else f"{v:.4f}" for v in table["validation"]])
        took = {record["recipe"]: f"{record['took']['seconds']:.1f}" for record in mine}
        shown.insert(5, "s planned", [took.get(recipe, "") for recipe in table["recipe"]])
        computed = {record["recipe"]: f"{_cpu_seconds(record):.0f}" for record in mine}
        shown.insert(6, "CPU s, all", [computed.get(recipe, "") for recipe in table["recipe"]])
        parts += [f"**{heading(name, baselines, MATCHES[name].title)}**", in_words(rules), markdown(shown)]
        said = findings(name, table, mine, folder=folder)
        parts.append("\n".join(f"- {sentence}" for sentence in said))
    return "\n\n".join(filter(None, parts)) or _NOT_YET.format("sce-lab tournament")


def _cpu_seconds(record: dict[str, Any]) -> float:
    """What a training computed for in fact, evaluations included, as a mean over the seeds."""
    return sum(seed["cpu_seconds"] for seed in record["seeds"]) / len(record["seeds"])


def _meetings(records: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Data sets, each with the rules that its records have: usually the same, and if not, each has a table."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name in MATCHES:
        for record in records:
            if record["dataset"] == name and (name, _rules_of(record)) not in found:
                found.append((name, _rules_of(record)))
    return found


def _rules_of(record: dict[str, Any]) -> dict[str, Any]:
    """The rules of a record, with the settings that there were not when it was written."""
    return record["rules"] | {"config": completed(record["rules"]["config"])}


def counts_markdown(records: Sequence[dict[str, Any]]) -> str:
    """What counts of what followed what add to trained models, by data set, loss and weight; and what that says."""
    parts, gains, beyond = [], [], 0
    for record in records:
        weights = [f"weight {weight:g}" if weight else "model alone" for weight in record["weights"]]
        shown = []
        for row in record["rows"]:
            without, with_counts = (row["mean"][record["weights"].index(weight)] for weight in (0.0, 1.0))
            gains.append(with_counts - without)
            beyond += with_counts > max(record["alone"]["followers"], without)
            special = row["recipe"].removeprefix(row["loss"]).lstrip("-")
            name = {"loss": f"{LOSSES[row['loss']].label} ({special})", "seeds": str(len(row["by seed"]))}
            shown.append(name | {weight: f"{value:.4f}" for weight, value in zip(weights, row["mean"])})
        alone = f"{record['metric']} on validation; counts alone {record['alone']['followers']:.4f}"
        parts += [f"**{record['title']}**: {alone}", markdown(pd.DataFrame(shown))]
    if not gains:
        return _NOT_YET.format("python benchmarks/counts.py MATCH")
    better = sum(gain > 0 for gain in gains)
    parts.append(
        f"Means over seeds. With a weight of 1, {better} of these {len(gains)} are better than without counts; the "
        f"difference is {min(gains):+.4f} to {max(gains):+.4f}. {beyond} are better than either alone; the others have "
        f"learned less than the counts know."
    )
    return "\n\n".join(parts)


def variants_markdown(records: Sequence[dict[str, Any]]) -> str:
    """SCE's options on each data set: a row each, and which help, beside the paper's SCE with the same seeds."""
    return "\n\n".join(map(_variants_of, records)) or _NOT_YET.format("sce-lab variants")


def _variants_of(record: dict[str, Any]) -> str:
    rows = {row["name"]: row for row in record["rows"]}
    judged = _beside_plain(rows)
    shown = []
    for name, row in rows.items():
        differs = judged.loc[name] if name in judged.index else None
        shown.append(
            {
                "SCE": row["words"],
                "validation NDCG@10": f"{row['validation NDCG@10']:.4f} ± {row['validation NDCG@10 sd']:.4f}",
                "difference": "" if differs is None else f"{differs['mean']:+.4f}{_give_or_take(differs['reach'])}",
                "gradient error": f"{row['error']:.2f}",
                "its bias": f"{row['bias']:.2f}",
                "its spread": f"{row['spread']:.2f}",
                "hardest seen": f"{row['hardest seen']:.0%}",
                "coverage": f"{row['coverage']:.0%}",
                "log-sum bias": _signed(row["log sum bias"]),
                "calibration error": f"{row['calibration error']:.4f}",
                "holds": format_bytes(row["workspace"]),
                "CPU s an epoch": f"{row['CPU seconds an epoch']:.1f}",
            }
        )
    config, n = record["config"], len(rows[PLAIN]["by seed"])
    heading = (
        f"**{_title(record['dataset'])}, {config['max_epochs']} epochs, {n} seeds**; the first row is exact "
        f"cross-entropy, and differences are from the paper's SCE with the same seeds, with 95 % intervals."
    )
    return "\n\n".join([heading, markdown(pd.DataFrame(shown)), *_what_helps(rows, judged)])


def _give_or_take(reach: float) -> str:
    """Half an interval; nothing for one seed, whose is endless."""
    return f" ± {reach:.4f}" if math.isfinite(reach) else ""


def _signed(value: float | None) -> str:
    """A number with its sign; nothing where no position was counted."""
    return "" if value is None else f"{value:+.2f}"


def _beside_plain(rows: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """By name, the difference of each row's validation NDCG@10 to the plain SCE's, seed by seed."""
    plain = rows[PLAIN]["by seed"]
    differences = [
        {"hypothesis": name, "seed": seed, "difference": reached - plain[seed]}
        for name, row in rows.items()
        if name != PLAIN
        for seed, reached in enumerate(row["by seed"])
    ]
    judged = verdicts(pd.DataFrame(differences)).set_index("hypothesis")
    return judged.assign(reach=judged["high"] - judged["mean"])


def _what_helps(rows: dict[str, dict[str, Any]], judged: pd.DataFrame) -> list[str]:
    """Sentences: what helps quality, and what is nearer to cross-entropy."""
    by_verdict = {HELPS: "Ranks better", HURTS: "Ranks worse"}
    said = []
    for verdict, words in by_verdict.items():
        names = [rows[name]["words"] for name in judged.index[judged["verdict"] == verdict]]
        said.append(f"- {words} than the paper's SCE: {'; '.join(names) or 'none, as far as these seeds tell'}.")
    options = [row for name, row in rows.items() if name in judged.index and row["settings"]]
    plain = rows[PLAIN]
    for measure, words in (("error", "Nearer to cross-entropy's gradient"), ("CPU seconds an epoch", "Quicker")):
        names = [
            f"{row['words']} ({row[measure]:.2f})"
            for row in sorted(options, key=lambda row: row[measure])
            if row[measure] < 0.95 * plain[measure]
        ]
        said.append(f"- {words}, by a twentieth or more (SCE {plain[measure]:.2f}): {'; '.join(names) or 'none'}.")
    asked = [row for row in options if row["log sum bias"] is not None]
    honest = [row["words"] for row in asked if abs(row["log sum bias"]) < 0.1]
    said.append(
        f"- The softmax's sum is that over the catalog, to a tenth in its logarithm (SCE "
        f"{_signed(plain['log sum bias']) or 'counts no position'}): {'; '.join(honest) or 'none'}."
    )
    return ["\n".join(said)]


def fidelity_markdown(tables: Sequence[pd.DataFrame]) -> str:
    """The referee on trained models: gradient error and its parts beside what is looked at, for each moment.

    Args:
        tables: as of :func:`sce_lab.reproduce.refereed.read_fidelity`.
    """
    parts = []
    for table in tables:
        items = table[table["of"] == "items"]
        losses = items[~items["kind"].isin(["ce"])]
        rows = []
        for name, of_loss in losses.groupby("loss", sort=False):
            row = {"loss": str(name), "holds": format_bytes(of_loss["workspace"].max())}
            for moment in of_loss.to_dict("records"):
                at = f"after {moment['epoch']}"
                row |= {f"error {at}": f"{moment['error']:.2f} ({moment['bias']:.2f}, {moment['spread']:.2f})"}
                row |= {f"hardest {at}": f"{moment['hardest seen']:.0%}"}
            rows.append(row)
        trained = LOSSES[table["trained"].iloc[0]].label
        heading = f"**{_title(table['dataset'].iloc[0])}, a model trained with {trained}**; in brackets bias and spread"
        parts += [heading, markdown(pd.DataFrame(rows)), _why(items, trained)]
    return "\n\n".join(filter(None, parts)) or _NOT_YET.format("sce-lab fidelity --record")


def _why(items: pd.DataFrame, trained: str) -> str:
    """SCE's error beside that of the random draw that is nearest, and what both are made of."""
    last = items[items["epoch"] == items["epoch"].max()]
    ours, drawn = (last[last["kind"].isin(kinds)] for kinds in (["sce"], ["ce_minus", "sampled"]))
    if ours.empty or drawn.empty:
        return ""
    sce = ours.sort_values("error").iloc[0]
    like = drawn.iloc[(drawn["error"] - sce["error"]).abs().argsort().iloc[0]]

    def parts(row: pd.Series) -> str:
        return (
            f"off by {row['error']:.2f} (bias {row['bias']:.2f}, spread {row['spread']:.2f}) and looks at "
            f"{row['hardest seen']:.0%} of the ten hardest items"
        )

    share, of_draw = (row["bias"] ** 2 / row["error"] ** 2 for row in (sce, like))
    kind = "it errs on one side, and is not only a noisy copy of cross-entropy" if share > 0.1 else "it errs by chance"
    return (
        f"- After {sce['epoch']} epochs with {trained}, {sce['loss']} is {parts(sce)}; {like['loss']}, the random draw "
        f"whose error is nearest, is {parts(like)}.\n"
        f"- Of SCE's squared error {share:.0%} is the same in every draw, of that draw's {of_draw:.0%}: {kind}."
    )


def _title(dataset: str) -> str:
    return DATASETS[dataset].title if dataset in DATASETS else dataset

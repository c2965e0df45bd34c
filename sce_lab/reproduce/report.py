"""Tables of published and reproduced results, made from the records."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from sce_lab.data import DATASETS
from sce_lab.losses import LOSSES
from sce_lab.memory import format_bytes
from sce_lab.metrics import BASELINES, SEEN
from sce_lab.reproduce.opening import WITHOUT_COUNTS
from sce_lab.reproduce.published import PUBLISHED
from sce_lab.reproduce.recipes import RECIPES

METRICS = ("HR@10", "NDCG@10", "COV@10")
RULES = {"exclude": "seen items left out", "keep": "seen items kept", "new": "new targets only"}
RULES |= {WITHOUT_COUNTS: "counts left out"}
"""Rules about seen items, as rows name them that are not of the usual one."""
_COLUMNS = [
    *("dataset", "published", "baseline", "trial", "together", "recipe", "model", "loss", "seen", *METRICS),
    *(f"{name}_{what}" for what in ("sd", "low", "high") for name in METRICS),
    *("HR@10_new", "HR@10_repeats", "validation", "seeds", "best_epoch", "epochs", "seconds", "cpu_seconds"),
    *("peak_memory", "loss_workspace", "source", "note"),
]


def is_trial(record: dict[str, Any]) -> bool:
    """Whether the record is of a recipe with changed settings (``--set``)."""
    return "+" in record["recipe"]


def model_name(record: dict[str, Any]) -> str:
    """What was trained, for people: encoder, loss, and the recipe where it is not named like the loss."""
    encoder = "SASRec, gated" if record["config"].get("encoder") == "sasrec_gated" else "SASRec"
    encoder += " + running mean" if record["config"].get("low_pass") else ""
    encoder += " + counts" if record["config"].get("followers") else ""
    loss, recipe = record["config"]["loss"], record["recipe"]
    name, _, changes = recipe.partition("+")
    rule = record["config"].get("seen", "exclude")
    named = "ce" if loss == "cce" and not name.startswith("cce") else loss  # one loss: recipes may call it either way
    special = [name.removeprefix(named).lstrip("-"), *changes.split(","), "" if rule == "exclude" else SEEN[rule]]
    special = ", ".join(filter(None, special))
    return f"{encoder}, {LOSSES[loss].label}" + (f" ({special})" if special else "")


def results_table(records: list[dict[str, Any]], baselines: Sequence[dict[str, Any]] = ()) -> pd.DataFrame:
    """One row a published result, a baseline and a record: data sets in the order of the recipes; in each published
    rows first, then baselines, and trials last, otherwise as the records come. A record of several seeds has a second
    row: what their models reach together; and one for each other rule about seen items that it was judged by. Records
    that are withdrawn have none (see :func:`withdrawn`), nor have published results on data sets that the lab does not
    load.

    Columns: ``dataset, published, baseline, trial, model, loss``, the rule about ``seen`` items (empty: an older one,
    or not known), the test :data:`METRICS`, their ``*_sd`` over seeds (NaN for one seed) and their 95 % interval over
    users and seeds ``*_low, *_high`` (NaN where ranks were not kept), HR@10 of ``*_new`` targets and of ``*_repeats``
    (NaN where none repeats), ``recipe``, whether its runs are added up (``together``), ``validation`` NDCG@10,
    ``seeds``, ``best_epoch, epochs, seconds, cpu_seconds`` (means), ``peak_memory, loss_workspace`` (bytes, the
    largest), and ``source``: where a published row stands, or the command that repeats ours; ``note``, what to know
    before comparing. NaN: not known.
    """
    rows = [
        {"dataset": p.dataset, "published": True, "model": p.model, **p.metrics, "source": p.source, "note": p.note}
        for p in PUBLISHED
        if p.dataset in DATASETS
    ]
    for record in baselines:
        rows += [_baseline_row(record, row) for row in record["rows"]]
        if ceiling := record.get("ceiling"):
            best = {"model": "The best that can be expected of any model", "source": record["repeat"]}
            rows.append({"dataset": record["dataset"], **best, **{name: ceiling.get(name) for name in METRICS}})
    for record in records:
        if "withdrawn" in record:
            continue
        row = _row(record)
        rows.append(row)
        if record.get("together"):
            rows.append(_together_row(record, record["together"], row))
        rows += [_other_rule_row(rule, found, row) for rule, found in record.get("other_rules", {}).items()]
    datasets = {name: i for i, name in enumerate([*RECIPES, *DATASETS])}
    usual = {"published": False, "baseline": False, "trial": False, "together": False, "seen": "", "recipe": ""}
    rows = [usual | row for row in rows]

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        known = datasets.get(row["dataset"], len(datasets))
        return known, row["dataset"], not row["published"], not row["baseline"], row["trial"]

    return pd.DataFrame(sorted(rows, key=place)).reindex(columns=_COLUMNS)


def withdrawn(records: list[dict[str, Any]]) -> list[str]:
    """A sentence for each data set that has records which are not shown, and why."""
    why: dict[tuple[str, str], int] = {}
    for record in records:
        if reason := record.get("withdrawn"):
            why[record["dataset"], reason] = why.get((record["dataset"], reason), 0) + 1
    words = {1: "1 record of a trained model is"}
    return [
        f"{DATASETS[dataset].title}: {words.get(n, f'{n} records of trained models are')} not shown: {reason}"
        for (dataset, reason), n in why.items()
    ]


def heading(dataset: str, baselines: Sequence[dict[str, Any]], title: str = "") -> str:
    """The name of a data set, or this title; who was asked, and what repeats, as far as the baselines know."""
    title = title or (DATASETS[dataset].title if dataset in DATASETS else dataset)
    split = next((record["split"] for record in baselines if record["dataset"] == dataset), None)
    if split is None:
        return title
    share = split["test targets that repeat"]
    repeats = f"{share:.1%} of the targets repeat" if share else "no target repeats"
    return f"{title}: {split['test users']:,} test users, {split['catalog']:,} items, {repeats}"


def _baseline_row(record: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    special = "" if row["seen"] == "exclude" else f", {RULES[row['seen']]}"
    return {
        "dataset": record["dataset"],
        "baseline": True,
        "model": f"{BASELINES[row['baseline']].label}, untrained{special}",
        "seen": row["seen"],
        **{name: row["test"][name] for name in METRICS},
        **_ends(row),
        **_apart([row]),
        "source": record["repeat"],
    }


def _ends(record: dict[str, Any]) -> dict[str, float]:
    """``NDCG@10_low`` and the like, of what has intervals."""
    found = record.get("interval", {})
    return {f"{name}_{end}": value for name, ends in found.items() for end, value in zip(("low", "high"), ends)}


def _apart(judged: Sequence[dict[str, Any]]) -> dict[str, float]:
    """HR@10 of new targets and of repeats, means over what was judged; nothing where targets are of one kind."""
    if not all(one.get("apart") for one in judged):
        return {}
    return {f"HR@10_{who}": fmean(one["apart"][who]["HR@10"] for one in judged) for who in ("new", "repeats")}


def _row(record: dict[str, Any]) -> dict[str, Any]:
    """The row of a record: means over its seeds."""
    seeds, mean = record["seeds"], record["mean"]
    return {
        "dataset": record["dataset"],
        "trial": is_trial(record),
        "seen": record["config"].get("seen", ""),
        "model": model_name(record),
        "loss": record["config"]["loss"],
        **{name: mean[name] for name in METRICS if name in mean},
        **{f"{name}_sd": record["sd"][name] for name in METRICS if name in record["sd"]},
        **_ends(record),
        **_apart(seeds),
        "recipe": record["recipe"],
        "validation": mean["validation NDCG@10"],
        "seeds": len(seeds),
        "best_epoch": sum(seed["best_epoch"] for seed in seeds) / len(seeds),
        "epochs": sum(seed["epoch"] for seed in seeds) / len(seeds),
        "seconds": mean["seconds"],
        "cpu_seconds": _cpu_seconds(record),
        "peak_memory": _largest(seeds, "peak"),
        "loss_workspace": _largest(seeds, "loss_workspace"),
        "source": record["repeat"],
    }


def _together_row(record: dict[str, Any], together: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """The row of all seeds' models with their scores added up; they were trained one after another."""
    n = len(record["seeds"])
    tested = together.get("test", {})
    return {name: value for name, value in row.items() if "@" not in name} | {
        "model": f"{row['model']}, {n} runs added up",
        **{name: tested[name] for name in METRICS if name in tested},
        "together": True,
        "validation": together["validation"]["NDCG@10"],
        "seconds": n * row["seconds"],
        "cpu_seconds": n * row["cpu_seconds"],
    }


def _other_rule_row(rule: str, found: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """The row of a record's models judged by another rule about seen items than they were chosen by."""
    seeds = found["seeds"]
    return {name: value for name, value in row.items() if "@" not in name and name != "validation"} | {
        "model": f"{row['model']}, {RULES[rule]}",
        "seen": rule,
        **{name: fmean(seed["test"][name] for seed in seeds) for name in METRICS},
        **_ends(found),
        **_apart(seeds),
    }


def _cpu_seconds(record: dict[str, Any]) -> float:
    """The mean over seeds; NaN where it was not counted, or counts one of several threads only."""
    counted = [seed.get("cpu_seconds") for seed in record["seeds"]]
    threads = {seed.get("threads", record["environment"]["threads"]) for seed in record["seeds"]}
    known = threads == {1} and None not in counted
    return fmean(counted) if known else float("nan")


def _largest(seeds: list[dict[str, Any]], part: str) -> float:
    """The most bytes that any seed's run measured; NaN if none was measured."""
    return max((seed["memory"][part] for seed in seeds if part in seed["memory"]), default=float("nan"))


def for_readers(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`results_table` as text with units, rounded; what is not known is empty.

    ``minutes`` are those that went by, and in brackets those of the processor where they were counted, which other work
    on the machine does not change. In brackets behind a metric stands the 95 % interval over users and seeds; ± is the
    standard deviation over seeds, where there is no interval.
    """

    def known(value: float, form: str) -> str:
        return "" if pd.isna(value) else form.format(value)

    def mean(row: dict[str, Any], name: str) -> str:
        ends = "" if pd.isna(row[f"{name}_low"]) else f" [{row[f'{name}_low']:.4f}, {row[f'{name}_high']:.4f}]"
        return known(row[name], "{:.4f}") + (ends or known(row[f"{name}_sd"], " ± {:.4f}"))

    some_repeat = table["HR@10_new"].notna().any()

    def row_of(row: dict[str, Any]) -> dict[str, str]:
        sizes = {name.replace("_", " "): row[name] for name in ("peak_memory", "loss_workspace")}
        best = known(row["best_epoch"], " ({:.0f})")
        apart = {f"HR@10, {who}": known(row[f"HR@10_{who}"], "{:.4f}") for who in ("new", "repeats")}
        return {
            "model": row["model"] + (", published" if row["published"] else "") + known(row["note"] or None, " ({})"),
            **{name: mean(row, name) for name in METRICS},
            **(apart if some_repeat else {}),
            "seeds": known(row["seeds"], "{:.0f}"),
            "epochs (best)": known(row["epochs"], "{:.0f}") + best,
            "minutes": known(row["seconds"] / 60, "{:.1f}") + known(row["cpu_seconds"] / 60, " (CPU {:.1f})"),
            **{name: "" if pd.isna(size) else format_bytes(size) for name, size in sizes.items()},
        }

    return pd.DataFrame([row_of(row) for row in table.to_dict("records")])


def for_trials(table: pd.DataFrame) -> pd.DataFrame:
    """Trials and the recipes they change, the best on validation first: that is what one may choose by."""
    ours = table[table["loss"].notna() & table["validation"].notna()].sort_values(
        "validation", ascending=False, kind="stable"
    )
    shown = for_readers(ours)
    shown.insert(1, "validation NDCG@10", [f"{value:.4f}" for value in ours["validation"]])
    return shown.drop(columns=["peak memory", "loss workspace"])

"""Tables of published and reproduced results, made from the records, for people: README, notebook, terminal.

A file that shows such a table holds it between two marks; :func:`update_file` writes what belongs there, and a test
fails when what stands there is something else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sce_lab.data import DATASETS
from sce_lab.losses import LOSSES
from sce_lab.memory import format_bytes
from sce_lab.metrics import BASELINES, SEEN
from sce_lab.reproduce.published import PUBLISHED
from sce_lab.reproduce.recipes import RECIPES
from sce_lab.runs import write_text

METRICS = ("HR@10", "NDCG@10", "COV@10")
_COLUMNS = [
    *("dataset", "published", "baseline", "trial", "model", "loss", "seen", *METRICS),
    *(f"{name}_{what}" for what in ("sd", "low", "high") for name in METRICS),
    *("validation", "seeds", "best_epoch", "epochs", "seconds", "peak_memory", "loss_workspace", "source", "note"),
]
_MARKS = re.compile(r"(<!-- results -->\n)(?:.*?\n)??(<!-- end of results -->)", re.DOTALL)


def is_trial(record: dict[str, Any]) -> bool:
    """Whether the record is of a recipe with changed settings (``--set``)."""
    return "+" in record["recipe"]


def model_name(record: dict[str, Any]) -> str:
    """What was trained, for people: encoder, loss, and the recipe where it is not named like the loss."""
    encoder = "SASRec + running mean" if record["config"].get("low_pass") else "SASRec"
    loss, recipe = record["config"]["loss"], record["recipe"]
    name, _, changes = recipe.partition("+")
    rule = record["config"].get("seen", "exclude")
    special = [name.removeprefix(loss).lstrip("-"), *changes.split(","), "" if rule == "exclude" else SEEN[rule]]
    special = ", ".join(filter(None, special))
    return f"{encoder}, {LOSSES[loss].label}" + (f" ({special})" if special else "")


def results_table(records: list[dict[str, Any]], baselines: Sequence[dict[str, Any]] = ()) -> pd.DataFrame:
    """One row a published result, a baseline and a record: data sets in the order of the recipes; in each published
    rows first, then baselines, and trials last, otherwise as the records come. A record of several seeds has a second
    row: what their models reach together. Records that are withdrawn have none (see :func:`withdrawn`), nor have
    published results on data sets that the lab does not load.

    Columns: ``dataset, published, baseline, trial, model, loss``, the rule about ``seen`` items (empty: an older one,
    or not known), the test :data:`METRICS`, their ``*_sd`` over seeds (NaN for one seed) and their 95 % interval over
    users and seeds ``*_low, *_high`` (NaN where ranks were not kept), ``validation`` NDCG@10, ``seeds``, ``best_epoch,
    epochs, seconds`` (means), ``peak_memory, loss_workspace`` (bytes, the largest), and ``source``: where a published
    row stands, or the command that repeats ours; ``note``, what to know before comparing. NaN: not known.
    """
    rows = [
        {"dataset": p.dataset, "published": True, "model": p.model, **p.metrics, "source": p.source, "note": p.note}
        for p in PUBLISHED
        if p.dataset in DATASETS
    ]
    for record in baselines:
        rows += [_baseline_row(record, row) for row in record["rows"]]
    for record in records:
        if "withdrawn" in record:
            continue
        rows.append(_row(record))
        if record.get("together"):
            rows.append(_together_row(record, record["together"], rows[-1]))
    datasets = {name: i for i, name in enumerate([*RECIPES, *DATASETS])}
    rows = [{"published": False, "baseline": False, "trial": False, "seen": ""} | row for row in rows]

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


def heading(dataset: str, baselines: Sequence[dict[str, Any]]) -> str:
    """The name of a data set, who was asked, and what repeats, as far as the baselines know."""
    title = DATASETS[dataset].title if dataset in DATASETS else dataset
    split = next((record["split"] for record in baselines if record["dataset"] == dataset), None)
    if split is None:
        return title
    share = split["test targets that repeat"]
    repeats = f"{share:.1%} of the targets repeat" if share else "no target repeats"
    return f"{title}: {split['test users']:,} test users, {split['catalog']:,} items, {repeats}"


def _baseline_row(record: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    special = "" if row["seen"] == "exclude" else ", seen items kept"
    return {
        "dataset": record["dataset"],
        "baseline": True,
        "model": f"{BASELINES[row['baseline']].label}, untrained{special}",
        "seen": row["seen"],
        **{name: row["test"][name] for name in METRICS},
        **_ends(row),
        "source": record["repeat"],
    }


def _ends(record: dict[str, Any]) -> dict[str, float]:
    """``NDCG@10_low`` and the like, of what has intervals."""
    found = record.get("interval", {})
    return {f"{name}_{end}": value for name, ends in found.items() for end, value in zip(("low", "high"), ends)}


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
        "validation": mean["validation NDCG@10"],
        "seeds": len(seeds),
        "best_epoch": sum(seed["best_epoch"] for seed in seeds) / len(seeds),
        "epochs": sum(seed["epoch"] for seed in seeds) / len(seeds),
        "seconds": mean["seconds"],
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
        "validation": together["validation"]["NDCG@10"],
        "seconds": n * row["seconds"],
    }


def _largest(seeds: list[dict[str, Any]], part: str) -> float:
    """The most bytes that any seed's run measured; NaN if none was measured."""
    return max((seed["memory"][part] for seed in seeds if part in seed["memory"]), default=float("nan"))


def for_readers(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of :func:`results_table` as text with units, rounded; what is not known is empty.

    In brackets stands the 95 % interval over users and seeds; ± is the standard deviation over seeds, where there is no
    interval.
    """

    def known(value: float, form: str) -> str:
        return "" if pd.isna(value) else form.format(value)

    def mean(row: dict[str, Any], name: str) -> str:
        ends = "" if pd.isna(row[f"{name}_low"]) else f" [{row[f'{name}_low']:.4f}, {row[f'{name}_high']:.4f}]"
        return known(row[name], "{:.4f}") + (ends or known(row[f"{name}_sd"], " ± {:.4f}"))

    def row_of(row: dict[str, Any]) -> dict[str, str]:
        sizes = {name.replace("_", " "): row[name] for name in ("peak_memory", "loss_workspace")}
        best = known(row["best_epoch"], " ({:.0f})")
        return {
            "model": row["model"] + (", published" if row["published"] else "") + known(row["note"] or None, " ({})"),
            **{name: mean(row, name) for name in METRICS},
            "seeds": known(row["seeds"], "{:.0f}"),
            "epochs (best)": known(row["epochs"], "{:.0f}") + best,
            "minutes": known(row["seconds"] / 60, "{:.1f}"),
            **{name: "" if pd.isna(size) else format_bytes(size) for name, size in sizes.items()},
        }

    return pd.DataFrame([row_of(row) for row in table.to_dict("records")])


def for_trials(table: pd.DataFrame) -> pd.DataFrame:
    """Trials and the recipes they change, the best on validation first: that is what one may choose by."""
    ours = table[table["loss"].notna()].sort_values("validation", ascending=False, kind="stable")
    shown = for_readers(ours)
    shown.insert(1, "validation NDCG@10", [f"{value:.4f}" for value in ours["validation"]])
    return shown.drop(columns=["peak memory", "loss workspace"])


def markdown(table: pd.DataFrame) -> str:
    """A table of text in Markdown; all columns but the first are numbers."""
    rows = [table.columns, ["---"] + ["--:"] * (len(table.columns) - 1), *table.to_numpy()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def results_markdown(records: list[dict[str, Any]], baselines: Sequence[dict[str, Any]] = ()) -> str:
    """A table a data set, published rows first, then baselines, and what was tried besides."""
    table = results_table(records, baselines)
    parts = []
    for name, rows in table.groupby("dataset", sort=False):
        if rows["published"].all():
            continue  # nothing of ours to show beside it
        parts += [f"**{heading(name, baselines)}**", markdown(for_readers(rows[~rows["trial"]]))]
        if rows["trial"].any():
            title = f"{DATASETS[name].title}: what was tried, best validation first; without ± it is one seed"
            parts += [f"<details><summary>{title}</summary>", markdown(for_trials(rows)), "</details>"]
    parts += withdrawn(records)
    return "\n\n".join(parts) or "Nothing has been recorded yet."


def with_results(text: str, results: str) -> str:
    """``text`` with ``results`` between its marks.

    Raises:
        ValueError: there are no marks.
    """
    if not _MARKS.search(text):
        raise ValueError("there is no place for results: put <!-- results --> and <!-- end of results --> on two lines")
    return _MARKS.sub(lambda found: f"{found[1]}{results}\n{found[2]}", text)


def updated(path: Path, records: list[dict[str, Any]], baselines: Sequence[dict[str, Any]] = ()) -> str:
    """What a Markdown file or a notebook should contain, given the records.

    Raises:
        ValueError: it has no marks.
    """
    results, text = results_markdown(records, baselines), path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return with_results(text, results)
    notebook = json.loads(text)
    cells = [cell for cell in notebook["cells"] if _MARKS.search("".join(cell["source"]))]
    if not cells:
        with_results("", results)  # says what is missing
    for cell in cells:
        cell["source"] = with_results("".join(cell["source"]), results).splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def update_file(path: Path, records: list[dict[str, Any]], baselines: Sequence[dict[str, Any]] = ()) -> bool:
    """Write :func:`updated` to ``path``. Whether anything was different."""
    new = updated(path, records, baselines)
    if new == path.read_text(encoding="utf-8"):
        return False
    write_text(path, new)
    return True

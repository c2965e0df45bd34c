"""What needs no training, judged like what does, and recorded: one JSON file a data set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sce_lab.data import Split
from sce_lab.files import write_text
from sce_lab.metrics import BASELINES, gains, interval, metrics_apart, ranking_metrics
from sce_lab.reproduce.opening import rules_for
from sce_lab.reproduce.records import own_results, results_folder


def judge_baselines(
    dataset: str,
    split: Split,
    rules: Sequence[str] = (),
    repeat: str = "",
    ceiling: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The record of all baselines on the test holdout, by each of ``rules`` (default: :func:`rules_for`), and beside
    them the ``ceiling``: the best metrics that can be expected of any model, where they are known.

    Nothing about a baseline is chosen by the test (that it is three items of which followers are counted, by Amazon
    Beauty's validation), so looking at it spoils nothing.
    """
    rows = []
    for seen in rules or rules_for(split):
        for name, baseline in BASELINES.items():
            if name == "repeat" and seen != "keep":
                continue  # without seen items it is popularity
            ranking = baseline.rank(split, split.test, seen=seen)
            several = ("HR@10", "NDCG@10") if len(ranking.ranks) > 1 else ()
            ends = {metric: interval(gains(ranking.ranks, metric)) for metric in several}
            row = {"baseline": name, "seen": seen, "test": ranking_metrics(ranking, split.catalog_size)}
            row["interval"] = {metric: [found.low, found.high] for metric, found in ends.items()}
            rows.append(row | {"apart": metrics_apart(ranking, split.catalog_size)})
    return {
        "dataset": dataset,
        "repeat": repeat,
        "fingerprint": split.fingerprint,
        "split": split.summary(),
        "rows": rows,
        **({"ceiling": dict(ceiling)} if ceiling else {}),
    }


def write_baselines(record: dict[str, Any], folder: Path | None = None) -> Path:
    """Keep a record of baselines below the folder of the records, in ``baselines/``; returns where."""
    path = own_results(folder) / "baselines" / f"{record['dataset']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record, indent=1) + "\n")
    return path


def read_baselines(folder: Path | None = None) -> list[dict[str, Any]]:
    """The records of baselines."""
    files = sorted(((folder or results_folder()) / "baselines").glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


def baselines_table(record: dict[str, Any]) -> pd.DataFrame:
    """A row a baseline and rule, as text: metrics with 95 % intervals over users, new targets and repeats apart."""

    def row_of(row: dict[str, Any]) -> dict[str, str]:
        test, apart = row["test"], row["apart"]
        ends = {name: " [{:.4f}, {:.4f}]".format(*ends) for name, ends in row["interval"].items()}
        means = {name: f"{test[name]:.4f}{ends.get(name, '')}" for name in ("HR@10", "NDCG@10")}
        parts = {f"HR@10, {who}": f"{apart[who]['HR@10']:.4f}" if apart else "" for who in ("new", "repeats")}
        return {
            "model": BASELINES[row["baseline"]].label,
            "seen items": row["seen"],
            **means,
            "COV@10": f"{test['COV@10']:.4f}",
            **parts,
            "users": f"{test['users']:,.0f}",
        }

    table = pd.DataFrame([row_of(row) for row in record["rows"]])
    return table.drop(columns=[name for name in table if (table[name] == "").all()])

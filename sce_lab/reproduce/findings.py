"""What the records say, in sentences. None is typed: each follows from records, with the interval of what it claims."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sce_lab.data.interactions import count
from sce_lab.reproduce.comparing import compare_records, in_words, ranks_of
from sce_lab.reproduce.opening import WITHOUT_COUNTS
from sce_lab.reproduce.report import is_trial, model_name


def findings(
    dataset: str,
    table: pd.DataFrame,
    records: Sequence[dict[str, Any]],
    searches: Sequence[dict[str, Any]] = (),
    folder: Path | None = None,
    metric: str = "NDCG@10",
) -> list[str]:
    """Sentences about the models of one data set: the search they had, how they compare on the same users, and with
    what was published and what needs no training. Models that had the same search are compared with each other.

    Args:
        dataset: which.
        table: :func:`sce_lab.reproduce.results_table` of all records and baselines.
        records: all of them.
        searches: their records, see :func:`sce_lab.reproduce.read_searches`.
        folder: of the records.
        metric: what is compared.
    """
    rows = table[table["dataset"] == dataset]
    asked = [record for record in records if record["dataset"] == dataset and "withdrawn" not in record]
    known = [record for record in asked if not is_trial(record) and ranks_of(record, folder) is not None]
    known.sort(key=lambda record: -record["mean"]["validation NDCG@10"])
    found = _searched([search for search in searches if search["dataset"] == dataset and "recipe" in search])
    searched = [record for record in known if record["recipe"].endswith("-searched")]
    for best, *others in filter(None, (searched, [record for record in known if record not in searched])):
        for other in others:
            same = best["config"].get("seen") == other["config"].get("seen")
            if same and best.get("fingerprint") == other.get("fingerprint"):
                apart = compare_records(best, other, metric, folder)
                found.append(in_words(model_name(best), model_name(other), apart, other["mean"][metric], metric))
    for record in known:  # the best one, and what was trained as those who published did it
        if record is known[0] or record["config"].get("encoder") == "sasrec_published":
            found += _beside(rows[rows["published"]], record, metric)
    return found + _not_above(rows, metric)


def _searched(searches: Sequence[dict[str, Any]]) -> list[str]:
    if not searches:
        return []
    one = searches[0]
    space = ", ".join(f"{name} {' or '.join(map(str, values))}" for name, values in one["space"].items())
    n_trials, budget = one["rungs"][0]["trials"], one["budget"]
    chosen = "; ".join(f"{s['loss']} {', '.join(f'{k} {v}' for k, v in s['chosen'].items())}" for s in searches)
    return [
        f"The rows called *searched* had the same search, by validation alone: {n_trials} trials and {budget} epochs "
        f"for each loss ({space}), and then seeds of their own. It chose: {chosen}."
    ]


def _beside(published: pd.DataFrame, record: dict[str, Any], metric: str) -> list[str]:
    """Where published results lie beside the interval of ours: theirs have none, and their users are not known."""
    rows = published.dropna(subset=[metric]).sort_values(metric, ascending=False)
    if rows.empty:
        return []
    low, high = record["interval"][metric]
    words = {
        "below it": rows[rows[metric] < low],
        "inside, so not told apart": rows[rows[metric].between(low, high)],
        "above it": rows[rows[metric] > high],
    }
    where = "; ".join(
        f"{', '.join(f'{row.model} ({value:.4f})' for row, value in zip(part.itertuples(), part[metric]))} {name}"
        for name, part in words.items()
        if len(part)
    )
    ours = f"{model_name(record)} has {metric} {record['mean'][metric]:.4f} [{low:.4f}, {high:.4f}]"
    return [f"{ours}; of the published rows, {where}."]


def _not_above(rows: pd.DataFrame, metric: str) -> list[str]:
    """For each rule, trained models whose interval is not above that of the best untrained one, or that all are."""
    said = []
    for seen, baselines in rows[rows["baseline"]].groupby("seen"):
        best = baselines.loc[baselines[metric].idxmax()]
        # An older rule, without a name, is shown only where no target repeats: there all rules agree.
        rules = (seen, "", WITHOUT_COUNTS) if seen == "exclude" else (seen,)
        trained = rows[rows["loss"].notna() & ~rows["trial"] & ~rows["together"] & rows["seen"].isin(rules)]
        trained = trained.dropna(subset=[metric])
        if trained.empty:
            continue
        name = f"*{best['model'].lower()}* ({metric} {_with_ends(best, metric)})"
        low = trained[f"{metric}_low"].fillna(trained[metric])
        beaten = low <= best[f"{metric}_high"]
        unsure = ~beaten & trained[f"{metric}_low"].isna()  # with one, it might reach down there
        without = f" Of {count(unsure.sum(), 'row')} without an interval it is not known." if unsure.any() else ""
        if beaten.any():
            listed = "; ".join(f"{row['model']} {_with_ends(row, metric)}" for _, row in trained[beaten].iterrows())
            said.append(f"Not clearly above {name}: {listed}.{without}")
        elif unsure.all():
            said.append(f"No trained model of this table has an interval to be told apart from {name} by.")
        else:
            which = "with an interval " if unsure.any() else ""
            said.append(f"All trained models of this table {which}are above {name}.{without}")
    return said


def _with_ends(row: pd.Series, metric: str) -> str:
    ends = "" if pd.isna(row[f"{metric}_low"]) else f" [{row[f'{metric}_low']:.4f}, {row[f'{metric}_high']:.4f}]"
    return f"{row[metric]:.4f}{ends}"

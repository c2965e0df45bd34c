"""What a stranger's interactions are: how many, how long a tail, how they divide, and what popularity alone reaches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from sce_lab.data import SPLITS, Split, open_interactions, summarize
from sce_lab.data.interactions import UNITS, unix_unit
from sce_lab.metrics import MISS, gains

_STEPS = 100  # of the long tail


@dataclass(frozen=True, eq=False)
class Description:
    """What :func:`describe` finds.

    columns: which columns of the file say what, in a sentence; empty for data that are no file.
    numbers: as :func:`sce_lab.data.summarize`, and more about the tail; one column, ``value``.
    tail: 101 rows of ``items`` and ``interactions``: the share of all interactions that the most popular such share of
        all items has.
    splits: a row for each rule of :data:`sce_lab.data.SPLITS`: ``split``, ``training sequences``, ``validation users``,
        ``test users``, ``items``, ``unseen`` and ``repeats`` (shares of the test targets), what popularity reaches
        (``HR@10``, ``NDCG@10``, a target that repeats being a miss), and ``problem`` where the rule cannot be used.
    """

    columns: str
    numbers: pd.DataFrame
    tail: pd.DataFrame
    splits: pd.DataFrame


def describe(interactions: pd.DataFrame | str, **options: str | bool | None) -> Description:
    """Describe interactions; ten million take about a minute.

    Args:
        interactions: a DataFrame with the columns user, item, timestamp, or what
            :func:`sce_lab.data.open_interactions` opens: a name or a file.
        options: of that function.

    Raises:
        ValueError: they are no interactions, or cannot be read.
        FileNotFoundError: there is no such file.
    """
    if not isinstance(interactions, pd.DataFrame):
        interactions = open_interactions(interactions, **options)
    numbers = summarize(interactions)
    popular = np.sort(np.bincount(pd.factorize(interactions["item"])[0]))[::-1]
    tail = _tail(popular)
    more = {
        "share of the most popular 10 % of items": float(popular[: max(1, len(popular) // 10)].sum() / popular.sum()),
        "items that have half of all interactions": int(np.searchsorted(popular.cumsum(), popular.sum() / 2) + 1),
    }
    if "span (days)" in numbers.index:
        per_second = UNITS[unix_unit(interactions["timestamp"].to_numpy())]
        first, last = (
            pd.to_datetime(interactions["timestamp"].agg(end) / per_second, unit="s").strftime("%Y-%m-%d")
            for end in ("min", "max")
        )
        more |= {"first day": first, "last day": last}
    numbers = pd.concat([numbers, pd.DataFrame({"value": pd.Series(more, dtype=object)})])
    splits = pd.DataFrame([_divided(name, interactions) for name in SPLITS])
    return Description(interactions.attrs.get("columns", ""), numbers, tail, splits)


def popularity_ranks(split: Split) -> np.ndarray:
    """Ranks of the test targets by popularity, ``(U,)``, seen items left out, without a score for every user and item.

        rank[u] = #{i : n[i] >= n[target]} - #{i in history[u] : n[i] >= n[target]}   or MISS for a target that repeats

    What :func:`sce_lab.metrics.popularity` ranks, in the time of sorting.
    """
    counts, test = split.item_counts, split.test
    own = counts[test.targets]
    at_least = split.catalog_size - np.searchsorted(np.sort(counts), own, side="left")
    user = np.repeat(np.arange(len(test)), test.histories.lengths)
    pairs = np.unique(user * split.catalog_size + test.histories.items)
    user, item = np.divmod(pairs, split.catalog_size)
    seen = np.bincount(user[counts[item] >= own[user]], minlength=len(test))
    return np.where(test.repeats, MISS, at_least - seen)


def _tail(popular: np.ndarray) -> pd.DataFrame:
    shares = np.linspace(0, 1, _STEPS + 1)
    reached = np.concatenate([[0], popular.cumsum()]) / popular.sum()
    return pd.DataFrame({"items": shares, "interactions": reached[np.round(shares * len(popular)).astype(int)]})


def _divided(name: str, interactions: pd.DataFrame) -> dict[str, object]:
    """A row of ``splits``."""
    nan = float("nan")
    try:
        split = SPLITS[name](interactions)
    except ValueError as error:
        sizes = dict.fromkeys(("training sequences", "validation users", "test users", "items"), 0)
        unknown = dict.fromkeys(("unseen", "repeats", "HR@10", "NDCG@10"), nan)
        return {"split": name, **sizes, **unknown, "problem": str(error)}
    found, ranks = split.summary(), torch.from_numpy(popularity_ranks(split))
    return {
        "split": name,
        **{size: found[size] for size in ("training sequences", "validation users", "test users")},
        "items": split.catalog_size,
        "unseen": found["test targets unseen in training"],
        "repeats": found["test targets that repeat"],
        **{metric: gains(ranks, metric).mean().item() for metric in ("HR@10", "NDCG@10")},
        "problem": split.few_test_users,
    }

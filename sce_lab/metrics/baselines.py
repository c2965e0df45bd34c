"""Rankings that need no model: what is popular, what follows, and what the user has had before.

They are ranked and judged by the code that ranks and judges models, so they stand in the same tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from sce_lab.data.sequences import Holdout, Sequences, Split
from sce_lab.followers import DECAY, REACH, Followers
from sce_lab.metrics.ranking import LONGEST, Ranking, rank_scores


def popularity(split: Split, holdout: Holdout, *, seen: str = "exclude", k_max: int = LONGEST) -> Ranking:
    """score[u, i] = n[i], how often item i occurs in training."""
    counts = torch.from_numpy(split.item_counts).double()

    def score(users: np.ndarray, out: Tensor) -> None:
        out[:] = counts

    return _ranked(score, split, holdout, seen, k_max)


def transitions(split: Split, holdout: Holdout, *, seen: str = "exclude", k_max: int = LONGEST) -> Ranking:
    """score[u, i] = n[j -> i] + n[i] / (1 + max n): how often i directly follows j, the last item of u, in training.

    A Markov chain of first order; among equals the more popular item comes first, and after a last item that training
    does not know, popularity decides alone.
    """
    return _followed(1, split, holdout, seen, k_max)


def followers(split: Split, holdout: Holdout, *, seen: str = "exclude", k_max: int = LONGEST) -> Ranking:
    """How often an item has come soon after one of the user's last three: see :class:`sce_lab.followers.Followers`.

    Among equals the more popular item comes first.
    """
    return _followed(REACH, split, holdout, seen, k_max)


def _followed(reach: int, split: Split, holdout: Holdout, seen: str, k_max: int) -> Ranking:
    followers = Followers.counted(split.train, split.catalog_size, reach=reach)
    smallest = DECAY ** (2 * (reach - 1))  # that two counts can differ by
    popular = _below_one(split.item_counts) * smallest

    def score(users: np.ndarray, out: Tensor) -> None:
        out[:] = popular
        row, column, times = _entries(followers.after(holdout.histories.take(users)))
        out[row, column] += times

    return _ranked(score, split, holdout, seen, k_max)


def repeat_then_popularity(split: Split, holdout: Holdout, *, seen: str = "exclude", k_max: int = LONGEST) -> Ranking:
    """What the user has had before, most often first and of equals the latest; then all others by popularity.

    Where seen items are left out, that is popularity.
    """
    popular = _below_one(split.item_counts)

    def score(users: np.ndarray, out: Tensor) -> None:
        histories = holdout.histories.take(users)
        out[:] = popular
        row, column, habit = _entries(_habits(histories, split.catalog_size))
        out[row, column] = habit

    return _ranked(score, split, holdout, seen, k_max)


@dataclass(frozen=True)
class Baseline:
    """A ranking without a model: what it is called, and the function of (split, holdout, seen, k_max) that makes it."""

    label: str
    rank: Callable[..., Ranking]


BASELINES = {
    "popularity": Baseline("Popularity", popularity),
    "transitions": Baseline("What follows the last item", transitions),
    "followers": Baseline("What follows the last three items", followers),
    "repeat": Baseline("Seen before, then popularity", repeat_then_popularity),
}
"""The baselines by name."""


def _ranked(
    score: Callable[[np.ndarray, Tensor], None], split: Split, holdout: Holdout, seen: str, k_max: int
) -> Ranking:
    return rank_scores(score, holdout, split.catalog_size, seen=seen, k_max=k_max, dtype=torch.float64)


def _below_one(counts: np.ndarray) -> Tensor:
    """(C,) float64 in [0, 1), in the order of ``counts``: it decides where whole numbers are equal."""
    return torch.from_numpy(counts / (1.0 + counts.max(initial=0)))


def _habits(histories: Sequences, catalog_size: int) -> sparse.csr_array:
    """(n, C): 1 + how often the user had the item + how late in the history, as a share below 1; 0 if never."""
    user = np.repeat(np.arange(len(histories)), histories.lengths)
    place = np.arange(len(user)) - np.repeat(histories.offsets[:-1], histories.lengths)
    shape = (len(histories), catalog_size)
    times = sparse.coo_array((np.ones(len(user)), (user, histories.items)), shape=shape).tocsr()
    key = user * catalog_size + histories.items
    _, latest = np.unique(key[::-1], return_index=True)
    latest = len(key) - 1 - latest
    lateness = place[latest] / histories.lengths[user[latest]]
    late = sparse.coo_array((1 + lateness, (user[latest], histories.items[latest])), shape=shape).tocsr()
    return times + late


def _entries(table: sparse.sparray) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and values of what is stored."""
    table = table.tocoo()
    row, column = (torch.from_numpy(index.astype(np.int64)) for index in table.coords)
    return row, column, torch.from_numpy(table.data)

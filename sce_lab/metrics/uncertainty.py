"""How far a mean over users and seeds may be from what other users and other seeds would give.

What users gain is a table x[s, u], a row a training run (seed) and a column a test user, the same users for every run.
Both are samples, crossed: the mean varies with the users, with the seeds, and with what is of one user in one run. For
means this needs no resampling. With the sums of squares of a two-way table without replication,

    Var(mean) = V_u + V_s - V_us      V_u  = var over users of the mean over seeds / U
                                      V_s  = var over seeds of the mean over users / S
                                      V_us = var of x[s, u] - x[s, .] - x[., u] + x[., .], over (S - 1)(U - 1), / (S U)

is unbiased (each of V_u and V_s contains V_us once), and Student's t with Satterthwaite's degrees of freedom gives the
interval: Searle, Casella, McCulloch, *Variance Components*, 1992. With one seed only users are accounted for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean, and from where to where it may lie. ``n_seeds`` is 1 if seeds could not be accounted for."""

    mean: float
    low: float
    high: float
    n_users: int
    n_seeds: int

    @property
    def told_apart(self) -> bool:
        """Of a difference: whether zero lies outside."""
        return not self.low <= 0 <= self.high


def interval(gains: ArrayLike, confidence: float = 0.95) -> Interval:
    """The mean of what users gain, over users and seeds.

    Args:
        gains: (S, U), or (U,) for one seed: see :func:`sce_lab.metrics.gains`.
        confidence: the share of samples of users and seeds whose interval holds the truth.

    Raises:
        ValueError: fewer than two users, or no confidence between 0 and 1.
    """
    table = _table(gains, confidence)
    parts = _variances(table)
    low, high = _around(table.mean(), [parts], confidence)
    return Interval(float(table.mean()), max(0.0, low), min(1.0, high), table.shape[1], table.shape[0])


def difference(gains: ArrayLike, others: ArrayLike, confidence: float = 0.95) -> Interval:
    """The difference of two means on the same users: what all users find easy or hard falls out.

    Args:
        gains, others: (S, U) and (R, U), or (U,): of two models, each with seeds of its own.
        confidence: as in :func:`interval`.

    Raises:
        ValueError: other users, fewer than two of them, or no confidence between 0 and 1.
    """
    ours, theirs = _table(gains, confidence), _table(others, confidence)
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(
            f"a paired difference needs the same users on both sides, got {ours.shape[1]:,} and {theirs.shape[1]:,}"
        )
    users = _mean_square(ours.mean(0) - theirs.mean(0)), ours.shape[1] - 1
    parts = [[users], *(_variances(table)[1:] for table in (ours, theirs))]
    mean = float(ours.mean() - theirs.mean())
    low, high = _around(mean, parts, confidence)
    return Interval(mean, low, high, ours.shape[1], min(len(ours), len(theirs)))


def _table(gains: ArrayLike, confidence: float) -> np.ndarray:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    table = np.atleast_2d(np.asarray(gains, dtype=np.float64))
    if table.ndim != 2 or table.shape[1] < 2:
        raise ValueError(f"an interval needs gains of two users or more, (seeds, users), got {table.shape}")
    return table


def _mean_square(values: np.ndarray) -> float:
    """Variance of the mean of ``values``."""
    return float(values.var(ddof=1) / len(values))


def _variances(table: np.ndarray) -> list[tuple[float, int]]:
    """V_u, V_s and -V_us with their degrees of freedom; without the last two for one seed."""
    n_seeds, n_users = table.shape
    parts = [(_mean_square(table.mean(0)), n_users - 1)]
    if n_seeds > 1:
        own = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
        freedom = (n_seeds - 1) * (n_users - 1)
        parts += [(_mean_square(table.mean(1)), n_seeds - 1)]
        parts += [(-float((own**2).sum() / freedom / (n_seeds * n_users)), freedom)]
    return parts


def _around(mean: float, tables: list[list[tuple[float, int]]], confidence: float) -> tuple[float, float]:
    """The interval of a mean whose variance is the sum of these parts, given as (part, degrees of freedom)."""
    users, *_ = parts = [part for table in tables for part in table]
    variance = sum(part for part, _ in parts)
    if variance <= users[0]:  # seeds differ by less than chance: what they add is taken to be nothing
        parts, variance = [users], users[0]
    if variance == 0:
        return mean, mean
    freedom = variance**2 / sum(part**2 / n for part, n in parts)
    reach = stats.t.ppf((1 + confidence) / 2, freedom) * variance**0.5
    return mean - reach, mean + reach

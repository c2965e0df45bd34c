"""A random process of users and items: what is known of it before anything is drawn.

How an item is chosen
---------------------
The catalog is cut into clusters (think genres). Inside a cluster popularity falls by Zipf's law: the item of rank r
(0, 1, ...) is drawn with probability zipf(r) ~ 1 / (r + 1)^zipf_exponent. A user has one of a few *tastes*; a taste
is a distribution over clusters. The next item is proposed

* with probability p_transition by the previous item, which has a short list of *successors* with fixed weights,
* otherwise by the taste: a cluster by the taste's weights, then an item in it by Zipf's law,

and if the user already had it, it is rejected and everything is drawn again, the coin too. With theta the taste, c(i)
the cluster and r(i) the rank of item i, and v(i | previous) the weight of i among the previous item's successors,

    f(i | theta) = p_transition v(i | previous) + (1 - p_transition) taste[theta, c(i)] zipf(r(i))
    P(i | history, theta) = f(i | theta) / (1 - sum of f over the history)     for i outside the history, 0 inside.

The first item has no previous one: p_transition is 0 for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import psutil

from sce_lab.data.interactions import count

#: Items in the shortest sequence.
SHORTEST = 5
_STEEPEST = 3  # largest exponent of a Zipf law


@dataclass(frozen=True)
class Process:
    """A seeded random process of users and items; equal settings give equal data.

    catalog_size: C, from 100 to 10 million and beyond; the item ids are rows 0..C-1 and reveal nothing (shuffled).
    n_users: users to draw. Neither it nor the lengths change the process itself.
    n_clusters: clusters of (almost) equal size, popular ones first by a Zipf law of their own.
    n_tastes: kinds of users, equally frequent.
    taste_breadth: total concentration of the Dirichlet that tastes come from; about so many clusters matter to a user.
    n_successors: length of each item's list of successors; successor number s has weight ~ 1 / s.
    p_transition: how often the next item is proposed by the previous one, in [0, 1).
    zipf_exponent: of the popularity inside a cluster, 0 to 3; cluster_exponent: over the clusters, 0 to 3.
    mean_length, max_length: of a user's sequence (5 + a geometric number, cut at max_length and at C / 4).
    """

    catalog_size: int = 2_000
    n_users: int = 3_000
    n_clusters: int = 20
    n_tastes: int = 8
    taste_breadth: float = 3.0
    n_successors: int = 4
    p_transition: float = 0.5
    zipf_exponent: float = 1.0
    cluster_exponent: float = 0.5
    mean_length: float = 20.0
    max_length: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that do not make a process."""
        least_size = {
            "n_users": 1,
            "n_clusters": 1,
            "n_tastes": 1,
            "n_successors": 1,
            "max_length": SHORTEST,
            "seed": 0,
        }
        for name, least in (least_size | {"catalog_size": 100}).items():
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        for name in ("zipf_exponent", "cluster_exponent"):
            if not 0 <= getattr(self, name) <= _STEEPEST:  # steeper, and nothing is left for what is not the first
                raise ValueError(
                    f"{name} must lie between 0, which makes all alike, and {_STEEPEST}, got {getattr(self, name)!r}"
                )
        least = self.n_clusters * (self.n_successors + 1)
        if self.catalog_size < least:
            raise ValueError(
                f"catalog_size must be at least {least} for {count(self.n_clusters, 'cluster')} with "
                f"{count(self.n_successors, 'successor')} an item, got {self.catalog_size}; take a larger catalog or "
                f"fewer clusters"
            )
        if not 0 <= self.p_transition < 1:
            raise ValueError(f"p_transition must be at least 0 and below 1, got {self.p_transition!r}")
        if not 0 < self.taste_breadth < math.inf:
            raise ValueError(f"taste_breadth must be positive and finite, got {self.taste_breadth!r}")
        if not SHORTEST <= self.mean_length <= self.max_length:
            raise ValueError(
                f"mean_length must lie between {SHORTEST} and max_length={self.max_length}, got {self.mean_length!r}"
            )
        longest = min(self.max_length, self.catalog_size // 4)
        needed = 40 * self.catalog_size + self.n_users * (64 * longest + 32 * self.n_clusters)
        if needed > (free := psutil.virtual_memory().available):
            raise ValueError(
                f"{count(self.n_users, 'user')} with up to {self.max_length:,} of {count(self.catalog_size, 'item')} "
                f"in {count(self.n_clusters, 'cluster')} need about {needed / 2**30:,.0f} GiB, and "
                f"{free / 2**30:,.1f} GiB are free; take fewer of them"
            )

    # Inside, an item is a number ``rank * n_clusters + cluster``, so cluster and rank are a remainder and a quotient.
    # Outside, it is an id; two vectors of the catalog's length translate.

    @cached_property
    def _id_of(self) -> np.ndarray:
        return np.random.default_rng([self.seed, 0]).permutation(self.catalog_size)

    @cached_property
    def _inside_of(self) -> np.ndarray:
        inside_of = np.empty_like(self._id_of)
        inside_of[self._id_of] = np.arange(self.catalog_size)
        return inside_of

    @cached_property
    def _cluster_sizes(self) -> np.ndarray:
        return (self.catalog_size - 1 - np.arange(self.n_clusters)) // self.n_clusters + 1  # (n_clusters,)

    @cached_property
    def _zipf(self) -> tuple[np.ndarray, np.ndarray]:
        """Unnormalised Zipf weights of the ranks, and their running sum."""
        weights = (1.0 + np.arange(self._cluster_sizes[0])) ** -self.zipf_exponent
        return weights, np.cumsum(weights)

    @cached_property
    def tastes(self) -> np.ndarray:
        """(n_tastes, n_clusters): how much each kind of user likes each cluster; rows sum to 1, no entry is zero."""
        popularity = (1.0 + np.arange(self.n_clusters)) ** -self.cluster_exponent
        popularity /= popularity.sum()
        focus = np.random.default_rng([self.seed, 1]).dirichlet(self.taste_breadth * popularity, self.n_tastes)
        return 0.9 * focus + 0.1 * popularity  # everybody now and then takes anything

    @cached_property
    def successor_weights(self) -> np.ndarray:
        """(n_successors,), falling, sum 1."""
        weights = 1.0 / (1.0 + np.arange(self.n_successors))
        return weights / weights.sum()

    @cached_property
    def _successor_rule(self) -> tuple[int, np.ndarray]:
        """Multiplier and shifts of ``_successors``: a bijection of each cluster for every shift."""
        size = self.catalog_size // self.n_clusters  # clusters have this size or one more
        multiplier = round(0.618 * size)
        while math.gcd(multiplier, size * (size + 1)) != 1:
            multiplier += 1
        rng = np.random.default_rng([self.seed, 2])
        shifts = [rng.choice(size, self.n_successors, replace=False) for _ in range(self.n_clusters)]
        return multiplier, np.array(shifts)  # (n_clusters, n_successors)

    def _successors(self, inside: np.ndarray) -> np.ndarray:
        """(...) items -> (..., n_successors): the rank is scrambled by an affine rule inside its cluster."""
        cluster, rank = inside % self.n_clusters, inside // self.n_clusters
        multiplier, shifts = self._successor_rule
        ranks = (multiplier * rank[..., None] + shifts[cluster]) % self._cluster_sizes[cluster][..., None]
        return ranks * self.n_clusters + cluster[..., None]

    def _popularity(self, inside: np.ndarray) -> np.ndarray:
        """(...) items -> (...): zipf(rank), the probability of the item once its cluster is chosen."""
        weights, cumulative = self._zipf
        cluster, rank = inside % self.n_clusters, inside // self.n_clusters
        return weights[rank] / cumulative[self._cluster_sizes[cluster] - 1]

    def successors(self, items: np.ndarray) -> np.ndarray:
        """Return the ids that tend to follow each of the given ids: (...) -> (..., n_successors), likeliest first."""
        return self._id_of[self._successors(self._inside_of[np.asarray(items)])]

"""Interactions from a process that is completely known, so that the best possible recommender is known too.

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

How well it can be predicted
----------------------------
The taste is hidden, but a history speaks for some tastes and against others: the product of the P of its items is the
likelihood of theta, which gives the posterior q(theta | history), and then

    P(i | history) = sum over theta of q(theta | history) P(i | history, theta).

Nobody can do better than to recommend the k most probable items. HR@k then is their total probability, on average
over users, and this is the ceiling that no model can be expected to pass. (Bayes: in expectation over all users of the
process. A model that was lucky in what it was tested on may score above it.)

Nothing here is larger than a few vectors of the catalog's length; there never is a table of users x catalog.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import psutil

from sce_lab.data.interactions import count
from sce_lab.data.sequences import KS, Holdout, Sequences

_DAY = 86_400
_EPOCH = 1_704_067_200  # 2024-01-01 in Unix seconds: where time begins
_SHORTEST = 5  # items in the shortest sequence
_STEEPEST = 3  # largest exponent of a Zipf law
_PATIENCE = 1000  # times that a user draws again before ``_draw_unseen``
_CHUNK_BYTES = 64 * 2**20  # working memory of ``recommend``


@dataclass(frozen=True)
class SyntheticProcess:
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
            "max_length": _SHORTEST,
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
        if not _SHORTEST <= self.mean_length <= self.max_length:
            raise ValueError(
                f"mean_length must lie between {_SHORTEST} and max_length={self.max_length}, got {self.mean_length!r}"
            )
        longest = min(self.max_length, self.catalog_size // 4)
        needed = 40 * self.catalog_size + self.n_users * (64 * longest + 32 * self.n_clusters)
        if needed > (free := psutil.virtual_memory().available):
            raise ValueError(
                f"{count(self.n_users, 'user')} with up to {self.max_length:,} of {count(self.catalog_size, 'item')} "
                f"in {count(self.n_clusters, 'cluster')} need about {needed / 2**30:,.0f} GiB, and "
                f"{free / 2**30:,.1f} GiB are free; take fewer of them"
            )

    # ------------------------------------------------------------------------------------------------ the process
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

    # ------------------------------------------------------------------------------------------------ drawing from it

    def interactions(self) -> pd.DataFrame:
        """Draw the data set: a DataFrame with the columns user, item, timestamp (int64), users in order, oldest first.

        Users arrive throughout one year and come back about once a day, so a temporal split is meaningful too.
        """
        rng = np.random.default_rng([self.seed, 3])
        taste = rng.integers(self.n_tastes, size=self.n_users)
        longest = min(self.max_length, self.catalog_size // 4)
        extra = rng.geometric(1 / (self.mean_length - _SHORTEST + 1), size=self.n_users) - 1
        lengths = np.minimum(_SHORTEST + extra, longest)

        history = np.full((self.n_users, lengths.max()), -1)  # (n_users, longest)
        for position in range(lengths.max()):
            waiting, tries = np.flatnonzero(lengths > position), 0
            while len(waiting):  # whoever drew something already seen draws again
                before = history[waiting, :position]
                draw = self._propose if tries < _PATIENCE else self._draw_unseen
                drawn = draw(rng, taste[waiting], before)
                seen = (before == drawn[:, None]).any(1)
                history[waiting[~seen], position] = drawn[~seen]
                waiting, tries = waiting[seen], tries + 1

        arrival = rng.uniform(0, 365 * _DAY, size=(self.n_users, 1))
        pauses = 1 + rng.exponential(_DAY, size=history.shape)
        times = _EPOCH + (arrival + np.cumsum(pauses, axis=1)).astype(np.int64)
        used = history >= 0
        return pd.DataFrame(
            {
                "user": np.repeat(np.arange(self.n_users), lengths),
                "item": self._id_of[history[used]],
                "timestamp": times[used],
            }
        )

    def _propose(self, rng: np.random.Generator, taste: np.ndarray, history: np.ndarray) -> np.ndarray:
        """Draw one item for each user from f, which knows only the last of what was seen: (n,), (n, L) -> (n,)."""
        n = len(taste)
        liking = np.cumsum(self.tastes, axis=1)[taste]  # (n, n_clusters)
        cluster = (rng.random((n, 1)) * liking[:, -1:] >= liking).sum(1)
        size = self._cluster_sizes[cluster]
        _, cumulative = self._zipf
        rank = np.searchsorted(cumulative, rng.random(n) * cumulative[size - 1], side="right")
        drawn = np.minimum(rank, size - 1) * self.n_clusters + cluster
        if history.shape[1]:
            previous = history[:, -1]
            follow = rng.random(n) < self.p_transition
            which = rng.choice(self.n_successors, size=n, p=self.successor_weights)
            drawn[follow] = self._successors(previous[follow])[np.arange(follow.sum()), which[follow]]
        return drawn

    def _draw_unseen(self, rng: np.random.Generator, taste: np.ndarray, history: np.ndarray) -> np.ndarray:
        """Draw one item for each user from P(i | history, theta): (n,), (n, L) -> (n,), L >= 1.

        What ``_propose`` and rejection arrive at, in one step but a slower one, for users who have seen almost
        everything that is likely for them.
        """
        clusters, ranks = history % self.n_clusters, history // self.n_clusters
        weights, cumulative = self._zipf
        total = cumulative[self._cluster_sizes - 1]  # (n_clusters,)
        row = np.arange(len(taste))
        place = (row[:, None] * self.n_clusters + clusters).ravel()
        gone, n_gone = (
            np.bincount(place, of, len(taste) * self.n_clusters).reshape(-1, self.n_clusters)
            for of in (weights[ranks].ravel(), None)
        )
        left = np.where(n_gone < self._cluster_sizes, np.maximum(total - gone, 0.0), 0.0)  # (n, n_clusters)
        followers = self._successors(history[:, -1])  # (n, n_successors)
        fresh = (followers[..., None] != history[:, None]).all(-1)
        chances = np.concatenate(
            [
                self.p_transition * fresh * self.successor_weights,
                (1 - self.p_transition) * self.tastes[taste] * left / total,
            ],
            axis=1,
        ).cumsum(1)  # (n, n_successors + n_clusters)
        which = (rng.random((len(taste), 1)) * chances[:, -1:] >= chances).sum(1)

        # Inside a cluster: a point on the line of what is left of it, moved on by every seen rank that lies before it.
        cluster = np.maximum(which - self.n_successors, 0)
        point = rng.random(len(taste)) * left[row, cluster]
        starts, widths = np.append(0.0, cumulative), np.append(weights, 0.0)  # with one of no width for other clusters
        for rank in np.sort(np.where(clusters == cluster[:, None], ranks, len(weights)), axis=1).T:
            point += np.where(starts[rank] <= point, widths[rank], 0.0)
        rank = np.minimum(np.searchsorted(cumulative, point, side="right"), self._cluster_sizes[cluster] - 1)
        liked = rank * self.n_clusters + cluster
        return np.where(which < self.n_successors, followers[row, np.minimum(which, self.n_successors - 1)], liked)

    # ------------------------------------------------------------------------------------------------ predicting it

    def recommend(self, histories: Sequences, k: int = max(KS)) -> tuple[np.ndarray, np.ndarray]:
        """Recommend as well as anybody can: the k most probable next items given each whole history.

        Args:
            histories: U histories of this process, complete and without repeats.
            k: how many.

        Returns:
            items, probabilities: both (U, k), likeliest first; item -1 of probability 0 where nothing is left.

        Raises:
            ValueError: histories with items outside the catalog, or k below 1.
        """
        if not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"k must be a whole number of at least 1, got {k!r}")
        if len(histories.items) and not 0 <= histories.items.min() <= histories.items.max() < self.catalog_size:
            raise ValueError(
                f"histories hold items {histories.items.min()}..{histories.items.max()}, but this process has "
                f"0..{self.catalog_size - 1}; build the split with catalog_size={self.catalog_size}"
            )
        items = np.full((len(histories), k), -1)
        probabilities = np.zeros((len(histories), k))
        longest = int(histories.lengths.max(initial=0))
        a_user = (longest + 1) ** 2 * self.n_successors + 32 * self.n_clusters * (k + longest + self.n_successors)
        chunk = max(1, _CHUNK_BYTES // a_user)
        for start in range(0, len(histories), chunk):
            rows = np.arange(start, min(start + chunk, len(histories)))
            items[rows], probabilities[rows] = self._recommend(histories.take(rows), k)
        return items, probabilities

    def ceiling(self, holdout: Holdout, ks: Sequence[int] = KS) -> dict[str, float]:
        """Return the best HR@k and NDCG@k that can be expected of any recommender on these histories.

        With p_1 >= p_2 >= ... the probabilities P(i | history) of all items, sorted,

            HR@k   = mean over users of sum_{j <= k} p_j
            NDCG@k = mean over users of sum_{j <= k} p_j / log2(1 + j)

        The expectation is over what might have come next: the targets of ``holdout`` are not looked at. Exact up to
        rounding, nothing is simulated.

        Args:
            holdout: held-out users of this process, split with catalog_size=C (see ``recommend``).
            ks: cut-offs.

        Returns:
            A dict with the keys "HR@1", "NDCG@1", ... as ``ranking_metrics`` has them.
        """
        if not ks:
            raise ValueError("ks is empty; name at least one cut-off, for example ks=(10,)")
        if not len(holdout):
            raise ValueError("there are no users to compute a ceiling for: the holdout is empty")
        _, probabilities = self.recommend(holdout.histories, max(ks))
        average = probabilities.mean(0)  # (max k,)
        gain = average / np.log2(2 + np.arange(len(average)))
        return {
            f"{metric}@{k}": float(values[:k].sum()) for k in ks for metric, values in (("HR", average), ("NDCG", gain))
        }

    def _recommend(self, histories: Sequences, k: int) -> tuple[np.ndarray, np.ndarray]:
        """``recommend`` for u users at a time, the longest history having L items."""
        lengths = histories.lengths
        known = np.arange(lengths.max(initial=0)) < lengths[:, None]
        history = np.full(known.shape, -1)  # (u, L), -1 after the end
        history[known] = self._inside_of[histories.items]
        follow, liking, followers, fresh = self._beliefs(history, lengths)

        # Candidates are the head of every cluster, deep enough to hold k items when those of the history and the
        # followers are taken out ...
        depth = min(k + history.shape[1] + self.n_successors, int(self._cluster_sizes[0]))
        head = np.arange(min(depth * self.n_clusters, self.catalog_size))
        by_taste = np.tile(liking, depth)[:, : len(head)] * self._popularity(head)  # (u, head)
        for gone in (history, followers):
            row, column = np.nonzero((gone >= 0) & (gone < len(head)))
            by_taste[row, gone[row, column]] = 0.0
        # ... and the followers, which have two ways of being chosen.
        liked = np.take_along_axis(liking, followers % self.n_clusters, axis=1) * self._popularity(followers)
        followed = fresh * (follow[:, None] * self.successor_weights + liked)  # (u, n_successors)
        probability = np.concatenate([by_taste, followed], axis=1)  # (u, head + n_successors)

        best = np.argpartition(-probability, min(k, probability.shape[1]) - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(probability, best, axis=1), axis=1)
        best = np.take_along_axis(best, order, axis=1)
        probability = np.take_along_axis(probability, best, axis=1)
        follower = np.take_along_axis(followers, np.maximum(best - len(head), 0), axis=1)
        items = self._id_of[np.where(best < len(head), best, follower)]
        items[probability == 0] = -1  # taken out, or nothing left
        padding = ((0, 0), (0, k - items.shape[1]))
        return np.pad(items, padding, constant_values=-1), np.pad(probability, padding)

    def _beliefs(
        self, history: np.ndarray, lengths: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What a history (u, L) says about the next item, as the four parts of

            P(i | history) = follow v(i | followers) + liking[c(i)] zipf(r(i))          for items outside the history:

        follow (u,), liking (u, n_clusters), the followers of the last item (u, n_successors), and whether each of
        these is fresh, that is, outside the history. Positions are t = 0..L, and t = length is that of the next item.
        """
        n_users, longest = history.shape
        known = history >= 0
        previous = np.concatenate([np.full((n_users, 1), -1), history], axis=1)  # (u, L + 1)
        followers = self._successors(previous)  # (u, L + 1, n_successors)
        p = np.where(previous >= 0, self.p_transition, 0.0)  # (u, L + 1)

        # f(item at t | theta) of the items that came.
        by_taste = self.tastes.T[history % self.n_clusters] * (known * self._popularity(history))[..., None]
        by_transition = (followers[:, :-1] == history[..., None]) @ self.successor_weights  # (u, L)
        f = (p[:, :-1] * by_transition)[..., None] + (1 - p[:, :-1, None]) * by_taste  # (u, L, n_tastes)

        # One minus the sum of f over everything seen before t: what P is divided by.
        seen_by_taste = np.concatenate([np.zeros_like(by_taste[:, :1]), np.cumsum(by_taste, axis=1)], axis=1)
        before = np.tri(longest + 1, longest, -1, dtype=bool)[:, None]  # item j came before t
        seen = ((followers[..., None] == history[:, None, None]) & before).any(-1)  # (u, L + 1, n_successors)
        fresh = ~seen
        unseen = (p * (fresh @ self.successor_weights))[..., None] + (1 - p[..., None]) * (1 - seen_by_taste)

        # Posterior of theta; all tastes are equally frequent to begin with.
        evidence = np.log(np.where(known[..., None], f / unseen[:, :-1], 1.0)).sum(1)  # (u, n_tastes)
        posterior = np.exp(evidence - evidence.max(1, keepdims=True))
        posterior /= posterior.sum(1, keepdims=True)

        # Sum over theta of q(theta | history) f(i | theta) / unseen, with f written out.
        here = np.arange(n_users), lengths
        weight = posterior / unseen[here]  # (u, n_tastes)
        follow = p[here] * weight.sum(1)
        liking = (1 - p[here])[:, None] * (weight @ self.tastes)
        return follow, liking, followers[here], fresh[here]

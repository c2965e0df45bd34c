"""Interactions from a process that is completely known, so that the best possible recommender is known too.

What the process is: :mod:`sce_lab.data.process`; how well it can be predicted: :mod:`sce_lab.data.predicting`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from sce_lab.data.predicting import KnownProcess
from sce_lab.data.process import SHORTEST

_DAY = 86_400
_EPOCH = 1_704_067_200  # 2024-01-01 in Unix seconds: where time begins
_PATIENCE = 1000  # times that a user draws again before ``_draw_unseen``


class SyntheticProcess(KnownProcess):
    """A process that data are drawn from. Its settings are those of :class:`sce_lab.data.process.Process`."""

    def interactions(self) -> pd.DataFrame:
        """Draw the data set: a DataFrame with the columns user, item, timestamp (int64), users in order, oldest first.

        Users arrive throughout one year and come back about once a day, so a temporal split is meaningful too.
        """
        rng = np.random.default_rng([self.seed, 3])
        taste = rng.integers(self.n_tastes, size=self.n_users)
        longest = min(self.max_length, self.catalog_size // 4)
        extra = rng.geometric(1 / (self.mean_length - SHORTEST + 1), size=self.n_users) - 1
        lengths = np.minimum(SHORTEST + extra, longest)

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

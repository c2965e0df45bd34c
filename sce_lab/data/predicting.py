"""The best possible recommender of a process that is completely known.

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

from collections.abc import Sequence

import numpy as np

from sce_lab.data.process import Process
from sce_lab.data.sequences import KS, Holdout, Sequences

_CHUNK_BYTES = 64 * 2**20  # working memory of ``recommend``


class KnownProcess(Process):
    """A process, and what anybody could know of the next item at best."""

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

"""Ranking quality over the whole catalog: HR@k, NDCG@k, MRR@k and COV@k, without ever holding users x catalog.

The protocol, in one place:

* every item of the catalog competes, none is sampled;
* items of the user's history are neither recommended nor counted as competitors;
* the target is always ranked, also when the user already had it before (repeat consumption);
* ties go against the model: the target stands behind every competitor of the same score, and a score that is not a
  number counts as the worst for the target and as the best for a competitor. A model that scores everything alike
  therefore gets nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sce_lab.data.splits import Holdout

KS = (1, 5, 10, 20, 50)
"""Cut-offs that are reported unless others are asked for."""

_CACHE_BYTES = 4 * 2**20
_FEWEST_USERS = 64  # with fewer the matrix product waits for the table


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where each user's target came out, and what would have been recommended.

    ranks: (U,) int64 on the CPU, 1 = best.
    top_items: (U, k_max) int64 on the CPU, best first; -1 where fewer than k_max items were left to recommend.
    """

    ranks: Tensor
    top_items: Tensor


@torch.no_grad()
def rank_items(
    outputs: Tensor,
    linear_weight: Tensor,
    holdout: Holdout,
    *,
    k_max: int = max(KS),
    chunk_bytes: int = 128 * 2**20,
) -> Ranking:
    """Rank the whole catalog for every user of ``holdout``.

    The score of item i for user u is <outputs[u], linear_weight[i]>, computed in float32 (float64 stays float64), and

        rank[u] = 1 + #{i : i != target[u], i not in history[u], not score[u, i] < score[u, target[u]]}.

    Args:
        outputs: (U, D), what the model says after each history; row u belongs to row u of ``holdout``.
        linear_weight: (C, D), one row an item of the catalog; same device as ``outputs``.
        holdout: U histories and U targets, all of them rows 0..C-1.
        k_max: length of the recommended lists.
        chunk_bytes: most bytes of scores to hold at a time (4 a user and item in float32; one user at least). Tables in
            half precision are widened 65,536 rows at a time on top of that.

    Returns:
        A :class:`Ranking`. If ``ranks[u] <= k``, the target is among the first k of ``top_items[u]``; the reverse can
        fail for ties, whose order inside ``top_items`` is unspecified.

    Raises:
        ValueError: shapes that do not fit, items outside the catalog, k_max or chunk_bytes below 1.
    """
    if outputs.ndim != 2 or linear_weight.ndim != 2 or outputs.shape[1] != linear_weight.shape[1]:
        raise ValueError(
            f"outputs must be (users, D) and linear_weight (catalog, D) with the same D, "
            f"got {tuple(outputs.shape)} and {tuple(linear_weight.shape)}"
        )
    n_users, catalog_size = len(outputs), len(linear_weight)
    if n_users != len(holdout):
        raise ValueError(f"outputs has {n_users} rows but holdout has {len(holdout)} users; they must correspond")
    if k_max < 1 or chunk_bytes < 1:
        raise ValueError(f"k_max and chunk_bytes must be at least 1, got {k_max} and {chunk_bytes}")
    for what, rows in (("targets", holdout.targets), ("histories", holdout.histories.items)):
        if len(rows) and not 0 <= rows.min() <= rows.max() < catalog_size:
            raise ValueError(
                f"holdout {what} span items {rows.min()}..{rows.max()}, but the catalog has rows 0..{catalog_size - 1}"
            )

    device = outputs.device
    dtype = torch.promote_types(torch.promote_types(outputs.dtype, linear_weight.dtype), torch.float32)
    lowest = torch.finfo(dtype).min
    ranks = torch.empty(n_users, dtype=torch.int64)
    top_items = torch.full((n_users, k_max), -1, dtype=torch.int64)
    k = min(k_max, catalog_size)
    bytes_per_user = dtype.itemsize * catalog_size
    chunk = max(1, chunk_bytes // bytes_per_user)
    if device.type == "cpu":  # five passes go over a chunk: they are quickest while it stays in cache
        chunk = min(chunk, max(_FEWEST_USERS, _CACHE_BYTES // bytes_per_user))
    counting = torch.float32 if catalog_size < 2**24 else torch.int64  # float32 counts that far; not all have float64
    buffer = torch.empty(min(chunk, n_users), catalog_size, dtype=dtype, device=device)
    for start in range(0, n_users, chunk):
        rows = slice(start, min(start + chunk, n_users))
        scores = buffer[: rows.stop - rows.start]  # (users, C)
        _score(outputs[rows].to(dtype), linear_weight, out=scores)

        # Minus infinity is kept for what may not be recommended. A target that is not a number becomes the lowest
        # score, a competitor that is not a number the highest.
        target = torch.from_numpy(holdout.targets[rows, None]).to(device)  # (users, 1)
        target_score = scores.gather(1, target).nan_to_num_(nan=lowest, posinf=torch.inf, neginf=lowest)
        scores.nan_to_num_(nan=torch.inf, posinf=torch.inf, neginf=lowest)
        scores.scatter_(1, target, target_score)
        seen_user, seen_item = (torch.from_numpy(index).to(device) for index in _seen_pairs(holdout, rows))
        scores[seen_user, seen_item] = -torch.inf

        best, items = scores.topk(k, dim=1)  # (users, k)
        top_items[rows, :k] = items.masked_fill_(best == -torch.inf, -1).cpu()
        # The target reaches its own score, which is the 1 of the definition. In place and summed as floating point:
        # several times faster than through a table of booleans.
        ranks[rows] = scores.ge_(target_score).sum(1, dtype=counting).long().cpu()
    return Ranking(ranks, top_items)


def _score(outputs: Tensor, linear_weight: Tensor, *, out: Tensor) -> None:
    """Write outputs @ linear_weight.T, in the precision of ``outputs``; a table of another one is widened in blocks."""
    block = len(linear_weight) if linear_weight.dtype == outputs.dtype else 2**16
    for start in range(0, len(linear_weight), block):
        weight = linear_weight[start : start + block].to(outputs.dtype)
        torch.mm(outputs, weight.T, out=out[:, start : start + block])  # autocast leaves ``out=`` alone


def _seen_pairs(holdout: Holdout, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """(row in the chunk, item) of every history entry that is not the target itself; repeats are harmless."""
    offsets = holdout.histories.offsets[rows.start : rows.stop + 1]
    items = holdout.histories.items[offsets[0] : offsets[-1]]
    users = np.repeat(np.arange(rows.stop - rows.start), np.diff(offsets))
    keep = items != holdout.targets[rows][users]
    return users[keep], items[keep]


def ranking_metrics(ranking: Ranking, catalog_size: int, ks: Sequence[int] = KS) -> dict[str, float]:
    """Average quality of a ranking over its users, for each cut-off k.

        HR@k   = mean [rank <= k]                     the target was among the first k
        NDCG@k = mean [rank <= k] / log2(1 + rank)    ... worth less further down (one relevant item, so IDCG = 1)
        MRR@k  = mean [rank <= k] / rank
        COV@k  = #(items in anybody's first k) / catalog_size

    Returns:
        A dict with the keys "HR@1", "NDCG@1", "MRR@1", "COV@1", "HR@5", ... in the order of ``ks``, values in 0..1.

    Raises:
        ValueError: no users, a k below 1, or a k beyond the recorded lists (raise k_max of ``rank_items``).
    """
    if not len(ranking.ranks):
        raise ValueError("there are no users to evaluate: the ranking is empty")
    if min(ks) < 1 or max(ks) > ranking.top_items.shape[1]:
        raise ValueError(
            f"ks must lie in 1..{ranking.top_items.shape[1]}, the length of the recorded lists, got {tuple(ks)}; "
            f"for longer lists call rank_items with a larger k_max"
        )
    rank = ranking.ranks.double()
    metrics = {}
    for k in ks:
        hit = rank <= k
        recommended = torch.zeros(catalog_size + 1, dtype=torch.bool)  # the last place is that of -1, no item
        recommended[ranking.top_items[:, :k]] = True
        metrics[f"HR@{k}"] = hit.double().mean().item()
        metrics[f"NDCG@{k}"] = (hit / torch.log2(1 + rank)).mean().item()
        metrics[f"MRR@{k}"] = (hit / rank).mean().item()
        metrics[f"COV@{k}"] = recommended[:-1].sum().item() / catalog_size
    return metrics

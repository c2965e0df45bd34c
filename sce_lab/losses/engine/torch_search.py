"""Top-k of a matrix product that is never held: the search behind SCE's buckets."""

import torch
from torch import Tensor

from .tiles import chunks, is_fake

BLOCK = 8  # scores that are searched or skipped together


@torch.no_grad()
def scored_topk(
    queries: Tensor,
    table: Tensor,
    k: int,
    *,
    allowed: Tensor | None = None,
    workspace_bytes: int,
) -> tuple[Tensor, Tensor]:
    """The ``k`` largest inner products with each of the ``queries (Q, D)``, and whose of ``table (C, D)`` they are.

    The same choice as ``(queries @ table.T).topk(k)``, in any order and with ties broken either way. But the
    scores exist for one chunk of the table at a time, and most of them are only glanced at:

    - the k best so far are kept, and the smallest of them is the threshold to beat;
    - one pass takes the maximum of every block of 8 scores; blocks below the threshold are out;
    - the k best of a row lie within the k blocks of largest maxima, so no more than these are searched.

    After n rows a chunk of c brings about ``k c / n`` scores that matter: a late chunk costs its product and one pass.
    Chunks are visited in scattered order, so that a table sorted by popularity does not defeat the threshold.

    Memory: about ``workspace_bytes`` whatever C is, and the ``(Q, k)`` result a few times over.

    Args:
        queries: ``(Q, D)``, in the dtype to compute in.
        table: ``(C, D)``, in any floating dtype; its chunks are converted.
        k: how many, at most C.
        allowed: ``(C,)`` bool; rows that are not allowed are taken only when no others are left.
        workspace_bytes: from this follows the chunk size.

    Returns:
        ``(Q, k)`` scores, -inf of rows that are not allowed, and ``(Q, k)`` int64 rows.
    """
    n_queries, dim = queries.shape
    # For each row of a chunk: its scores, their share of block maxima, and the row itself, converted.
    bytes_per_row = queries.element_size() * (n_queries + n_queries / BLOCK + dim)
    chunk_size = min(max(int(workspace_bytes / bytes_per_row), BLOCK), max(len(table), 1))
    parts = chunks(len(table), chunk_size, table)
    parts = sorted(parts, key=lambda part: (part.start / chunk_size * 0.618034) % 1)
    if is_fake(table):  # a late chunk may be searched whole, or in some of its blocks: a prediction does both
        parts += parts[1:]

    buffer = queries.new_empty(n_queries * chunk_size)
    best = queries.new_empty(n_queries, 0)  # (Q, up to k): the largest scores so far ...
    chosen = torch.empty(n_queries, 0, dtype=torch.int64, device=queries.device)  # ... and whose they are
    for nth, part in enumerate(parts):
        if is_fake(table) and nth > 0:  # after many chunks the k best are there
            best, chosen = (kept.new_empty(n_queries, k) for kept in (best, chosen))
        rows = table[part].to(queries.dtype)  # (chunk, D)
        scores = torch.mm(queries, rows.T, out=buffer[: n_queries * len(rows)].view(n_queries, len(rows)))
        if allowed is not None:
            scores.masked_fill_(~allowed[part], -torch.inf)
        threshold = best.amin(dim=1, keepdim=True) if 0 < k == best.shape[1] else None
        promising = _promising_blocks(scores, k, threshold, all_in_a_prediction=nth == 1)
        if promising is None:
            values, columns = _largest(scores, k)
        else:
            values, columns = _largest_within(scores, promising, k)
        columns += part.start
        if nth > 0:
            values, order = _largest(torch.cat([best, values], dim=1), k)
            columns = torch.cat([chosen, columns], dim=1).gather(1, order)
        best, chosen = values, columns
    return best, chosen


def streaming_topk(
    queries: Tensor, table: Tensor, k: int, *, allowed: Tensor | None = None, workspace_bytes: int
) -> Tensor:
    """The rows that :func:`scored_topk` finds, ``(Q, k)``."""
    return scored_topk(queries, table, k, allowed=allowed, workspace_bytes=workspace_bytes)[1]


def sorted_topk(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """``scores.topk(k)`` of rows ``(Q, C)``, on a CPU in a fraction of its time if k is small; ties in any order."""
    promising = None if scores.is_cuda else _promising_blocks(scores, k, None, all_in_a_prediction=False)
    if promising is None:
        return scores.topk(k, dim=1)
    values, columns = _largest_within(scores, promising, k)
    values, order = values.sort(dim=1, descending=True)
    return values, columns.gather(1, order)


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and columns of the k largest of each row, or of all if there are fewer."""
    return scores.topk(min(k, scores.shape[1]), dim=1, sorted=False)


def _promising_blocks(scores: Tensor, k: int, threshold: Tensor | None, all_in_a_prediction: bool) -> Tensor | None:
    """The few blocks of each row that hold all of its k largest scores above the ``threshold (Q, 1)``, if few do."""
    n_blocks = scores.shape[1] // BLOCK
    few = n_blocks // 4  # it is as quick to search all scores as to search more blocks than these
    if few == 0 or (threshold is None and k > few):
        return None
    maxima = _in_blocks(scores).amax(dim=1)  # (Q, n_blocks)
    n_promising = k
    if threshold is not None:
        most = (maxima > threshold).sum(dim=1).amax()
        most = (n_blocks if all_in_a_prediction else few) if is_fake(most) else int(most)
        n_promising = min(k, max(most, 1))
        if n_promising > few:
            return None
    return _largest(maxima, n_promising)[1]  # (Q, n_promising)


def _largest_within(scores: Tensor, blocks: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and columns of the k largest of each row within its ``blocks (Q, b)`` and what is left over by blocks."""
    n_blocks, n_kept = scores.shape[1] // BLOCK, blocks.shape[1]
    values = _in_blocks(scores).gather(2, blocks.unsqueeze(1).expand(-1, BLOCK, -1)).flatten(1)  # (Q, 8 b)
    values, place = _largest(torch.cat([values, scores[:, BLOCK * n_blocks :]], dim=1), k)
    line, nth = place // max(n_kept, 1), place % max(n_kept, 1)
    left_over = place + BLOCK * (n_blocks - n_kept)
    columns = line * n_blocks + blocks.gather(1, nth)
    return values, torch.where(line < BLOCK, columns, left_over)


def _in_blocks(scores: Tensor) -> Tensor:
    """``(Q, 8, n_blocks)``: column j is in block j % n_blocks, so that taking maxima runs along contiguous memory."""
    n_blocks = scores.shape[1] // BLOCK
    return scores[:, : BLOCK * n_blocks].unflatten(1, (BLOCK, n_blocks))

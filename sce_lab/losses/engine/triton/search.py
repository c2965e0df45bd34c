"""Top-k of a matrix product that never leaves the registers."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..torch_search import streaming_topk
from .rows import load_rows

TILES = 16  # tiles of items that a program goes through, so that it loads its queries once
SAMPLED = 8  # the bound comes from one tile in so many


@torch.no_grad()
def threshold_topk(
    queries: Tensor, table: Tensor, k: int, *, allowed: Tensor | None, workspace_bytes: int
) -> Tensor | None:
    """What :func:`..torch_search.streaming_topk` finds, in four steps:

    1. *Bound.* Score a sample of the items, one tile in 8. A tile is cut into groups, and of each group only the
       largest score is kept. The k-th largest of these is a lower bound of the k-th largest score there is.
    2. *Candidates.* Score all items, and note those that reach the bound: some 8 k of them.
    3. *Scores.* Compute the scores of the candidates again, in float32.
    4. *Top-k* of the candidates.

    Steps 1 and 2 only have to say what a score may be at most and at least. So they multiply in float16, on tensor
    cores, and know how far off they are: with ``q'`` and ``w'`` the rounded rows, by Cauchy and Schwarz

        |q . w - q' . w'|  <=  |q - q'| |w| + |q'| |w - w'|

    The choice is thus that of float32 scores; rows that differ by less than float32 resolves may fall either way.
    Queries for which there are too few candidates, or more than there is room for (a table in an unlucky order, many
    ties, NaN), are answered by the PyTorch code. The answer is exact in any case.

    Memory: ``8 * Q`` bytes for each group and then for each candidate there is room for. There are up to ``32 k``
    groups, or ``C / 512`` where that is more, and ``16 k + 512`` candidates.

    Args:
        queries, table, k, allowed: as in :func:`..torch_search.streaming_topk`; queries are float32.
        workspace_bytes: as there.

    Returns:
        ``(Q, k)`` int64. Or None, if there are too few items for this to pay, or memory would not suffice.
    """
    n_queries, n_items = len(queries), len(table)
    sampled = min(SAMPLED, n_items // (32 * max(k, 1)))
    if sampled == 0 or n_queries == 0 or n_items >= 2**30:
        return None
    search = _Search(queries, table, allowed)
    group = _power_of_two(n_items // sampled // (16 * k), at_least=8, at_most=search.block_c)
    n_groups = triton.cdiv(search.n_tiles, sampled) * search.block_c // group
    capacity = min(2 * sampled * (k + 32), n_items)
    if n_queries * (8 * max(n_groups, capacity) + 12 * k) > workspace_bytes:
        return None

    with torch.cuda.device_of(queries):
        bounds = search.bounds(k, sampled, group)  # (Q,)
        counts, candidates = search.candidates(bounds, capacity)  # (Q,), (Q, capacity)
        fewest, most = torch.stack(counts.aminmax()).tolist()
        if most < k:
            return streaming_topk(queries, table, k, allowed=allowed, workspace_bytes=workspace_bytes)
        scores = search.scores(candidates, counts, min(most, capacity))  # (Q, most)
    chosen = candidates.gather(1, scores.topk(k, dim=1, sorted=False).indices).long()
    if fewest < k or most > capacity:
        missed = ((counts < k) | (counts > capacity)).nonzero().squeeze(1)
        chosen[missed] = streaming_topk(queries[missed], table, k, allowed=allowed, workspace_bytes=workspace_bytes)
    return chosen


class _Search:
    """The three kernels with the arguments they share."""

    def __init__(self, queries: Tensor, table: Tensor, allowed: Tensor | None) -> None:
        n_items, dim = table.shape
        self.queries, self.table, self.allowed = queries.contiguous(), table, allowed
        self.block_d = max(triton.next_power_of_2(dim), 16)
        self.block_c = min(64, 8192 // self.block_d)  # items of a tile ...
        self.block_q = 128 if self.block_d <= 128 else 64  # ... and queries
        self.n_tiles = triton.cdiv(n_items, self.block_c)

        # The order of a query's scores is that of its multiples: scaled, it is sure to fit into float16.
        scaled = queries / queries.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(queries.dtype).tiny)
        self.rounded = scaled.half()  # q' (Q, D)
        self.norms = self.rounded.float().norm(dim=1)  # |q'|
        # |q - q'|, and what the sums lose: these in half precision, and those of the final scores.
        self.errors = (scaled - self.rounded.float()).norm(dim=1) + dim * 2.0**-22 * scaled.norm(dim=1)

    def _screen(self, kernel: triton.JITFunction, n_tiles: int, *arguments: Tensor | int, **constants: int) -> None:
        """Launch a kernel over all queries and so many tiles of items; the queries of a tile are neighbours."""
        n_queries, dim = self.queries.shape
        kernel[triton.cdiv(n_queries, self.block_q), triton.cdiv(n_tiles, TILES)](
            self.rounded,
            self.norms,
            self.errors,
            self.table,
            self.allowed,
            *arguments,
            n_queries,
            len(self.table),
            n_tiles,
            dim,
            *self.table.stride(),
            TILES=TILES,
            BLOCK_C=self.block_c,
            BLOCK_Q=self.block_q,
            BLOCK_D=self.block_d,
            num_warps=4,
            num_stages=2,
            **constants,
        )

    def bounds(self, k: int, sampled: int, group: int) -> Tensor:
        """A lower bound of the k-th largest score of each query, ``(Q,)``, from every ``sampled``-th tile."""
        n_tiles = triton.cdiv(self.n_tiles, sampled)
        maxima = self.norms.new_empty(n_tiles * self.block_c // group, len(self.queries))  # (n_groups, Q)
        self._screen(_maxima_kernel, n_tiles, maxima, sampled, GROUP=group)
        return maxima.topk(k, dim=0, sorted=False).values.amin(dim=0)

    def candidates(self, bounds: Tensor, capacity: int) -> tuple[Tensor, Tensor]:
        """How many items may reach each bound, ``(Q,)``, and the first of them, ``(Q, capacity)``, in any order."""
        counts = torch.zeros(len(bounds), dtype=torch.int32, device=bounds.device)
        candidates = torch.empty(len(bounds), capacity, dtype=torch.int32, device=bounds.device)
        self._screen(_candidates_kernel, self.n_tiles, bounds, counts, candidates, capacity)
        return counts, candidates

    def scores(self, candidates: Tensor, counts: Tensor, n_slots: int) -> Tensor:
        """Scores of the first ``n_slots`` candidates of each query, ``(Q, n_slots)``; -inf where there are fewer."""
        n_queries, dim = self.queries.shape
        block_slots = 4096 // self.block_d
        scores = self.queries.new_empty(n_queries, n_slots)
        _scores_kernel[n_queries, triton.cdiv(n_slots, block_slots)](
            self.queries,
            self.table,
            candidates,
            counts,
            scores,
            n_slots,
            candidates.shape[1],
            dim,
            *self.table.stride(),
            BLOCK_SLOTS=block_slots,
            BLOCK_D=self.block_d,
        )
        return scores


def _power_of_two(number: int, at_least: int, at_most: int) -> int:
    """The largest power of two up to ``number``, within limits that are powers of two."""
    return min(max(1 << max(number, 1).bit_length() - 1, at_least), at_most)


@triton.jit
def _screened(rounded, norms, errors, rows):
    """Rough scores of ``rows (C, D)`` with ``rounded (D, Q)`` queries, ``(C, Q)``, and how far off they are, ``(Q,)``.

    The error is that of the worst row: one number per query then does for all of them.
    """
    rounded_rows = rows.to(tl.float16)
    scores = tl.dot(rounded_rows, rounded)
    lost = rows - rounded_rows.to(tl.float32)
    norm = tl.max(tl.sqrt(tl.sum(rows * rows, axis=1)), axis=0)
    error = tl.max(tl.sqrt(tl.sum(lost * lost, axis=1)), axis=0)
    return scores, errors * norm + norms * error


@triton.jit
def _maxima_kernel(
    rounded,
    norms,
    errors,
    table,
    allowed,
    maxima,
    every,
    n_queries,
    n_items,
    n_tiles,
    dim,
    row_stride,
    column_stride,
    TILES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_D: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Step 1: of each group of items, what its largest score is at least. Looks at one tile in ``every``."""
    query = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    asked = query < n_queries
    q = tl.trans(load_rows(rounded, query, asked, 0, dim, dim, 1, BLOCK_D))  # (D, Q)
    q_norms = tl.load(norms + query, mask=asked, other=0.0)
    q_errors = tl.load(errors + query, mask=asked, other=0.0)
    first = tl.program_id(1) * TILES
    for tile in range(first, min(first + TILES, n_tiles)):
        item = tile * every * BLOCK_C + tl.arange(0, BLOCK_C)
        there = item < n_items
        rows = load_rows(table, item, there, 0, dim, row_stride, column_stride, BLOCK_D).to(tl.float32)
        scores, error = _screened(q, q_norms, q_errors, rows)
        if allowed is not None:
            there &= tl.load(allowed + item, mask=there, other=0) != 0
        scores = tl.where(there[:, None], scores, float("-inf"))
        largest = tl.max(tl.reshape(scores, (BLOCK_C // GROUP, GROUP, BLOCK_Q)), axis=1)  # (groups, Q)
        group = (tile * (BLOCK_C // GROUP) + tl.arange(0, BLOCK_C // GROUP)).to(tl.int64)
        tl.store(maxima + group[:, None] * n_queries + query[None, :], largest - error[None, :], mask=asked[None, :])


@triton.jit
def _candidates_kernel(
    rounded,
    norms,
    errors,
    table,
    allowed,
    bounds,
    counts,
    candidates,
    capacity,
    n_queries,
    n_items,
    n_tiles,
    dim,
    row_stride,
    column_stride,
    TILES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Step 2: the items whose score may reach the bound, in the order in which programs come across them."""
    query = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    asked = query < n_queries
    q = tl.trans(load_rows(rounded, query, asked, 0, dim, dim, 1, BLOCK_D))  # (D, Q)
    q_norms = tl.load(norms + query, mask=asked, other=0.0)
    q_errors = tl.load(errors + query, mask=asked, other=0.0)
    bound = tl.load(bounds + query, mask=asked, other=float("inf"))
    counter = counts + query
    list_of_query = candidates + query.to(tl.int64) * capacity
    first = tl.program_id(1) * TILES
    for tile in range(first, min(first + TILES, n_tiles)):
        item = tile * BLOCK_C + tl.arange(0, BLOCK_C)
        there = item < n_items
        rows = load_rows(table, item, there, 0, dim, row_stride, column_stride, BLOCK_D).to(tl.float32)
        scores, error = _screened(q, q_norms, q_errors, rows)
        if allowed is not None:
            there &= tl.load(allowed + item, mask=there, other=0) != 0
        # "not below" instead of "at least": a score of NaN is the largest of all, as it is to torch.topk
        found = (scores < (bound - error)[None, :]) == 0
        found &= there[:, None] & asked[None, :]
        slot = tl.atomic_add(tl.broadcast_to(counter[None, :], (BLOCK_C, BLOCK_Q)), 1, mask=found, sem="relaxed")
        tl.store(list_of_query[None, :] + slot, item[:, None], mask=found & (slot < capacity))


@triton.jit
def _scores_kernel(
    queries,
    table,
    candidates,
    counts,
    scores,
    n_slots,
    capacity,
    dim,
    row_stride,
    column_stride,
    BLOCK_SLOTS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Step 3: the scores of one query's candidates."""
    query = tl.program_id(0).to(tl.int64)
    slot = tl.program_id(1) * BLOCK_SLOTS + tl.arange(0, BLOCK_SLOTS)
    filled = slot < min(tl.load(counts + query), n_slots)
    item = tl.load(candidates + query * capacity + slot, mask=filled, other=0)
    column = tl.arange(0, BLOCK_D)
    q = tl.load(queries + query * dim + column, mask=column < dim, other=0.0)
    rows = load_rows(table, item, filled, 0, dim, row_stride, column_stride, BLOCK_D).to(tl.float32)
    score = tl.where(filled, tl.sum(rows * q[None, :], axis=1), float("-inf"))
    tl.store(scores + query * n_slots + slot, score, mask=slot < n_slots)

"""Top-k of a matrix product that never leaves the registers, or fits into the workspace."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from ..tiles import chunks
from .launch import launch
from .search_kernels import candidates_kernel, maxima_kernel, round_kernel, scores_kernel, select_kernel
from .settings import dot_settings, tile

TILES = 16  # tiles of items that a program goes through, so that it loads its queries once
LARGEST_GROUP = 64


@torch.no_grad()
def largest_products(queries: Tensor, table: Tensor, k: int, *, allowed: Tensor | None, workspace_bytes: int) -> Tensor:
    """What :func:`..torch_search.streaming_topk` finds. Where all scores fit, they are written down, and the k largest
    of each row taken: two launches. Otherwise five:

    1. *Maxima.* Items are cut into groups of some neighbours. Of each group the largest score is noted, or rather what
       it may be at most. One pass over the table; two bytes a group.
    2. *Groups.* The k best items lie in the k groups with the largest maxima. So these are taken, and some more.
    3. *Scores* of the items in these groups, in float32.
    4. *Top-k* of these. It is the answer if no group that was left out may hold a better one: the k-th best score
       reaches the bound of all of them.
    5. *Mend.* A program for each query looks whether that is so, and leaves. Otherwise it goes through the items of all
       groups that may hold a better one.

    Step 1 only has to say what a score may be at most. So it multiplies in float16, on tensor cores, and knows how far
    off it is: with ``q'`` and ``w'`` the rounded rows, by Cauchy and Schwarz

        |q . w - q' . w'|  <=  |q - q'| |w| + |q'| |w - w'|

    The choice is thus that of float32 scores; rows that differ by less than float32 resolves may fall either way. The
    answer is exact in any case, and the same every time. It comes in ascending order of the items.

    Memory, for each query: ``4 C`` bytes where that fits, or ``2 C / G + 4 G (1.25 k + 32)`` with groups of G items.
    Where not even the largest groups fit, some queries are answered after the others.

    Args:
        queries, table, k, allowed: as in :func:`..torch_search.streaming_topk`; queries are float32.
        workspace_bytes: as there.

    Returns:
        ``(Q, k)`` int64.
    """
    how = Grouping.fitting(len(queries), len(table), k, workspace_bytes)
    queries = queries.contiguous()
    chosen = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
    for part in chunks(len(queries), how.n_queries, queries):
        if how.size == 0:
            _from_all_scores(queries[part], table, allowed, chosen[part])
        else:
            _from_groups(queries[part], table, allowed, chosen[part], how)
    return chosen


class Grouping(NamedTuple):
    """How a search is cut."""

    n_queries: int  # answered at a time
    size: int  # items of a group; 0: no groups, all scores are held
    n_groups: int
    n_taken: int  # groups whose items are looked at

    @classmethod
    def fitting(cls, n_queries: int, n_items: int, k: int, workspace_bytes: int) -> "Grouping":
        """All scores if they fit; otherwise the smallest groups with which all queries fit, or at last some."""
        most = workspace_bytes // max(n_queries, 1)
        if 4 * n_items <= most:
            return cls(n_queries, 0, 0, 0)
        size, nbytes = 4, 0
        while True:
            n_groups = triton.cdiv(n_items, size)
            n_taken = min(k + k // 4 + 32, n_groups)
            nbytes = 2 * n_groups + 4 * n_taken * size
            if nbytes <= most or size == LARGEST_GROUP:
                break
            size *= 2
        if nbytes >= 2 * n_items:  # nearly everything would be looked at twice
            size, nbytes = 0, 4 * n_items
        return cls(min(max(workspace_bytes // nbytes, 1), n_queries), size, n_groups, n_taken)


def _from_all_scores(queries: Tensor, table: Tensor, allowed: Tensor | None, chosen: Tensor) -> None:
    """One product and one top-k."""
    (n_queries, dim), n_items = queries.shape, len(table)
    keys = torch.empty(n_queries, n_items, dtype=torch.int32, device=queries.device)
    block = tile("scores", dim, queries)
    grid = triton.cdiv(n_items, block.y), triton.cdiv(n_queries, block.x)
    launch(
        scores_kernel, grid, queries, table, allowed, keys, n_queries, n_items, dim, *queries.stride(), *table.stride(),
        BLOCK_X=block.x, BLOCK_Y=block.y, num_warps=block.warps, num_stages=block.stages,
        **dot_settings(queries, table),
    )  # fmt: skip
    _select(queries, keys, chosen)


def _from_groups(queries: Tensor, table: Tensor, allowed: Tensor | None, chosen: Tensor, how: Grouping) -> None:
    """See :func:`largest_products`; the answers go into ``chosen (Q, k)``."""
    (n_queries, dim), n_items, device = queries.shape, len(table), queries.device
    # The order of a query's scores is that of its multiples: scaled, it is sure to fit into float16.
    rounded = torch.empty(n_queries, dim, dtype=torch.float16, device=device)  # q'
    of_query = torch.empty(4, n_queries, dtype=torch.float32, device=device)  # |q'|, |q - q'|, scale, bound
    of_table = torch.empty(1, dtype=torch.float32, device=device)  # its scale
    numbers = n_items, dim, *table.stride()
    block_d = min(triton.next_power_of_2(max(dim, 16)), 64)
    common = of_query, of_table, n_queries, *numbers
    launch(round_kernel, (n_queries,), queries, table, rounded, *common, BLOCK_D=block_d)

    block = tile("maxima", dim, queries)
    n_tiles = triton.cdiv(n_items, block.y)
    tiles = max(TILES, triton.cdiv(n_tiles, 65_535))  # of a program; a grid has no more lines
    maxima = torch.empty(n_queries, how.n_groups, dtype=torch.int16, device=device)
    launch(
        maxima_kernel, (triton.cdiv(n_queries, block.x), triton.cdiv(n_tiles, tiles)),
        rounded, of_query, of_table, table, allowed, maxima, n_queries, how.n_groups, tiles, *numbers,
        BLOCK_C=block.y, BLOCK_Q=block.x, BLOCK_D=block_d, ONCE=dim <= block_d, GROUP=how.size,
        num_warps=block.warps, num_stages=block.stages,
    )  # fmt: skip

    groups = torch.empty(n_queries, how.n_taken, dtype=torch.int32, device=device)
    _select(queries, maxima, groups, of_query=of_query)

    n_slots = how.n_taken * how.size
    keys = torch.empty(n_queries, n_slots, dtype=torch.int32, device=device)
    block_slots = 4096 // block_d
    launch(
        candidates_kernel, (n_queries, triton.cdiv(n_slots, block_slots)), queries, table, allowed, groups, keys,
        how.n_taken, *numbers, GROUP=how.size, BLOCK_SLOTS=block_slots, BLOCK_D=block_d,
    )  # fmt: skip
    flags = torch.empty(n_queries, dtype=torch.int32, device=device)
    checked = {"of_query": of_query, "of_table": of_table, "groups": groups, "flags": flags}
    _select(queries, keys, chosen, **checked, group=how.size, n_taken=how.n_taken)
    _select(queries, maxima, chosen, **checked, group=how.size, table=table, allowed=allowed)


def _select(
    queries: Tensor,
    keys: Tensor,
    chosen: Tensor,
    *,
    of_query: Tensor | None = None,
    of_table: Tensor | None = None,
    groups: Tensor | None = None,
    flags: Tensor | None = None,
    table: Tensor | None = None,
    allowed: Tensor | None = None,
    group: int = 0,
    n_taken: int = 0,
) -> None:
    """The k largest of each row of ``keys``; with a ``table``, of the items of all groups, where it is flagged."""
    (n_queries, k), dim = chosen.shape, queries.shape[1]
    mend = table is not None
    n = len(table) if mend else keys.shape[1]
    strides = table.stride() if mend else (0, 0)
    block_d = min(triton.next_power_of_2(max(dim, 16)), 64)
    launch(
        select_kernel, (n_queries,), keys, chosen, of_query, of_table, groups, flags, queries, table, allowed,
        n_queries, n, keys.shape[1], k, n_taken, dim, *strides,
        GROUP=group, BITS=16 if keys.dtype == torch.int16 and not mend else 32, MEND=mend,
        BLOCK=4096 // block_d if mend else min(triton.next_power_of_2(n), 4096), BLOCK_D=block_d, num_warps=8,
    )  # fmt: skip

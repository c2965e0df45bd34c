"""How buckets are filled when positions and items are spread over ranks: everyone searches among its own."""

from __future__ import annotations

import torch
from torch import Tensor

from .buckets import BucketSizes, checked_centers, draw_centers, mean_rows, moved_centers
from .draws import draw
from .engine.torch_search import scored_topk
from .sharded import Everyone, Ranks, check_same, checksum


def topk_of_all(
    queries: Tensor,
    mine: Tensor,
    k: int,
    allowed: Tensor | None,
    first: int,
    most: int,
    workspace_bytes: int,
    ranks: Ranks,
) -> Tensor:
    """The ``k`` rows of all ranks with the largest products with each of the ``queries (Q, D)``: ``(Q, k)``.

    Each rank finds its own k best, and everyone chooses among all of these, of equals the first. Rows that are not
    allowed are taken when no others are left.

    Args:
        queries: ``(Q, D)``, the same on all ranks.
        mine: ``(n, D)`` rows of this rank.
        k: how many; all ranks together have at least as many.
        allowed: ``(n,)`` bool.
        first: number of this rank's first row among all.
        most: rows of the rank that has most.
        workspace_bytes: for the search.
        ranks: who has rows.
    """
    width = min(k, most)
    scores = queries.new_full((len(queries), width), -torch.inf)
    rows = torch.zeros_like(scores, dtype=torch.int64)
    n = min(k, len(mine))
    if n:
        best, chosen = scored_topk(queries, mine, n, allowed=allowed, workspace_bytes=workspace_bytes)
        chosen, order = chosen.sort(dim=1)  # so that of equals the first comes first below
        # A row that is not allowed is still better than none.
        scores[:, :n] = best.gather(1, order).clamp(min=torch.finfo(best.dtype).min)
        rows[:, :n] = chosen + first
    scores, rows = (ranks.gathered(t).transpose(0, 1).flatten(1) for t in (scores, rows))  # (Q, ranks * width)
    return rows.gather(1, scores.sort(dim=1, descending=True, stable=True).indices[:, :k])


@torch.no_grad()
def fill_from_all(
    outputs: Tensor,
    everyone: Everyone,
    sizes: tuple[int | None, int | None, int | None],
    search: tuple,
    catalog_size: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Positions and items of each bucket, as :func:`bucket_search.fill` finds them in the batches put together."""
    mix_x, kmeans_steps, centers, items_near, generator, workspace_bytes = search
    shard, ranks, mine = everyone.shard, everyone.ranks, everyone.mine
    valid = everyone.valid[mine]
    if centers is not None and sizes[0] is None:
        sizes = (len(centers), *sizes[1:])
    n_positions = everyone.n_positions
    asked = BucketSizes.asked(*sizes, n_positions, catalog_size).clamped(n_positions, catalog_size)
    if centers is not None:
        centers = decide = checked_centers(centers, outputs, dtype, n_buckets=asked.n_buckets)
    elif mix_x:
        centers, decide = _mixed(outputs, everyone, asked.n_buckets, generator, dtype)
    else:
        centers = decide = draw_centers(outputs, valid, asked.n_buckets, False, generator, dtype)
    settings = [asked.n_buckets, asked.bucket_size_x, asked.bucket_size_y, kmeans_steps, items_near == "positions"]
    check_same(everyone, "centres of buckets", decide, torch.tensor(settings))
    if decide is not centers:
        ranks.added(centers)
    if kmeans_steps > 0:
        centers = moved_centers(centers, outputs, valid, kmeans_steps, add_up=ranks.added)

    def best(among: Tensor, k: int, allowed: Tensor | None, first: int, most: int) -> Tensor:
        return topk_of_all(centers, among.detach(), k, allowed, first, most, workspace_bytes, ranks)

    rows = best(outputs, asked.bucket_size_x, valid, mine.start, max(everyone.sizes))
    if items_near == "positions":
        local = torch.where((rows >= mine.start) & (rows < mine.stop), rows - mine.start, -1)
        centers = mean_rows(outputs, local, valid, dtype) if len(outputs) else torch.zeros_like(centers)
        centers = ranks.added(centers)
    per_rank = -(-catalog_size // ranks.n)
    return rows, best(shard.rows, asked.bucket_size_y, None, shard.start, per_rank)


def _mixed(
    outputs: Tensor, everyone: Everyone, n_buckets: int, generator: torch.Generator | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The part of ``Omega X`` that this rank's positions give, and a checksum of Omega ``()``.

    Each rank draws all of Omega, a slice at a time.
    """
    mine, valid = everyone.mine, everyone.valid[everyone.mine]
    centers = outputs.new_zeros(n_buckets, outputs.shape[1], dtype=dtype)
    drawn = torch.zeros((), dtype=torch.int64, device=outputs.device)
    for start in range(0, everyone.n_positions, 4096):
        stop = min(start + 4096, everyone.n_positions)
        omega = draw(torch.randn, n_buckets, stop - start, device=outputs.device, generator=generator, dtype=dtype)
        drawn += checksum(omega)
        first, last = max(start, mine.start), min(stop, mine.stop)
        if first < last:
            part = slice(first - mine.start, last - mine.start)
            x = outputs[part].to(dtype).masked_fill(~valid[part, None], 0.0)
            centers += omega[:, first - start : last - start] @ x
    return centers, drawn

"""Blocks that each have their own positions and items, with PyTorch: the buckets of SCE, negatives of one's own.

Work is done in *tiles*: some blocks (n_b), and if need be only some of their slots (n_x) and items (n_y), as many as
fit the plan. Logits of a tile live in the cache and nowhere else.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from .problem import PositionGradients, Problem, Slots
from .repeats import Repeats
from .table_gradient import TableGradient
from .tiles import Plan, chunks, is_fake, room_for_slopes, tile_bytes, tile_shape
from .torch_parts import add_rows, cap, log_sum_exp_inplace, set_at_targets, slope, take


def log_negatives(problem: Problem, plan: Plan, distinct: bool = False) -> Tensor:
    """Log-sum-exp of every slot's logits over the items of its block, its target left out: ``(n_blocks, n_x)``.

    With ``distinct``, items that are in an earlier block of the position, too, are left out as well.
    """
    outputs, _, labels, _, (rows, items, _) = problem[:5]
    plan, repeats = _seen_before(problem, plan, distinct)
    rows = rows.clamp(min=0)  # anybody stands in where there is no position
    (n_blocks, size_x), size_y = rows.shape, items.shape[1]
    n_x, n_y, bytes_per_block = tile_shape(size_x, size_y, outputs.shape[1], plan)
    result = outputs.new_full((n_blocks, size_x), -torch.inf, dtype=plan.dtype)
    for blocks in chunks(n_blocks, plan.tile_bytes // bytes_per_block, outputs):
        for slots in chunks(size_x, n_x, outputs):
            positions, so_far = rows[blocks, slots], result[blocks, slots]  # (n_b, n_x)
            x, targets = take(outputs, positions, plan), labels[positions]  # (n_b, n_x, D), (n_b, n_x)
            for part in chunks(size_y, n_y, outputs):
                negatives, _, logits, _ = _logits(problem, x, blocks, part, plan)
                set_at_targets(logits, targets, negatives, -torch.inf)  # the target comes in elsewhere, once
                if repeats is not None:
                    repeats.fill(logits, blocks, positions, negatives, -torch.inf)
                torch.logaddexp(so_far, log_sum_exp_inplace(logits), out=so_far)
                del negatives, _, logits  # before the next tile is made beside them
            del positions, x, targets
    return result


def add_negative_gradients(
    problem: Problem,
    slots: Slots,
    at: PositionGradients,
    plan: Plan,
    grad_outputs: Tensor | None,
    grad_table: TableGradient | None,
    grad_bias: Tensor | None = None,
    distinct: bool = False,
) -> None:
    """Add what the items of the blocks, but for the targets, give to the gradients, through these slots.

    With p the share of an item in the softmax of its slot, and g the gradient of the position's loss, that is
    ``g p w`` to the position's output, ``g p x`` to the item and ``g p`` to its bias.
    """
    outputs, _, labels, _, (_, items, _) = problem[:5]
    plan, repeats = _seen_before(problem, room_for_slopes(plan, problem.softcap), distinct)
    size_y, dim = items.shape[1], outputs.shape[1]
    n_x, n_y, _ = tile_shape(slots.most, size_y, dim, plan)
    for blocks, positions, padding in _tiles(slots, len(items), n_x, n_y, dim, plan):
        x, targets = take(outputs, positions, plan), labels[positions]  # (n_b, n_x, D), (n_b, n_x)
        log_z, g = at.log_z[positions].unsqueeze(2), at.losses[positions].masked_fill(padding, 0.0).unsqueeze(2)
        weighted, grad_x = x * g, torch.zeros_like(x)
        for part in chunks(size_y, n_y, outputs):
            negatives, w, p, slopes = _logits(problem, x, blocks, part, plan, with_slopes=True)
            p.sub_(log_z).clamp_(max=0.0).exp_()  # (n_b, n_x, n_y); large logits are not twice rounded alike
            set_at_targets(p, targets, negatives, 0.0)
            if repeats is not None:
                repeats.fill(p, blocks, positions, negatives, 0.0)
            if grad_bias is not None:
                grad_bias[blocks, part] += torch.bmm(p.mT, g).squeeze(2)
            if slopes is not None:
                p.mul_(slopes)
            if grad_outputs is not None:
                grad_x.baddbmm_(p, w)
            if grad_table is not None:
                grad_table.add(negatives.flatten(), torch.bmm(p.mT, weighted).flatten(0, 1))
            del negatives, w, p, slopes  # before the next tile is made beside them
        if grad_outputs is not None:
            add_rows(grad_outputs, positions.flatten(), grad_x.mul_(g).flatten(0, 1), plan)
        del positions, padding, x, targets, log_z, g, weighted, grad_x


def _seen_before(problem: Problem, plan: Plan, distinct: bool) -> tuple[Plan, Repeats | None]:
    """What knows the cells that are in an earlier block, and a plan with room for it."""
    if not distinct:
        return plan, None
    return plan._replace(tile_bytes=max(plan.tile_bytes // 4, 1)), Repeats(problem)


def _logits(
    problem: Problem, x: Tensor, blocks: slice | Tensor, part: slice, plan: Plan, with_slopes: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Some items of the blocks ``(n_b, n_y)``, their rows ``(n_b, n_y, D)`` and logits ``(n_b, n_x, n_y)``.

    And, of capped logits, their slopes in the inner products.
    """
    _, table, _, _, (_, items, bias) = problem[:5]
    chosen = items[blocks, part].contiguous()
    w = take(table, chosen, plan)
    logits = cap(torch.bmm(x, w.mT), problem.softcap)
    slopes = slope(logits, problem.softcap) if with_slopes and problem.softcap is not None else None
    if bias is not None:
        logits += bias[blocks, part].unsqueeze(1)
    return chosen, w, logits, slopes


def _tiles(
    slots: Slots, n_blocks: int, n_x: int, n_y: int, dim: int, plan: Plan
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Tiles of up to ``n_x`` slots, block by block, that each look at ``n_y`` items at a time.

    Blocks with similar numbers of slots share a tile: little of it is padding.

    Yields:
        ``(n_b,)`` blocks, ``(n_b, n_x)`` positions in each, and ``(n_b, n_x)`` bool: True where a block has no more
        slots and an earlier one stands in for padding.
    """
    sorted_block, order = slots.block.sort()  # (M,): the slots of a block stand together in order
    position = slots.position[order]
    block = torch.arange(n_blocks, device=order.device)
    start = torch.searchsorted(sorted_block, block)
    count = torch.searchsorted(sorted_block, block, right=True) - start
    count, block = count.sort(descending=True)
    start = start[block]

    def tile(first: int, last: int, nth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        limit = count[first:last, None]  # (n_b, 1)
        return block[first:last], position[start[first:last, None] + torch.minimum(nth, limit - 1)], nth >= limit

    if is_fake(count):
        for width, n_b in _worst_tiles(n_x, n_blocks, n_y, dim, plan):
            yield tile(0, n_b, torch.arange(width, device=order.device))
        return
    counts = count.tolist()
    first = 0
    while first < n_blocks and counts[first] > 0:
        bytes_per_block = tile_bytes(min(counts[first], n_x), n_y, dim, plan)
        last = min(first + max(plan.tile_bytes // bytes_per_block, 1), n_blocks)
        while counts[last - 1] == 0:
            last -= 1
        for part in chunks(counts[first], n_x, order):
            yield tile(first, last, torch.arange(part.start, part.stop, device=order.device))
        first = last


def _worst_tiles(n_x: int, n_blocks: int, n_y: int, dim: int, plan: Plan) -> Iterator[tuple[int, int]]:
    """Slots and blocks of the tiles of which one takes the most memory, however the slots are spread over blocks.

    What a tile takes is ``n_b (a x + b)`` bytes with ``n_b <= tile_bytes / (c x + d)`` for x slots, a quotient that
    rises or falls all the way from 1 to ``n_x``. So the worst is at either end, or where n_b reaches the number of
    blocks.
    """
    at_one, at_two = tile_bytes(1, n_y, dim, plan), tile_bytes(2, n_y, dim, plan)
    all_blocks = int((plan.tile_bytes / n_blocks - at_one) / (at_two - at_one)) + 1  # slots at which all fit in one
    for x in {n_x, 1, *(min(max(near, 1), n_x) for near in (all_blocks, all_blocks + 1))}:
        yield x, min(-(-plan.tile_bytes // tile_bytes(x, n_y, dim, plan)), n_blocks)

"""One block that holds every position, with PyTorch: all items of the catalog, or some columns of it.

Positions without a target are left out from the start. Logits exist for a tile of positions and items at a time.
"""

import torch
from torch import Tensor

from .problem import PositionGradients, Problem
from .table_gradient import TableGradient
from .tiles import Plan, chunks, is_fake, room_for_slopes, tile_shape
from .torch_parts import cap, log_sum_exp_inplace, set_at_targets, slope, softplus, take

LEAST_POSITIONS = 64  # a tile with fewer spends more on going through the table and its gradient than it saves


def log_negatives(problem: Problem, plan: Plan) -> Tensor:
    """Log-sum-exp of each position's logits over the items, its target left out: ``(N,)``, -inf without a target."""
    outputs, _, labels, valid, _ = problem[:5]
    positions, size = _with_target(valid), _n_items(problem)
    n_x, n_y, _ = tile_shape(len(outputs), size, outputs.shape[1], plan)
    result = outputs.new_full((len(outputs),), -torch.inf, dtype=plan.dtype)
    buffer = result.new_empty(n_x * n_y)
    for part in chunks(size, n_y, outputs):
        items, w, bias = _columns(problem, part, plan)
        for tile in chunks(len(positions), n_x, outputs):
            index = positions[tile]
            logits, _ = _logits(take(outputs, index, plan), w, bias, problem.softcap, buffer)  # (n_x, n_y)
            _set_at_targets(logits, labels[index], items, -torch.inf)  # the target comes in elsewhere, once
            result[index] = torch.logaddexp(result[index], log_sum_exp_inplace(logits))
        del items, w, bias  # before the next are made beside them
    return result


def add_gradients(
    problem: Problem,
    at: PositionGradients,
    plan: Plan,
    grad_outputs: Tensor | None,
    grad_table: TableGradient | None,
    grad_bias: Tensor | None = None,
) -> None:
    """Add what the items give to the gradients; of the targets only if the block is the whole catalog.

    There the cell of a target holds its own ``p_t - 1`` and needs no pass of its own.
    """
    outputs, _, labels, valid, (_, columns, _) = problem[:5]
    positions, size, softcap = _with_target(valid), _n_items(problem), problem.softcap
    n_x, n_y, _ = tile_shape(len(outputs), size, outputs.shape[1], room_for_slopes(plan, softcap))
    buffer = at.log_z.new_empty(n_x * n_y)
    for part in chunks(size, n_y, outputs):
        items, w, bias = _columns(problem, part, plan)
        grad_w = None if grad_table is None else grad_table.begin(part, w)
        for tile in chunks(len(positions), n_x, outputs):
            index = positions[tile]
            x, g = take(outputs, index, plan), at.losses[index].unsqueeze(1)
            logits, slopes = _logits(x, w, bias, softcap, buffer, with_slopes=True)
            p = logits.sub_(at.log_z[index].unsqueeze(1)).clamp_(max=0.0).exp_()  # (n_x, n_y)
            _set_at_targets(p, labels[index], items, at.target[index] if columns is None else 0.0)
            if grad_bias is not None:
                grad_bias[0, part].addmv_(p.T, g.squeeze(1))
            if slopes is not None:
                p.mul_(slopes)
            if grad_outputs is not None:
                grad_outputs.index_add_(0, index, torch.mm(p, w).mul_(g).to(grad_outputs.dtype))
            if grad_w is not None:
                grad_w.addmm_(p.T, x.mul_(g))
            del logits, slopes, p  # before the next are made beside them
        if grad_w is not None:
            grad_table.end(part, items, grad_w)
        del items, w, bias, grad_w  # before the next are made beside them


def fits_at_once(problem: Problem, plan: Plan) -> bool:
    """Whether a tile has room for all items beside enough positions, so that nothing need be computed twice."""
    if problem.softcap is not None:  # its slopes follow from logits, which are exponentials by then
        return False
    return problem.blocks.rows is None and _at_once(problem, plan) >= min(LEAST_POSITIONS, len(problem.outputs))


def losses_and_gradients(
    problem: Problem, g: Tensor, plan: Plan, grad_outputs: Tensor | None, grad_table: TableGradient | None
) -> tuple[Tensor, Tensor]:
    """Losses ``(N,)``, 0 without a target, and ``p_t - 1`` ``(N,)``; :func:`add_gradients` is done on the way.

    Softmax and gradients need the same exponentials: where a tile sees all items they are made once, with three
    products in place of four.

    Args:
        problem: with one block of all positions.
        g: ``(N,)`` gradient of each position's loss.
        plan: how to compute.
        grad_outputs: ``(N, D)`` to add to, or None.
        grad_table: to add to, or None.
    """
    outputs, table, labels, valid, (_, columns, _) = problem[:5]
    positions, size = _with_target(valid), _n_items(problem)
    losses, target = (outputs.new_zeros(len(outputs), dtype=plan.dtype) for _ in range(2))
    every, n_x = slice(0, size), min(_at_once(problem, plan), max(len(outputs), 1))
    buffer = losses.new_empty(n_x * size)
    items, w, bias = _columns(problem, every, plan)
    grad_w = None if grad_table is None else grad_table.begin(every, w)
    for tile in chunks(len(positions), n_x, outputs):
        index = positions[tile]
        targets, x = labels[index], take(outputs, index, plan)
        positive = (x * take(table, targets, plan)).sum(dim=1)
        e, _ = _logits(x, w, bias, None, buffer)  # (n_x, n_items)
        _set_at_targets(e, targets, items, -torch.inf)
        largest = e.amax(dim=1).clamp(min=torch.finfo(e.dtype).min)
        total = e.sub_(largest.unsqueeze(1)).exp_().sum(dim=1)
        losses[index] = loss = softplus(largest + total.log() - positive)
        target[index] = share = torch.expm1(-loss)  # p_t - 1, exact where p_t is nearly 1, too
        total = total.clamp(min=torch.finfo(e.dtype).tiny)  # 0 where all items are the target
        if columns is None:
            _set_at_targets(e, targets, items, -total)
        scale = (g[index] * -share / total).unsqueeze(1)  # of the exponentials, to make them g p
        if grad_outputs is not None:
            grad_outputs.index_add_(0, index, torch.mm(e, w).mul_(scale).to(grad_outputs.dtype))
        if grad_w is not None:
            grad_w.addmm_(e.T, x.mul_(scale))
    if grad_w is not None:
        grad_table.end(every, items, grad_w)
    return losses, target


def _with_target(valid: Tensor) -> Tensor:
    """Positions that have a target, ``(n,)``."""
    if is_fake(valid):
        return torch.empty_like(valid, dtype=torch.int64)  # as many as there can be
    return valid.nonzero().squeeze(1)


def _n_items(problem: Problem) -> int:
    return len(problem.table) if problem.blocks.items is None else problem.blocks.items.shape[1]


def _at_once(problem: Problem, plan: Plan) -> int:
    """How many positions a tile has room for beside all items."""
    size, dim = _n_items(problem), problem.outputs.shape[1]
    in_place = problem.blocks.items is None and problem.table.dtype == plan.dtype
    held = 0 if in_place else 2 * size * dim  # the rows of the items, and their gradient
    return max((plan.tile_bytes // plan.dtype.itemsize - held) // (size + 4 * dim), 0)


def _columns(problem: Problem, part: slice, plan: Plan) -> tuple[Tensor, Tensor, Tensor | None]:
    """Some of the items in ascending order ``(n_y,)``, their rows ``(n_y, D)`` and their bias ``(n_y,)``."""
    _, items, bias = problem.blocks
    if items is None:
        every = torch.arange(part.start, part.stop, device=problem.table.device)
        return every, problem.table[part].to(plan.dtype), None if bias is None else bias[0, part]
    chosen = items[0, part]
    return chosen, take(problem.table, chosen, plan), None if bias is None else bias[0, part]


def _logits(
    x: Tensor, w: Tensor, bias: Tensor | None, softcap: float | None, buffer: Tensor, with_slopes: bool = False
) -> tuple[Tensor, Tensor | None]:
    """``(n_x, n_y)`` in the buffer: one tile after the other, without a second one beside it.

    And, of capped logits, their slopes in the inner products.
    """
    out = buffer[: len(x) * len(w)].view(len(x), len(w))
    if softcap is None:
        return torch.mm(x, w.T, out=out) if bias is None else torch.addmm(bias, x, w.T, out=out), None
    cap(torch.mm(x, w.T, out=out), softcap)
    slopes = slope(out, softcap) if with_slopes else None
    return out if bias is None else out.add_(bias), slopes


def _set_at_targets(logits: Tensor, targets: Tensor, items: Tensor, value: float | Tensor) -> None:
    """:func:`.torch_parts.set_at_targets` for one block."""
    value = value.unsqueeze(0) if isinstance(value, Tensor) else value
    set_at_targets(logits.unsqueeze(0), targets.unsqueeze(0), items.unsqueeze(0), value)

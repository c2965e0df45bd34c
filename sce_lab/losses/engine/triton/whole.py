"""Gradients of one block of all positions: all items, or some columns of them."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..problem import Found, Gradients, Problem
from ..tiles import Plan, chunks, is_fake
from .gradients import minus_other_share, shares_of
from .launch import kernel, launch
from .rows import load_rows, products
from .settings import dot_settings, tile
from .table_sum import TableSum


def whole_gradients(
    problem: Problem, found: Found, grad_losses: Tensor, plan: Plan, needs: list[bool], sparse: bool
) -> Gradients:
    """Gradients of one block of all positions.

    A kernel computes the logits of all positions with some of the items again, and writes down the gradients of these
    logits; two products of matrices as large as the plan allows make the gradients of outputs and items of them.
    In bfloat16 these products multiply bfloat16 numbers, and add up in float32.
    """
    outputs, table, _, valid, (_, items, bias) = problem[:5]
    (n_positions, dim), size = outputs.shape, len(table) if items is None else items.shape[1]
    halves = outputs.dtype == table.dtype == torch.bfloat16 and outputs.is_cuda
    dtype = torch.bfloat16 if halves else torch.float32
    x = outputs.to(dtype).masked_fill(~valid.unsqueeze(1), 0.0) if needs[1] else None  # whatever stands there
    grad_outputs = torch.zeros(n_positions, dim, dtype=torch.float32, device=outputs.device) if needs[0] else None
    total = None if items is None or not needs[1] else TableSum(problem, found.slot, sparse)
    grad_table = None
    if items is None and needs[1]:
        grad_table = torch.empty_like(table, memory_format=torch.contiguous_format)
    block = tile("shares", dim, outputs)
    at_a_time = plan.tile_bytes // (n_positions * dtype.itemsize) // block.y * block.y
    for part in chunks(size, max(at_a_time, block.y), outputs):
        n_y = part.stop - part.start
        shares = torch.empty(n_positions, n_y, dtype=dtype, device=outputs.device)
        launch(
            shares_kernel, (triton.cdiv(n_positions, block.x), triton.cdiv(n_y, block.y)),
            outputs, table, problem.labels, items, bias, grad_losses, *found, shares, part.start, n_positions, n_y, dim,
            grad_losses.stride(0), *outputs.stride(), *table.stride(), BLOCK_X=block.x, BLOCK_Y=block.y,
            num_warps=block.warps, num_stages=block.stages, **dot_settings(outputs, table),
        )  # fmt: skip
        if grad_outputs is not None:
            w = (table[part] if items is None else table[items[0, part]]).to(dtype)
            if halves:
                grad_outputs += _in_float32(shares, w)
            else:
                grad_outputs.addmm_(shares, w)
            del w
        if grad_table is not None:
            if grad_table.dtype == dtype:
                torch.mm(shares.T, x, out=grad_table[part])
            else:
                grad_table[part] = torch.mm(shares.T, x)
        elif total is not None:
            rows = _in_float32(shares.T, x) if halves else torch.mm(shares.T, x)
            total.rows.index_add_(0, total.of_items.flatten()[part], rows)
            del rows
        del shares
    if items is not None:
        block_d = min(triton.next_power_of_2(max(dim, 16)), 64)
        launch(
            targets_kernel, (triton.cdiv(n_positions, 2048 // block_d), triton.cdiv(dim, block_d)),
            outputs, table, problem.labels, grad_losses, *found, None if total is None else total.of_targets,
            grad_outputs, None if total is None else total.rows, n_positions, dim, grad_losses.stride(0),
            *outputs.stride(), *table.stride(), BLOCK_N=2048 // block_d, BLOCK_D=block_d,
        )  # fmt: skip
    rows, touched = (grad_table, None) if total is None else total.finish()
    return Gradients(None if grad_outputs is None else grad_outputs.to(outputs.dtype), rows, touched)


def _in_float32(a: Tensor, b: Tensor) -> Tensor:
    """The product of two matrices in bfloat16, added up and left in float32."""
    if is_fake(a):
        return a.new_empty(len(a), b.shape[1], dtype=torch.float32)
    return torch.mm(a, b, out_dtype=torch.float32)


@kernel
def shares_kernel(
    outputs,
    table,
    labels,
    items,
    bias,
    grad_losses,
    losses,
    slots,
    log_zs,
    shares,
    first_item,
    n_positions,
    n_y,
    dim,
    g_stride,
    x_stride,
    x_column,
    w_stride,
    w_column,
    BLOCK_X: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    STEP_D: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradients of some logits: ``g p``. In a block of all items the cell of a target has its own, ``g (p_t - 1)``."""
    position = tl.program_id(0).to(tl.int64) * BLOCK_X + tl.arange(0, BLOCK_X)
    there = position < n_positions
    counted = tl.load(slots + position, mask=there, other=-1) >= 0
    nth = tl.program_id(1) * BLOCK_Y + tl.arange(0, BLOCK_Y)
    with_item = nth < n_y
    column = (first_item + nth).to(tl.int64)
    item = column if items is None else tl.load(items + column, mask=with_item, other=0)
    target = tl.load(labels + position, mask=there, other=0)
    grad = tl.load(grad_losses + position * g_stride, mask=counted, other=0.0).to(tl.float32)
    z = tl.load(log_zs + position, mask=there, other=0.0)
    logits = products(
        outputs, table, position, item, counted, with_item, dim, x_stride, x_column, w_stride, w_column,
        BLOCK_X, BLOCK_Y, STEP_D, DOT, PRECISION,
    )  # fmt: skip
    share = shares_of(logits, bias, z, column, counted, with_item, target, item)
    if items is None:
        of_target = minus_other_share(tl.load(losses + position, mask=counted, other=0.0))
        share = tl.where(item[None, :] == target[:, None], of_target[:, None], share)
    share = tl.where(counted[:, None], share * grad[:, None], 0.0)
    place = position[:, None] * n_y + nth[None, :]
    tl.store(shares + place, share, mask=there[:, None] & with_item[None, :])


@kernel
def targets_kernel(
    outputs,
    table,
    labels,
    grad_losses,
    losses,
    slots,
    log_zs,
    of_targets,
    grad_outputs,
    grad_rows,
    n_positions,
    dim,
    g_stride,
    x_stride,
    x_column,
    w_stride,
    w_column,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """What targets give: ``g (p_t - 1) w_t`` to each position's output, ``g (p_t - 1) x`` to its target."""
    position = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    there = position < n_positions
    counted = tl.load(slots + position, mask=there, other=-1) >= 0
    grad = tl.load(grad_losses + position * g_stride, mask=counted, other=0.0).to(tl.float32)
    grad *= minus_other_share(tl.load(losses + position, mask=counted, other=0.0))
    first = tl.program_id(1) * BLOCK_D
    column = first + tl.arange(0, BLOCK_D)
    here = counted[:, None] & (column < dim)[None, :]
    if grad_outputs is not None:
        target = tl.load(labels + position, mask=counted, other=0)
        w = load_rows(table, target, counted, first, dim, w_stride, w_column, BLOCK_D).to(tl.float32)
        place = grad_outputs + position[:, None] * dim + column[None, :]
        tl.store(place, tl.load(place, mask=here, other=0.0) + grad[:, None] * w, mask=here)
    if grad_rows is not None:
        x = load_rows(outputs, position, counted, first, dim, x_stride, x_column, BLOCK_D).to(tl.float32)
        place = tl.load(of_targets + position, mask=counted, other=0)[:, None] * dim + column[None, :]
        tl.atomic_add(grad_rows + place, grad[:, None] * x, mask=here, sem="relaxed")

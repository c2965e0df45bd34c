"""Gradients of blocks that have positions of their own, through the slots that won."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..problem import Found, Gradients, Problem
from .launch import kernel, launch
from .rows import load_rows, products
from .settings import columns_at_once, dot_settings, tile
from .table_sum import TableSum


def block_gradients(problem: Problem, found: Found, grad_losses: Tensor, needs: list[bool], sparse: bool) -> Gradients:
    """Gradients through the winning slots, of which each position has one at most.

    One kernel lists the winners of each block. Another goes through the items for some winners of a block, and has the
    gradient of their outputs; a third goes through the winners for some items, and adds the gradient of these to the
    table's. Both compute the logits again. Rows of many dimensions are shared by several programs.
    """
    outputs, table, labels, _, (rows, items, bias) = problem[:5]
    (n_blocks, size_x), size_y, dim = rows.shape, items.shape[1], outputs.shape[1]
    winners = torch.empty(n_blocks, size_x, dtype=torch.int32, device=outputs.device)
    counts = torch.empty(n_blocks, dtype=torch.int32, device=outputs.device)
    launch(
        winners_kernel, (n_blocks,), rows, found.slot, winners, counts, size_x,
        BLOCK=min(triton.next_power_of_2(size_x), 1024),
    )  # fmt: skip
    grad_outputs = torch.zeros_like(outputs, memory_format=torch.contiguous_format) if needs[0] else None
    total = TableSum(problem, found.slot, sparse) if needs[1] else None
    grad_rows, of_items, of_targets = (None,) * 3 if total is None else (total.rows, total.of_items, total.of_targets)

    block_d = columns_at_once(dim, outputs)
    inputs = (outputs, table, labels, items, bias, winners, counts, grad_losses, found.losses, found.log_z)
    numbers = (size_x, size_y, dim, grad_losses.stride(0), *outputs.stride(), *table.stride())

    def shared(kernel: str) -> dict[str, object]:
        block = tile(kernel, dim, outputs)
        sizes = {"BLOCK_X": min(block.x, max(triton.next_power_of_2(size_x), 16)), "BLOCK_Y": block.y}
        launching = {"num_warps": block.warps, "num_stages": block.stages}
        return {**sizes, "BLOCK_D": block_d, **dot_settings(outputs, table), **launching}

    settings = shared("outputs_gradient")
    most = min(size_x, len(outputs))  # winners of a block
    launch(
        outputs_gradient_kernel, (n_blocks * triton.cdiv(most, settings["BLOCK_X"]), triton.cdiv(dim, block_d)),
        *inputs, of_targets, grad_outputs, grad_rows, *numbers, triton.cdiv(most, settings["BLOCK_X"]), **settings,
    )  # fmt: skip
    if total is None:
        return Gradients(grad_outputs, None, None)
    settings = shared("items_gradient")
    launch(
        items_gradient_kernel, (n_blocks * triton.cdiv(size_y, settings["BLOCK_Y"]), triton.cdiv(dim, block_d)),
        *inputs, of_items, grad_rows, *numbers, triton.cdiv(size_y, settings["BLOCK_Y"]), **settings,
    )  # fmt: skip
    return Gradients(grad_outputs, *total.finish())


@kernel
def winners_kernel(rows, slots, winners, counts, size_x, BLOCK: tl.constexpr):
    """The positions of one block whose loss comes from it, side by side, and how many there are."""
    block = tl.program_id(0).to(tl.int64)
    count = tl.full((), 0, tl.int32)
    for first in range(0, size_x, BLOCK):
        nth = first + tl.arange(0, BLOCK)
        there = nth < size_x
        slot = block * size_x + nth
        position = tl.load(rows + slot, mask=there, other=0)
        won = (there & (tl.load(slots + position, mask=there, other=-1) == slot)).to(tl.int32)
        place = count + tl.cumsum(won, axis=0) - 1
        tl.store(winners + block * size_x + place, position.to(tl.int32), mask=won != 0)
        count += tl.sum(won, axis=0)
    tl.store(counts + block, count)


@triton.jit
def minus_other_share(loss):
    """``e^-loss - 1``: the target's share of the softmax less one, exact where the loss is tiny, too."""
    e = tl.exp(-loss)
    exact = (e - 1.0) * -loss / tl.log(e)
    return tl.where(e == 1.0, -loss, tl.where(e == 0.0, -1.0, exact))


@triton.jit
def shares_of(logits, bias, z, place, with_position, with_item, target, item):
    """Shares of the items in the softmax of their positions ``(X, Y)``; 0 for what is not there, and at the target."""
    if bias is not None:
        logits += tl.load(bias + place, mask=with_item, other=0.0)[None, :]
    counts = with_item[None, :] & with_position[:, None] & (item[None, :] != target[:, None])
    larger = logits - z[:, None]  # than 0 only where large logits are not twice rounded alike
    return tl.where(counts, tl.exp(tl.where(larger > 0, 0.0, larger)), 0.0)


@kernel
def outputs_gradient_kernel(
    outputs,
    table,
    labels,
    items,
    bias,
    winners,
    counts,
    grad_losses,
    losses,
    log_zs,
    of_targets,
    grad_outputs,
    grad_rows,
    size_x,
    size_y,
    dim,
    g_stride,
    x_stride,
    x_column,
    w_stride,
    w_column,
    n_x,
    BLOCK_X: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    BLOCK_D: tl.constexpr,
    STEP_D: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Some winners, some dimensions: ``sum_i p_i w_i - (1 - p_t) w_t``; and ``(p_t - 1) x`` for their targets."""
    block = (tl.program_id(0) // n_x).to(tl.int64)
    start = (tl.program_id(0) % n_x) * BLOCK_X
    count = tl.load(counts + block)
    if start < count:
        nth = start + tl.arange(0, BLOCK_X)
        won = nth < count
        position = tl.load(winners + block * size_x + nth, mask=won, other=0).to(tl.int64)
        target = tl.load(labels + position, mask=won, other=0)
        grad = tl.load(grad_losses + position * g_stride, mask=won, other=0.0).to(tl.float32)
        grad_target = grad * minus_other_share(tl.load(losses + position, mask=won, other=0.0))
        z = tl.load(log_zs + position, mask=won, other=0.0)
        first_column = tl.program_id(1) * BLOCK_D
        columns = first_column + tl.arange(0, BLOCK_D)
        here = won[:, None] & (columns < dim)[None, :]
        if grad_rows is not None:
            x = load_rows(outputs, position, won, first_column, dim, x_stride, x_column, BLOCK_D).to(tl.float32)
            place = tl.load(of_targets + position, mask=won, other=0)[:, None] * dim + columns[None, :]
            tl.atomic_add(grad_rows + place, grad_target[:, None] * x, mask=here, sem="relaxed")
        if grad_outputs is not None:
            w_target = load_rows(table, target, won, first_column, dim, w_stride, w_column, BLOCK_D).to(tl.float32)
            grad_x = grad_target[:, None] * w_target  # (X, D)
            for first in range(0, size_y, BLOCK_Y):
                column = first + tl.arange(0, BLOCK_Y)
                with_item = column < size_y
                item = tl.load(items + block * size_y + column, mask=with_item, other=0)
                logits = products(
                    outputs, table, position, item, won, with_item, dim, x_stride, x_column, w_stride, w_column,
                    BLOCK_X, BLOCK_Y, STEP_D, DOT, PRECISION,
                )  # fmt: skip
                share = shares_of(logits, bias, z, block * size_y + column, won, with_item, target, item)
                w = load_rows(table, item, with_item, first_column, dim, w_stride, w_column, BLOCK_D).to(tl.float32)
                grad_x = tl.dot(share * grad[:, None], w, grad_x, input_precision=PRECISION)
            tl.store(grad_outputs + position[:, None] * dim + columns[None, :], grad_x, mask=here)


@kernel
def items_gradient_kernel(
    outputs,
    table,
    labels,
    items,
    bias,
    winners,
    counts,
    grad_losses,
    losses,
    log_zs,
    of_items,
    grad_rows,
    size_x,
    size_y,
    dim,
    g_stride,
    x_stride,
    x_column,
    w_stride,
    w_column,
    n_y,
    BLOCK_X: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    BLOCK_D: tl.constexpr,
    STEP_D: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Some items of one block, some dimensions: ``sum_n p_ni x_n`` over its winners (not those aiming at the item)."""
    block = (tl.program_id(0) // n_y).to(tl.int64)
    count = tl.load(counts + block)
    if count > 0:
        column = (tl.program_id(0) % n_y) * BLOCK_Y + tl.arange(0, BLOCK_Y)
        with_item = column < size_y
        item = tl.load(items + block * size_y + column, mask=with_item, other=0)
        first_column = tl.program_id(1) * BLOCK_D
        grad_w = tl.zeros((BLOCK_Y, BLOCK_D), tl.float32)
        for first in range(0, count, BLOCK_X):
            nth = first + tl.arange(0, BLOCK_X)
            won = nth < count
            position = tl.load(winners + block * size_x + nth, mask=won, other=0).to(tl.int64)
            target = tl.load(labels + position, mask=won, other=0)
            grad = tl.load(grad_losses + position * g_stride, mask=won, other=0.0).to(tl.float32)
            z = tl.load(log_zs + position, mask=won, other=0.0)
            logits = products(
                outputs, table, position, item, won, with_item, dim, x_stride, x_column, w_stride, w_column,
                BLOCK_X, BLOCK_Y, STEP_D, DOT, PRECISION,
            )  # fmt: skip
            share = shares_of(logits, bias, z, block * size_y + column, won, with_item, target, item)
            x = load_rows(outputs, position, won, first_column, dim, x_stride, x_column, BLOCK_D).to(tl.float32)
            grad_w = tl.dot(tl.trans(share * grad[:, None]), x, grad_w, input_precision=PRECISION)
        columns = first_column + tl.arange(0, BLOCK_D)
        place = tl.load(of_items + block * size_y + column, mask=with_item, other=0)[:, None] * dim + columns[None, :]
        tl.atomic_add(grad_rows + place, grad_w, mask=with_item[:, None] & (columns < dim)[None, :], sem="relaxed")

"""The losses: logits live in the registers, for a tile of positions and items at a time."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..problem import Found, Problem
from .launch import kernel, launch
from .order import number, sortable
from .rows import dot_of_rows, products
from .settings import dot_settings, tile

NOTHING = -(2**63)  # less than every key
NO_SLOT = tl.constexpr(NOTHING)
PROGRAMS = 512  # about as many as fill a large GPU


def losses(problem: Problem) -> Found:
    """The losses of all positions, of those in several blocks the largest.

    A program takes some positions of a block and goes through its items. Where blocks have positions of their own, it
    leaves each position the largest log-sum-exp it has come across, with its slot, in one number. One block of all
    positions is shared by several programs that see some of the items each.
    """
    outputs, table, labels, valid, (rows, items, bias) = problem[:5]
    n_positions, dim = outputs.shape
    n_blocks, size_x = (1, n_positions) if rows is None else rows.shape
    size_y = len(table) if items is None else items.shape[1]
    block = tile("log_negatives", dim, outputs)
    block_x = min(block.x, max(triton.next_power_of_2(size_x), 16))
    n_x = triton.cdiv(size_x, block_x)
    best, parts, per_part = None, None, size_y
    if rows is None:
        n_tiles = triton.cdiv(size_y, block.y)
        n_parts = max(min(triton.cdiv(PROGRAMS, n_x), triton.cdiv(n_tiles, 8)), 1)
        per_part = triton.cdiv(n_tiles, n_parts) * block.y
        parts = torch.empty(triton.cdiv(size_y, per_part), n_positions, dtype=torch.float32, device=outputs.device)
    else:
        best = torch.full((n_positions,), NOTHING, dtype=torch.int64, device=outputs.device)
    common = {"num_warps": block.warps, "num_stages": block.stages}
    launch(
        log_negatives_kernel, (n_blocks * n_x, 1 if parts is None else len(parts)),
        outputs, table, labels, valid, rows, items, bias, best, parts, size_x, size_y, per_part, n_positions, dim,
        *outputs.stride(), *table.stride(), LOWEST=torch.finfo(torch.float32).min, BLOCK_X=block_x, BLOCK_Y=block.y,
        **dot_settings(outputs, table), **common,
    )  # fmt: skip
    found = Found(
        torch.empty(n_positions, dtype=torch.float32, device=outputs.device),
        torch.empty(n_positions, dtype=torch.int64, device=outputs.device),
        torch.empty(n_positions, dtype=torch.float32, device=outputs.device),
    )
    block_d = min(triton.next_power_of_2(max(dim, 16)), 64)
    block_n = 2048 // block_d
    launch(
        finish_kernel, (triton.cdiv(n_positions, block_n),), outputs, table, labels, valid, best, parts, *found,
        0 if parts is None else len(parts), n_positions, dim, *outputs.stride(), *table.stride(),
        BLOCK_N=block_n, BLOCK_D=block_d,
    )  # fmt: skip
    return found


def mean(losses: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the losses that have a slot; and of how many, at least 1."""
    result, n = losses.new_empty(()), slot.new_empty(())
    launch(mean_kernel, (1,), losses, slot, result, n, len(losses), BLOCK=4096, num_warps=8)
    return result, n


@kernel
def log_negatives_kernel(
    outputs,
    table,
    labels,
    valid,
    rows,
    items,
    bias,
    best,
    parts,
    size_x,
    size_y,
    per_part,
    n_positions,
    dim,
    x_stride,
    x_column,
    w_stride,
    w_column,
    LOWEST: tl.constexpr,
    BLOCK_X: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    STEP_D: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Some slots of one block: log-sum-exp over its items (or a part of them) but the target, tile by tile."""
    n_x = tl.cdiv(size_x, BLOCK_X)
    block = (tl.program_id(0) // n_x).to(tl.int64)
    nth = (tl.program_id(0) % n_x) * BLOCK_X + tl.arange(0, BLOCK_X)
    with_position = nth < size_x
    slot = block * size_x + nth
    position = slot if rows is None else tl.load(rows + slot, mask=with_position, other=0)
    target = tl.load(labels + position, mask=with_position, other=0)

    largest = tl.full((BLOCK_X,), LOWEST, tl.float32)  # the largest logit so far: finite, also where there is none
    total = tl.zeros((BLOCK_X,), tl.float32)  # sum of e^(logit - largest)
    start = tl.program_id(1) * per_part
    for first in range(start, min(start + per_part, size_y), BLOCK_Y):
        column = first + tl.arange(0, BLOCK_Y)
        with_item = column < size_y
        column_of_all = block * size_y + column
        item = column_of_all if items is None else tl.load(items + column_of_all, mask=with_item, other=0)
        logits = products(
            outputs, table, position, item, with_position, with_item, dim, x_stride, x_column, w_stride, w_column,
            BLOCK_X, BLOCK_Y, STEP_D, DOT, PRECISION,
        )  # fmt: skip
        if bias is not None:
            logits += tl.load(bias + column_of_all, mask=with_item, other=0.0)[None, :]
        counts = with_item[None, :] & (item[None, :] != target[:, None])
        logits = tl.where(counts, logits, float("-inf"))
        before = largest
        largest = tl.maximum(before, tl.max(logits, axis=1))
        total = total * tl.exp(before - largest) + tl.sum(tl.exp(logits - largest[:, None]), axis=1)
    result = largest + tl.log(total)
    if rows is None:
        tl.store(parts + tl.program_id(1).to(tl.int64) * n_positions + position, result, mask=with_position)
    else:  # the larger one wins, NaN above all, and of equals the first slot
        usable = with_position & (tl.load(valid + position, mask=with_position, other=0) != 0)
        key = (sortable(result).to(tl.int64) << 32) | (0x7FFFFFFF - slot)
        tl.atomic_max(best + position, key, mask=usable, sem="relaxed")


@kernel
def finish_kernel(
    outputs,
    table,
    labels,
    valid,
    best,
    parts,
    losses,
    slots,
    log_zs,
    n_parts,
    n_positions,
    dim,
    x_stride,
    x_column,
    w_stride,
    w_column,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Some positions: the target's logit comes in, and it is a loss."""
    position = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    there = position < n_positions
    if parts is None:
        key = tl.load(best + position, mask=there, other=0)
        counted = key != NO_SLOT
        slot = tl.where(counted, 0x7FFFFFFF - (key & 0x7FFFFFFF), -1)
        negatives = tl.where(counted, number((key >> 32).to(tl.int32)), float("-inf"))
    else:
        largest = tl.full((BLOCK_N,), -3.4028234663852886e38, tl.float32)
        total = tl.zeros((BLOCK_N,), tl.float32)
        line = parts + position
        for _ in range(0, n_parts):
            value = tl.load(line, mask=there, other=float("-inf"))
            line += n_positions
            before = largest
            largest = tl.maximum(before, value)
            total = total * tl.exp(before - largest) + tl.exp(value - largest)
        negatives = largest + tl.log(total)
        counted = tl.load(valid + position, mask=there, other=0) != 0
        slot = tl.where(counted, position * 0, -1)
    target = tl.load(labels + position, mask=there, other=0)
    positive = dot_of_rows(
        outputs, table, position, target, there, dim, x_stride, x_column, w_stride, w_column, BLOCK_D
    )
    # log(e^t + sum of e^negatives) - t, exact also where the target far outweighs the rest
    odds = negatives - positive
    e = tl.exp(-tl.abs(odds))
    one_more = 1.0 + e
    log_one_more = tl.where(one_more == 1.0, e, e * tl.log(one_more) / (one_more - 1.0))
    loss = tl.where(odds > 0, odds, tl.where(odds == odds, 0.0, odds)) + log_one_more
    loss = tl.where(counted, loss, 0.0)
    tl.store(losses + position, loss, mask=there)
    tl.store(slots + position, slot, mask=there)
    tl.store(log_zs + position, positive + loss, mask=there)


@kernel
def mean_kernel(losses, slots, result, n, n_positions, BLOCK: tl.constexpr):
    """One program for all: in the same order every time."""
    total = tl.zeros((BLOCK,), tl.float32)
    count = tl.zeros((BLOCK,), tl.int32)
    for first in range(0, n_positions, BLOCK):
        position = first + tl.arange(0, BLOCK)
        there = position < n_positions
        counted = tl.load(slots + position, mask=there, other=-1) >= 0
        total += tl.where(counted, tl.load(losses + position, mask=there, other=0.0), 0.0)
        count += counted.to(tl.int32)
    at_least_one = tl.maximum(tl.sum(count, axis=0), 1)
    tl.store(result, tl.sum(total, axis=0) / at_least_one.to(tl.float32))
    tl.store(n, at_least_one.to(tl.int64))

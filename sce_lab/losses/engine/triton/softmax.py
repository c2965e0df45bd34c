"""The softmax of the buckets, forward and backward, with logits that never leave the registers.

A program takes one bucket and some of its positions or items, and goes through the others tile by tile. The inner
products of a tile are added up over a few dimensions at a time: more would not fit into the registers.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..problem import Gradients, PositionGradients, Problem, Slots
from . import interpreted
from .rows import load_rows

#: How float32 numbers are multiplied: ``"ieee"``, or ``"tf32x3"``, which takes tensor cores and three products for one.
PRECISION = "ieee"


def log_negatives(problem: Problem) -> Tensor:
    """Log-sum-exp of every slot's logits with the items of its bucket, its target left out.

    Returns:
        ``(n_buckets, bucket_size_x)`` float32; -inf for a slot whose bucket holds its target and nothing else.
    """
    outputs, linear_weight, labels, _, (rows, items, _) = problem
    (n_buckets, bucket_size_x), bucket_size_y = rows.shape, items.shape[1]
    result = torch.empty(n_buckets, bucket_size_x, dtype=torch.float32, device=outputs.device)
    block_x, block_y = 64, 64
    with torch.cuda.device_of(outputs):
        _log_negatives_kernel[n_buckets, triton.cdiv(bucket_size_x, block_x)](
            outputs,
            linear_weight,
            labels,
            rows.contiguous(),
            items.contiguous(),
            result,
            bucket_size_x,
            bucket_size_y,
            outputs.shape[1],
            *outputs.stride(),
            *linear_weight.stride(),
            LOWEST=torch.finfo(torch.float32).min,
            BLOCK_X=block_x,
            BLOCK_Y=block_y,
            **_dot_settings(outputs, linear_weight),
            num_warps=4,
        )
    return result


def winner_gradients(problem: Problem, slots: Slots, at: PositionGradients, sparse: bool) -> Gradients:
    """Gradients through the slots, of which each position has one at most.

    One kernel goes through the items for some winners of a bucket, and has the gradient of their outputs; another goes
    through the winners for some items, and adds the gradient of these to the table's. Nothing waits for the CPU.
    """
    outputs, linear_weight, labels, _, (_, items, _) = problem
    (n_buckets, bucket_size_y), (n_positions, dim) = items.shape, outputs.shape
    sorted_bucket, order = slots.block.sort()  # (N,): the positions of a bucket stand together in order
    order = slots.position[order]
    buckets = torch.arange(n_buckets + 1, device=order.device)
    start = torch.searchsorted(sorted_bucket, buckets)  # (n_buckets + 1,): where each begins, and the last ends
    grad_positive, grad_losses, log_z = at.losses * at.target, at.losses, at.log_z

    # Gradients of the table are added up in float32: in the gradient itself, if that is what it holds, ...
    in_place = not sparse and linear_weight.dtype == torch.float32
    if in_place:
        grad_rows, item_place, target_place = torch.zeros_like(linear_weight), items, labels
    else:  # ... or side by side, for those rows that have any
        touched, place = torch.unique(torch.cat([items.flatten(), labels]), return_inverse=True)
        item_place, target_place = place[: items.numel()].view_as(items), place[items.numel() :]
        grad_rows = torch.zeros(len(touched), dim, dtype=torch.float32, device=outputs.device)
    grad_outputs = torch.zeros_like(outputs)

    block_d = max(triton.next_power_of_2(dim), 16)
    common = {
        "BLOCK_D": block_d,
        "num_warps": 4 if block_d <= 64 else 8,
        **_dot_settings(outputs, linear_weight),
    }
    arguments = (outputs, linear_weight, labels, items, order, start, grad_losses.contiguous(), log_z)
    numbers = (bucket_size_y, dim, *outputs.stride(), *linear_weight.stride(), *grad_rows.stride())
    with torch.cuda.device_of(outputs):
        most = min(slots.most, n_positions)  # winners of a bucket
        block_x, block_y = 32, 32
        _outputs_gradient_kernel[n_buckets, triton.cdiv(most, block_x)](
            *arguments,
            grad_positive,
            target_place,
            grad_outputs,
            grad_rows,
            *numbers,
            *grad_outputs.stride(),
            BLOCK_X=block_x,
            BLOCK_Y=block_y,
            **common,
        )
        block_x, block_y = 16, 64
        _items_gradient_kernel[n_buckets, triton.cdiv(bucket_size_y, block_y)](
            *arguments,
            item_place,
            grad_rows,
            *numbers,
            BLOCK_X=block_x,
            BLOCK_Y=block_y,
            **common,
        )

    if in_place:
        return Gradients(grad_outputs, grad_rows, None)
    grad_rows = grad_rows.to(linear_weight.dtype)
    if sparse:
        return Gradients(grad_outputs, grad_rows, touched)
    return Gradients(grad_outputs, torch.zeros_like(linear_weight).index_copy_(0, touched, grad_rows), None)


def _dot_settings(outputs: Tensor, linear_weight: Tensor) -> dict[str, object]:
    """Products of two bfloat16 or float16 numbers are exact in float32: tensor cores may form them from the halves."""
    halves = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
    native = outputs.dtype == linear_weight.dtype and outputs.dtype in halves and not interpreted()
    return {
        "DOT": halves[outputs.dtype] if native else tl.float32,
        "STEP_D": 32 if native else 16,  # dimensions at a time
        "PRECISION": PRECISION,
    }


@triton.jit
def _logits(
    outputs,
    table,
    positions,
    items,
    with_position,
    with_item,
    dim,
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
    """Inner products of positions and items, ``(X, Y)``, 0 where there is none."""
    logits = tl.zeros((BLOCK_X, BLOCK_Y), tl.float32)
    for first in range(0, dim, STEP_D):
        x = load_rows(outputs, positions, with_position, first, dim, x_stride, x_column, STEP_D)
        w = load_rows(table, items, with_item, first, dim, w_stride, w_column, STEP_D)
        logits = tl.dot(x.to(DOT), tl.trans(w.to(DOT)), logits, input_precision=PRECISION)
    return logits


@triton.jit
def _log_negatives_kernel(
    outputs,
    table,
    labels,
    rows,
    items,
    result,
    bucket_size_x,
    bucket_size_y,
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
    """Some slots of one bucket: log-sum-exp over all of its items but the target, one tile after the other."""
    bucket = tl.program_id(0).to(tl.int64)
    slot = tl.program_id(1) * BLOCK_X + tl.arange(0, BLOCK_X)
    with_position = slot < bucket_size_x
    position = tl.load(rows + bucket * bucket_size_x + slot, mask=with_position, other=0)
    target = tl.load(labels + position)

    largest = tl.full((BLOCK_X,), LOWEST, tl.float32)  # the largest logit so far: finite, also where there is none
    total = tl.zeros((BLOCK_X,), tl.float32)  # sum of e^(logit - largest)
    for first in range(0, bucket_size_y, BLOCK_Y):
        nth = first + tl.arange(0, BLOCK_Y)
        with_item = nth < bucket_size_y
        item = tl.load(items + bucket * bucket_size_y + nth, mask=with_item, other=0)
        logits = _logits(
            outputs, table, position, item, with_position, with_item, dim, x_stride, x_column, w_stride, w_column,
            BLOCK_X, BLOCK_Y, STEP_D, DOT, PRECISION,
        )  # fmt: skip
        counts = with_item[None, :] & (item[None, :] != target[:, None])
        logits = tl.where(counts, logits, float("-inf"))
        before = largest
        largest = tl.maximum(before, tl.max(logits, axis=1))
        total = total * tl.exp(before - largest) + tl.sum(tl.exp(logits - largest[:, None]), axis=1)
    tl.store(result + bucket * bucket_size_x + slot, largest + tl.log(total), mask=with_position)


@triton.jit
def _outputs_gradient_kernel(
    outputs,
    table,
    labels,
    items,
    order,
    start,
    grad_losses,
    log_z,
    grad_positive,
    target_place,
    grad_outputs,
    grad_rows,
    bucket_size_y,
    dim,
    x_stride,
    x_column,
    w_stride,
    w_column,
    rows_stride,
    rows_column,
    grad_stride,
    grad_column,
    BLOCK_X: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    BLOCK_D: tl.constexpr,
    STEP_D: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Some winners of one bucket: ``sum_i p_i w_i - (1 - p_t) w_t``; and ``(p_t - 1) x`` is added to their targets'."""
    bucket = tl.program_id(0).to(tl.int64)
    begin = tl.load(start + bucket)
    count = tl.load(start + bucket + 1) - begin
    nth = tl.program_id(1) * BLOCK_X + tl.arange(0, BLOCK_X)
    if tl.program_id(1) * BLOCK_X < count:
        won = nth < count
        position = tl.load(order + begin + nth, mask=won, other=0)
        target = tl.load(labels + position, mask=won, other=0)
        grad = tl.load(grad_losses + position, mask=won, other=0.0)
        grad_target = tl.load(grad_positive + position, mask=won, other=0.0)
        z = tl.load(log_z + position, mask=won, other=0.0)
        columns = tl.arange(0, BLOCK_D)
        here = won[:, None] & (columns < dim)[None, :]

        x = load_rows(outputs, position, won, 0, dim, x_stride, x_column, BLOCK_D).to(tl.float32)
        place = tl.load(target_place + position, mask=won, other=0)
        place = place[:, None] * rows_stride + columns[None, :] * rows_column
        tl.atomic_add(grad_rows + place, grad_target[:, None] * x, mask=here, sem="relaxed")

        w_target = load_rows(table, target, won, 0, dim, w_stride, w_column, BLOCK_D).to(tl.float32)
        grad_x = grad_target[:, None] * w_target  # (X, D)
        for first in range(0, bucket_size_y, BLOCK_Y):
            nth_item = first + tl.arange(0, BLOCK_Y)
            with_item = nth_item < bucket_size_y
            item = tl.load(items + bucket * bucket_size_y + nth_item, mask=with_item, other=0)
            logits = _logits(
                outputs, table, position, item, won, with_item, dim, x_stride, x_column, w_stride, w_column,
                BLOCK_X, BLOCK_Y, STEP_D, DOT, PRECISION,
            )  # fmt: skip
            counts = with_item[None, :] & won[:, None] & (item[None, :] != target[:, None])
            grad_logits = tl.where(counts, tl.exp(logits - z[:, None]), 0.0) * grad[:, None]  # p, weighted
            w = load_rows(table, item, with_item, 0, dim, w_stride, w_column, BLOCK_D).to(tl.float32)
            grad_x = tl.dot(grad_logits, w, grad_x, input_precision=PRECISION)
        place = position[:, None] * grad_stride + columns[None, :] * grad_column
        tl.store(grad_outputs + place, grad_x, mask=here)


@triton.jit
def _items_gradient_kernel(
    outputs,
    table,
    labels,
    items,
    order,
    start,
    grad_losses,
    log_z,
    item_place,
    grad_rows,
    bucket_size_y,
    dim,
    x_stride,
    x_column,
    w_stride,
    w_column,
    rows_stride,
    rows_column,
    BLOCK_X: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    BLOCK_D: tl.constexpr,
    STEP_D: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Some items of one bucket: ``sum_n p_ni x_n`` over its winners (not those aiming at the item) is added."""
    bucket = tl.program_id(0).to(tl.int64)
    begin = tl.load(start + bucket)
    count = (tl.load(start + bucket + 1) - begin).to(tl.int32)
    nth_item = tl.program_id(1) * BLOCK_Y + tl.arange(0, BLOCK_Y)
    with_item = nth_item < bucket_size_y
    item = tl.load(items + bucket * bucket_size_y + nth_item, mask=with_item, other=0)
    grad_w = tl.zeros((BLOCK_Y, BLOCK_D), tl.float32)
    for first in range(0, count, BLOCK_X):
        nth = first + tl.arange(0, BLOCK_X)
        won = nth < count
        position = tl.load(order + begin + nth, mask=won, other=0)
        target = tl.load(labels + position, mask=won, other=0)
        grad = tl.load(grad_losses + position, mask=won, other=0.0)
        z = tl.load(log_z + position, mask=won, other=0.0)
        logits = _logits(
            outputs, table, position, item, won, with_item, dim, x_stride, x_column, w_stride, w_column,
            BLOCK_X, BLOCK_Y, STEP_D, DOT, PRECISION,
        )  # fmt: skip
        counts = with_item[None, :] & won[:, None] & (item[None, :] != target[:, None])
        grad_logits = tl.where(counts, tl.exp(logits - z[:, None]), 0.0) * grad[:, None]  # p, weighted
        x = load_rows(outputs, position, won, 0, dim, x_stride, x_column, BLOCK_D).to(tl.float32)
        grad_w = tl.dot(tl.trans(grad_logits), x, grad_w, input_precision=PRECISION)
    if count > 0:
        columns = tl.arange(0, BLOCK_D)
        place = tl.load(item_place + bucket * bucket_size_y + nth_item, mask=with_item, other=0)
        place = place[:, None] * rows_stride + columns[None, :] * rows_column
        tl.atomic_add(grad_rows + place, grad_w, mask=with_item[:, None] & (columns < dim)[None, :], sem="relaxed")

"""What makes SCE lean: bucket logits that are never held, and a backward pass through the winners only.

The steps of the paper are functions of these names: :func:`target_logits`, :func:`bucket_losses` and
:func:`keep_largest`; :class:`BucketSoftmax` strings them together and differentiates them.

Shapes: N positions, C items, D dimensions; a *slot* is one position in one bucket. Indices are gathered and results
added for a few buckets at a time, so many that the temporary tensors fit ``workspace_bytes``.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .common import chunks, is_fake, read_count


class BucketSoftmax(torch.autograd.Function):
    r"""Per-position losses of filled buckets, and their gradients.

    Forward reduces the logits of each slot to one loss at once, and the slots of each position to the largest loss.
    Backward computes the logits of the winning slots again, and of no others: they alone have a gradient. With
    ``p`` the softmax of the winning slot,

    .. math:: \frac{\partial \ell_n}{\partial x_n} = \sum_i p_i w_i - w_t, \qquad
              \frac{\partial \ell_n}{\partial w_i} = p_i \, x_n, \qquad
              \frac{\partial \ell_n}{\partial w_t} = (p_t - 1) \, x_n .

    Between the two passes it keeps the inputs, the items of the buckets and three numbers per position.
    """

    @staticmethod
    def forward(
        ctx: Any,
        outputs: Tensor,
        linear_weight: Tensor,
        labels: Tensor,
        valid: Tensor,
        rows: Tensor,
        items: Tensor,
        dtype: torch.dtype,
        workspace_bytes: int,
        sparse_grad: bool,
        deterministic: bool,
    ) -> tuple[Tensor, Tensor]:
        """Loss ``(N,)`` and winning slot ``(N,)`` of each position; the slot is -1 where it is in no bucket.

        Args:
            outputs: ``(N, D)``.
            linear_weight: ``(C, D)``.
            labels: ``(N,)`` target items.
            valid: ``(N,)`` bool, positions with a target.
            rows: ``(n_buckets, bucket_size_x)`` positions in each bucket.
            items: ``(n_buckets, bucket_size_y)`` items in each bucket.
            dtype: everything is computed and added up in this one, whatever the inputs are in.
            workspace_bytes: for the temporary tensors of one chunk.
            sparse_grad: return the gradient of the item table as a row-sparse tensor.
            deterministic: add gradients in a fixed order on CUDA, too.
        """
        items = items.sort(dim=1).values  # so that a target is found among them by bisection
        positive = target_logits(outputs, linear_weight, labels, dtype, workspace_bytes)  # (N,)
        slot_losses = bucket_losses(
            outputs, linear_weight, labels, positive, rows, items, dtype, workspace_bytes
        )  # (n_buckets, bucket_size_x)
        losses, winning_slot = keep_largest(slot_losses, rows, valid)  # (N,), (N,)

        ctx.save_for_backward(outputs, linear_weight, labels, items, losses, positive, winning_slot)
        ctx.bucket_size_x = rows.shape[1]
        ctx.options = dtype, workspace_bytes, sparse_grad, deterministic
        ctx.mark_non_differentiable(winning_slot)
        return losses, winning_slot

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of ``outputs`` and ``linear_weight``."""
        outputs, linear_weight, labels, items, losses, positive, winning_slot = ctx.saved_tensors
        dtype, workspace_bytes, sparse_grad, deterministic = ctx.options
        with torch.autocast(outputs.device.type, enabled=False):
            grads = winner_gradients(
                outputs,
                linear_weight,
                labels,
                items,
                log_z=positive + losses,
                target_grads=torch.expm1(-losses) * grad_losses,  # (p_t - 1), exact where p_t is nearly 1, too
                grad_losses=grad_losses,
                winning_bucket=winning_slot.div(ctx.bucket_size_x, rounding_mode="floor"),
                bucket_size_x=ctx.bucket_size_x,
                dtype=dtype,
                workspace_bytes=workspace_bytes,
                sparse_grad=sparse_grad,
                deterministic=deterministic or torch.are_deterministic_algorithms_enabled(),
                wants=ctx.needs_input_grad[:2],
            )
        return *grads, *[None] * 8


def target_logits(
    outputs: Tensor, linear_weight: Tensor, labels: Tensor, dtype: torch.dtype, workspace_bytes: int
) -> Tensor:
    """Inner product of each position with its own target, ``(N,)``."""
    n_positions, dim = outputs.shape
    positive = outputs.new_empty(n_positions, dtype=dtype)
    for part in chunks(n_positions, max(workspace_bytes // (3 * dim * dtype.itemsize), 1), outputs):
        positive[part] = (outputs[part].to(dtype) * _take(linear_weight, labels[part], dtype)).sum(dim=1)
    return positive


def bucket_losses(
    outputs: Tensor,
    linear_weight: Tensor,
    labels: Tensor,
    positive: Tensor,
    rows: Tensor,
    items: Tensor,
    dtype: torch.dtype,
    workspace_bytes: int,
) -> Tensor:
    """Cross-entropy of every slot against its bucket's items and its own target, ``(n_buckets, bucket_size_x)``."""
    (n_buckets, bucket_size_x), bucket_size_y = rows.shape, items.shape[1]
    losses = outputs.new_empty(n_buckets, bucket_size_x, dtype=dtype)
    n_b, n_x, n_y = tile_shape(
        n_buckets, bucket_size_x, bucket_size_y, outputs.shape[1], dtype.itemsize, workspace_bytes
    )
    for buckets in chunks(n_buckets, n_b, outputs):
        for slots in chunks(bucket_size_x, n_x, outputs):
            positions = rows[buckets, slots]  # (n_b, n_x)
            x = _take(outputs, positions, dtype)  # (n_b, n_x, D)
            log_negatives = x.new_full(positions.shape, -torch.inf)  # (n_b, n_x): log-sum-exp without the target
            for part in chunks(bucket_size_y, n_y, outputs):
                negatives = items[buckets, part].contiguous()  # (n_b, n_y)
                logits = torch.bmm(x, _take(linear_weight, negatives, dtype).mT)  # (n_b, n_x, n_y)
                _set_at_targets(logits, labels[positions], negatives, -torch.inf)  # the target counts once
                log_negatives = torch.logaddexp(log_negatives, _logsumexp_inplace(logits))
                del logits
            # log(e^t + e^negatives) - t, and exact where the target outweighs the rest by far
            log_odds = log_negatives - positive[positions]
            losses[buckets, slots] = torch.logaddexp(log_odds, torch.zeros_like(log_odds))
    return losses


def keep_largest(slot_losses: Tensor, rows: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """A position in several buckets keeps its largest loss.

    Returns:
        Loss ``(N,)``, zero for a position in no bucket, and the slot ``(N,)`` it comes from, -1 for none. Among equal
        losses the first slot wins. A bucket that ran out of positions with a target holds others, which never win.
    """
    n_positions, n_slots = len(valid), rows.numel()
    rows, slot_losses = rows.flatten(), slot_losses.flatten()  # (n_slots,)
    slot_losses = slot_losses.masked_fill(~valid[rows], -torch.inf)
    largest = slot_losses.new_full((n_positions,), -torch.inf)
    largest = largest.scatter_reduce(0, rows, slot_losses, "amax")  # (N,)

    slot = torch.arange(n_slots, device=rows.device)
    wins = valid[rows] & ~(slot_losses < largest[rows])  # written so that a loss of NaN wins and is seen
    first = torch.full_like(valid, n_slots, dtype=torch.int64)
    first = first.scatter_reduce(0, rows, slot.masked_fill(~wins, n_slots), "amin")  # (N,)
    covered = first < n_slots
    return largest.where(covered, 0.0), first.where(covered, -1)


def winner_gradients(
    outputs: Tensor,
    linear_weight: Tensor,
    labels: Tensor,
    items: Tensor,
    *,
    log_z: Tensor,
    target_grads: Tensor,
    grad_losses: Tensor,
    winning_bucket: Tensor,
    bucket_size_x: int,
    dtype: torch.dtype,
    workspace_bytes: int,
    sparse_grad: bool,
    deterministic: bool,
    wants: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Back-propagate ``grad_losses (N,)`` through the winning bucket of each position.

    The rows of the item table with a gradient are few. They are added up side by side in ``dtype`` and put where they
    belong at the end, so nothing of the size of the table exists but the (dense) gradient itself.

    Args:
        outputs, linear_weight, labels, items: as in :class:`BucketSoftmax`, items sorted.
        log_z: ``(N,)`` log-sum-exp of the winning slot, the target included.
        target_grads: ``(N,)`` gradient of each target's logit.
        grad_losses: ``(N,)`` gradient of each position's loss.
        winning_bucket: ``(N,)``, -1 for a position in no bucket.
        bucket_size_x, dtype, workspace_bytes, sparse_grad, deterministic: as in :class:`BucketSoftmax`.
        wants: whether the gradients of ``outputs`` and of ``linear_weight`` are needed.
    """
    n_positions, dim = outputs.shape
    n_buckets, bucket_size_y = items.shape
    covered = winning_bucket >= 0
    log_z = _padded(log_z, torch.inf)  # (N + 1,): position N is padding, and all of its softmax is zero
    target_grads = _padded(target_grads.where(covered, 0.0), 0.0)
    grad_losses = _padded(grad_losses.where(covered, 0.0), 0.0)

    grad_outputs = outputs.new_zeros(n_positions + 1, dim)  # what is written to row N is lost
    # Rows of the item table that get a gradient: which ones, and where each item and target finds its row.
    touched, place = _distinct(torch.cat([items.flatten(), labels.where(covered, items[0, 0])]))
    item_place, target_place = place[: items.numel()].view_as(items), place[items.numel() :]
    grad_rows = outputs.new_zeros(len(touched), dim, dtype=dtype)

    for buckets, positions in winners(winning_bucket, n_buckets, bucket_size_x, bucket_size_y, dim, grad_rows, workspace_bytes):
        real = positions.clamp(max=n_positions - 1)  # (n_b, n_x): padding reads some position, to no effect
        x = _take(outputs, real, dtype)  # (n_b, n_x, D)
        own = target_grads[positions].unsqueeze(2)  # (n_b, n_x, 1)
        grad_x = own * _take(linear_weight, labels[real], dtype)  # (n_b, n_x, D)
        add(grad_rows, target_place[real], own * x)
        for part in chunks(...):
            negatives = items[buckets, part]
            w = _take(linear_weight, negatives, dtype)  # (n_b, n_y, D)
            grad_logits = torch.bmm(x, w.mT).sub_(log_z[positions].unsqueeze(2)).exp_()
            _set_at_targets(grad_logits, labels[real], negatives, 0.0)
            grad_logits.mul_(grad_losses[positions].unsqueeze(2))
            grad_x.baddbmm_(grad_logits, w)
            add(grad_rows, item_place[buckets, part], torch.bmm(grad_logits.mT, x))
        grad_outputs[positions] = grad_x.to(outputs.dtype)

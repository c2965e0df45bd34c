"""What makes SCE lean: bucket logits that are never held, and a backward pass through the winners only.

Look for the paper's steps under these names: :func:`target_logits`, :func:`bucket_losses`, :func:`keep_largest`, and
backwards :func:`winner_gradients`. :class:`BucketSoftmax` strings them together for autograd.

Shapes: N positions, C items, D dimensions; a *slot* is one position in one bucket. Work is done in *tiles*: some
buckets (n_b), and if need be only some of their slots (n_x) and items (n_y), as many as fit the workspace.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .common import chunks, decided, is_fake, is_worst_case, without_autocast


class Settings(NamedTuple):
    """How to compute, which does not change what is computed."""

    dtype: torch.dtype  # everything is computed and added up in this one, whatever the inputs are in
    workspace_bytes: int  # for the temporary tensors of one tile
    sparse_grad: bool  # the gradient of the item table is a row-sparse tensor
    deterministic: bool  # add gradients in a fixed order on CUDA, too
    kernels: bool = False  # leave it to the Triton kernels


class BucketSoftmax(torch.autograd.Function):
    r"""Loss of each position from filled buckets, and its gradients.

    Forward reduces the logits of every slot to one loss at once, then the slots of every position to the largest.
    Backward computes logits again, for the winning slots and no others: they alone have a gradient. With ``p`` the
    softmax of the winning slot,

    .. math:: \frac{\partial \ell_n}{\partial x_n} = \sum_i p_i w_i - w_t, \qquad
              \frac{\partial \ell_n}{\partial w_i} = p_i \, x_n, \qquad
              \frac{\partial \ell_n}{\partial w_t} = (p_t - 1) \, x_n .

    Between the two passes it keeps its inputs, the items of the buckets and three numbers per position.
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
        settings: Settings,
    ) -> tuple[Tensor, Tensor]:
        """Loss ``(N,)`` and winning slot ``(N,)`` of each position; the slot is -1 where it is in no bucket.

        Args:
            ctx: of autograd.
            outputs: ``(N, D)``.
            linear_weight: ``(C, D)``.
            labels: ``(N,)`` target items.
            valid: ``(N,)`` bool, positions with a target.
            rows: ``(n_buckets, bucket_size_x)`` positions in each bucket.
            items: ``(n_buckets, bucket_size_y)`` items in each bucket.
            settings: how to compute.
        """
        items = items.sort(dim=1).values  # so that a target is found among them by bisection
        positive = target_logits(outputs, linear_weight, labels, settings)  # (N,)
        slot_losses = bucket_losses(outputs, linear_weight, labels, positive, rows, items, settings)
        losses, winning_slot = keep_largest(slot_losses, rows, valid)

        ctx.save_for_backward(outputs, linear_weight, labels, items, losses, positive, winning_slot)
        ctx.bucket_size_x = rows.shape[1]
        ctx.settings = settings
        ctx.mark_non_differentiable(winning_slot)
        return losses, winning_slot

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of ``outputs`` and ``linear_weight``."""
        outputs, linear_weight, labels, items, losses, positive, winning_slot = ctx.saved_tensors
        with without_autocast(outputs):
            grads = winner_gradients(
                outputs,
                linear_weight,
                labels,
                items,
                winning_slot.div(ctx.bucket_size_x, rounding_mode="floor"),
                grad_losses=grad_losses,
                grad_positive=grad_losses * torch.expm1(-losses),  # p_t - 1, exact where p_t is nearly 1, too
                log_z=positive + losses,
                bucket_size_x=ctx.bucket_size_x,
                settings=ctx.settings,
            )
        return *grads, None, None, None, None, None


def target_logits(outputs: Tensor, linear_weight: Tensor, labels: Tensor, settings: Settings) -> Tensor:
    """Inner product of each position with its own target, ``(N,)``."""
    n_positions, dim = outputs.shape
    positive = outputs.new_empty(n_positions, dtype=settings.dtype)
    for part in chunks(n_positions, settings.workspace_bytes // (4 * dim * settings.dtype.itemsize), outputs):
        x = outputs[part].to(settings.dtype)
        positive[part] = (x * _take(linear_weight, labels[part], settings)).sum(dim=1)
    return positive


def bucket_losses(
    outputs: Tensor,
    linear_weight: Tensor,
    labels: Tensor,
    positive: Tensor,
    rows: Tensor,
    items: Tensor,
    settings: Settings,
) -> Tensor:
    """Cross-entropy of every slot against the items of its bucket and its own target, ``(n_buckets, bucket_size_x)``.

    Args:
        outputs, linear_weight, labels, rows, items: as in :class:`BucketSoftmax`; the items of a bucket are sorted.
        positive: ``(N,)`` the target's logit of each position.
        settings: how to compute.
    """
    if settings.kernels:
        from .kernels.softmax import log_negatives as fused

        return _softplus(fused(outputs, linear_weight, labels, rows, items) - positive[rows])
    (n_buckets, bucket_size_x), bucket_size_y = rows.shape, items.shape[1]
    n_x, n_y, bytes_per_bucket = tile_shape(bucket_size_x, bucket_size_y, outputs.shape[1], settings)
    losses = outputs.new_empty(n_buckets, bucket_size_x, dtype=settings.dtype)
    for buckets in chunks(n_buckets, settings.workspace_bytes // bytes_per_bucket, outputs):
        for slots in chunks(bucket_size_x, n_x, outputs):
            positions = rows[buckets, slots]  # (n_b, n_x)
            x = _take(outputs, positions, settings)  # (n_b, n_x, D)
            log_negatives = x.new_full(positions.shape, -torch.inf)  # (n_b, n_x) log-sum-exp of the items so far
            for part in chunks(bucket_size_y, n_y, outputs):
                negatives = items[buckets, part].contiguous()  # (n_b, n_y)
                logits = torch.bmm(x, _take(linear_weight, negatives, settings).mT)  # (n_b, n_x, n_y)
                _set_at_targets(logits, labels[positions], negatives, -torch.inf)  # the target comes in below, once
                log_negatives = torch.logaddexp(log_negatives, _logsumexp_inplace(logits))
            losses[buckets, slots] = _softplus(log_negatives - positive[positions])
    return losses


def keep_largest(slot_losses: Tensor, rows: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """A position in several buckets keeps its largest loss, and remembers the slot it comes from.

    Returns:
        Loss ``(N,)``, 0 for a position in no bucket, and slot ``(N,)``, -1 for none. Among equal losses the first slot
        wins. A bucket that ran out of positions with a target holds others as well; these never win.
    """
    n_positions, n_slots = len(valid), rows.numel()
    rows, slot_losses = rows.flatten(), slot_losses.flatten()  # (n_slots,)
    slot_losses = slot_losses.masked_fill(~valid[rows], -torch.inf)
    largest = slot_losses.new_full((n_positions,), -torch.inf)
    largest = largest.scatter_reduce(0, rows, slot_losses, "amax")  # (N,)

    wins = valid[rows] & ~(slot_losses < largest[rows])  # so that a loss of NaN wins: it should be seen
    slot = torch.arange(n_slots, device=rows.device)
    first = torch.full_like(valid, n_slots, dtype=torch.int64)
    first = first.scatter_reduce(0, rows, slot.masked_fill(~wins, n_slots), "amin")  # (N,)
    covered = first < n_slots
    return largest.where(covered, 0.0), first.where(covered, -1)


def winner_gradients(
    outputs: Tensor,
    linear_weight: Tensor,
    labels: Tensor,
    items: Tensor,
    winning_bucket: Tensor,
    *,
    grad_losses: Tensor,
    grad_positive: Tensor,
    log_z: Tensor,
    bucket_size_x: int,
    settings: Settings,
) -> tuple[Tensor, Tensor]:
    """Gradients of ``outputs`` and ``linear_weight``, through the winning bucket of each position.

    Few rows of the item table have a gradient. They are added up side by side and go to their places at the end: of
    the table's size there is nothing but the gradient itself, and with ``sparse_grad`` not even that.

    Args:
        outputs, linear_weight, labels, items: as in :class:`BucketSoftmax`; the items of a bucket are sorted.
        winning_bucket: ``(N,)``, -1 for a position in no bucket.
        grad_losses: ``(N,)`` gradient of each position's loss.
        grad_positive: ``(N,)`` gradient of its target's logit.
        log_z: ``(N,)`` log-sum-exp of its winning slot, the target included.
        bucket_size_x: no bucket has more winners than slots.
        settings: how to compute.
    """
    if settings.kernels:
        from .kernels.softmax import winner_gradients as fused

        return fused(
            outputs, linear_weight, labels, items, winning_bucket, grad_losses=grad_losses, grad_positive=grad_positive,
            log_z=log_z, bucket_size_x=bucket_size_x, settings=settings,
        )  # fmt: skip
    (n_buckets, bucket_size_y), dim = items.shape, outputs.shape[1]
    add_rows = _add_rows_in_order if settings.deterministic else torch.Tensor.index_add_

    # Which rows of the table have a gradient, and where in their list each bucket's items and each target find theirs.
    labels = labels.where(winning_bucket >= 0, items[0, 0])
    touched, place = _distinct(torch.cat([items.flatten(), labels]), at_most=len(linear_weight))
    item_place, target_place = place[: items.numel()].view_as(items), place[items.numel() :]
    grad_rows = outputs.new_zeros(len(touched), dim, dtype=settings.dtype)
    grad_outputs = torch.zeros_like(outputs)

    n_x, n_y, _ = tile_shape(bucket_size_x, bucket_size_y, dim, settings)
    for buckets, positions, padding in winners(winning_bucket, n_buckets, n_x, n_y, dim, bucket_size_x, settings):
        x = _take(outputs, positions, settings)  # (n_b, n_x, D)
        targets = labels[positions]  # (n_b, n_x)
        grad = grad_losses[positions].masked_fill(padding, 0.0).unsqueeze(2)  # (n_b, n_x, 1)
        grad_target = grad_positive[positions].masked_fill(padding, 0.0).unsqueeze(2)

        grad_x = grad_target * _take(linear_weight, targets, settings)  # (n_b, n_x, D)
        add_rows(grad_rows, 0, target_place[positions].flatten(), (grad_target * x).flatten(0, 1))
        for part in chunks(bucket_size_y, n_y, outputs):
            negatives = items[buckets, part]  # (n_b, n_y)
            w = _take(linear_weight, negatives, settings)  # (n_b, n_y, D)
            grad_logits = torch.bmm(x, w.mT).sub_(log_z[positions].unsqueeze(2)).exp_()  # p, (n_b, n_x, n_y)
            _set_at_targets(grad_logits, targets, negatives, 0.0)
            grad_logits.mul_(grad)
            grad_x.baddbmm_(grad_logits, w)
            grad_w = torch.bmm(grad_logits.mT, x)  # (n_b, n_y, D)
            add_rows(grad_rows, 0, item_place[buckets, part].flatten(), grad_w.flatten(0, 1))
        grad_outputs.index_add_(0, positions.flatten(), grad_x.to(outputs.dtype).flatten(0, 1))

    # Let go of the last tile before the gradient of the table's size is made.
    x = w = targets = negatives = positions = padding = grad = grad_target = grad_x = grad_logits = grad_w = None

    grad_rows = grad_rows.to(linear_weight.dtype)
    if settings.sparse_grad:
        grad_weight = torch.sparse_coo_tensor(
            touched.unsqueeze(0), grad_rows, linear_weight.shape, is_coalesced=True, check_invariants=False
        )
        return grad_outputs, grad_weight
    return grad_outputs, torch.zeros_like(linear_weight).index_copy_(0, touched, grad_rows)


def winners(
    winning_bucket: Tensor,
    n_buckets: int,
    n_x: int,
    n_y: int,
    dim: int,
    bucket_size_x: int,
    settings: Settings,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Tiles of winning positions, bucket by bucket.

    Buckets with similar numbers of winners share a tile, so that little of it is padding.

    Yields:
        ``(n_b,)`` buckets, ``(n_b, n_x)`` positions won by each, and ``(n_b, n_x)`` bool: True where a bucket has no
        more winners and an earlier one stands in for padding.
    """
    sorted_bucket, order = winning_bucket.sort()  # (N,): the positions of a bucket stand together in order
    bucket = torch.arange(n_buckets, device=order.device)
    start = torch.searchsorted(sorted_bucket, bucket)
    count = torch.searchsorted(sorted_bucket, bucket, right=True) - start
    count, bucket = count.sort(descending=True)
    start = start[bucket]

    most = min(bucket_size_x, len(winning_bucket))
    counts = decided(count.tolist, [most] * n_buckets, count)
    first, n_tiles = 0, 0
    while first < n_buckets and counts[first] > 0:
        n_slots = counts[first]
        bytes_per_bucket = tile_bytes(min(n_slots, n_x), n_y, dim, settings)
        last = min(first + max(settings.workspace_bytes // bytes_per_bucket, 1), n_buckets)
        while counts[last - 1] == 0:
            last -= 1
        for slots in chunks(n_slots, n_x, order):
            nth = torch.arange(slots.start, slots.stop, device=order.device)  # (n_x,)
            limit = count[first:last, None]  # (n_b, 1)
            yield bucket[first:last], order[start[first:last, None] + torch.minimum(nth, limit - 1)], nth >= limit
        first, n_tiles = last, n_tiles + 1
        if is_worst_case(count) and n_tiles == 2:
            return  # as in chunks()


def tile_shape(bucket_size_x: int, bucket_size_y: int, dim: int, settings: Settings) -> tuple[int, int, int]:
    """How many slots and items of a bucket a tile takes (all, unless one bucket is too large), and its bytes."""
    n_x, n_y = bucket_size_x, bucket_size_y
    while tile_bytes(n_x, n_y, dim, settings) > settings.workspace_bytes and max(n_x, n_y) > 1:
        n_x, n_y = ((n_x + 1) // 2, n_y) if n_x >= n_y else (n_x, (n_y + 1) // 2)
    return n_x, n_y, tile_bytes(n_x, n_y, dim, settings)


def tile_bytes(n_x: int, n_y: int, dim: int, settings: Settings) -> int:
    """Logits, and three tensors each of positions and items: their rows, gradients and indices."""
    return (n_x * n_y + 3 * (n_x + n_y) * dim) * settings.dtype.itemsize


def _take(table: Tensor, index: Tensor, settings: Settings) -> Tensor:
    """Rows of ``table (C, D)``: ``(*index.shape, D)`` in the dtype to compute in."""
    return table.index_select(0, index.flatten()).to(settings.dtype).view(*index.shape, table.shape[1])


def _softplus(log_odds: Tensor) -> Tensor:
    """``log(e^t + sum of e^negatives) - t``, exact also where the target far outweighs the rest."""
    return torch.logaddexp(log_odds, torch.zeros_like(log_odds))


def _set_at_targets(logits: Tensor, targets: Tensor, items: Tensor, value: float) -> None:
    """Set ``logits (n_b, n_x, n_y)`` wherever the sorted ``items (n_b, n_y)`` hold the slot's target ``(n_b, n_x)``."""
    column = torch.searchsorted(items.contiguous(), targets).clamp(max=items.shape[1] - 1)  # (n_b, n_x)
    is_target = (items.gather(1, column) == targets).unsqueeze(2)
    column = column.unsqueeze(2)
    logits.scatter_(2, column, logits.gather(2, column).masked_fill(is_target, value))


def _logsumexp_inplace(logits: Tensor) -> Tensor:
    """Log-sum-exp over the last dimension, which overwrites ``logits``; a row of nothing but -inf gives -inf."""
    largest = logits.amax(dim=-1).clamp(min=torch.finfo(logits.dtype).min)
    return logits.sub_(largest.unsqueeze(-1)).exp_().sum(dim=-1).log_().add_(largest)


def _distinct(items: Tensor, at_most: int) -> tuple[Tensor, Tensor]:
    """The distinct items, sorted, and the place of each item among them. Fake items are as distinct as can be."""
    if is_fake(items):
        n_distinct = decided(lambda: 0, min(len(items), at_most), items)
        return items.new_empty(n_distinct), torch.zeros_like(items)
    distinct, place = torch.unique(items, return_inverse=True)
    decided(lambda: len(distinct), 0, items)
    return distinct, place


def _add_rows_in_order(table: Tensor, dim: int, index: Tensor, rows: Tensor) -> Tensor:
    """``index_add_`` that always gives the same sums: on CUDA, accumulating ``index_put_`` sorts first."""
    return table.index_put_((index,), rows, accumulate=True)

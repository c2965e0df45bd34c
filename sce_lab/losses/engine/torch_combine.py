"""From one number a slot to one a position, with PyTorch; and from losses to their mean."""

import torch
from torch import Tensor

from .problem import Combine, Found, Slots
from .torch_parts import softplus


def combined(log_negatives: Tensor, positive: Tensor, rows: Tensor | None, valid: Tensor, combine: Combine) -> Found:
    """What the forward pass finds.

    Args:
        log_negatives: log-sum-exp of the negatives of each slot ``(n_blocks, n_x)``, or ``(N,)`` without rows.
        positive: target logits ``(N,)``.
        rows: positions of the blocks.
        valid: ``(N,)`` which positions have a target.
        combine: how the blocks of a position are put together.
    """
    if rows is None:
        slot = valid.long() - 1
    else:
        log_negatives, slot = (keep_largest if combine == "max" else add_up)(log_negatives, rows, valid)
    losses = softplus(log_negatives - positive).where(slot >= 0, 0.0)
    return Found(losses, slot, torch.logaddexp(log_negatives, positive))


def keep_largest(log_negatives: Tensor, rows: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """A position in several blocks keeps the one with the largest loss, and remembers the slot it comes from.

    Of the slots of one position the largest loss is where the negatives are largest.

    Returns:
        Log-sum-exp of the negatives ``(N,)``, -inf for a position in no block, and slot ``(N,)``, -1 for none. Among
        equals the first slot wins. A block that ran out of positions with a target holds others as well; these never
        win.
    """
    n_positions, n_slots = len(valid), rows.numel()
    usable = _usable(rows, valid).flatten()
    rows, log_negatives = rows.clamp(min=0).flatten(), log_negatives.flatten()  # (n_slots,)
    log_negatives = log_negatives.masked_fill(~usable, -torch.inf)
    largest = log_negatives.new_full((n_positions,), -torch.inf)
    largest = largest.scatter_reduce(0, rows, log_negatives, "amax")  # (N,)

    wins = usable & ~(log_negatives < largest[rows])  # so that NaN wins: it should be seen
    slot = torch.arange(n_slots, device=rows.device)
    first = torch.full_like(valid, n_slots, dtype=torch.int64)
    first = first.scatter_reduce(0, rows, slot.masked_fill(~wins, n_slots), "amin")  # (N,)
    return largest, first.where(first < n_slots, -1)


def add_up(log_negatives: Tensor, rows: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """A position in several blocks takes its softmax over all of them: what is in two of them counts twice.

    Returns:
        As :func:`keep_largest`; the slot is any of the position's.
    """
    log_negatives = log_negatives.masked_fill(~_usable(rows, valid), -torch.inf)
    largest, slot = keep_largest(log_negatives, rows, valid)
    shift, rows = largest.clamp(min=torch.finfo(largest.dtype).min), rows.clamp(min=0)
    weight = (log_negatives - shift[rows]).exp().flatten()
    total = torch.zeros_like(largest).scatter_add(0, rows.flatten(), weight)
    return shift + total.log(), slot


def slots_with_gradient(rows: Tensor, slot: Tensor, valid: Tensor, combine: Combine) -> Slots:
    """Under the maximum the winners, one a position; in a sum all."""
    n_blocks, size_x = rows.shape
    if combine == "max":
        block = slot.div(max(size_x, 1), rounding_mode="floor")  # -1 stays -1
        return Slots(block, torch.arange(len(slot), device=slot.device), most=min(size_x, len(slot)), once=True)
    block = torch.arange(n_blocks, device=rows.device).unsqueeze(1).where(_usable(rows, valid), -1)
    return Slots(block.flatten(), rows.clamp(min=0).flatten(), most=size_x, once=False)


def _usable(rows: Tensor, valid: Tensor) -> Tensor:
    """Slots that hold a position with a target."""
    return valid[rows.clamp(min=0)] & (rows >= 0)


def mean_of_counted(losses: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
    """See :meth:`.backend.Backend.mean`."""
    counted = slot >= 0
    n = counted.sum().clamp(min=1)  # nothing counted: 0 / 1, not 0 / 0
    return losses.where(counted, 0.0).sum() / n, n

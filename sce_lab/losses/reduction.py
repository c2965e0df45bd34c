"""From one loss a position to the loss."""

from typing import Literal

import torch
from torch import Tensor

from .engine import Blocks, Combine, How, Problem, mean_loss, softmax_loss, softmax_losses, total
from .inputs import Inputs, check_reduction
from .sharded import Everyone, sharded_losses

Reduction = Literal["none", "mean", "sum"]


def reduce_losses(
    losses: Tensor,
    counted: Tensor,
    shape: torch.Size,
    reduction: str,
    weights: Tensor | None = None,
    everyone: Everyone | None = None,
) -> Tensor:
    """Reduce per-position ``losses (N,)``; only positions ``counted (N,)`` enter, and no position at all is 0.

    Args:
        losses: loss of each position; what stands at positions that are not counted does not matter.
        counted: bool, which positions the loss is about.
        shape: shape of the target, which ``reduction="none"`` restores.
        reduction: ``"none"``, ``"mean"`` over the counted positions, or ``"sum"``.
        weights: ``(N,)``, already in the losses; the mean is over what these sum up to.
        everyone: if given, sums are over the positions of all ranks.
    """
    check_reduction(reduction)
    losses = losses.where(counted, 0.0)
    if reduction == "none":
        return losses.reshape(shape)
    if everyone is not None:
        value = everyone.summed(losses.sum())
        number = everyone.ranks.added((counted if weights is None else weights).sum())
        return value if reduction == "sum" else value / number.where(number != 0, 1)
    return losses.sum() if reduction == "sum" else losses.sum() / _total(counted, weights)


def block_losses(
    inputs: Inputs, linear_weight: Tensor, blocks: Blocks, how: How, combine: Combine = "max"
) -> tuple[Tensor, Tensor]:
    """The engine's losses ``(N,)`` of these blocks, and slots ``(N,)``, -1 for a position in none.

    Of a sharded table, the blocks are about the positions of all ranks, and what is returned is about one's own.
    """
    if inputs.everyone is not None:
        return sharded_losses(inputs.outputs, inputs.everyone, blocks, how, combine)
    return softmax_losses(_problem(inputs, linear_weight, blocks), how, combine)


def reduced_softmax(
    inputs: Inputs,
    linear_weight: Tensor,
    blocks: Blocks,
    how: How,
    shape: torch.Size,
    reduction: str,
    weights: Tensor | None = None,
) -> Tensor:
    """The engine's loss of blocks that hold each position once, weighted ``(N,)`` and reduced likewise."""
    check_reduction(reduction)
    if inputs.everyone is not None:
        losses, slot = block_losses(inputs, linear_weight, blocks, how)
        losses = losses if weights is None else losses * weights
        return reduce_losses(losses, slot >= 0, shape, reduction, weights, inputs.everyone)
    problem = _problem(inputs, linear_weight, blocks)
    if reduction == "none":
        losses, _ = softmax_losses(problem, how)
        return (losses if weights is None else losses * weights).reshape(shape)
    return softmax_loss(problem, how, reduction, weights)


def reduce_slots(losses: Tensor, slot: Tensor, how: How, reduction: str, inputs: Inputs, shape: torch.Size) -> Tensor:
    """What :func:`block_losses` returned, reduced; a mean is over the positions that have a slot."""
    if reduction == "none":
        return losses.reshape(shape)
    if inputs.everyone is not None:
        return reduce_losses(losses, slot >= 0, shape, reduction, everyone=inputs.everyone)
    return mean_loss(losses, slot, how) if reduction == "mean" else losses.sum()


def _problem(inputs: Inputs, linear_weight: Tensor, blocks: Blocks) -> Problem:
    outputs, labels, valid, bias, _, softcap = inputs
    of_targets = None if bias is None else bias[labels]
    return Problem(outputs, linear_weight, labels, valid, blocks.plus(bias), of_targets, softcap)


def _total(counted: Tensor, weights: Tensor | None) -> Tensor:
    """What a mean divides by; where nothing counts it is 0 / 1, not 0 / 0."""
    return counted.sum().clamp(min=1) if weights is None else total(weights)

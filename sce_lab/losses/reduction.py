"""From one loss a position to the loss."""

from typing import Literal

import torch
from torch import Tensor

from .engine import How, Problem, softmax_loss, softmax_losses

Reduction = Literal["none", "mean", "sum"]


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 for the half precisions, the dtype itself otherwise: losses are never summed in 16 bits."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def reduce_losses(losses: Tensor, counted: Tensor, shape: torch.Size, reduction: str) -> Tensor:
    """Reduce per-position ``losses (N,)``; only positions ``counted (N,)`` enter, and no position at all is 0.

    Args:
        losses: loss of each position; what stands at positions that are not counted does not matter.
        counted: bool, which positions the loss is about.
        shape: shape of the target, which ``reduction="none"`` restores.
        reduction: ``"none"``, ``"mean"`` over the counted positions, or ``"sum"``.
    """
    losses = losses.where(counted, 0.0)
    if reduction == "none":
        return losses.reshape(shape)
    return losses.sum() if reduction == "sum" else losses.sum() / _at_least_one(counted)


def reduced_softmax(problem: Problem, how: How, shape: torch.Size, reduction: str) -> Tensor:
    """The engine's loss of one block of all positions, reduced likewise."""
    if reduction == "none":
        losses, _ = softmax_losses(problem, how)
        return losses.reshape(shape)
    return softmax_loss(problem, how, reduction)


def _at_least_one(counted: Tensor) -> Tensor:
    return counted.sum().clamp(min=1)  # nothing counted: 0 / 1, not 0 / 0

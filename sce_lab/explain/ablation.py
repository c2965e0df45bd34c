"""SCE with one of its ingredients taken away or changed: why it ranks as it does can be asked of each by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sce_lab.data.batches import Batch
from sce_lab.losses import LossModule, scalable_cross_entropy
from sce_lab.losses.buckets import draw_centers
from sce_lab.training import Phase, StepFunction, StepResult, training_step

Variant = Callable[[LossModule, Tensor, Tensor, Tensor], Tensor]
"""``f(loss, outputs (N, D), items (C, D), target (N,))``: the loss in place of the module ``loss`` (an SCE)."""


def all_positions(loss: LossModule, outputs: Tensor, items: Tensor, target: Tensor) -> Tensor:
    """Every bucket takes all positions: none is left out, and each keeps its largest loss over all buckets."""
    return scalable_cross_entropy(outputs, items, target, **loss.settings | {"bucket_size_x": len(target)})


def all_items(loss: LossModule, outputs: Tensor, items: Tensor, target: Tensor) -> Tensor:
    """Every bucket takes all items: cross-entropy, of the positions that are in a bucket."""
    return scalable_cross_entropy(outputs, items, target, **loss.settings | {"bucket_size_y": len(items)})


def mean_of_buckets(loss: LossModule, outputs: Tensor, items: Tensor, target: Tensor) -> Tensor:
    """A position in several buckets keeps the mean of its losses there, not the largest."""
    slots, rows = _slots(loss, outputs, items, target, _nearest)
    total = torch.zeros(len(target)).scatter_add(0, rows.flatten(), slots.flatten())
    times = torch.zeros(len(target)).scatter_add(0, rows.flatten(), torch.ones(rows.numel()))
    return (total / times.clamp(min=1))[times > 0].mean()


def random_items(loss: LossModule, outputs: Tensor, items: Tensor, target: Tensor) -> Tensor:
    """Each bucket takes items at random: as many as usual, but not the hard ones."""
    slots, rows = _slots(loss, outputs, items, target, _any)
    largest = torch.full((len(target),), -torch.inf).scatter_reduce(0, rows.flatten(), slots.flatten(), "amax")
    return largest[largest > -torch.inf].mean()


VARIANTS: dict[str, Variant] = {
    "all-positions": all_positions,
    "all-items": all_items,
    "mean-of-buckets": mean_of_buckets,
    "random-items": random_items,
}


def variant_step(variant: Variant) -> StepFunction:
    """A training step with ``variant`` in place of its loss."""

    def step(
        model: nn.Module, loss: LossModule, optimizer: torch.optim.Optimizer, batch: Batch, phase: Phase
    ) -> StepResult:
        return training_step(model, lambda *inputs: variant(loss, *inputs), optimizer, batch, phase)

    return step


def _nearest(centers: Tensor, items: Tensor, k: int, _: Any) -> Tensor:
    return (centers @ items.T).topk(k, dim=1).indices


def _any(centers: Tensor, items: Tensor, k: int, generator: torch.Generator) -> Tensor:
    return torch.rand(len(centers), len(items), generator=generator).topk(k, dim=1).indices


def _slots(
    loss: LossModule, outputs: Tensor, items: Tensor, target: Tensor, choose: Callable[..., Tensor]
) -> tuple[Tensor, Tensor]:
    """Losses ``(n_buckets, bucket_size_x)`` of the positions in buckets, and which these are; all have a target."""
    every = torch.ones(len(target), dtype=torch.bool)
    with torch.no_grad():
        centers = draw_centers(outputs, every, loss.n_buckets, loss.mix_x, loss.generator, outputs.dtype)
        rows = _nearest(centers, outputs, min(loss.bucket_size_x, len(target)), None)  # (n_buckets, bucket_size_x)
        taken = choose(centers, items, loss.bucket_size_y, loss.generator)  # (n_buckets, bucket_size_y)
    logits = outputs[rows] @ items[taken].mT  # (n_buckets, bucket_size_x, bucket_size_y)
    own = (outputs * items[target]).sum(dim=1)[rows]
    logits = logits.masked_fill(target[rows].unsqueeze(2) == taken.unsqueeze(1), -torch.inf)
    return torch.cat([own.unsqueeze(2), logits], dim=2).logsumexp(dim=2) - own, rows

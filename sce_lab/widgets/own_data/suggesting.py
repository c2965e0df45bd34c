"""Settings for a person's data: what follows from their numbers and from a memory budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from sce_lab.data import Split
from sce_lab.losses import LOSSES
from sce_lab.memory import suggest_sce, typical_length
from sce_lab.training import TrainingConfig, choose_device

#: Lengths that a history may have in the model.
LENGTHS = (10, 20, 50, 100, 200)
#: Users in a step, where there are enough of them for some dozens of steps.
BATCHES = (16, 32, 64, 128, 256)


def suggested(split: Split, losses: Sequence[str], budget: float, device: str = "cpu") -> list[TrainingConfig]:
    """A configuration for each loss, from the numbers of the data.

    The history is as long as nine users in ten have; a step has as many users as leave 40 steps an epoch; with few
    interactions for an item there is more dropout. SCE has the paper's 2 sqrt(N) buckets of as many positions, with as
    many items as fit into the budget (:func:`sce_lab.memory.suggest_sce`); sampled softmax has as many negatives.

    Args:
        split: the data.
        losses: names.
        budget: bytes.
        device: where it is trained.
    """
    lengths = split.train.lengths - 1
    usual = np.quantile(lengths[lengths > 0], 0.9) if (lengths > 0).any() else 1
    max_length = next((n for n in LENGTHS if n >= usual), LENGTHS[-1])
    batch = max((n for n in BATCHES if 40 * n <= len(split.train)), default=BATCHES[0])
    thin = len(split.train.items) < 20 * split.catalog_size
    base = TrainingConfig(
        max_length=max_length, batch_size=batch, dropout=0.5 if thin else 0.3, device=choose_device(device)
    )
    length = typical_length(base, split)
    mixed = dataclasses.replace(base, loss="sce", loss_settings={"mix_x": True})
    sizes = suggest_sce(budget, mixed, split.catalog_size, length=length) or {}
    negatives = min(256, max(1, split.catalog_size // 4))
    made = []
    for loss in losses:
        own = {"sce": sizes | {"mix_x": True}}.get(loss, {})
        own |= {"n_negatives": negatives} if "n_negatives" in LOSSES[loss].dials else {}
        made.append(dataclasses.replace(base, loss=loss, loss_settings=own))
    return made

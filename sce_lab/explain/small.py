"""A small model that is trained in seconds, to look into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sce_lab.data.batches import training_batches
from sce_lab.data.splits import Split
from sce_lab.training import Evaluated, StepDone, Trainer, TrainingConfig, looking_inside


@dataclass(frozen=True)
class Small:
    """A trained model, seen at one batch.

    Attributes:
        history: a row for each epoch: metrics on the validation items, and of SCE the mean of its statistics.
        outputs: ``(N, D)``, without dropout.
        items: ``(C, D)``.
        target: ``(N,)``.
        item_counts: ``(C,)`` of the training data.
    """

    history: pd.DataFrame
    outputs: Tensor
    items: Tensor
    target: Tensor
    item_counts: Tensor

    @property
    def last(self) -> dict[str, float]:
        """The last epoch."""
        return self.history.iloc[-1].to_dict()


def train_small(
    split: Split, loss: str = "sce", epochs: int = 4, seed: int = 0, device: str = "cpu", **settings: Any
) -> Small:
    """Train a SASRec of two blocks for a few epochs, with batches of 64 users.

    Args:
        split: what to train on.
        loss: a name in ``LOSSES``.
        epochs: passes over the training sequences.
        seed: decides everything that is random.
        device: where; what is given back is on the CPU.
        settings: of the loss.
    """
    config = TrainingConfig(
        loss=loss,
        loss_settings=settings,
        batch_size=64,
        max_length=20,
        learning_rate=2e-3,
        max_epochs=epochs,
        seed=seed,
        device=device,
    )
    trainer, rows, statistics = Trainer(config, split, step=looking_inside(every=1)), [], []
    for event in trainer.events():
        if isinstance(event, StepDone) and event.statistics is not None:
            statistics.append(event.statistics.as_dict())
        if isinstance(event, Evaluated):
            # The last batch of an epoch is smaller, and so tells another story.
            means = pd.DataFrame(statistics[:-1] or statistics).mean().to_dict()
            rows.append({"epoch": event.epoch, **event.metrics, **means})
            statistics = []
    batch = next(training_batches(split.train, 64, config.max_length, np.random.default_rng(0)))
    with torch.no_grad():
        outputs = trainer.model.eval()(batch.inputs.to(config.device)).cpu()
    counts = torch.from_numpy(split.item_counts)
    return Small(pd.DataFrame(rows), outputs, trainer.model.item_embedding.detach().cpu(), batch.targets, counts)

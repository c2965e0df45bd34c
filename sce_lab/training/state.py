"""What a run is between two steps: model, optimizer, counters, the best weights; and how that is kept."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sce_lab.data.batches import n_batches
from sce_lab.data.splits import Split
from sce_lab.followers import Followers
from sce_lab.model import SASRec
from sce_lab.training.checkpoint import COUNTERS, DRAWS, Checkpoint
from sce_lab.training.config import TrainingConfig
from sce_lab.training.device import check_device
from sce_lab.training.step import make_model, make_optimizer, make_training_loss


def steps_per_epoch(config: TrainingConfig, split: Split) -> int:
    """Steps of an epoch: a pass over the training sequences, unless ``config.steps_per_epoch`` cuts it short."""
    passing = n_batches(split.train, config.batch_size)
    return min(passing, config.steps_per_epoch or passing)


class TrainingState:
    """The state of a run between two events: model, loss, optimizer, counters, and the best weights so far.

    Settings of ``loss`` (bucket count, negatives, ...) may be changed between two events: see :meth:`change`.
    All randomness of a step is drawn from (seed, step), by a generator of the run. So a resumed run needs no generator
    state, and nothing that goes on beside it in the process changes it or is changed by it.

    Args:
        config: what is trained.
        split: on what.

    Raises:
        ValueError: the device of ``config`` is not there.
    """

    def __init__(self, config: TrainingConfig, split: Split) -> None:
        self.config, self.split = config, split
        self.step = self.epoch = self.batch_in_epoch = 0
        self.best_epoch, self.best_metrics, self.evaluations_since_best = 0, {}, 0
        self.seconds = 0.0
        #: of the training thread; None in a run that began before it was counted
        self.cpu_seconds: float | None = 0.0
        check_device(config.device)
        self.generator = torch.Generator(config.device)
        self._seed()
        self.model, self.optimizer = self._make()
        self.loss = make_training_loss(config, torch.from_numpy(split.item_counts)).to(config.device)
        self.loss.generator = self.generator
        self.best_state = copy_of(self.model.state_dict())
        #: in float32 whatever the weights are: in bfloat16 a step of a hundredth is rounded away, for ever
        self.average = copy_of(self.model.state_dict(), torch.float32) if config.averaging else {}
        #: where and how the steps so far were made
        self._trained_on, self._drawn, self._from = config.device, DRAWS, ""
        #: what :meth:`change` made of the loss's settings, and what of it no event has told yet
        self.changed: dict[str, Any] = {}
        self._untold: dict[str, Any] = {}

    #: what a checkpoint is called in the folder of a run
    checkpoint_name = "checkpoint.safetensors"

    def _make(self) -> tuple[SASRec, torch.optim.Optimizer]:
        model = make_model(self.config, self.split.catalog_size, self.generator)
        if self.config.followers:
            model.followers = Followers.counted(self.split.train, self.split.catalog_size, weight=self.config.followers)
        return model, make_optimizer(self.config, model)

    @property
    def n_parameters(self) -> int:
        """Numbers that are learned."""
        return sum(p.numel() for p in self.model.parameters())

    def change(self, **settings: Any) -> None:
        """Change settings of the loss between two events. :class:`Changed` is the next event, before the next step.

        Raises:
            ValueError: the loss refuses a value, or does not know the setting; then nothing is changed.
        """
        self._check_change(settings)
        for name, value in settings.items():
            setattr(self.loss, name, value)
        self.changed |= settings
        self._untold |= settings

    def _check_change(self, settings: dict[str, Any]) -> None:
        for name, value in settings.items():
            if value is None:  # in a history it could not be told from no change
                raise ValueError(f"{name}=None cannot be changed to between two steps: give it a value")
        dataclasses.replace(self.config, loss_settings=self.config.loss_settings | self.changed | settings)

    def _seed(self, *step: int) -> None:
        """Let the run's generator start from (seed, step), or for the initial weights from the seed."""
        sequence = np.random.SeedSequence(self.config.seed, spawn_key=step)
        self.generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))

    @property
    def _n_per_epoch(self) -> int:
        return steps_per_epoch(self.config, self.split)

    def best_model(self) -> SASRec:
        """A model with the weights of the best validation epoch."""
        model = make_model(self.config, self.split.catalog_size, torch.Generator(self.config.device))
        model.load_state_dict(self.best_state)
        model.followers = self.model.followers
        return model

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint, whole or not at all.

        Raises:
            OSError: it could not be written; what was there before is still there.
        """
        tensors = self._tensors(self.model.state_dict(), self.best_state, self.average)
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in state.items()}
        counters = {name: getattr(self, name) for name in COUNTERS}
        self._write(Checkpoint(self.config, tensors, counters, self.split.fingerprint), path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue from a checkpoint of the same configuration and data.

        ``max_epochs``, ``patience`` and ``device`` may differ. A change that no event has told yet holds from here.
        Of a checkpoint from before data had a fingerprint, or the rule about seen items a name, a warning says what
        that means. That a run goes on on another device, or with random numbers that are drawn in another way, is said
        when it does.

        Raises:
            ValueError: the file is damaged, or of another configuration or other data; the message names the first
                difference, and the state is as it was.
        """
        saved = self._read(path)
        saved.check(path, self.config, self.split.fingerprint, self._n_per_epoch, self._expected)
        self._check_change(saved.counters["changed"])
        if saved.seen_unsaid and (self.split.validation.repeats.any() or self.split.test.repeats.any()):
            warnings.warn(
                f"{path} is of an earlier version, which ranked a target that repeats against unseen items only: what "
                f"it reached cannot be compared with what it reaches from here, by the rule seen={self.config.seen!r}",
                stacklevel=3,
            )
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "average": {}, "optimizer": {}}
        for key, tensor in saved.tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = tensor
        self.model.load_state_dict(parts["model"])
        self.best_state, self.average = parts["best"], parts["average"]
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in parts["optimizer"].items():
            i, name = key.split(".", 1)
            state.setdefault(int(i), {})[name] = tensor
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        before = self.changed
        for name in COUNTERS:
            setattr(self, name, saved.counters[name])
        self._trained_on, self._drawn, self._from = saved.config.device, saved.draws, path
        self.changed = self.changed | self._untold  # what was changed before it was read is to hold from here
        for name, value in (self._first_settings(before) | self.changed).items():
            setattr(self.loss, name, value)

    def _first_settings(self, names: Iterable[str]) -> dict[str, Any]:
        """What settings of the loss are without any change."""
        first = make_training_loss(self.config, torch.from_numpy(self.split.item_counts)) if names else None
        return {name: getattr(first, name) for name in names}

    def _write(self, checkpoint: Checkpoint, path: str | os.PathLike[str]) -> None:
        checkpoint.write(path)

    def _read(self, path: str | os.PathLike[str]) -> Checkpoint:
        return Checkpoint.read(path, self.config.device)

    @staticmethod
    def _tensors(model: dict[str, Tensor], best: dict[str, Tensor], average: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights as a checkpoint names them."""
        parts = {"model": model, "best": best, "average": average}
        return {f"{part}.{name}": tensor for part, weights in parts.items() for name, tensor in weights.items()}

    def _expected(self, begun: bool) -> dict[str, Tensor]:
        """Tensors like those that a checkpoint must have; before its first step the optimizer has none."""
        weights = self.model.state_dict()
        tensors = self._tensors(weights, weights, self.average)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for i, p in enumerate(parameters if begun else ()):
            state = {"step": torch.empty((), dtype=torch.float32), "exp_avg": p, "exp_avg_sq": p}
            tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in state.items()}
        return tensors

    def _say_what_differs(self) -> None:
        """Warn that a run which goes on from a checkpoint comes to other numbers than it would have come to there."""
        there, here = (torch.device(device).type for device in (self._trained_on, self.config.device))
        if there != here:
            warnings.warn(
                f"{self._from} was trained on {there} and goes on on {here}: from here its digits are other ones than "
                f"they would have been there",
                stacklevel=3,
            )
        if self._drawn != DRAWS:
            warnings.warn(
                f"{self._from} is of an earlier version, which drew its random numbers in another way: from here its "
                f"numbers are other ones than they would have been there",
                stacklevel=3,
            )
        self._trained_on, self._drawn = self.config.device, DRAWS


def copy_of(weights: dict[str, Tensor], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """A copy that later steps do not touch, in another dtype if one is given."""
    return {name: tensor.detach().to(dtype or tensor.dtype, copy=True) for name, tensor in weights.items()}

"""The trainer: epochs, evaluations, early stopping, checkpoints."""

from __future__ import annotations

import dataclasses
import math
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sce_lab.data.batches import Batch, n_batches, training_batches
from sce_lab.data.splits import Holdout, Split
from sce_lab.followers import Followers
from sce_lab.metrics import Ranking, ranking_metrics
from sce_lab.model import SASRec
from sce_lab.training.checkpoint import COUNTERS, DRAWS, Checkpoint
from sce_lab.training.config import TrainingConfig
from sce_lab.training.device import check_device
from sce_lab.training.evaluation import rank_together
from sce_lab.training.events import Changed, Evaluated, Event, Finished, Started, StepDone
from sce_lab.training.step import (
    StepFunction,
    StepResult,
    Stopwatch,
    make_model,
    make_optimizer,
    make_training_loss,
    training_step,
)
from sce_lab.transfer import Late, ahead

#: Early stopping and "best" look at this metric of the validation holdout.
CRITERION = "NDCG@10"

#: So many steps at most may be under way on a GPU while the host goes on: within as many a loss that is no number ends
#: the run.
UNDER_WAY = 8


@dataclass(frozen=True)
class _UnderWay:
    """A step that was begun; its loss and its times may still be to come."""

    step: int
    epoch: int
    loss: Late
    n_positions: int
    watch: Stopwatch
    result: StepResult


def steps_per_epoch(config: TrainingConfig, split: Split) -> int:
    """Steps of an epoch: a pass over the training sequences, unless ``config.steps_per_epoch`` cuts it short."""
    passing = n_batches(split.train, config.batch_size)
    return min(passing, config.steps_per_epoch or passing)


class Trainer:
    """The state of a run between two events: model, loss, optimizer, counters, and the best weights so far.

    Settings of ``loss`` (bucket count, negatives, ...) may be changed between two events: see :meth:`change`.
    All randomness of a step is drawn from (seed, step), by a generator of the run. So a resumed run needs no generator
    state, and nothing that goes on beside it in the process changes it or is changed by it.

    Args:
        config, split, step, stop: as in :func:`train`.
        when_to_test: whether the test holdout is looked at in the end: if the run came to its own end, also if it was
            stopped, or never. Whoever compares settings must not look: see :mod:`sce_lab.reproduce`.

    Raises:
        ValueError: the device of ``config`` is not there.
    """

    def __init__(
        self,
        config: TrainingConfig,
        split: Split,
        *,
        step: StepFunction = training_step,
        stop: Callable[[], bool] | None = None,
        when_to_test: Literal["ended", "always", "never"] = "ended",
    ) -> None:
        self.config, self.split = config, split
        self._step, self._stop, self._when_to_test = step, stop or (lambda: False), when_to_test
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
        self.best_state = _copy_of(self.model.state_dict())
        #: in float32 whatever the weights are: in bfloat16 a step of a hundredth is rounded away, for ever
        self.average = _copy_of(self.model.state_dict(), torch.float32) if config.averaging else {}
        #: where and how the steps so far were made
        self._trained_on, self._drawn = config.device, DRAWS
        self._under_way: deque[_UnderWay] = deque()
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

    def _update_average(self) -> None:
        """Follow the weights; at first quickly, so that the random initial ones are soon forgotten."""
        if not self.average:
            return
        kept = min(self.config.averaging, (1 + self.step) / (10 + self.step))
        weights, averages = self.model.state_dict(), list(self.average.values())
        self._lerp_(averages, [weights[name].to(torch.float32) for name in self.average], 1 - kept)

    _lerp_ = staticmethod(torch._foreach_lerp_)

    def _rank(self, weights: dict[str, Tensor], holdout: Holdout) -> Ranking:
        """Rankings with other weights than the present ones; training can go on from where it was."""
        present = _copy_of(self.model.state_dict())
        try:
            self.model.load_state_dict(weights)
            return self._rank_present(holdout)
        finally:
            self.model.load_state_dict(present)

    def _rank_present(self, holdout: Holdout) -> Ranking:
        return rank_together([self.model], holdout, seen=self.config.seen)

    def events(self) -> Iterator[Event]:
        """Train from the present state to the end. State is consistent at every event: a checkpoint can be taken.

        On a CPU a step is told when it is done. On CUDA nobody waits for it: it is told when its loss has come, and
        the trainer may be up to :data:`UNDER_WAY` steps further; all are told before an evaluation, a change, the end.
        """
        steps = self._n_per_epoch
        if steps == 0:
            raise ValueError("no training sequence has two items or more, so there is no next item to learn from")
        reason = self._reason_to_end()
        if reason is None and self.step:
            self._say_what_differs()
        yield Started(self.config, steps, self.n_parameters)
        while reason is None:
            rng = np.random.default_rng([self.config.seed, self.epoch])
            batches = training_batches(
                self.split.train, self.config.batch_size, self.config.max_length, rng, self.config.item_dropout
            )
            for batch in ahead(islice(batches, self.batch_in_epoch, steps), self._ready, self.config.device):
                if self._untold:
                    yield from self._steps_done()
                    told, self._untold = self._untold, {}
                    yield Changed(self.step, self.epoch, told)
                if self._stop():
                    reason = "stopped"
                    break
                self._train_on(batch())
                yield from self._steps_done(wait=False)
            else:
                yield from self._steps_done()
                self.epoch += 1
                self.batch_in_epoch = 0
                if self.epoch % self.config.evaluate_every == 0 or self.epoch == self.config.max_epochs:
                    yield self._evaluated()
                reason = self._reason_to_end()
        yield from self._steps_done()
        wanted = {"ended": reason != "stopped", "always": True, "never": False}[self._when_to_test]
        ranking = self.rank_test() if wanted and self.best_epoch > 0 else None
        test = ranking_metrics(ranking, self.split.catalog_size) if ranking else {}
        counters = self.step, self.epoch, self.best_epoch
        yield Finished(reason, *counters, self.best_metrics, test, self.seconds, ranking, self.cpu_seconds)

    @property
    def _n_per_epoch(self) -> int:
        return steps_per_epoch(self.config, self.split)

    def _say_what_differs(self) -> None:
        """Warn that a run which goes on from a checkpoint comes to other numbers than it would have come to there."""
        there, here = (torch.device(device).type for device in (self._trained_on, self.config.device))
        if there != here:
            warnings.warn(
                f"this run was trained on {there} and goes on on {here}: from here its digits are other ones than they "
                f"would have been there",
                stacklevel=3,
            )
        if self._drawn != DRAWS:
            warnings.warn(
                "this run is of an earlier version, which drew its random numbers in another way: from here its "
                "numbers are other ones than they would have been there",
                stacklevel=3,
            )
        self._trained_on, self._drawn = self.config.device, DRAWS

    def _reason_to_end(self) -> str | None:
        if self.epoch >= self.config.max_epochs:
            return "epochs"
        if self.evaluations_since_best >= self.config.patience:
            return "patience"
        return None

    @contextmanager
    def _clocks(self) -> Iterator[Callable[[], float]]:
        """Add what runs inside to the run's two clocks; gives its seconds by the first one."""
        wall, cpu = time.perf_counter(), time.thread_time()
        taken = lambda: time.perf_counter() - wall  # noqa: E731
        yield taken
        self.seconds += taken()
        if self.cpu_seconds is not None:
            self.cpu_seconds += time.thread_time() - cpu

    def _ready(self, batch: Batch) -> Callable[[], Batch]:
        return batch.ready_for(self.config.device, self.config.max_length)

    def _train_on(self, batch: Batch) -> None:
        with self._clocks():
            watch = Stopwatch(self.config.device)
            self.model.train()
            self._seed(self.step)
            result = self._step(self.model, self.loss, self.optimizer, batch, watch)
            loss = Late(result.loss)
            self._update_average()
            self.step += 1
            self.batch_in_epoch += 1
            self._under_way.append(_UnderWay(self.step, self.epoch, loss, batch.n_positions, watch, result))

    def _steps_done(self, wait: bool = True) -> Iterator[StepDone]:
        """Steps whose loss has come; with ``wait`` all that are under way.

        Raises:
            FloatingPointError: a loss is no number.
        """
        while self._under_way and (wait or len(self._under_way) > UNDER_WAY or self._under_way[0].loss.there):
            with self._clocks():
                done = self._under_way.popleft()
                value = done.loss.read()
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"the loss became {value} at step {done.step}: "
                    f"try a learning_rate below {self.config.learning_rate}"
                )
            memory, statistics = done.result.memory, done.result.statistics
            yield StepDone(done.step, done.epoch, value, done.n_positions, done.watch.seconds, memory, statistics)

    def _evaluated(self) -> Evaluated:
        with self._clocks() as seconds:
            weights = self.average or self.model.state_dict()
            # without an average there are no weights to put back: no copy of them
            rank = partial(self._rank, self.average) if self.average else self._rank_present
            metrics = ranking_metrics(rank(self.split.validation), self.split.catalog_size)
            is_best = metrics[CRITERION] > self.best_metrics.get(CRITERION, -1.0)
            if is_best:
                self.best_epoch, self.best_metrics = self.epoch, metrics
                self.best_state = _copy_of(weights, self.model.item_embedding.dtype)
            self.evaluations_since_best = 0 if is_best else self.evaluations_since_best + 1
        return Evaluated(self.step, self.epoch, metrics, is_best, seconds())

    def best_model(self) -> SASRec:
        """A model with the weights of the best validation epoch."""
        model = make_model(self.config, self.split.catalog_size, torch.Generator(self.config.device))
        model.load_state_dict(self.best_state)
        model.followers = self.model.followers
        return model

    def rank_test(self) -> Ranking:
        """Where the test targets come out with the weights of the best validation epoch, ``best_state``."""
        return self._rank(self.best_state, self.split.test)

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

        ``max_epochs``, ``patience`` and ``device`` may differ. Of a checkpoint from before data had a fingerprint, or
        the rule about seen items a name, a warning says what that means. That a run goes on on another device, or with
        random numbers that are drawn in another way, is said when it does (:meth:`events`).

        Raises:
            ValueError: the file is damaged, or of another configuration or other data; the message names the first
                difference, and the trainer is as it was.
        """
        saved = self._read(path)
        saved.check(path, self.config, self.split.fingerprint, self._n_per_epoch, self._expected)
        self._check_change(saved.counters["changed"])
        if saved.seen_unsaid and (self.split.validation.repeats.any() or self.split.test.repeats.any()):
            warnings.warn(
                f"{path} is of an earlier version, which ranked a target that repeats against unseen items only: what "
                f"it reached cannot be compared with what it reaches from here, by the rule seen={self.config.seen!r}",
                stacklevel=2,
            )
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "average": {}, "optimizer": {}}
        for key, tensor in saved.tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = tensor
        self._under_way.clear()
        self.model.load_state_dict(parts["model"])
        self.best_state, self.average = parts["best"], parts["average"]
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in parts["optimizer"].items():
            i, name = key.split(".", 1)
            state.setdefault(int(i), {})[name] = tensor
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        for name in COUNTERS:
            setattr(self, name, saved.counters[name])
        self._trained_on, self._drawn = saved.config.device, saved.draws
        for name, value in self.changed.items():
            setattr(self.loss, name, value)

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


def _copy_of(weights: dict[str, Tensor], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    return {name: tensor.detach().to(dtype or tensor.dtype, copy=True) for name, tensor in weights.items()}


def train(
    config: TrainingConfig,
    split: Split,
    *,
    step: StepFunction = training_step,
    resume_from: str | os.PathLike[str] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Event]:
    """Train ``config`` on ``split`` and yield what happens: Started, StepDone..., Evaluated..., Finished.

    Args:
        config: what to train.
        split: training sequences and the two holdouts.
        step: the step function; a wrapper of :func:`training_step` can observe it.
        resume_from: a checkpoint of :meth:`Trainer.save`; on a CPU the numbers that follow are those of a run that was
            never interrupted.
        stop: asked before every step; when it answers True the run ends with reason "stopped".

    Raises:
        ValueError: nothing to train on, or the checkpoint does not fit.
        FloatingPointError: the loss is no longer a number.
    """
    trainer = Trainer(config, split, step=step, stop=stop)
    if resume_from is not None:
        trainer.load(resume_from)
    yield from trainer.events()

"""The trainer: epochs, evaluations, early stopping."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sce_lab.data.batches import Batch, training_batches
from sce_lab.data.splits import Holdout, Split
from sce_lab.metrics import Ranking, ranking_metrics
from sce_lab.training.config import TrainingConfig
from sce_lab.training.evaluation import rank_together
from sce_lab.training.events import Changed, Evaluated, Event, Finished, Started, StepDone
from sce_lab.training.state import TrainingState, copy_of
from sce_lab.training.step import StepFunction, StepResult, Stopwatch, training_step
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


class Trainer(TrainingState):
    """Trains a run from the state it is in to its end, as a stream of events.

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
        super().__init__(config, split)
        self._step, self._stop, self._when_to_test = step, stop or (lambda: False), when_to_test
        self._under_way: deque[_UnderWay] = deque()

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue from a checkpoint, as :meth:`TrainingState.load` says; steps that were under way are forgotten."""
        super().load(path)
        self._under_way.clear()

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
        present = copy_of(self.model.state_dict())
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
                yield from self._changes()
                if self._stop():
                    reason = "stopped"
                    break
                self._train_on(batch())
                yield from self._steps_done(wait=False)
            else:
                yield from self._steps_done()
                yield from self._changes()  # before a checkpoint that has them
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

    def _changes(self) -> Iterator[Event]:
        """What was changed and not told yet, after the steps before it."""
        if self._untold:
            yield from self._steps_done()
            told, self._untold = self._untold, {}
            yield Changed(self.step, self.epoch, told)

    def _evaluated(self) -> Evaluated:
        with self._clocks() as seconds:
            weights = self.average or self.model.state_dict()
            # without an average there are no weights to put back: no copy of them
            rank = partial(self._rank, self.average) if self.average else self._rank_present
            metrics = ranking_metrics(rank(self.split.validation), self.split.catalog_size)
            is_best = metrics[CRITERION] > self.best_metrics.get(CRITERION, -1.0)
            if is_best:
                self.best_epoch, self.best_metrics = self.epoch, metrics
                self.best_state = copy_of(weights, self.model.item_embedding.dtype)
            self.evaluations_since_best = 0 if is_best else self.evaluations_since_best + 1
        return Evaluated(self.step, self.epoch, metrics, is_best, seconds())

    def rank_test(self) -> Ranking:
        """Where the test targets come out with the weights of the best validation epoch, ``best_state``."""
        return self._rank(self.best_state, self.split.test)


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

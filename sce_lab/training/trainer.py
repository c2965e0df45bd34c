"""A run: epochs, evaluations, early stopping, checkpoints."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sce_lab.data.batches import Batch, history_batches, n_batches, training_batches
from sce_lab.data.splits import Holdout, Sequences, Split
from sce_lab.losses import make_loss
from sce_lab.metrics import KS, rank_items, ranking_metrics
from sce_lab.model import SASRec
from sce_lab.training.config import TrainingConfig
from sce_lab.training.events import Changed, Evaluated, Event, Finished, Started, StepDone
from sce_lab.training.step import (
    StepFunction,
    Stopwatch,
    make_model,
    make_optimizer,
    make_training_loss,
    training_step,
)

#: Early stopping and "best" look at this metric of the validation holdout.
CRITERION = "NDCG@10"


def evaluate(model: SASRec, holdout: Holdout, ks: tuple[int, ...] = KS) -> dict[str, float]:
    """Full-ranking metrics of ``model`` on ``holdout`` (see :mod:`sce_lab.metrics`); the model is left in eval mode."""
    return evaluate_together([model], holdout, ks)


def evaluate_together(models: Sequence[SASRec], holdout: Holdout, ks: tuple[int, ...] = KS) -> dict[str, float]:
    """:func:`evaluate` for models whose scores are added up, such as runs of one recipe with several seeds.

    A sum of inner products is one inner product of longer vectors,
    ``sum_m <o_m, E_m[c]> = <[o_1, o_2, ...], [E_1[c], E_2[c], ...]>``, so models together are ranked like a single one.

    Raises:
        ValueError: the models' catalogs differ in size, or there are no models.
    """
    tables = [model.item_embedding.detach() for model in models]
    if len({len(table) for table in tables}) != 1:
        sizes = ", ".join(str(len(table)) for table in tables) or "no models"
        raise ValueError(f"models whose scores are added up must have one catalog, got sizes {sizes}")
    outputs = [_last_outputs(model.eval(), holdout.histories) for model in models]
    ranking = rank_items(_side_by_side(outputs), _side_by_side(tables), holdout, k_max=max(ks))
    return ranking_metrics(ranking, len(tables[0]), ks)


def _side_by_side(tensors: list[Tensor]) -> Tensor:
    """``(n, D_1 + D_2 + ...)``; a single one as it is, for it may be the largest tensor there is."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=1)


def _last_outputs(model: SASRec, histories: Sequences) -> Tensor:
    """What the model says after each history, ``(U, D)``."""
    table = model.item_embedding.detach()
    outputs = torch.empty(len(histories), table.shape[1], device=table.device, dtype=table.dtype)
    with torch.no_grad():
        for packed, users in history_batches(histories, len(model.position_embedding)):
            packed = packed.to(table.device)
            outputs[torch.from_numpy(users).to(table.device)] = model(packed)[packed.last.to(table.device)]
    return outputs


class Trainer:
    """The state of a run between two events: model, loss, optimizer, counters, and the best weights so far.

    Settings of ``loss`` (bucket count, negatives, ...) may be changed between two events: see :meth:`change`.
    All randomness of a step is drawn from (seed, step), so a resumed run needs no generator state and runs that take
    turns in one process do not disturb each other.
    """

    def __init__(
        self,
        config: TrainingConfig,
        split: Split,
        *,
        step: StepFunction = training_step,
        stop: Callable[[], bool] | None = None,
        test_when_stopped: bool = False,
    ) -> None:
        self.config, self.split = config, split
        self._step, self._stop, self._test_when_stopped = step, stop or (lambda: False), test_when_stopped
        self.step = self.epoch = self.batch_in_epoch = 0
        self.best_epoch, self.best_metrics, self.evaluations_since_best = 0, {}, 0
        self.seconds = 0.0
        with self._seeded(config.seed):
            self.model = make_model(config, split.catalog_size)
        self.loss = make_training_loss(config, torch.from_numpy(split.item_counts)).to(config.device)
        self.loss.generator = torch.Generator(config.device)
        self.optimizer = make_optimizer(config, self.model)
        self.best_state = self._copy_of_weights()
        self.average = self._copy_of_weights() if config.averaging else {}
        #: what :meth:`change` made of the loss's settings, and what of it no event has told yet
        self.changed: dict[str, Any] = {}
        self._untold: dict[str, Any] = {}

    def change(self, **settings: Any) -> None:
        """Change settings of the loss between two events. :class:`Changed` is the next event, before the next step.

        Raises:
            ValueError, TypeError: the loss refuses a value, or does not know the setting; then nothing is changed.
        """
        make_loss(self.config.loss, **self.config.loss_settings | self.changed | settings)
        for name, value in settings.items():
            setattr(self.loss, name, value)
        self.changed |= settings
        self._untold |= settings

    @contextmanager
    def _seeded(self, seed: int) -> Iterator[None]:
        """Inside, torch's generators start from ``seed``; outside, they are as if nothing had been drawn."""
        device = torch.device(self.config.device)
        cuda = [device.index or torch.cuda.current_device()] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)
            yield

    def _copy_of_weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def _update_average(self) -> None:
        """Follow the weights; at first quickly, so that the random initial ones are soon forgotten."""
        kept = min(self.config.averaging, (1 + self.step) / (10 + self.step))
        weights = self.model.state_dict()
        for name, average in self.average.items():
            average.lerp_(weights[name], 1 - kept)

    def _evaluate(self, weights: dict[str, Tensor], holdout: Holdout) -> dict[str, float]:
        """Metrics with other weights than the present ones; training can go on from where it was."""
        present = self._copy_of_weights()
        self.model.load_state_dict(weights)
        metrics = evaluate(self.model, holdout)
        self.model.load_state_dict(present)
        return metrics

    def events(self) -> Iterator[Event]:
        """Train from the present state to the end. State is consistent at every event: a checkpoint can be taken."""
        steps = n_batches(self.split.train, self.config.batch_size)
        if steps == 0:
            raise ValueError("no training sequence has two items or more, so there is no next item to learn from")
        yield Started(self.config, steps, sum(p.numel() for p in self.model.parameters()))
        reason = self._reason_to_end()
        while reason is None:
            rng = np.random.default_rng([self.config.seed, self.epoch])
            batches = training_batches(
                self.split.train, self.config.batch_size, self.config.max_length, rng, self.config.item_dropout
            )
            for batch in islice(batches, self.batch_in_epoch, None):
                if self._untold:
                    told, self._untold = self._untold, {}
                    yield Changed(self.step, self.epoch, told)
                if self._stop():
                    reason = "stopped"
                    break
                yield self._train_on(batch)
            else:
                self.epoch += 1
                self.batch_in_epoch = 0
                if self.epoch % self.config.evaluate_every == 0 or self.epoch == self.config.max_epochs:
                    yield self._evaluated()
                reason = self._reason_to_end()
        tested = self.best_epoch > 0 and (reason != "stopped" or self._test_when_stopped)
        test = self.test() if tested else {}
        yield Finished(reason, self.step, self.epoch, self.best_epoch, self.best_metrics, test, self.seconds)

    def _reason_to_end(self) -> str | None:
        if self.epoch >= self.config.max_epochs:
            return "epochs"
        if self.evaluations_since_best >= self.config.patience:
            return "patience"
        return None

    def _train_on(self, batch: Batch) -> StepDone:
        self.model.train()
        start, watch = time.perf_counter(), Stopwatch(self.config.device)
        draw = np.random.SeedSequence([self.config.seed, self.step]).generate_state(2, np.uint64) >> np.uint64(1)
        with self._seeded(int(draw[0])):
            self.loss.generator.manual_seed(int(draw[1]))
            result = self._step(self.model, self.loss, self.optimizer, batch.to(self.config.device), watch)
        value = float(result.loss)
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss became {value} at step {self.step + 1}: "
                f"try a learning_rate below {self.config.learning_rate}"
            )
        self._update_average()
        self.step += 1
        self.batch_in_epoch += 1
        self.seconds += time.perf_counter() - start
        statistics = getattr(self.loss, "statistics", None)
        return StepDone(self.step, self.epoch, value, batch.n_positions, watch.seconds, result.memory, statistics)

    def _evaluated(self) -> Evaluated:
        start = time.perf_counter()
        weights = self.average or self.model.state_dict()
        if self.average:
            metrics = self._evaluate(self.average, self.split.validation)
        else:  # no weights to put back: no copy of them
            metrics = evaluate(self.model, self.split.validation)
        is_best = metrics[CRITERION] > self.best_metrics.get(CRITERION, -1.0)
        if is_best:
            self.best_epoch, self.best_metrics = self.epoch, metrics
            self.best_state = {name: tensor.detach().clone() for name, tensor in weights.items()}
        self.evaluations_since_best = 0 if is_best else self.evaluations_since_best + 1
        seconds = time.perf_counter() - start
        self.seconds += seconds
        return Evaluated(self.step, self.epoch, metrics, is_best, seconds)

    def best_model(self) -> SASRec:
        """A model with the weights of the best validation epoch."""
        model = make_model(self.config, self.split.catalog_size)
        model.load_state_dict(self.best_state)
        return model

    def test(self) -> dict[str, float]:
        """Metrics of the test holdout with the weights of the best validation epoch, ``best_state``."""
        return self._evaluate(self.best_state, self.split.test)

    _COUNTERS = (
        "step", "epoch", "batch_in_epoch", "best_epoch", "best_metrics", "evaluations_since_best", "seconds",
        "changed",
    )  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint: one safetensors file, written beside ``path`` and renamed, so never half there."""
        path = Path(path)
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best_state.items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": v for k, v in state.items()}
        counters = {name: getattr(self, name) for name in self._COUNTERS}
        metadata = {"config": json.dumps(dataclasses.asdict(self.config)), "counters": json.dumps(counters)}
        partial = path.with_suffix(".partial")
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial, metadata)
        os.replace(partial, path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Continue from a checkpoint of the same configuration (``max_epochs``, ``patience`` and device may differ).

        Raises:
            ValueError: the checkpoint was made with another configuration; the message names the first difference.
        """
        with safe_open(path, "pt", device=str(self.config.device)) as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        theirs = TrainingConfig(**json.loads(metadata["config"]))
        for name, ours in dataclasses.asdict(self.config).items():
            if name not in ("max_epochs", "patience", "device") and ours != getattr(theirs, name):
                raise ValueError(
                    f"{path} was made with {name}={getattr(theirs, name)!r}, not {ours!r}: use the same to continue it"
                )
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "average": {}, "optimizer": {}}
        for key, tensor in tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = tensor
        self.model.load_state_dict(parts["model"])
        self.best_state, self.average = parts["best"], parts["average"]
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in parts["optimizer"].items():
            i, name = key.split(".", 1)
            state.setdefault(int(i), {})[name] = tensor
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        for name, value in json.loads(metadata["counters"]).items():
            setattr(self, name, value)
        for name, value in self.changed.items():
            setattr(self.loss, name, value)


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

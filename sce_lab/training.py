"""Training as a stream of events.

:func:`train` is a generator. Whoever iterates over it drives the training: a progress bar, a run folder, a live plot
and a test all observe the same events, and none of them is known here.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sce_lab.data.batches import Batch, history_batches, n_batches, training_batches
from sce_lab.data.splits import Holdout, Split
from sce_lab.losses import LOSSES, make_loss
from sce_lab.metrics import KS, rank_items, ranking_metrics
from sce_lab.model import SASRec
from sce_lab.optimizers import RowSparseAdam, add_rows

#: Early stopping and "best" look at this metric of the validation holdout.
CRITERION = "NDCG@10"
DTYPES = ("float32", "bfloat16")


def takes(loss: str, setting: str) -> bool:
    """Whether the loss of this name has such a setting."""
    return setting in inspect.signature(LOSSES[loss]).parameters


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a run, JSON-able. Defaults are the paper's where it names one (section 4).

    Args:
        loss: a name in :data:`sce_lab.losses.LOSSES`.
        loss_settings: keyword arguments of that loss's module.
        hidden_size, n_blocks, n_heads, dropout, max_length: see :class:`sce_lab.model.SASRec`.
        batch_size: sequences (users) a step.
        learning_rate, betas: Adam's.
        max_epochs: passes over the training sequences at most.
        patience: stop after this many evaluations without a new best validation NDCG@10.
        evaluate_every: epochs between evaluations.
        averaging: if above 0, what is evaluated and kept is a moving average of the weights: ``averaging`` is the share
            of itself that it keeps at a step, 0.99 averages over some 100 steps. It takes one more copy of the weights.
        seed: decides initial weights, order of batches, dropout, negatives and bucket centres.
        device: a torch device.
        dtype: of weights, gradients, Adam's state and the encoder: "float32", or "bfloat16", which takes half the
            memory and rounds every update to three digits. Losses add up in float32 either way.
        sparse_gradients: the item table's gradient has rows for the items of the step only, and Adam updates these
            rows only: see :class:`sce_lab.optimizers.RowSparseAdam`. Not with a loss that scores the whole catalog.

    Raises:
        ValueError: a setting is out of range; the message names it and its value.
    """

    loss: str = "sce"
    loss_settings: dict[str, Any] = field(default_factory=dict)
    hidden_size: int = 64
    n_blocks: int = 2
    n_heads: int = 1
    dropout: float = 0.3
    max_length: int = 50
    batch_size: int = 128
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    max_epochs: int = 100
    patience: int = 10
    evaluate_every: int = 1
    averaging: float = 0.0
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    sparse_gradients: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON has lists only
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {self.loss!r}")
        for name in (
            "hidden_size",
            "n_heads",
            "max_length",
            "batch_size",
            "max_epochs",
            "patience",
            "evaluate_every",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if not 0 <= self.averaging < 1:
            raise ValueError(f"averaging must lie in [0, 1), got {self.averaging}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.sparse_gradients and not takes(self.loss, "sparse_grad"):
            able = ", ".join(loss for loss in LOSSES if takes(loss, "sparse_grad"))
            raise ValueError(
                f"sparse_gradients=True does not go with loss={self.loss!r}, whose gradient has no empty rows; "
                f"it goes with {able}"
            )


@dataclass(frozen=True)
class Started:
    """The first event."""

    config: TrainingConfig
    n_steps_per_epoch: int
    n_parameters: int


@dataclass(frozen=True)
class StepDone:
    """One optimizer step. ``seconds`` has a key per phase: see :func:`training_step`."""

    step: int
    epoch: int
    loss: float
    n_positions: int
    seconds: dict[str, float]
    memory: Any = None
    statistics: Any = None


@dataclass(frozen=True)
class Changed:
    """Settings of the loss that :meth:`Trainer.change` has changed after ``step`` steps: the next step uses them."""

    step: int
    epoch: int
    settings: dict[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """Metrics of the validation holdout after ``epoch`` epochs."""

    step: int
    epoch: int
    metrics: dict[str, float]
    is_best: bool
    seconds: float


@dataclass(frozen=True)
class Finished:
    """The last event. ``validation`` and ``test`` are those of the best epoch; ``test`` is empty after a stop (unless
    the trainer was told to test then)."""

    reason: str
    step: int
    epoch: int
    best_epoch: int
    validation: dict[str, float]
    test: dict[str, float]
    seconds: float


Event = Started | StepDone | Changed | Evaluated | Finished
Phase = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class StepResult:
    """What a step function returns: the loss ``()`` and, if it was measured, the memory it took."""

    loss: Tensor
    memory: Any = None


class StepFunction(Protocol):
    """:func:`training_step`, or something that wraps it, such as :func:`sce_lab.memory.measuring`."""

    def __call__(
        self, model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, phase: Phase
    ) -> StepResult:
        """Run one optimizer step."""
        ...


def training_step(
    model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, phase: Phase
) -> StepResult:
    """One step, in the five phases that time and memory are reported by.

    The loss is cut from the encoder (``detach``) and the encoder's backward is started with the gradient that the loss
    left on its outputs: the same gradients, but what belongs to the loss can be told from what belongs to the model.
    The item table is used twice, to embed the inputs and in the loss. The first gradient has N rows and is added to the
    second in place; left to autograd it would be a second (C, D) tensor, nearly all zeros.
    """
    table, items = model.item_embedding, batch.inputs.items
    with phase("forward"):
        embedded = table.detach()[items].requires_grad_()  # (N, D)
        outputs = model(batch.inputs, embedded)  # (N, D)
        head = outputs.detach().requires_grad_()
    with phase("loss_forward"):
        value = loss(head, table, batch.targets)
    with phase("loss_backward"):
        value.backward()
    with phase("backward"):
        outputs.backward(head.grad)
        table.grad = add_rows(table.grad, items, embedded.grad)
    with phase("optimizer"):
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return StepResult(value.detach())


class Stopwatch:
    """A :data:`Phase` that adds up wall-clock seconds by name, synchronised with the device."""

    def __init__(self, device: torch.device | str) -> None:
        self.seconds: dict[str, float] = {}
        self._device = torch.device(device)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        start = self._now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self._now() - start


def make_optimizer(config: TrainingConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Adam in its fused form: the plain one holds two more copies of the item table while it steps."""
    if config.sparse_gradients:
        return RowSparseAdam(model.parameters(), lr=config.learning_rate, betas=config.betas)
    return torch.optim.Adam(model.parameters(), lr=config.learning_rate, betas=config.betas, fused=True)


def make_training_loss(config: TrainingConfig, item_counts: Tensor) -> nn.Module:
    """The loss module that ``config`` describes.

    Args:
        config: what is trained.
        item_counts: ``(C,)`` training count of each item, for a loss that takes it and has no other.
    """
    settings = dict(config.loss_settings)
    if takes(config.loss, "item_counts"):
        settings.setdefault("item_counts", item_counts)
    if config.sparse_gradients:
        settings["sparse_grad"] = True
    return make_loss(config.loss, **settings)


def make_model(config: TrainingConfig, catalog_size: int) -> SASRec:
    """The encoder that ``config`` describes, its weights drawn from the device's default generator."""
    size = (config.hidden_size, config.n_blocks, config.n_heads)
    with torch.device(config.device):
        model = SASRec(catalog_size, config.max_length, *size, dropout=config.dropout)
    for p in model.parameters():
        p.data = p.data.to(getattr(torch, config.dtype))  # Module.to does not go with tensors without content
    return model


def evaluate(model: SASRec, holdout: Holdout, ks: tuple[int, ...] = KS) -> dict[str, float]:
    """Full-ranking metrics of ``model`` on ``holdout`` (see :mod:`sce_lab.metrics`); the model is left in eval mode."""
    model.eval()
    table = model.item_embedding.detach()
    outputs = torch.empty(len(holdout.targets), table.shape[1], device=table.device, dtype=table.dtype)
    with torch.no_grad():
        for packed, users in history_batches(holdout.histories, len(model.position_embedding)):
            packed = packed.to(table.device)
            outputs[torch.from_numpy(users).to(table.device)] = model(packed)[packed.last.to(table.device)]
    ranking = rank_items(outputs, table, holdout, k_max=max(ks))
    return ranking_metrics(ranking, len(table), ks)


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
            batches = training_batches(self.split.train, self.config.batch_size, self.config.max_length, rng)
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

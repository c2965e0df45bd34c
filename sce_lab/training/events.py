"""What happens in a run, one event after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sce_lab.training.config import TrainingConfig


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

"""What happens in a run, one event after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sce_lab.metrics import Ranking
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
    """The last event. ``validation`` and ``test`` are metrics of the best epoch, and ``ranking`` is where each test
    target came out; ``test`` is empty and ``ranking`` None if the test was not looked at, as after a stop. ``seconds``
    went by; ``cpu_seconds`` the training thread computed: less where it shared the machine, and where it has several
    threads only its own part. None: the run began before that was counted."""

    reason: str
    step: int
    epoch: int
    best_epoch: int
    validation: dict[str, float]
    test: dict[str, float]
    seconds: float
    ranking: Ranking | None = field(default=None, repr=False, compare=False)
    cpu_seconds: float | None = None


Event = Started | StepDone | Changed | Evaluated | Finished

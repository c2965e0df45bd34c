"""What is known of a run so far: its events go in, a :class:`Snapshot` comes out whenever somebody wants to look."""

from __future__ import annotations

import statistics
from array import array
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sce_lab.figures import Curves
from sce_lab.memory import MemoryUse
from sce_lab.training import Changed, Evaluated, Event, Finished, Started, StepDone, TrainingConfig

IDLE, RUNNING, PAUSED, STOPPING = "idle", "running", "paused", "stopping"
FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
#: Of a run that was read back: its kernel ended before it did.
INTERRUPTED = "interrupted"
#: Of SCE's statistics, those that are shown over time.
FOLLOWED = ("coverage", "captured_mass")


@dataclass(frozen=True)
class Failed:
    """Not an event of training: the run ended with this error, and others go on."""

    error: Exception


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment. Nothing in it changes afterwards.

    Attributes:
        state: "idle", "running", "paused", "stopping", or how it ended: "finished", "stopped", "failed".
        config: what is trained, once the first event has come.
        positions: of a step, on average.
        step, epochs: steps done, and epochs done as a fraction.
        steps_per_epoch: 0 before the first event.
        seconds: spent on it, pauses not counted.
        curves: all evaluations, and of the steps a few hundred, each the mean loss of its neighbourhood.
        milliseconds: by phase, median over the last steps that were neither measured nor looked into.
        memory: of the measured steps, the one with the highest peak.
        statistics: of the last step that has any, such as SCE's coverage.
        followed: arrays named ``epochs`` and as in :data:`FOLLOWED`: the statistics over time.
        changes: settings that were changed while it ran, as (epochs, {name: value}).
        metrics: of the last evaluation, on the validation items; empty before it.
        finished: the last event, if it came.
        error: what the run failed with.
        lanes: of runs that take turns, each by its name; this snapshot then is that of the whole.
    """

    state: str = IDLE
    config: TrainingConfig | None = None
    step: int = 0
    epochs: float = 0.0
    steps_per_epoch: int = 0
    positions: float = 0.0
    seconds: float = 0.0
    curves: Curves = field(default_factory=Curves)
    milliseconds: dict[str, float] = field(default_factory=dict)
    memory: MemoryUse | None = None
    statistics: Any = None
    followed: Mapping[str, np.ndarray] = field(
        default_factory=lambda: {name: np.zeros(0) for name in ("epochs", *FOLLOWED)}
    )
    changes: tuple[tuple[float, dict[str, Any]], ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    finished: Finished | None = None
    error: BaseException | None = None
    lanes: Mapping[str, Snapshot] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Is the worker busy with it?"""
        return self.state in (RUNNING, PAUSED, STOPPING)


class Progress:
    """Takes the events of one run."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self.finished: Finished | None = None
        self.error: BaseException | None = None
        self.step = self._n_positions = 0
        self._steps, self._losses = array("d"), array("d")
        self._scored, self._spent = array("d"), array("d")  # steps, and seconds of training
        self._scores: dict[str, array[float]] = {}
        self._metrics: dict[str, float] = {}
        self._recent: deque[dict[str, float]] = deque(maxlen=64)
        self._memory: MemoryUse | None = None
        self._statistics: Any = None
        self._followed = {name: array("d") for name in ("step", *FOLLOWED)}
        self._changes: list[tuple[int, dict[str, Any]]] = []
        self._seconds = self._trained = 0.0  # with evaluations, and without

    @property
    def ended(self) -> bool:
        """No more events will come."""
        return self.finished is not None or self.error is not None

    def take(self, event: Event | Failed) -> None:
        """Note one event."""
        match event:
            case Started():
                self.started = event
            case StepDone():
                self._take_step(event)
            case Changed():
                if self._changes and self._changes[-1][0] == event.step:
                    self._changes[-1][1].update(event.settings)
                else:
                    self._changes.append((event.step, dict(event.settings)))
            case Evaluated():
                self._scored.append(event.step)
                self._spent.append(self._trained)
                for name, value in event.metrics.items():
                    self._scores.setdefault(name, array("d")).append(value)
                self._metrics = dict(event.metrics)
                self._seconds += event.seconds
            case Finished():
                self.finished = event
            case Failed():
                self.error = event.error

    def _take_step(self, event: StepDone) -> None:
        self.step = event.step
        self._n_positions += event.n_positions
        self._steps.append(event.step)
        self._losses.append(event.loss)
        self._seconds += sum(event.seconds.values())
        self._trained += sum(event.seconds.values())
        if event.memory is None and event.statistics is None:
            self._recent.append(event.seconds)
        elif event.memory and (self._memory is None or event.memory.peak > self._memory.peak):
            self._memory = event.memory
        if event.statistics is not None:
            self._statistics = event.statistics
            values = {"step": event.step, **asdict(event.statistics)}
            for name, column in self._followed.items():
                column.append(float(values[name]))

    def snapshot(self, state: str, max_points: int, *, seconds: float | None = None, error: Any = None) -> Snapshot:
        """How it stands, ``state`` being that of the worker. ``seconds``: default, those of its own events."""
        if self.ended:
            reason = self.finished.reason if self.finished else ""
            state = FAILED if self.error is not None else STOPPED if reason == "stopped" else FINISHED
        length = self.started.n_steps_per_epoch if self.started else 0
        every = max(length, 1)
        steps, losses = _thinned(max_points, np.array(self._steps), np.array(self._losses))
        scores = {name: np.array(values) for name, values in self._scores.items()}
        step, *means = _thinned(max_points, *map(np.array, self._followed.values()))
        return Snapshot(
            state=state,
            config=self.started.config if self.started else None,
            step=self.step,
            epochs=self.step / length if length else 0.0,
            steps_per_epoch=length,
            positions=self._n_positions / len(self._steps) if self._steps else 0.0,
            seconds=self._seconds if seconds is None else seconds,
            curves=Curves(steps / every, losses, np.array(self._scored) / every, scores, np.array(self._spent)),
            milliseconds=_medians(self._recent),
            memory=self._memory,
            statistics=self._statistics,
            followed={"epochs": step / every, **dict(zip(FOLLOWED, means))},
            changes=tuple((at / every, dict(settings)) for at, settings in self._changes),
            metrics=self._metrics,
            finished=self.finished,
            error=self.error or error,
        )


def _thinned(max_points: int, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """The columns as at most ``max_points`` means of neighbours."""
    length = len(columns[0])
    if length <= max_points:
        return columns
    starts = np.linspace(0, length, max_points + 1).astype(int)[:-1]
    counts = np.diff(np.append(starts, length))
    return tuple(np.add.reduceat(column, starts) / counts for column in columns)


def _medians(recent: Iterable[dict[str, float]]) -> dict[str, float]:
    """Median milliseconds by phase; the very first step is slower than any other and left out when there are more."""
    rows = list(recent)
    rows = rows[1:] or rows
    return {phase: 1e3 * statistics.median(row[phase] for row in rows) for phase in (rows[0] if rows else ())}

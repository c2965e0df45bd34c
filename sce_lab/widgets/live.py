"""Training in the background: one worker thread that can be started, paused, stopped and watched.

A training loop in a notebook cell would block every button. :class:`LiveRun` drives the events of
:func:`sce_lab.training.train` from a thread of its own and keeps what they say; whoever wants to see it asks for a
:class:`Snapshot` or is called about five times a second. It knows no widget, so it can be used and tested without one.
"""

from __future__ import annotations

import atexit
import os
import statistics
import threading
import time
import weakref
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from sce_lab.memory import MemoryUse
from sce_lab.runs import history_row
from sce_lab.training import Evaluated, Event, Finished, Started, StepDone, TrainingConfig

Events = Callable[[Callable[[], bool]], Iterable[Event]]
"""Makes the events of a run. It is given a function that answers "stop?", and must end soon after a yes."""

IDLE, RUNNING, PAUSED, STOPPING = "idle", "running", "paused", "stopping"
FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment. Nothing in it changes afterwards.

    Attributes:
        state: "idle", "running", "paused", "stopping", or how it ended: "finished", "stopped", "failed".
        config: what is trained, once the first event has come.
        step, epochs: steps done, and epochs done as a fraction.
        steps_per_epoch: 0 before the first event.
        seconds: spent on it, pauses not counted.
        history: rows as :func:`sce_lab.runs.history_row` makes them, with ``epochs`` (fractional) besides; of the steps
            a few hundred, each the mean loss of its neighbourhood, and all evaluations.
        milliseconds: by phase, median over the last steps whose memory was not measured.
        memory: of the measured steps, the one with the highest peak.
        statistics: of the last step that has any, such as SCE's coverage.
        finished: the last event, if it came.
        error: what the run failed with.
    """

    state: str = IDLE
    config: TrainingConfig | None = None
    step: int = 0
    epochs: float = 0.0
    steps_per_epoch: int = 0
    seconds: float = 0.0
    history: pd.DataFrame = field(default_factory=lambda: _history(array("d"), array("d"), [], 0, 1))
    milliseconds: dict[str, float] = field(default_factory=dict)
    memory: MemoryUse | None = None
    statistics: Any = None
    finished: Finished | None = None
    error: BaseException | None = None

    @property
    def active(self) -> bool:
        """Is the worker busy with it?"""
        return self.state in (RUNNING, PAUSED, STOPPING)

    @property
    def metrics(self) -> dict[str, float]:
        """Validation metrics of the last evaluation; empty before it."""
        rows = self.history[self.history["kind"] == "evaluation"]
        return rows.iloc[-1].filter(like="@").astype(float).to_dict() if len(rows) else {}


class LiveRun:
    """Runs events in a daemon thread, one run at a time. All methods may be called from any thread.

    Args:
        period: seconds between two calls of a run's ``publish``.
        max_points: of the training loss in a snapshot.
    """

    def __init__(self, *, period: float = 0.2, max_points: int = 300) -> None:
        self._period, self._max_points = period, max_points
        self._lock = threading.RLock()
        self._stop, self._go = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._clear()

    def _clear(self) -> None:
        self._state, self._error = IDLE, None
        self._started: Started | None = None
        self._finished: Finished | None = None
        self._steps, self._losses = array("d"), array("d")
        self._evaluations: list[dict[str, Any]] = []
        self._recent: deque[dict[str, float]] = deque(maxlen=64)
        self._memory: MemoryUse | None = None
        self._statistics: Any = None
        self._seconds, self._since = 0.0, None

    # ------------------------------------------------------------------------------------------------- from outside

    @property
    def state(self) -> str:
        """See :class:`Snapshot`."""
        return self._state

    @property
    def active(self) -> bool:
        """Is a run under way (or paused)?"""
        return self._state in (RUNNING, PAUSED, STOPPING)

    def start(self, events: Events, publish: Callable[[Snapshot], None] | None = None) -> None:
        """Forget the last run and start this one.

        Args:
            events: makes the events. An exception in it ends the run and is raised by :meth:`wait`.
            publish: called in the worker with a snapshot: at the first event, at evaluations and at the end always,
                otherwise every ``period`` seconds, and less often if it is slow: it never takes a tenth of the time.
                An exception in it ends the run as one in the events does.

        Raises:
            RuntimeError: a run is under way.
        """
        last = self._thread
        if last is not None and last is not threading.current_thread() and not self.active:
            last.join()  # it may still be showing how it ended
        with self._lock:
            if self.active:
                raise RuntimeError(f"a run is {self._state}: stop() it, or wait() for it, before starting another")
            self._clear()
            self._stop.clear()
            self._go.set()
            self._state, self._since = RUNNING, time.monotonic()
            self._thread = threading.Thread(
                target=self._work, args=(events, publish), name="sce-lab-training", daemon=True
            )
            _LIVE.add(self)
            self._thread.start()

    def pause(self) -> None:
        """Hold on after the step that is being done. Without a running run nothing happens."""
        with self._lock:
            if self._state == RUNNING:
                self._go.clear()
                self._hold(PAUSED)

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        with self._lock:
            if self._state == PAUSED:
                self._state, self._since = RUNNING, time.monotonic()
                self._go.set()

    def stop(self) -> None:
        """End the run after the step that is being done, paused or not. Returns at once: see :meth:`wait`."""
        with self._lock:
            if self.active:
                self._stop.set()
                if self._state == PAUSED:
                    self._since = time.monotonic()
                self._state = STOPPING
                self._go.set()

    def wait(self, timeout: float | None = None) -> Snapshot:
        """Wait for the end of the run. An interrupt (Ctrl-C, the kernel's stop button) stops the run too.

        Raises:
            TimeoutError: it did not end within ``timeout`` seconds. It goes on.
            RuntimeError: it is paused and there is no timeout, so this would wait for ever.
            Exception: what the run failed with.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        thread = self._thread
        if thread is threading.current_thread():
            raise RuntimeError("a run cannot wait for itself")
        try:
            while thread is not None and thread.is_alive():
                if self._state == PAUSED and deadline is None:
                    raise RuntimeError("the run is paused: resume() or stop() it before waiting for its end")
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"the run did not end within {timeout:g} s; it is at step {len(self._steps)}")
                thread.join(0.05)
        except KeyboardInterrupt:
            self.stop()
            raise
        if self._error is not None:
            raise self._error
        return self.snapshot()

    def reset(self, timeout: float = 10.0) -> None:
        """Stop, wait for the worker, and forget the run.

        Raises:
            TimeoutError: the step being done does not end within ``timeout`` seconds.
        """
        self.stop()
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
            if thread.is_alive():
                raise TimeoutError(f"the step being done takes more than {timeout:g} s; the run ends after it")
        with self._lock:
            self._thread = None
            self._clear()

    def snapshot(self) -> Snapshot:
        """The run as it is now."""
        with self._lock:
            length = self._started.n_steps_per_epoch if self._started else 0
            seconds = self._seconds + (time.monotonic() - self._since if self._since is not None else 0.0)
            return Snapshot(
                state=self._state,
                config=self._started.config if self._started else None,
                step=int(self._steps[-1]) if self._steps else 0,
                epochs=self._steps[-1] / length if self._steps else 0.0,
                steps_per_epoch=length,
                seconds=seconds,
                history=_history(self._steps, self._losses, self._evaluations, length, self._max_points),
                milliseconds=_medians(self._recent),
                memory=self._memory,
                statistics=self._statistics,
                finished=self._finished,
                error=self._error,
            )

    # ---------------------------------------------------------------------------------------------- in the worker

    def _work(self, events: Events, publish: Callable[[Snapshot], None] | None) -> None:
        shown, cost = -np.inf, 0.0
        # One core is left for the kernel and the page: two busy threads on two cores wait for each other, step by step.
        torch.set_num_threads(min(torch.get_num_threads(), max(1, (os.cpu_count() or 1) - 1)))
        try:
            for event in events(self._stop.is_set):
                with self._lock:
                    self._take(event)
                now = time.monotonic()
                due = now - shown >= max(self._period, 10 * cost)
                if publish and (due or not isinstance(event, StepDone | Finished)):
                    publish(self.snapshot())
                    shown = time.monotonic()
                    cost = shown - now
                while not self._go.wait(0.5):  # paused
                    pass
            ending = STOPPED if self._stop.is_set() else FINISHED
        except BaseException as error:
            self._error, ending = error, FAILED
        with self._lock:
            self._hold(ending)
            _LIVE.discard(self)
        if publish:
            try:
                publish(self.snapshot())
            except BaseException as error:
                self._error, self._state = self._error or error, FAILED

    def _hold(self, state: str) -> None:
        if self._since is not None:
            self._seconds += time.monotonic() - self._since
        self._state, self._since = state, None

    def _take(self, event: Event) -> None:
        match event:
            case Started():
                self._started = event
            case StepDone():
                self._steps.append(event.step)
                self._losses.append(event.loss)
                if event.memory is None:
                    self._recent.append(event.seconds)
                elif self._memory is None or event.memory.peak > self._memory.peak:
                    self._memory = event.memory
                self._statistics = event.statistics or self._statistics
            case Evaluated():
                self._evaluations.append(history_row(event))
            case Finished():
                self._finished = event


def _history(
    steps: array[float], losses: array[float], evaluations: list[dict[str, Any]], length: int, max_points: int
) -> pd.DataFrame:
    """Steps thinned to at most ``max_points`` means, then the evaluations."""
    step, loss = np.array(steps), np.array(losses)
    if len(step) > max_points:
        starts = np.linspace(0, len(step), max_points + 1).astype(int)[:-1]
        counts = np.diff(np.append(starts, len(step)))
        step, loss = np.add.reduceat(step, starts) / counts, np.add.reduceat(loss, starts) / counts
    length = max(length, 1)
    columns = {"kind": ["step"] * len(step), "step": step, "epoch": step // length, "loss": loss}
    rows = pd.DataFrame(columns)
    if evaluations:
        rows = pd.concat([rows, pd.DataFrame(evaluations)], ignore_index=True)
    return rows.assign(epochs=rows["step"] / length)


def _medians(recent: Iterable[dict[str, float]]) -> dict[str, float]:
    """Median milliseconds by phase; the very first step is slower than any other and left out when there are more."""
    rows = list(recent)
    rows = rows[1:] or rows
    return {phase: 1e3 * statistics.median(row[phase] for row in rows) for phase in (rows[0] if rows else ())}


_LIVE: weakref.WeakSet[LiveRun] = weakref.WeakSet()


def stop_all() -> None:
    """Stop every run of this process. A cell that is run again leaves a widget behind, which must not train unseen."""
    for run in list(_LIVE):
        run.stop()


@atexit.register
def _end_all() -> None:
    """A daemon thread inside torch while the interpreter is taken apart can crash it: let every run end its step."""
    threads = [run._thread for run in list(_LIVE)]
    stop_all()
    for thread in threads:
        if thread is not None:
            thread.join(5.0)


__all__ = ["Events", "LiveRun", "Snapshot", "stop_all"]

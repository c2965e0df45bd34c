"""Training in the background: one worker thread that can be started, paused, stepped, stopped and watched.

A training loop in a notebook cell would block every button. :class:`LiveRun` drives the events of
:func:`sce_lab.training.train` from a thread of its own and keeps what they say; whoever wants to see it asks for a
:class:`Snapshot` or is called about five times a second. It knows no widget, so it can be used and tested without one.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace

import numpy as np

from sce_lab.memory import release_memory
from sce_lab.training import Event, Finished, StepDone
from sce_lab.widgets.kit.cores import one_core_left
from sce_lab.widgets.kit.progress import FAILED, FINISHED, IDLE, PAUSED, RUNNING, STOPPED, STOPPING, Progress, Snapshot
from sce_lab.widgets.kit.turns import Turn

Events = Callable[[Callable[[], bool]], Iterable[Event | Turn]]
"""Makes the events of a run, or of several that take turns. It is given a function that answers "stop?", and must end
soon after a yes."""


class LiveRun:
    """Runs events in a daemon thread, one run at a time. All methods may be called from any thread.

    Args:
        period: seconds between two calls of a run's ``publish``.
        max_points: of the training loss in a snapshot.
    """

    def __init__(self, *, period: float = 0.2, max_points: int = 300) -> None:
        self._period, self._max_points = period, max_points
        self._lock = threading.RLock()
        self._stop, self._go, self._gone = threading.Event(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._clear()

    def _clear(self) -> None:
        self._state, self._error = IDLE, None
        self._progress = Progress()
        self._lanes: dict[str, Progress] = {}
        self._hold_at: int | None = None  # pause when every lane has done so many steps
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

    def start(
        self, events: Events, publish: Callable[[Snapshot], None] | None = None, *, steps: int | None = None
    ) -> None:
        """Forget the last run and start this one.

        Args:
            events: makes the events. An exception in it ends the run and is raised by :meth:`wait`.
            steps: pause after so many.
            publish: called in the worker with a snapshot: at the first event, at evaluations and at the end always,
                otherwise every ``period`` seconds, less often if it is slow: it never takes a twentieth of the time.
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
            self._hold_at = steps
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
                self._hold_at = None
                self._state, self._since = RUNNING, time.monotonic()
                self._go.set()

    def step(self) -> None:
        """Do one step more, of each run that takes turns, and pause. Without a run nothing happens."""
        with self._lock:
            if self._state in (RUNNING, PAUSED):
                # One that was held in the middle of a round is finished on the way.
                self._hold_at = 1 + max((lane.step for lane in self._lanes.values()), default=self._progress.step)
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

    def leave(self) -> None:
        """End after the step that is being done as if the kernel had ended in its midst: nothing is made up for a stop
        that nobody asked for, and a run that is recorded is one that was interrupted."""
        self._gone.set()
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
                    raise TimeoutError(f"the run did not end within {timeout:g} s; it is at step {self._least_step()}")
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
            seconds = self._seconds + (time.monotonic() - self._since if self._since is not None else 0.0)
            # One of several runs may have ended while the others go on; of a single one the worker's word counts.
            lanes = {name: lane.snapshot(self._state, self._max_points) for name, lane in self._lanes.items()}
            whole = self._progress.snapshot(self._state, self._max_points, seconds=seconds, error=self._error)
            if lanes:
                first = max(lanes.values(), key=lambda shot: shot.step)
                whole = replace(whole, step=first.step, epochs=first.epochs, steps_per_epoch=first.steps_per_epoch)
            return replace(whole, state=self._state, lanes=lanes)

    # ---------------------------------------------------------------------------------------------- in the worker

    def _work(self, events: Events, publish: Callable[[Snapshot], None] | None) -> None:
        with one_core_left():
            self._work_through(events, publish)
        release_memory()  # another page's kernel may want it

    def _work_through(self, events: Events, publish: Callable[[Snapshot], None] | None) -> None:
        shown, cost = -np.inf, 0.0
        try:
            made = events(self._stop.is_set)
            for event in made:
                if self._gone.is_set():
                    return self._close(made)
                with self._lock:
                    self._take(event)
                self._hold_if_asked()
                now = time.monotonic()
                due = now - shown >= max(self._period, 20 * cost)
                news = event.event if isinstance(event, Turn) else event
                if publish and (due or not self._go.is_set() or not isinstance(news, StepDone | Finished)):
                    publish(self.snapshot())
                    shown = time.monotonic()
                    cost = shown - now
                while not self._go.wait(0.5):  # paused
                    pass
                if self._gone.is_set():
                    return self._close(made)
            ending = STOPPED if self._stop.is_set() else FINISHED
            if errors := [lane.error for lane in self._lanes.values() if lane.error is not None]:
                self._error, ending = errors[0], FAILED
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

    def _close(self, made: Iterable[Event | Turn]) -> None:
        """Drop the rest of the events."""
        if isinstance(made, Generator):
            made.close()
        with self._lock:
            self._hold(STOPPED)

    def _hold(self, state: str) -> None:
        if self._since is not None:
            self._seconds += time.monotonic() - self._since
        self._state, self._since = state, None

    def _take(self, event: Event | Turn) -> None:
        if isinstance(event, Turn):
            self._lanes.setdefault(event.run, Progress()).take(event.event)
        else:
            self._progress.take(event)

    def _least_step(self) -> int:
        """How far the run is; of several, the hindmost that has not ended."""
        lanes = [lane.step for lane in self._lanes.values() if not lane.ended]
        return min(lanes, default=self._progress.step)

    def _hold_if_asked(self) -> None:
        with self._lock:
            if self._hold_at is not None and self._least_step() >= self._hold_at:
                self._hold_at = None
                self.pause()


_LIVE: weakref.WeakSet[LiveRun] = weakref.WeakSet()


def stop_all() -> None:
    """Stop every run of this process. A cell that is run again leaves a widget behind, which must not train unseen."""
    for run in list(_LIVE):
        run.stop()


def anything_trained() -> bool:
    """Is a run of this process under way (or paused)? What is measured or tried beside it would be wrong."""
    return any(run.active for run in list(_LIVE))


@atexit.register
def _end_all() -> None:
    """A daemon thread inside torch while the interpreter is taken apart can crash it: let every run end its step."""
    runs = list(_LIVE)
    for run in runs:
        run.leave()
    for thread in [run._thread for run in runs]:
        if thread is not None:
            thread.join(5.0)


__all__ = ["Events", "LiveRun", "Snapshot", "anything_trained", "stop_all"]

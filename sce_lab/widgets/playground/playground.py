"""The playground: move a setting and see what it costs, press Start and see what it gives."""

from __future__ import annotations

import html
import threading
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import traitlets
from IPython.display import display

from sce_lab.widgets.kit.live import anything_trained, stop_all
from sce_lab.widgets.kit.progress import Snapshot
from sce_lab.widgets.playground.assessment import Assessment
from sce_lab.widgets.playground.dials import Dials, Undo
from sce_lab.widgets.playground.forecast import Forecast
from sce_lab.widgets.playground.hidden import checked, line, taken_apart
from sce_lab.widgets.playground.kept import keep, kept
from sce_lab.widgets.playground.records import RunRecord
from sce_lab.widgets.playground.session import Session
from sce_lab.widgets.playground.settings import Settings, read_line, usual_here
from sce_lab.widgets.playground.status import data_title, interrupted, sentence
from sce_lab.widgets.playground.view import View


class Playground:
    """Controls, prediction, live training and a comparison of all runs, those of earlier kernels too.

    Display it as the last line of a cell. Everything on it can be done from Python too: ``controls[name].value = ...``,
    :meth:`apply`, :meth:`start`, :meth:`step`, :meth:`pause`, :meth:`stop`, :meth:`reset`, :meth:`undo`, :meth:`wait`,
    :meth:`results`. A new one stops what an older one trains.

    It only ties together: :class:`~.dials.Dials` are what the controls say, :class:`~.forecast.Forecast` what that
    comes to, :class:`~.session.Session` the runs, :class:`~.view.View` what is seen of it all.

    Args:
        state: first values of the controls, as a line that the playground showed (:attr:`state`) or as a dict.
        hide: controls that are not shown, by the names of their settings or of their cards (``"model"``); ``state``
            may say so, too.
        settings: first values too, by name, see :class:`~sce_lab.widgets.playground.settings.Settings`; ``state`` goes
            before them. Without either, a page begins with what the last one was left with.

    Attributes:
        hidden: what is not shown.

    Raises:
        TypeError: a setting that does not exist.
        ValueError: a state that cannot be read.
        traitlets.TraitError: a value that its control cannot have.
    """

    def __init__(self, state: str | Mapping[str, Any] = "", *, hide: str | Iterable[str] = (), **settings: Any) -> None:
        state, hidden = taken_apart(state)
        self.hidden = checked(hide) if hidden is None else hidden
        asked = read_line(state or {}, Settings(**(usual_here() | settings)))
        left = None if state or settings else kept()
        stop_all()
        # The card says so beside the slider, for the next run too; a warning would land in whatever cell ran last.
        warnings.filterwarnings("ignore", "bucket_size_.*each bucket takes all", RuntimeWarning)
        self._lock = threading.RLock()  # who shows something, shows what is so then
        self._message = ""
        self._table_is_old, self._table_due = False, -np.inf  # with many runs it takes a while to draw
        self._status_due = -np.inf
        self._undo = Undo()
        try:
            self._dials = Dials(left or asked, self._undo, self._moved)
        except traitlets.TraitError:  # the controls of another version had other values
            if left is None:
                raise
            left, self._dials = None, Dials(asked, self._undo, self._moved)
        first = self._kept = left or asked
        self._ended_with = first  # what the controls said when a run ended: how it ended stands there until they move
        self.session = Session(self._undo, lambda: self._forecast.settled, self._show_run, self._runs_changed)
        self._forecast = Forecast(
            first,
            training=anything_trained,
            neighbours=self._dials.neighbours,
            reading=lambda settings: self._show_status(f"Reading {html.escape(data_title(settings))} ..."),
            show=self._show_assessment,
        )
        actions = ("start", "pause", "resume", "step", "stop", "reset", "undo")
        self.view = View(
            self, self.controls, {name: getattr(self, name) for name in actions}, lambda: self._forecast.free
        )
        self.view.sweep.when_ended(self._forecast.time)
        self.view.compare.say(self.session.passed_over)
        self._show_runs()
        self._show_assessment()
        self._show_controls()
        self._forecast.time()
        if left is not None and left != Settings():
            self._undo.remember(lambda: self._dials.set(Settings(), again=True))
            self.view.share.say("These are the settings that were left here last. Undo goes back to the first ones.")
        self._say(interrupted(self.runs))

    # ---------------------------------------------------------------------------------------------------- what is there

    @property
    def controls(self) -> dict[str, Any]:
        """The controls, by the names of their settings."""
        return self._dials.controls

    @property
    def settings(self) -> Settings:
        """What the controls say now."""
        return self._dials.settings

    @property
    def state(self) -> str:
        """:attr:`settings` and what is hidden as one line, for :meth:`apply` or ``Playground(state)``."""
        return line(self.settings, self.hidden)

    @property
    def assessment(self) -> Assessment:
        """What the settings come to, as far as that is worked out: see :meth:`wait`."""
        return self._forecast.assessment

    @property
    def runs(self) -> list[RunRecord]:
        """All runs on the page."""
        return self.session.runs

    @property
    def active(self) -> bool:
        """Is something being trained (or paused)?"""
        return self.session.active

    def results(self) -> dict[str, Any]:
        """Settings, prediction and runs as plain data that can be written as JSON."""
        self._forecast.settle()
        memory = self.assessment.memory
        predicted = {} if memory.empty else memory.set_index("loss").astype(int).to_dict("index")
        return {
            "settings": {**asdict(self.settings), "losses": list(self.settings.losses)},
            "predicted_memory": predicted,
            "scores": dict(self.assessment.scores),
            "expected": {loss: asdict(each) for loss, each in self.assessment.durations.items()},
            "problem": self.assessment.problem,
            "left_out": self.assessment.left_out,
            "notes": {card: note.text for card, note in self.assessment.notes.items()},
            "free_memory": self._forecast.free,
            "state": self.session.live.state,
            "solved": sorted(self.view.challenges.solved),
            "guesses": self.view.guesses.as_list(),
            "runs": [record.as_dict() for record in self.runs],
        }

    # ---------------------------------------------------------------------------------------------------- what to do

    def apply(self, state: str | Mapping[str, Any] | Settings) -> None:
        """Set the controls, all or none, to a line, to a dict (what it does not name stays) or to settings.

        A state that says what to ``hide`` is obeyed in that, too.

        Raises:
            ValueError: it cannot be read; traitlets.TraitError: a value that its control cannot have.
        """
        hidden = None
        if not isinstance(state, Settings):
            state, hidden = taken_apart(state)
            state = read_line(state, self.settings)
        before, self.hidden = self.hidden, self.hidden if hidden is None else hidden
        self.view.deck.hide(self.hidden)
        try:
            self._dials.set(state)
        except traitlets.TraitError:
            self.hidden = before
            self.view.deck.hide(before)
            raise
        self._show_status()

    def undo(self) -> None:
        """Take back the last change of settings, or bring back what was removed last."""
        self._undo.last()
        self._show_status()

    def start(self, *, steps: int | None = None) -> bool:
        """Train with the present settings. False, with a sentence beside the button, if that cannot be.

        Args:
            steps: pause after so many.
        """
        if self.view.sweep.active:
            self._say("A sweep is being trained below. Stop it there first; what it has is kept.")
            return False
        try:
            self._forecast.settle(timeout=10.0)
        except TimeoutError:
            self._say("The data are still being read. Press Start again in a moment.")
            return False
        message = self.session.start(self._assess_for_start, steps=steps)
        if message is None:
            return False
        self._show_controls()
        self._say(message)
        return True

    def step(self) -> None:
        """Do one step of each loss and hold; without a run, start one."""
        if self.active:
            self.session.live.step()
            self._show_status()
        else:
            self.start(steps=1)

    def pause(self) -> None:
        """Hold the run after the present step."""
        self.session.live.pause()
        self._show_status()

    def resume(self) -> None:
        """Go on."""
        self.session.live.resume()
        self._show_status()

    def stop(self) -> None:
        """End the run after the present step; what it reached is kept."""
        self.session.live.stop()
        self._show_status()
        self.view.tour.look()

    def reset(self) -> None:
        """Stop, and clear away all runs. Settings and the runs' folders stay; :meth:`undo` brings the runs back."""
        try:
            self.session.reset(timeout=5.0)
        except TimeoutError:
            self._say("Stopping after this step. Press Reset again then.")
            return
        self._forecast.before = None
        self._say("")

    def remove(self, numbers: Iterable[int]) -> None:
        """Clear away runs that have ended; their folders stay."""
        self.session.remove(numbers)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the prediction is up to date and the run, if there is one, has ended.

        Raises:
            TimeoutError: that takes longer than ``timeout`` seconds.
            Exception: what the run failed with.
        """
        self._forecast.settle(60.0 if timeout is None else timeout)
        self.session.live.wait(timeout)
        self._forecast.settle()
        self.view.guesses.settle()

    def _ipython_display_(self) -> None:
        display(self.view.static.bundle(self.view.all), raw=True)
        self.view.static.display()

    # --------------------------------------------------------------------------------------- what follows from what

    def _assess_for_start(self) -> Assessment:
        self._message = ""
        return self._forecast.at_start(self.settings)

    def _moved(self, begins: bool) -> None:
        """The controls say something else."""
        if begins:
            self._forecast.begin()
        with self._lock:
            self._message = ""
        self._show_controls()
        self._forecast.submit(self.settings)

    def _show_assessment(self) -> None:
        self._dials.follow(self.assessment.settings)
        columns = self.assessment.columns
        if self._dials.offer(columns.names, columns.found):
            self._show_controls()
        self._show_memory()
        self.view.show_assessment(self.assessment, self._forecast.free, self.runs)
        self._show_status()
        if (settings := self.settings) != self._kept:
            self._kept = settings
            keep(settings)

    def _show_memory(self) -> None:
        with self._lock:
            forecast = self._forecast
            measured = self.session.measured(forecast.assessment.settings)
            self.view.show_memory(forecast.assessment, forecast.free, forecast.before, measured)

    def _show_controls(self) -> None:
        with self._lock:
            settings = self.settings
            self.view.show_controls(settings, self.session.for_the_next_start(settings))

    def _show_run(self, whole: Snapshot, news: bool) -> None:
        """Runs in the worker, about five times a second."""
        self.view.charts.show(self.runs, active=self.active, news=news)
        self._table_is_old |= news
        began = time.monotonic()
        if self._table_is_old and (began > self._table_due or not whole.active):
            self.view.show_table(self.runs, self.assessment)
            self._table_is_old = False
            self._table_due = began + max(3.0, 100 * (time.monotonic() - began))
        if not whole.active:
            self._ended_with = self.settings
        if news:
            self._show_memory()
        if news or began > self._status_due:
            self._show_status()
            self._status_due = began + 0.5
        if not whole.active:
            self._show_controls()
            self.view.static.show(self.assessment, self.runs)
            self.view.guesses.look()
            self._forecast.time()

    def _show_runs(self) -> None:
        """All that shows runs, after some came or went."""
        self.view.charts.show(self.runs, active=self.active)
        self.view.show_table(self.runs, self.assessment)
        self._show_status()
        self.view.static.show(self.assessment, self.runs)

    def _runs_changed(self) -> None:
        self._show_runs()
        self._forecast.submit(self.settings)

    def _say(self, message: str) -> None:
        with self._lock:
            self._message = message
        self._show_status()

    def _show_status(self, busy: str = "") -> None:
        with self._lock:
            live, settings = self.session.live, self.settings
            later = bool(self.session.for_the_next_start(settings))
            self.view.transport.show(
                live.state,
                active=live.active,
                can_start=not self.assessment.problem,
                has_runs=bool(self.runs),
                can_undo=bool(self._undo),
            )
            group = self.session.group if live.active or self._ended_with.asked == settings.asked else []
            said = sentence(self.assessment, group, live.state, later=later, busy=busy, message=self._message)
            self.view.transport.say(*said)

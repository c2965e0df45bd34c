"""A sweep run from the page: a button, a bar that fills, figures that grow, and nothing lost when the kernel dies."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ipywidgets as widgets

from sce_lab.data import open_split
from sce_lab.figures import Spec
from sce_lab.memory import format_seconds
from sce_lab.sweeps import DONE, Sweep, Trial
from sce_lab.timing import Duration, predict_time, time_left, too_long
from sce_lab.training import Evaluated, Started, StepDone
from sce_lab.widgets.kit.cores import one_core_left
from sce_lab.widgets.kit.guess import Guess
from sce_lab.widgets.kit.latest import Latest
from sce_lab.widgets.kit.live import LiveRun, anything_trained, stop_all
from sce_lab.widgets.kit.progress import Snapshot
from sce_lab.widgets.kit.speech import Status
from sce_lab.widgets.kit.stage import Canvas, stage, text
from sce_lab.widgets.kit.turns import Turn
from sce_lab.widgets.kit.words import capitalised, counted


class SweepBoard:
    """Start and Stop, how far it is, and figures of what is known so far. What was trained before is there at once.

    Args:
        sweep: what is trained.
        figures: each makes a figure of the sweep as it stands.
        guess: a question about the outcome. Until there is a guess nothing is shown or trained; when all is done the
            answer is asked for again.
        key: HTML below the figures.
        busy: a sentence that says why nothing can be trained now; empty if something can. Without it, what else is
            trained in this process is stopped.
    """

    def __init__(
        self,
        sweep: Sweep,
        figures: Sequence[Callable[[Sweep], Spec]],
        *,
        guess: Guess | None = None,
        key: str = "",
        busy: Callable[[], str] | None = None,
    ) -> None:
        if busy is None:
            stop_all()
        self._busy = busy or (lambda: "")
        self.sweep, self.live = sweep, LiveRun()
        self._figures, self._guess = figures, guess
        self._nothing = Sweep(sweep.trials, sweep.root / "nothing")
        self._ended_before: list[Callable[[], None]] = []
        self._here, self._length, self._began = 0.0, 1, 0.0
        self._now: Trial | None = None  # what is trained
        self._asked: list[Trial] = []  # what was left when Start was pressed
        self._expected: dict[str, Duration] = {}  # by the names of trials; of those that were tried
        self._trying = False
        self._latest: Latest[Sweep] = Latest(self._find)
        self._stale = False
        self._canvases = [Canvas(make(self._visible)) for make in figures]
        self._status, self._bar = Status(), text("")
        self.buttons = {
            "start": widgets.Button(description="Start", icon="play", tooltip="Train what is not there yet"),
            "stop": widgets.Button(description="Stop", icon="stop", tooltip="End after the present step; go on later"),
        }
        self.buttons["start"].add_class("sce-primary")
        self.buttons["start"].on_click(lambda _: self.start())
        self.buttons["stop"].on_click(lambda _: self.live.stop())
        row = widgets.HBox([*self.buttons.values(), *self._status.widgets])
        row.add_class("sce-bar")
        self.view = stage(row, self._bar, *(canvas.widget for canvas in self._canvases), text(key))
        if guess is not None:
            guess.card.observe(lambda _: self._refresh(), "committed")
        self._show_state(self.live.snapshot())

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    @property
    def progress(self) -> float:
        """Share of the trainings, from 0 to 1."""
        done = len(self.sweep.trials) - len(self.sweep.left)
        return min((done + (self._here if self.live.active else 0.0)) / len(self.sweep.trials), 1.0)

    def start(self) -> bool:
        """Train what is left. False if that is going on, nothing is left, or the guess is missing."""
        if self.live.active or not self.sweep.left or not self._may_look:
            return False
        if why := self._busy():
            self._status.say(html.escape(why))
            return False
        self._here, self._began, self._now, self._asked = 0.0, time.monotonic(), None, self.sweep.left
        self.live.start(self._events, self._show)
        self._show_state(self.live.snapshot())
        return True

    def time(self) -> None:
        """Find out how long all that is left will take, in the background. Beside a training nothing is tried."""
        self._trying = self.seconds is None
        self._show_state(self.live.snapshot())
        self._latest.submit(self.sweep)

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until it is known how long it will take.

        Raises:
            TimeoutError: that takes longer than ``timeout`` seconds.
        """
        self._latest.settle(timeout)

    @property
    def seconds(self) -> float | None:
        """How long all that is left will take; None as long as not all of it was tried."""
        found = [self._expected.get(trial.name) for trial in self.sweep.left]
        return None if None in found else sum(each.seconds for each in found)

    def take(self, sweep: Sweep) -> bool:
        """Show and train another sweep from now on. False if one is being trained, or it is the same."""
        if self.live.active or [t.name for t in sweep.trials] == [t.name for t in self.sweep.trials]:
            return False
        self.sweep, self._nothing = sweep, Sweep(sweep.trials, sweep.root / "nothing")
        self.live.reset()
        self._refresh()
        return True

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end; see :meth:`sce_lab.widgets.LiveRun.wait`."""
        self.live.wait(timeout)

    def when_ended(self, do: Callable[[], None]) -> None:
        """Call ``do`` in the worker whenever training has ended, however it did."""
        self._ended_before.append(do)

    def results(self) -> dict[str, Any]:
        """How far it is, and the table, as plain data."""
        table = self.sweep.table()
        left, seconds = len(self.sweep.left), self.seconds
        return {"state": self.live.state, "left": left, "seconds": seconds, "rows": _plain(table)}

    def _find(self, sweep: Sweep) -> None:
        try:
            with one_core_left():
                self._try(sweep)
        finally:
            if self.sweep is sweep:
                self._trying = False
                self._show_state(self.live.snapshot())

    def _try(self, sweep: Sweep) -> None:
        source, split = None, None
        for trial in sweep.left:
            if anything_trained() or self.sweep is not sweep:
                return
            if trial.name in self._expected:
                continue
            if split is None or trial.source != source:
                source, split = trial.source, open_split(**trial.source, progress=False)[0]
            self._expected[trial.name] = predict_time(trial.config, split)

    # ---------------------------------------------------------------------------------------------- in the worker

    def _events(self, stop: Callable[[], bool]) -> Iterable[Turn]:
        for trial, event in self.sweep.events(stop):
            self._now = trial
            if isinstance(event, Started):
                self._length = event.n_steps_per_epoch * trial.config.max_epochs
            elif isinstance(event, StepDone):
                self._here = event.step / self._length
            elif isinstance(event, Evaluated):
                self._stale = True
            yield Turn(trial.name, event)
            if self.sweep.state(trial) == DONE:
                self._here = 0.0

    def _show(self, shot: Snapshot) -> None:
        if self._stale or not shot.active:
            self._stale = False
            self._refresh()
        self._show_state(shot)
        if not shot.active:
            for do in self._ended_before:
                do()

    def _refresh(self) -> None:
        for make, canvas in zip(self._figures, self._canvases):
            canvas.show(make(self._visible))
        self._show_state(self.live.snapshot())
        if self._guess is not None and not self.sweep.left:
            self._guess.look()

    @property
    def _may_look(self) -> bool:
        return self._guess is None or self._guess.committed

    @property
    def _visible(self) -> Sweep:
        return self.sweep if self._may_look else self._nothing

    def _show_state(self, shot: Snapshot) -> None:
        share, left = self.progress, len(self.sweep.left)
        self.buttons["start"].disabled = shot.active or not left or not self._may_look
        self.buttons["stop"].disabled = not shot.active
        self.buttons["start"].description = "Go on" if share and left else "Start"
        shown = share if self._may_look else 0.0
        self._bar.value = f'<div class="sce-progress"><div style="width: {100 * shown:.1f}%"></div></div>'
        self._status.say(self._sentence(shot, share, left), aloud=not shot.active)

    def _sentence(self, shot: Snapshot, share: float, left: int) -> str:
        trainings = counted(len(self.sweep.trials), "training")
        if shot.error is not None:
            return f"<b>It could not be trained.</b> {html.escape(str(shot.error))}"
        if not self._may_look:
            return f"{trainings}. Commit to your guess above first."
        if shot.active:
            rest = time_left(time.monotonic() - self._began, self._made())
            rest = f"; about {format_seconds(rest)} left" if rest else ""
            done = len(self.sweep.trials) - left
            return f"<b>{done} of {trainings}</b> done{rest}"
        if not left:
            return f"<b>All {trainings} done.</b> They are kept in <code>{html.escape(str(self.sweep.root))}</code>."
        done = len(self.sweep.trials) - left
        there = f" {done} of them are there already: they are kept on the disk." if done else ""
        return f"{trainings}, in the background: read on meanwhile.{there}{self._words()}"

    def _made(self) -> float:
        """Share of what Start has begun: of its expected seconds if all were tried, else of its trainings."""
        known = all(trial.name in self._expected for trial in self._asked)
        whole = made = 0.0
        for trial in self._asked:
            seconds = self._expected[trial.name].seconds if known else 1.0
            whole += seconds
            done = self.sweep.state(trial) == DONE
            made += seconds * (1.0 if done else self._here if trial is self._now else 0.0)
        return made / whole if whole else 0.0

    def _words(self) -> str:
        """How long what is left will take, as HTML; nothing as long as that is not known."""
        if not (seconds := self.seconds):
            return " How long they take is being tried." if self._trying and self.sweep.left else ""
        most = max(trial.config.max_epochs for trial in self.sweep.left)
        measured = all(self._expected[trial.name].measured for trial in self.sweep.left)
        long = too_long(seconds, most)
        warned = f' <span class="sce-warning">⚠ {capitalised(long)}.</span>' if long else ""
        return f" Expected: {'' if measured else 'at least '}{format_seconds(seconds)} in all.{warned}"


def _plain(table: Any) -> list[dict[str, Any]]:
    """Rows without what is not known, which JSON cannot say."""
    return [{k: v for k, v in row.items() if v is not None and v == v} for row in table.to_dict("records")]

"""The playground: move a setting and see what it costs, press Start and see what it gives."""

from __future__ import annotations

import html
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
import traitlets
from IPython.display import display

from sce_lab.figures import LOOKS, label, memory_spec
from sce_lab.memory import format_bytes, free_memory
from sce_lab.training import Event
from sce_lab.widgets.kit.latest import Latest
from sce_lab.widgets.kit.legend import LOSS_KEY, MEMORY_KEY, swatch
from sce_lab.widgets.kit.live import LiveRun, stop_all
from sce_lab.widgets.kit.progress import IDLE, RUNNING, Snapshot
from sce_lab.widgets.kit.slider import StepSlider
from sce_lab.widgets.kit.stage import Canvas, stage, text
from sce_lab.widgets.kit.turns import take_turns
from sce_lab.widgets.playground.assessment import Assessment, assess, open_data
from sce_lab.widgets.playground.challenges import Challenges
from sce_lab.widgets.playground.charts import Charts
from sce_lab.widgets.playground.compare import Compare
from sce_lab.widgets.playground.controls import CONTROLS, make_controls
from sce_lab.widgets.playground.deck import Deck, Transport
from sce_lab.widgets.playground.guesses import Guesses
from sce_lab.widgets.playground.numbers import fits_line, numbers
from sce_lab.widgets.playground.records import RunRecord, restore
from sce_lab.widgets.playground.settings import LIVE, Settings, read_line
from sce_lab.widgets.playground.share import Share
from sce_lab.widgets.playground.snapshot import StaticView
from sce_lab.widgets.playground.status import data_title, progress
from sce_lab.widgets.playground.tour import Tour

#: Changes of one control that follow each other faster than this (seconds) are one gesture, with one "before".
GESTURE = 1.5
#: A setting that has been left alone for this long (seconds) is taken over by a run that is under way.
SETTLED = 0.3


class Playground:
    """Controls, prediction, live training and a comparison of all runs, those of earlier kernels too.

    Display it as the last line of a cell. Everything on it can be done from Python too: ``controls[name].value = ...``,
    :meth:`apply`, :meth:`start`, :meth:`step`, :meth:`pause`, :meth:`stop`, :meth:`reset`, :meth:`undo`, :meth:`wait`,
    :meth:`results`. A new one stops what an older one trains.

    Args:
        state: first values of the controls, as a line that the playground showed (:attr:`state`) or as a dict.
        settings: first values too, by name, see :class:`~sce_lab.widgets.playground.settings.Settings`; ``state`` goes
            before them.

    Raises:
        TypeError: a setting that does not exist.
        ValueError: a state that cannot be read.
        traitlets.TraitError: a value that its control cannot have.
    """

    def __init__(self, state: str | Mapping[str, Any] = "", **settings: Any) -> None:
        first = read_line(state, Settings(**settings))
        stop_all()
        # The card says so beside the slider, for the next run too; a warning would land in whatever cell ran last.
        warnings.filterwarnings("ignore", "bucket_size_.*each bucket takes all", RuntimeWarning)
        self.controls = make_controls(asdict(first))
        self.runs: list[RunRecord] = restore()
        self._group: list[RunRecord] = []  # what the last Start trains
        self._ended_with = first  # what the controls said when that ended: how it ended stands there until they move
        self._lock = threading.RLock()
        self._measured: dict[tuple[Any, ...], int] = {}
        self._gesture: tuple[str, float] = ("", -np.inf)
        self._before: pd.DataFrame | None = None
        self._last, self._applying = first, False
        self._undo: deque[Callable[[], None]] = deque(maxlen=100)
        self._steady: tuple[float, Settings | None] = (np.inf, None)
        self._message = ""
        self._table_is_old, self._table_due = False, -np.inf  # with many runs it takes a while to draw
        self._status_due = -np.inf
        self._free = free_memory()
        self._live = LiveRun(period=0.17, max_points=150)  # at least four times a second, a step or two included
        self._starting = threading.Lock()
        self._predictor: Latest[Settings] = Latest(self._predict, self._look_ahead)
        self.assessment = assess(first, self._free)
        self._build()
        self._show_assessment(self.assessment)
        self._show_controls()
        for name, control in self.controls.items():
            control.observe(lambda change, name=name: self._changed(name), "value")

    # ---------------------------------------------------------------------------------------------------- what to do

    @property
    def settings(self) -> Settings:
        """What the controls say now."""
        return Settings(**{name: control.value for name, control in self.controls.items()})

    @property
    def state(self) -> str:
        """:attr:`settings` as one line, for :meth:`apply` or ``Playground(state)``."""
        return self.settings.line()

    def apply(self, state: str | Mapping[str, Any] | Settings) -> None:
        """Set the controls, all or none, to a line, to a dict (what it does not name stays) or to settings.

        Raises:
            ValueError: it cannot be read; traitlets.TraitError: a value that its control cannot have.
        """
        before = self.settings
        self._set(state if isinstance(state, Settings) else read_line(state, before))
        self._undo.append(lambda: self._set(before))
        self._show_status()

    def undo(self) -> None:
        """Take back the last change of settings, or bring back what was removed last."""
        if self._undo:
            self._undo.pop()()
        self._show_status()

    def start(self, *, steps: int | None = None) -> bool:
        """Train with the present settings. False, with a sentence beside the button, if that cannot be.

        Args:
            steps: pause after so many.
        """
        try:
            self._predictor.settle(timeout=10.0)
        except TimeoutError:
            return self._say("The data are still being read. Press Start again in a moment.")
        if not self._starting.acquire(blocking=False):
            return False  # a second click on Start
        try:
            if self._live.active:
                return False
            self._free = free_memory()
            assessment = assess(self.settings, self._free)
            if assessment.problem:
                self._show_assessment(assessment)
                return self._say("")
            self._message = assessment.left_out
            group = self._new_records(assessment)
            with self._lock:
                self.runs.extend(group)
                self._group = group
                self._steady = (np.inf, None)
            self._live.start(
                lambda stop: take_turns({str(record.number): self._events(record, stop) for record in group}),
                self._show_run,
                steps=steps,
            )
        finally:
            self._starting.release()
        self._show_controls()
        self._show_status()
        return True

    def step(self) -> None:
        """Do one step of each loss and hold; without a run, start one."""
        if self._live.active:
            self._live.step()
            self._show_status()
        else:
            self.start(steps=1)

    def pause(self) -> None:
        """Hold the run after the present step."""
        self._live.pause()
        self._show_status()

    def resume(self) -> None:
        """Go on."""
        self._live.resume()
        self._show_status()

    def stop(self) -> None:
        """End the run after the present step; what it reached is kept."""
        self._live.stop()
        self._show_status()
        self.tour.look()

    def reset(self) -> None:
        """Stop, and clear away all runs. Settings and the runs' folders stay; :meth:`undo` brings the runs back."""
        try:
            self._live.reset(timeout=5.0)
        except TimeoutError:
            self._say("Stopping after this step. Press Reset again then.")
            return
        with self._lock:
            self._group = []
            self._before, self._message = None, ""
        self.remove([record.number for record in self.runs])

    def remove(self, numbers: Iterable[int]) -> None:
        """Clear away runs that have ended; their folders stay."""
        numbers = set(numbers)
        with self._lock:
            gone = [r for r in self.runs if r.number in numbers and not (r in self._group and self._live.active)]
            if not gone:
                return
            self.runs = [record for record in self.runs if record not in gone]
            self._measured.clear()
            self._undo.append(lambda: self._bring_back(gone))
        for record in gone:
            record.keep(shown=False)
        self._show_runs()
        self._predictor.submit(self.settings)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the prediction is up to date and the run, if there is one, has ended.

        Raises:
            TimeoutError: that takes longer than ``timeout`` seconds.
            Exception: what the run failed with.
        """
        self._predictor.settle(60.0 if timeout is None else timeout)
        self._live.wait(timeout)
        self._predictor.settle()
        self.guesses.settle()

    @property
    def active(self) -> bool:
        """Is something being trained (or paused)?"""
        return self._live.active

    def results(self) -> dict[str, Any]:
        """Settings, prediction and runs as plain data that can be written as JSON."""
        self._predictor.settle()
        memory = self.assessment.memory
        predicted = {} if memory.empty else memory.set_index("loss").astype(int).to_dict("index")
        return {
            "settings": {**asdict(self.settings), "losses": list(self.settings.losses)},
            "predicted_memory": predicted,
            "scores": dict(self.assessment.scores),
            "problem": self.assessment.problem,
            "left_out": self.assessment.left_out,
            "notes": {card: note.text for card, note in self.assessment.notes.items()},
            "free_memory": self._free,
            "state": self._live.state,
            "solved": sorted(self.challenges.solved),
            "guesses": self.guesses.as_list(),
            "runs": [record.as_dict() for record in self.runs],
        }

    def _ipython_display_(self) -> None:
        display(self._static.bundle(self.view), raw=True)
        self._static.display()

    # ----------------------------------------------------------------------------------------------------- the pieces

    def _build(self) -> None:
        names = ("start", "pause", "resume", "step", "stop", "reset", "undo")
        self._transport = Transport({name: getattr(self, name) for name in names})
        self._deck = Deck(self.controls)
        self.buttons = self._transport.buttons
        memory = self.assessment.memory
        self._memory = Canvas(memory_spec(_no_memory() if memory.empty else memory, free=self._free))
        self._fits = text("")
        self.charts = Charts()
        self.compare = Compare(self.remove)
        self.challenges = Challenges()
        self.guesses = Guesses(lambda: self.settings, lambda: self._free, lambda: self.runs)
        self._numbers = text("")
        self._static = StaticView()
        panels = {
            "Runs": self.compare.view,
            "Challenges": self.challenges.view,
            "Guess first": self.guesses.view,
            "Numbers": self._numbers,
        }
        self.tabs = widgets.Tab(list(panels.values()), titles=tuple(panels), selected_index=0)
        self.tabs.add_class("sce-tabs")
        targets = {**self._deck.boxes, **self.buttons, "tabs": self.tabs}
        self.tour = Tour(self, targets)
        self.share = Share(self.apply, lambda: self._free, self.tour.begin)
        self.tabs.observe(lambda _: self.tour.look(), "selected_index")
        self.compare.table.observe(lambda _: self.tour.look(), "selected")
        self._show_runs()
        self.view = stage(
            self.share.view,
            self._transport.view,
            self.tour.view,
            self._deck.view,
            self._memory.widget,
            text(MEMORY_KEY),
            self._fits,
            self.charts.training.widget,
            text(LOSS_KEY),
            self.charts.insight.widget,
            self.tabs,
        )

    # ---------------------------------------------------------------------------------------------- settings changed

    def _changed(self, name: str) -> None:
        """A control moved: in whichever thread the kernel runs callbacks, so nothing slow happens here."""
        if self._applying:
            return
        now = time.monotonic()
        with self._lock:
            last, when = self._gesture
            if name != last or now - when > GESTURE:
                memory = self.assessment.memory
                self._before = None if memory.empty else memory
                before = self._last
                self._undo.append(lambda: self._set(before))
            self._gesture = name, now
            self._last = self.settings
            self._message = ""
        self._show_controls()
        self._predictor.submit(self.settings)

    def _set(self, settings: Settings) -> None:
        """Set all controls, or none of them if one refuses."""
        with self._lock:
            before = self.settings
            self._applying = True
            try:
                for name, control in self.controls.items():
                    control.value = getattr(settings, name)
            except traitlets.TraitError:
                for name, control in self.controls.items():
                    control.value = getattr(before, name)
                raise
            finally:
                self._applying = False
            memory = self.assessment.memory
            self._before = None if memory.empty else memory
            self._gesture, self._last, self._message = ("", -np.inf), self.settings, ""
        self._show_controls()
        self._predictor.submit(self.settings)

    def _predict(self, settings: Settings) -> None:
        # A run takes memory that its successor will have again; and a line that trembles says nothing.
        if not self._live.active and abs((free := free_memory()) - self._free) > 0.01 * self._free:
            self._free = free
        if settings.dataset != "synthetic" and self.assessment.settings.source != settings.source:
            self._show_status(f"Reading {html.escape(data_title(settings))} ...")
        try:
            self._show_assessment(assess(settings, self._free))
        except Exception as error:
            self._say(f"The prediction failed: {error}")
            raise

    def _look_ahead(self, settings: Settings) -> Iterator[None]:
        """Predict at the neighbouring steps of the slider that moved last: predictions are remembered."""
        name, _ = self._gesture
        control = self.controls.get(name)
        for value in control.near(2) if isinstance(control, StepSlider) else ():
            if not self._live.active:
                assess(replace(settings, **{name: value}), self._free)
                yield

    def _show_assessment(self, assessment: Assessment) -> None:
        self.assessment = assessment
        self._follow_the_paper(assessment.settings)
        self._steady = (np.inf, None) if assessment.problem else (time.monotonic(), assessment.settings)
        if not assessment.memory.empty:
            settings = assessment.settings
            known = {loss: self._measured[key] for loss in LOOKS if (key := _key(settings, loss)) in self._measured}
            before = self._before
            if before is not None and before.equals(assessment.memory):
                before = None
            self._memory.show(memory_spec(assessment.memory, before=before, measured=known, free=self._free))
        self._deck.show_notes(assessment.notes)
        self._fits.value = fits_line(assessment, self._free)
        self._numbers.value = numbers(assessment, self.runs)
        self.challenges.check(self.runs, assessment)
        self.guesses.ask()
        self._show_status()

    def _follow_the_paper(self, assessed: Settings) -> None:
        """With the lock on, the sliders go where the paper's rule puts them."""
        if not assessed.paper_rule or not self.controls["paper_rule"].value:
            return
        with self._lock:
            self._applying = True
            try:
                for name in ("n_buckets", "bucket_size_x"):
                    self.controls[name].value = getattr(assessed, name)
            finally:
                self._applying = False
            self._last = self.settings

    def _show_controls(self) -> None:
        settings = self.settings
        self._deck.show_controls(settings, self._for_the_next_start(settings))
        self.share.show(settings.line())
        self.tour.look()

    def _for_the_next_start(self, settings: Settings) -> set[str]:
        """Names of controls that the run under way does not listen to, and that were moved since it began."""
        if not self._live.active or not self._group:
            return set()
        trained = self._group[0].settings
        live = {name for record in self._group for name in LIVE.get(record.loss, ())} | {"paper_rule"}
        return {name for name in CONTROLS if name not in live and getattr(trained, name) != getattr(settings, name)}

    # ------------------------------------------------------------------------------------------------------ training

    def _new_records(self, assessment: Assessment) -> list[RunRecord]:
        uses = assessment.memory.set_index("loss")
        first = max((record.number for record in self.runs), default=0) + 1
        made = []
        for number, loss in enumerate(assessment.fitting, start=first):
            predicted = {name: int(value) for name, value in uses.loc[loss].items()}
            catalog_size = assessment.facts.catalog_size if assessment.facts else None
            made.append(RunRecord(number, assessment.settings, loss, predicted, catalog_size))
            try:
                made[-1].make_folder()
            except OSError as error:
                self._message = f"This run cannot be kept: {error}. It trains all the same."
        return made

    def _events(self, record: RunRecord, stop: Callable[[], bool]) -> Iterable[Event]:
        """Runs in the worker: open the data, find the ceiling, train."""
        split, process = open_data(*record.settings.source)
        if process is not None:
            known = next((r.ceiling for r in self._group if r.ceiling), None)
            record.ceiling = known or process.ceiling(split.validation)
        yield from record.events(split, stop, self._wanted)

    def _wanted(self, record: RunRecord) -> dict[str, Any]:
        """Runs in the worker: which settings of the run's loss were moved and then left alone."""
        since, settings = self._steady
        if settings is None or time.monotonic() - since < SETTLED:
            return {}
        if settings.paper_rule and settings.batch_size != record.settings.batch_size:
            return {}  # the rule follows a batch that this run does not have
        return {
            name: value
            for name in LIVE.get(record.loss, ())
            if (value := getattr(settings, name)) != record.live.get(name)
        }

    def _show_run(self, whole: Snapshot) -> None:
        """Runs in the worker, about five times a second."""
        group, news = self._group, False
        for record in group:
            last = record.snapshot
            shot = whole.lanes.get(str(record.number)) or Snapshot(state=whole.state, error=whole.error)
            record.snapshot = shot
            if shot.memory is not None and shot.memory is not last.memory and not shot.changes:
                self._measured[_key(record.settings, record.loss)] = shot.memory.peak
                self._predictor.submit(self.settings)
            news |= (shot.state, shot.memory, shot.metrics) != (last.state, last.memory, last.metrics)
            news |= len(shot.changes) != len(last.changes)
        news |= whole.state != RUNNING
        self.charts.show(self.runs, active=self._live.active, news=news)
        self._table_is_old |= news
        began = time.monotonic()
        if self._table_is_old and (began > self._table_due or not whole.active):
            self._show_table()
            self._table_is_old = False
            self._table_due = began + max(3.0, 100 * (time.monotonic() - began))
        if not whole.active:
            self._ended_with = self.settings
        if news or began > self._status_due:
            self._show_status()
            self._status_due = began + 0.5
        if not whole.active:
            self._show_controls()
            self._static.show(self.assessment, self.runs)
            self.guesses.look()

    def _show_table(self) -> None:
        self.compare.show(self.runs)
        self.challenges.check(self.runs, self.assessment)
        self._numbers.value = numbers(self.assessment, self.runs)

    def _show_runs(self) -> None:
        """All that shows runs, after some came or went."""
        self.charts.show(self.runs, active=self._live.active)
        self._show_table()
        self._show_status()
        self._static.show(self.assessment, self.runs)

    def _bring_back(self, gone: list[RunRecord]) -> None:
        with self._lock:
            taken = {record.number for record in self.runs}
            for record in gone:  # runs made since then may have the old numbers
                if record.number in taken:
                    record.number = max(taken) + 1
                taken.add(record.number)
            self.runs = sorted([*self.runs, *gone], key=lambda record: record.number)
        for record in gone:
            record.keep(shown=True)
        self._show_runs()

    # ------------------------------------------------------------------------------------------------- what is going on

    def _say(self, message: str) -> bool:
        with self._lock:
            self._message = message
        self._show_status()
        return False

    def _show_status(self, busy: str = "") -> None:
        with self._lock:
            state, problem = self._live.state, self.assessment.problem
            active = self._live.active
            self._transport.show(
                state,
                active=active,
                can_start=not problem,
                has_runs=bool(self.runs),
                can_undo=bool(self._undo),
            )
            settings, group = self.settings, self._group
            moved = _asked(self._ended_with) != _asked(settings)
            if busy and not active:
                sentence, level, share = busy, "", 0.0
            elif group and (active or (state != IDLE and not moved)):
                sentence, level, share = progress(group, state, bool(self._for_the_next_start(settings)))
            elif problem:
                sentence, level, share = html.escape(problem), "sce-problem", 0.0
            else:
                sentence, level, share = self._ready(), "", 0.0
            if self._message:
                sentence = html.escape(self._message) if not active else f"{sentence} {html.escape(self._message)}"
            self._transport.say(sentence, level, share)

    def _ready(self) -> str:
        assessment = self.assessment
        peaks = assessment.memory.set_index("loss")["peak"]
        peak = max(peaks[loss] for loss in assessment.fitting)
        names = ", ".join(label(loss) for loss in assessment.fitting)
        left_out = (
            f' <span class="sce-problem">{html.escape(assessment.left_out)}</span>' if assessment.left_out else ""
        )
        return f"Ready: <b>{names}</b>, about {format_bytes(peak)} a step. Press Start.{left_out}"


def _asked(settings: Settings) -> Settings:
    """Settings without what the lock on the paper's rule makes of them."""
    return replace(settings, n_buckets=0, bucket_size_x=0) if settings.paper_rule else settings


def _no_memory() -> pd.DataFrame:
    """Nothing is known yet: a bar of no length for each loss."""
    fields = ("parameters", "gradients", "optimizer_state", "activations", "loss_workspace", "peak")
    return pd.DataFrame([{"loss": loss, **dict.fromkeys(fields, 0)} for loss in LOOKS])


def _key(settings: Settings, loss: str) -> tuple[Any, ...]:
    """What a measured peak belongs to."""
    config = settings.config(loss)
    model = (config.hidden_size, config.n_blocks, config.max_length, config.batch_size)
    return settings.source, *model, loss, tuple(config.loss_settings.items())


__all__ = ["CONTROLS", "LOSS_KEY", "Playground", "RunRecord", "swatch"]

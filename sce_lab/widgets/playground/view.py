"""What is seen of a playground: its panels, one below the other, and how each is brought up to date."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import pandas as pd

from sce_lab.figures import LOOKS, Spec, memory_spec
from sce_lab.widgets.kit.legend import INSIGHT_KEY, MEMORY_KEY, training_key
from sce_lab.widgets.kit.stage import Canvas, stage, text
from sce_lab.widgets.playground.assessment import Assessment
from sce_lab.widgets.playground.challenges import Challenges
from sce_lab.widgets.playground.charts import Charts
from sce_lab.widgets.playground.compare import Compare
from sce_lab.widgets.playground.deck import Deck, Transport
from sce_lab.widgets.playground.guesses import Guesses
from sce_lab.widgets.playground.hidden import line
from sce_lab.widgets.playground.numbers import fits_line, numbers
from sce_lab.widgets.playground.records import RunRecord
from sce_lab.widgets.playground.settings import Settings
from sce_lab.widgets.playground.share import Share
from sce_lab.widgets.playground.sight import Sight
from sce_lab.widgets.playground.snapshot import StaticView
from sce_lab.widgets.playground.sweeps import SettingsSweep
from sce_lab.widgets.playground.tour import Tour

_TRAINING = "Something is being trained above: stop it, or wait for its end."


class View:
    """The panels of ``page``, a :class:`~sce_lab.widgets.playground.playground.Playground`, which they ask and tell.

    Args:
        page: the playground.
        controls: its controls, by name.
        actions: what its buttons do, by name.
        free: bytes that are free.
    """

    def __init__(
        self,
        page: Any,
        controls: Mapping[str, widgets.ValueWidget],
        actions: Mapping[str, Callable[[], Any]],
        free: Callable[[], int],
    ) -> None:
        self._page = page
        self.transport, self.deck = Transport(actions), Deck(controls)
        self.deck.hide(page.hidden)
        self.memory = Canvas(_empty_memory(free()))
        self.charts, self.compare, self.challenges = Charts(), Compare(page.remove), Challenges()
        self.guesses = Guesses(lambda: page.settings, free, lambda: page.runs)
        self.fits, self.numbers, self.static = text(""), text(""), StaticView()
        self.key = text("")
        self._lock = threading.Lock()
        self.sweep = SettingsSweep(lambda: page.settings, lambda: _TRAINING if page.active else "")
        panels = {
            "Runs": self.compare.view,
            "Challenges": self.challenges.view,
            "Guess first": self.guesses.view,
            "Numbers": self.numbers,
            "Sweep": self.sweep.panel,
        }
        self.tabs = widgets.Tab(list(panels.values()), titles=tuple(panels), selected_index=0)
        self.tabs.add_class("sce-tabs")
        self._sight = Sight()
        self.tour = Tour(page, {**self.deck.boxes, **self.transport.buttons, "tabs": self.tabs}, self._bring_into_sight)
        self.share = Share(page.apply, free, self.tour.begin, lambda settings: line(settings, page.hidden))
        self.tabs.observe(lambda _: self.tour.look(), "selected_index")
        here = list(panels).index("Sweep")
        self.tabs.observe(lambda change: self.sweep.renew() if change.new == here else None, "selected_index")
        self.charts.against.observe(lambda _: self.charts.show(page.runs), "value")
        self.compare.table.observe(lambda _: self.tour.look(), "selected")
        head = _box("sce-head", self.transport.view, self.tour.view, self._sight)
        figures = _box(
            "sce-figures",
            self.memory.widget,
            text(MEMORY_KEY),
            self.fits,
            self.charts.axis,
            self.charts.training.widget,
            self.key,
            self.charts.insight.widget,
            text(INSIGHT_KEY),
        )
        self.all = stage(self.share.view, head, _box("sce-main", self.deck.view, figures), self.tabs)
        self.all.add_class("sce-playground")

    def show_memory(
        self, assessment: Assessment, free: int, before: pd.DataFrame | None, measured: Mapping[str, int]
    ) -> None:
        """Predicted memory, the outline of what it was before, and peaks that were measured."""
        if assessment.memory.empty:  # as long as nothing is known, nothing is shown
            self.memory.show(_empty_memory(free))
            return
        outline = None if before is None or before.equals(assessment.memory) else before
        options = {"before": outline, "measured": measured, "free": free, "work": assessment.work}
        self.memory.show(memory_spec(assessment.memory, **options))

    def show_assessment(self, assessment: Assessment, free: int, runs: Sequence[RunRecord]) -> None:
        """All that says what the settings come to, but for the memory figure."""
        self.deck.show_notes(assessment.notes)
        self.fits.value = fits_line(assessment, free)
        self._show_key(runs, assessment.settings)
        self.numbers.value = numbers(assessment, runs)
        self.challenges.check(runs, assessment)
        self.guesses.ask()

    def show_controls(self, settings: Settings, later: Collection[str]) -> None:
        """Which controls have a say, those that wait for the next start, and the state as a line."""
        self.deck.show_controls(settings, later)
        self.share.show(line(settings, self._page.hidden))
        self.tour.look()

    def show_table(self, runs: Sequence[RunRecord], assessment: Assessment) -> None:
        """All that lists runs; with many it takes a while to draw."""
        self.compare.show(runs)
        self._show_key(runs, assessment.settings)
        self.challenges.check(runs, assessment)
        self.numbers.value = numbers(assessment, runs)

    def _bring_into_sight(self, target: str) -> None:
        """Scroll to what the tour rings, in a card that is unfolded, on the tab of the runs."""
        self.deck.unfold(target)
        if target == "tabs":
            self.tabs.selected_index = 0
        self._sight.turn += 1

    def _show_key(self, runs: Sequence[RunRecord], settings: Settings) -> None:
        """What the lines of the losses look like that are drawn or chosen: of all there are too many."""
        seen = {run.loss for run in runs} | set(settings.losses)
        self.key.value = training_key([loss for loss in LOOKS if loss in seen])


def _box(css_class: str, *children: widgets.Widget) -> widgets.VBox:
    made = widgets.VBox(children)
    made.add_class(css_class)
    return made


def _empty_memory(free: float) -> Spec:
    """Nothing is known yet: a bar of no length for each loss."""
    parts = dict.fromkeys(("parameters", "gradients", "optimizer_state", "activations", "loss_workspace", "peak"), 0)
    memory, work = (
        pd.DataFrame([{"loss": loss} | columns for loss in LOOKS])
        for columns in (parts, {"operations": 0.0, "seconds": 0.0})
    )
    return memory_spec(memory, free=free, work=work)

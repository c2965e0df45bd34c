"""A short tour: one step at a time it says what to do, rings the control to touch, and goes on when it was touched."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import ipywidgets as widgets

from sce_lab.widgets.kit.stage import text
from sce_lab.widgets.playground.presets import TINY
from sce_lab.widgets.playground.settings import Settings

HERE = "sce-touch"


class Stop(Protocol):
    """What a stop may look at."""

    settings: Settings
    runs: list[Any]

    @property
    def active(self) -> bool:
        """Is something being trained?"""


def _as_they_are(settings: Settings) -> Settings:
    return settings


@dataclass(frozen=True)
class TourStep:
    """A stop of the tour.

    Attributes:
        target: names the thing to touch.
        says: what to do.
        done: compares with the state when the step began, ``(page, before)``.
        world: the settings that the step needs, made of those there are: whatever the step before was taken to.
        moot: is there nothing to do here?
    """

    target: str
    says: str
    done: Callable[[Any, Mapping[str, Any]], bool]
    world: Callable[[Settings], Settings] = _as_they_are
    moot: Callable[[Any], bool] = lambda page: False


#: In which the tour takes place: trained in a minute, by whatever machine.
WORLD = replace(TINY, losses=("sce",), epochs=20)


def _first(settings: Settings) -> Settings:
    return replace(WORLD, device=settings.device)


def _small_again(settings: Settings) -> Settings:
    return replace(settings, dataset=WORLD.dataset, catalog_size=WORLD.catalog_size)


def _two_losses(settings: Settings) -> Settings:
    losses = settings.losses if len(settings.losses) > 1 else ("ce", "sce")
    return replace(_first(settings), losses=losses)


def _moved(name: str) -> Callable[[Any, Mapping[str, Any]], bool]:
    return lambda page, before: getattr(page.settings, name) != getattr(before["settings"], name)


TOUR = (
    TourStep(
        "catalog_size",
        "Drag the catalog size to the right and watch the bars. Which one runs away?",
        _moved("catalog_size"),
        _first,
    ),
    TourStep(
        "losses",
        "The catalog is small again; dashed outlines are the memory before a change. Now choose cross-entropy too: "
        "several losses can be trained side by side.",
        lambda page, before: len(page.settings.losses) > 1,
        _small_again,
    ),
    TourStep(
        "start",
        "Press Start. All get the same batches, a step each in turn. The dotted line is the best possible score.",
        lambda page, before: page.active or len(page.runs) > before["runs"],
        _two_losses,
        moot=lambda page: page.active,
    ),
    TourStep(
        "n_buckets",
        "While it trains, move the buckets. SCE takes the new number over at once, and a line marks when.",
        _moved("n_buckets"),
    ),
    TourStep(
        "stop",
        "Stop when you have seen enough. What was reached is kept.",
        lambda page, before: not page.active,
        moot=lambda page: not page.active,
    ),
    TourStep(
        "tabs",
        "Pick two runs in this table to lay them over one another. Then try a challenge: the page checks it. That is "
        "all.",
        lambda page, before: (
            len(page.view.compare.table.selected) == 2 or page.view.tabs.selected_index not in (0, None)
        ),
        moot=lambda page: len(page.runs) < 2,
    ),
)


class Tour:
    """The strip under the buttons.

    Args:
        page: the playground.
        targets: the widgets to ring, by the names that :data:`TOUR` uses.
        show: called with the name of one that is ringed now: it is to be in sight.
    """

    def __init__(self, page: Any, targets: Mapping[str, widgets.Widget], show: Callable[[str], None]) -> None:
        self._page, self._targets, self._show_target = page, targets, show
        self.at: int | None = None
        self._before: dict[str, Any] = {}
        self._says = text("", "sce-tour-says")
        self.buttons = {
            "next": widgets.Button(description="Next", icon="arrow-right", tooltip="Go on without touching it"),
            "close": widgets.Button(description="Close", icon="times", tooltip="End the tour"),
        }
        self.buttons["next"].on_click(lambda _: self.go_on())
        self.buttons["close"].on_click(lambda _: self.close())
        self.view = widgets.HBox([self._says, *self.buttons.values()])
        self.view.add_class("sce-tour")
        self.view.layout.display = "none"

    def begin(self) -> None:
        """Begin with the first step; if it is under way, begin again."""
        self._show(0)

    def go_on(self) -> None:
        """The next step, or the end."""
        if self.at is not None:
            self._show(self.at + 1)

    def close(self) -> None:
        """End it."""
        self._show(len(TOUR))

    def look(self) -> None:
        """Go on if what the present step asks for was done."""
        if self.at is not None and TOUR[self.at].done(self._page, self._before):
            self.go_on()

    def _show(self, number: int) -> None:
        for target in self._targets.values():
            target.remove_class(HERE)
        self.at = None
        while number < len(TOUR) and TOUR[number].moot(self._page):
            number += 1
        if number >= len(TOUR):
            self.view.layout.display = "none"
            return
        step = TOUR[number]
        if (world := step.world(self._page.settings)) != self._page.settings:
            self._page.apply(world)
        self._before = {"settings": self._page.settings, "runs": len(self._page.runs)}
        self._targets[step.target].add_class(HERE)
        self._says.value = (
            f'<div class="sce-tour-text"><b>{number + 1} of {len(TOUR)}</b> {html.escape(step.says)}</div>'
        )
        self.buttons["next"].description = "Done" if number + 1 == len(TOUR) else "Next"
        self.view.layout.display = ""
        self.at = number
        self._show_target(step.target)

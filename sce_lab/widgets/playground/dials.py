"""The controls as one value: what they say, when a gesture begins, and how to take it back."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import traitlets

from sce_lab.widgets.kit.own import OwnMoves
from sce_lab.widgets.kit.slider import StepSlider
from sce_lab.widgets.playground.controls import make_controls
from sce_lab.widgets.playground.settings import COLUMNS, Settings

#: Changes of one control that follow each other faster than this (seconds) are one gesture, with one "before".
GESTURE = 1.5
_NONE = ("", -np.inf, 0)


class Undo:
    """What can be taken back, the last first. Whoever does something says how it is undone."""

    def __init__(self) -> None:
        self._ways: deque[Callable[[], None]] = deque(maxlen=100)

    def __bool__(self) -> bool:
        return bool(self._ways)

    def remember(self, way: Callable[[], None]) -> None:
        """``way`` takes back what was just done."""
        self._ways.append(way)

    def last(self) -> None:
        """Take the last thing back, if there is any."""
        if self._ways:
            self._ways.pop()()


class Dials:
    """All controls.

    Args:
        first: what they say at first.
        undo: is told of every gesture.
        moved: called after a change, by a person or from code, in whichever thread it came from: with True if it is
            the first of a gesture.

    Raises:
        traitlets.TraitError: a value that its control cannot have.
    """

    def __init__(self, first: Settings, undo: Undo, moved: Callable[[bool], None]) -> None:
        self.controls = make_controls(asdict(first))
        self._undo, self._moved = undo, moved
        self._lock = threading.RLock()
        self._own = OwnMoves()
        self._known = first  # what they were known to say last
        self._gesture: tuple[str, float, int] = _NONE  # control, when it changed last, and its grip then
        for name, control in self.controls.items():
            control.observe(lambda change, name=name: self._changed(name), "value")

    @property
    def settings(self) -> Settings:
        """What they say now."""
        return Settings(**{name: control.value for name, control in self.controls.items()})

    def set(self, settings: Settings, *, again: bool = False) -> None:
        """Set all controls, or none of them if one refuses.

        Args:
            settings: what they shall say.
            again: this takes something back, and is not to be taken back itself.

        Raises:
            traitlets.TraitError: one refused.
        """
        with self._lock:
            before = self.settings
            with self._own:
                try:
                    for name, control in self.controls.items():
                        control.value = getattr(settings, name)
                except traitlets.TraitError:
                    for name, control in self.controls.items():
                        control.value = getattr(before, name)
                    raise
            # Not what they say now: somebody may have moved one meanwhile, and waits to tell.
            self._gesture, self._known = _NONE, settings
            if not again:
                self._undo.remember(lambda: self.set(before, again=True))
        self._moved(True)

    def follow(self, assessed: Settings) -> None:
        """With the lock on, the sliders go where the paper's rule has put them; that is nobody's gesture."""
        if not assessed.paper_rule or not self.controls["paper_rule"].value:
            return
        with self._lock:
            placed = {name: getattr(assessed, name) for name in ("n_buckets", "bucket_size_x")}
            with self._own:
                for name, value in placed.items():
                    self.controls[name].value = value
            self._known = replace(self._known, **placed)

    def offer(self, names: Sequence[str], found: Mapping[str, str | None]) -> bool:
        """Columns of a file to choose from, and which are meant if none is chosen. False if just these are offered."""
        with self._own:
            others = [self.controls[name].offer(names, found.get(name)) for name in COLUMNS]
        return any(others)

    def neighbours(self, settings: Settings) -> Iterator[Settings]:
        """``settings`` at the neighbouring steps of the slider that was moved last."""
        name = self._gesture[0]
        control = self.controls.get(name)
        for value in control.near(2) if isinstance(control, StepSlider) else ():
            yield replace(settings, **{name: value})

    def _changed(self, name: str) -> None:
        """A control moved: in whichever thread the kernel runs callbacks, so nothing slow happens here."""
        if self._own:
            return
        now = time.monotonic()
        with self._lock:
            last, when, held = self._gesture
            grip = getattr(self.controls[name], "grip", 0)
            # A drag is one gesture however long it rests. Its last move may come together with letting go.
            same = grip == held if grip % 2 else grip - held <= 1 and now - when <= GESTURE
            begins = name != last or not same
            if name == "path":  # what was chosen of another file says nothing of this one
                with self._own:
                    for column in COLUMNS:
                        self.controls[column].value = None
            if begins:
                before = self._known
                self._undo.remember(lambda: self.set(before, again=True))
            self._gesture, self._known = (name, now, grip), self.settings
        self._moved(begins)

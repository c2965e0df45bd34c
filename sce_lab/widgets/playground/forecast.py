"""What the settings come to, worked out in the background while they move."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pandas as pd

from sce_lab.data import SYNTHETIC
from sce_lab.memory import free_memory
from sce_lab.widgets.kit.latest import Latest
from sce_lab.widgets.playground.assessment import Assessment, assess
from sce_lab.widgets.playground.pace import Pace
from sce_lab.widgets.playground.settings import Settings

#: A setting that has been left alone for this long (seconds) is taken over by a run that is under way.
SETTLED = 0.3


class Forecast:
    """The assessment of the present settings.

    Args:
        first: the settings at first.
        training: is a run under way? It takes memory that its successor will have again.
        neighbours: settings that may be asked for next.
        reading: called before data are read, which may take a while.
        show: called when the assessment is another one.

    Attributes:
        assessment: the newest.
        before: predicted memory before the present gesture, if that was known.
        free: bytes that are free for a training.
    """

    def __init__(
        self,
        first: Settings,
        training: Callable[[], bool],
        neighbours: Callable[[Settings], Iterable[Settings]],
        reading: Callable[[Settings], None],
        show: Callable[[], None],
    ) -> None:
        self._training, self._neighbours = training, neighbours
        self._reading, self._show = reading, show
        self._lock = threading.Lock()  # two threads put another assessment in the place of this one
        self._place, self.free = first.place, free_memory(first.place)
        self.assessment: Assessment = assess(first, self.free)
        self.before: pd.DataFrame | None = None
        self._steady: tuple[float, Settings | None] = (np.inf, None)
        self._latest: Latest[Settings] = Latest(self._predict, self._look_ahead)
        self._pace = Pace(training, lambda: self.assessment, self._timed)
        self.submit, self.settle = self._latest.submit, self._latest.settle

    def begin(self) -> None:
        """A gesture begins: what is predicted now is what it is compared with."""
        memory = self.assessment.memory
        self.before = None if memory.empty else memory

    def at_start(self, settings: Settings) -> Assessment:
        """The assessment of ``settings`` with what is free at this moment; shown if nothing can be trained.

        For the run that begins with it, only what moves from now on is news.
        """
        self._place, self.free = settings.place, free_memory(settings.place)
        assessment = assess(settings, self.free)
        if assessment.problem:
            self._take(assessment)
        self._steady = (np.inf, None)
        return assessment

    @property
    def settled(self) -> Settings | None:
        """The settings, if they can be trained and were left alone for :data:`SETTLED` seconds."""
        since, settings = self._steady
        return None if settings is None or time.monotonic() - since < SETTLED else settings

    def _take(self, assessment: Assessment) -> None:
        with self._lock:
            self.assessment = assessment
        self._steady = (np.inf, None) if assessment.problem else (time.monotonic(), assessment.settings)
        self._show()
        self.time()

    def time(self) -> None:
        """Find out how long a run with the present settings would take, when there is time for that."""
        self._pace.ask(self.assessment)

    def _timed(self, assessment: Assessment, timed: Assessment) -> None:
        with self._lock:
            if self.assessment is not assessment:
                return
            self.assessment = timed
        self._show()

    def _predict(self, settings: Settings) -> None:
        # A line that trembles says nothing.
        elsewhere = settings.place != self._place
        if elsewhere or not self._training():
            free = free_memory(settings.place)
            if elsewhere or abs(free - self.free) > 0.01 * self.free:
                self._place, self.free = settings.place, free
        if settings.dataset != SYNTHETIC and self.assessment.settings.source != settings.source:
            self._reading(settings)
        try:
            self._take(assess(settings, self.free))
        except Exception as error:
            problem = f"The prediction failed: {error}"
            self._take(Assessment(settings, None, pd.DataFrame(), problem=problem))
            raise

    def _look_ahead(self, settings: Settings) -> Iterator[None]:
        """Predict at the neighbours: predictions are remembered."""
        for neighbour in self._neighbours(settings):
            if not self._training():
                assess(neighbour, self.free)
                yield

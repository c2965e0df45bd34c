"""The runs of a page: those restored, those made, and the one or several that train now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from typing import Any

from sce_lab.figures import LOOKS
from sce_lab.training import Event
from sce_lab.widgets.kit.live import LiveRun
from sce_lab.widgets.kit.progress import RUNNING, Snapshot
from sce_lab.widgets.kit.turns import take_turns
from sce_lab.widgets.playground.assessment import Assessment, open_data
from sce_lab.widgets.playground.controls import CONTROLS
from sce_lab.widgets.playground.dials import Undo
from sce_lab.widgets.playground.records import RunRecord, restore
from sce_lab.widgets.playground.settings import Settings, live_dials


class Session:
    """Runs, and what is done with them.

    Args:
        undo: is told of runs that are removed.
        settled: settings that a run may take over while it goes on, or None.
        seen: called in the worker about five times a second, with the whole as it is now and whether there is news
            beyond a step more.
        changed: called when runs came or went, but for those that start.

    Attributes:
        runs: all on the page, by their numbers.
        group: what the last Start trains.
        live: who trains them.
        passed_over: a sentence for each folder of a run that cannot be read.
    """

    def __init__(
        self,
        undo: Undo,
        settled: Callable[[], Settings | None],
        seen: Callable[[Snapshot, bool], None],
        changed: Callable[[], None],
    ) -> None:
        self._undo, self._settled, self._seen, self._changed = undo, settled, seen, changed
        self.passed_over: list[str] = []
        self.runs: list[RunRecord] = restore(passed_over=self.passed_over.append)
        self.group: list[RunRecord] = []
        self.live = LiveRun(period=0.17, max_points=150)  # at least four times a second, a step or two included
        self._lock, self._starting = threading.RLock(), threading.Lock()
        self._measured: dict[tuple[Any, ...], int] = {}

    @property
    def active(self) -> bool:
        """Is something being trained (or paused)?"""
        return self.live.active

    def start(self, assess: Callable[[], Assessment], *, steps: int | None = None) -> str | None:
        """Train what ``assess`` finds room for. None if that cannot be, otherwise what must be said of it.

        Args:
            assess: asked once it is certain that nothing else is being trained.
            steps: pause after so many.
        """
        if not self._starting.acquire(blocking=False):
            return None  # a second click on Start
        try:
            if self.active or (assessment := assess()).problem:
                return None
            group, message = self._new_records(assessment)
            with self._lock:
                self.runs.extend(group)
                self.group = group
            self.live.start(
                lambda stop: take_turns({str(record.number): self._events(record, stop) for record in group}),
                self._see,
                steps=steps,
            )
            return message or assessment.left_out
        finally:
            self._starting.release()

    def reset(self, timeout: float) -> None:
        """Stop, and clear away all runs.

        Raises:
            TimeoutError: the step being done does not end within ``timeout`` seconds.
        """
        self.live.reset(timeout)
        with self._lock:
            self.group = []
        self.remove([record.number for record in self.runs])

    def remove(self, numbers: Iterable[int]) -> None:
        """Clear away runs that have ended; their folders stay."""
        numbers = set(numbers)
        with self._lock:
            gone = [r for r in self.runs if r.number in numbers and not (r in self.group and self.active)]
            if not gone:
                return
            self.runs = [record for record in self.runs if record not in gone]
            self._measured.clear()
            self._undo.remember(lambda: self._bring_back(gone))
        for record in gone:
            record.keep(shown=False)
        self._changed()

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
        self._changed()

    def for_the_next_start(self, settings: Settings) -> set[str]:
        """Names of controls that the run under way does not listen to, and that were moved since it began."""
        if not self.active or not self.group:
            return set()
        trained, settings = self.group[0].settings, replace(settings, device=settings.place)
        live = {name for record in self.group for name in live_dials(record.loss)} | {"paper_rule"}
        return {name for name in CONTROLS if name not in live and getattr(trained, name) != getattr(settings, name)}

    def measured(self, settings: Settings) -> dict[str, int]:
        """By loss, the peak that was measured with just these settings."""
        return {loss: self._measured[key] for loss in LOOKS if (key := _key(settings, loss)) in self._measured}

    def _new_records(self, assessment: Assessment) -> tuple[list[RunRecord], str]:
        settings = replace(assessment.settings, device=assessment.settings.place)  # the one that it will have been
        uses = assessment.memory.set_index("loss")
        first = max((record.number for record in self.runs), default=0) + 1
        made, message = [], ""
        seeds = [replace(settings, seed=settings.seed + n) for n in range(settings.n_seeds)]
        for number, (loss, settings) in enumerate(product(assessment.fitting, seeds), start=first):
            predicted = {name: int(value) for name, value in uses.loc[loss].items()}
            catalog_size = assessment.facts.catalog_size if assessment.facts else None
            made.append(RunRecord(number, settings, loss, predicted, catalog_size))
            try:
                made[-1].make_folder()
            except OSError as error:
                message = f"This run cannot be kept: {error}. It trains all the same."
        return made, message

    # ---------------------------------------------------------------------------------------------- in the worker

    def _events(self, record: RunRecord, stop: Callable[[], bool]) -> Iterable[Event]:
        """Open the data, find the ceiling, train."""
        split, process = open_data(record.settings.source)
        if process is not None:
            known = next((r.ceiling for r in self.group if r.ceiling), None)
            record.ceiling = known or process.ceiling(split.validation)
        yield from record.events(split, stop, self._wanted)

    def _wanted(self, record: RunRecord) -> dict[str, Any]:
        """Which settings of the run's loss were moved and then left alone."""
        settings = self._settled()
        if settings is None:
            return {}
        if settings.paper_rule and settings.batch_size != record.settings.batch_size:
            return {}  # the rule follows a batch that this run does not have
        return {
            name: value
            for name in live_dials(record.loss)
            if (value := getattr(settings, name)) != record.live.get(name)
        }

    def _see(self, whole: Snapshot) -> None:
        news = whole.state != RUNNING
        for record in self.group:
            last = record.snapshot
            shot = whole.lanes.get(str(record.number)) or Snapshot(state=whole.state, error=whole.error)
            record.snapshot = shot
            if shot.memory is not None and shot.memory is not last.memory and not shot.changes:
                self._measured[_key(record.settings, record.loss)] = shot.memory.peak
            news |= (shot.state, shot.memory, shot.metrics) != (last.state, last.memory, last.metrics)
            news |= len(shot.changes) != len(last.changes)
        self._seen(whole, news)


def _key(settings: Settings, loss: str) -> tuple[Any, ...]:
    """What a measured peak belongs to."""
    config = settings.config(loss)
    model = (config.hidden_size, config.n_blocks, config.max_length, config.batch_size, config.device)
    return settings.source, *model, loss, tuple(config.loss_settings.items())

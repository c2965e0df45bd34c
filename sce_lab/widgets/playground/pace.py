"""How long Start would take: a few steps of each loss, tried in the background once the controls rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from sce_lab.timing import predict_time
from sce_lab.widgets.kit.cores import one_core_left
from sce_lab.widgets.kit.latest import Latest
from sce_lab.widgets.playground.assessment import Assessment, typical_split

#: Seconds for which the controls have to be left alone: whoever drags a slider wants the machine for that.
REST = 0.6


class Pace:
    """Adds to an assessment how long its runs would take.

    Args:
        busy: is something trained? Then nothing is tried beside it.
        current: the assessment as it is now.
        show: is given an assessment, and the same with its durations, to be put in its place if it is still the current
            one.
    """

    def __init__(
        self,
        busy: Callable[[], bool],
        current: Callable[[], Assessment],
        show: Callable[[Assessment, Assessment], None],
    ) -> None:
        self._busy, self._current, self._show = busy, current, show
        self._latest: Latest[Assessment] = Latest(self._find)

    def ask(self, assessment: Assessment) -> None:
        """Find out about this one next. Returns at once."""
        if not assessment.problem:
            self._latest.submit(assessment)

    def _find(self, assessment: Assessment) -> None:
        rested = time.monotonic() + REST
        while time.monotonic() < rested:
            if self._current() is not assessment:
                return
            time.sleep(0.05)
        settings, found = assessment.settings, {}
        with one_core_left():
            for loss in assessment.fitting:
                if self._busy() or self._current() is not assessment:
                    return
                found[loss] = predict_time(settings.config(loss), typical_split(settings))
        self._show(assessment, replace(assessment, durations=found))

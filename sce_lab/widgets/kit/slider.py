"""A slider over round numbers, however many decades they span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import traitlets


def round_steps(low: int, high: int, mantissas: Sequence[float] = (1, 2, 5), base: int = 10) -> list[int]:
    """Round numbers from ``low`` to ``high``, the same few in every power of ``base``."""
    values, power = [], 1
    while power <= high:
        values += [int(m * power) for m in mantissas if low <= m * power <= high and m * power == int(m * power)]
        power *= base
    return values


def octaves(low: int, high: int) -> list[int]:
    """Powers of two and their halfway points: 4, 6, 8, 12, 16, 24, ..."""
    return round_steps(low, high, (1, 1.5), 2)


def _step_label(step: float) -> str:
    if step != int(step):
        return f"{step:g}"
    return f"{step / 1e6:g} M" if step >= 1_000_000 and step % 100_000 == 0 else f"{step:,}"


class StepSlider(widgets.SelectionSlider):
    """A slider over round numbers, so that each step matters however many decades they span.

    From Python any whole number between the first and the last may be set (any number, if ``whole`` is False): it
    becomes a step of its own, until the next such number.
    """

    def __init__(self, steps: Sequence[float], value: float, *, whole: bool = True, **keywords: Any) -> None:
        self._round, self._whole = tuple(steps), whole
        super().__init__(options=[(_step_label(step), step) for step in steps], value=value, **keywords)

    def near(self, reach: int) -> list[float]:
        """The steps at most ``reach`` away from the present one, nearest first."""
        steps = self._options_values
        at = steps.index(self.value)
        beside = (at + sign * distance for distance in range(1, reach + 1) for sign in (1, -1))
        return [steps[n] for n in beside if 0 <= n < len(steps)]

    @traitlets.validate("value")
    def _validate_value(self, proposal: traitlets.Bunch) -> float:
        steps, value = self._options_values, proposal.value
        if value in steps and not isinstance(value, bool):
            return steps[steps.index(value)]
        right = isinstance(value, int | float) and steps[0] < value < steps[-1]  # false for what is not a number
        if not right or (self._whole and value % 1):
            kind = "whole numbers" if self._whole else "numbers"
            raise traitlets.TraitError(
                f"{self.tooltip or 'it'} takes {kind} from {steps[0]:,} to {steps[-1]:,}, got {value!r}"
            )
        # Setting `options` would select the first of them for a moment, and tell everybody.
        value = int(value) if self._whole else float(value)
        self._options_values = tuple(sorted((*self._round, value)))
        self._options_full = tuple((_step_label(step), step) for step in self._options_values)
        self.set_trait("_options_labels", tuple(name for name, _ in self._options_full))
        return value

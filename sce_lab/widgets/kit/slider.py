"""A slider over named values, whose field takes what is typed; and one over round numbers, however many decades."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import anywidget
import traitlets

# Handle and field are the browser's own, which speak: a name, and the present value as people read it.
_SLIDER = """
const made = (tag, properties) => Object.assign(document.createElement(tag), properties);
function render({ model, el }) {
  el.classList.add("sce-slider");
  const name = made("div", { className: "widget-label", innerHTML: model.get("description") });
  const range = made("input", { type: "range", min: 0, step: 1 });
  const field = made("input", { type: "text", spellcheck: false, autocomplete: "off" });
  const refusal = made("div", { className: "sce-refusal" });
  range.setAttribute("aria-label", model.get("tooltip"));
  field.setAttribute("aria-label", model.get("tooltip") + ", as text");
  refusal.setAttribute("role", "alert");
  let typing = false;
  const show = () => {
    const labels = model.get("labels"), label = model.get("label");
    range.max = labels.length - 1;
    range.value = labels.indexOf(label);
    range.setAttribute("aria-valuetext", label);
    if (!typing) field.value = label;
    field.style.width = Math.max(4, field.value.length + 1) + "ch";
    range.disabled = field.disabled = model.get("disabled");
    refusal.textContent = model.get("refusal");
  };
  const hold = (held) => {
    if ((model.get("grip") % 2 === 1) === held) return;
    model.set("grip", model.get("grip") + 1);
    model.save_changes();
  };
  range.onpointerdown = () => hold(true);
  range.onpointerup = range.onpointercancel = range.onchange = () => hold(false);
  range.oninput = () => {
    model.set("label", model.get("labels")[range.value]);
    model.save_changes();
  };
  field.oninput = () => { typing = true; show(); };
  const commit = () => {
    if (typing) model.send({ typed: field.value });
    typing = false;
    show();
  };
  field.onblur = commit;
  field.onkeydown = (event) => {
    if (event.key === "Escape") typing = false;
    if (event.key === "Enter" || event.key === "Escape") { commit(); field.setSelectionRange(0, field.value.length); }
  };
  el.onkeydown = (event) => {  // arrows move the handle, not the notebook
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  };
  el.append(name, field, range, refusal);
  for (const trait of ["labels", "label", "disabled", "refusal"]) model.on("change:" + trait, show);
  show();
}
export default { render };
"""


class Slider(anywidget.AnyWidget):
    """A slider over ``options``, pairs of a label and a value.

    Attributes:
        value: where it stands. Python may set it to any of the values.
        label: the name of that.
        grip: odd while the pointer holds the handle; each hold has a number of its own.
        refusal: why what was typed last was not taken; empty when it was, or the slider was moved since.

    Raises:
        traitlets.TraitError: ``value`` is not one of them.
    """

    _esm = _SLIDER
    value = traitlets.Any()
    description = traitlets.Unicode("").tag(sync=True)
    disabled = traitlets.Bool(False).tag(sync=True)
    labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    label = traitlets.Unicode("").tag(sync=True)
    grip = traitlets.Int(0).tag(sync=True)
    refusal = traitlets.Unicode("").tag(sync=True)

    def __init__(self, options: Sequence[tuple[str, Any]], value: Any, **keywords: Any) -> None:
        self._values = tuple(each for _, each in options)
        super().__init__(labels=[label for label, _ in options], value=value, **keywords)
        self.on_msg(lambda _, content, __: self.type(content["typed"]) if "typed" in content else None)

    @property
    def options(self) -> tuple[tuple[str, Any], ...]:
        """The places it has now."""
        return tuple(zip(self.labels, self._values))

    @property
    def index(self) -> int:
        """The place where it stands."""
        return self._values.index(self.value)

    def offer(self, options: Sequence[tuple[str, Any]], value: Any) -> None:
        """Other places, and where to stand among them."""
        self._values = tuple(each for _, each in options)
        self.labels = [label for label, _ in options]
        if value == self.value:
            self.label = self.labels[self.index]
        self.value = value

    def type(self, words: str) -> None:
        """Take what was typed into the field, or say in :attr:`refusal` why not."""
        self.refusal = ""
        try:
            self.value = dict(self.options).get(words.strip(), read_number(words))
        except traitlets.TraitError as error:
            self.refusal = str(error)

    @traitlets.validate("value")
    def _validate_value(self, proposal: traitlets.Bunch) -> Any:
        if proposal.value not in self._values:
            first, last = self.labels[0], self.labels[-1]
            raise traitlets.TraitError(f"{self._name} is one of {first} to {last}, got {proposal.value!r}")
        return proposal.value

    @property
    def _name(self) -> str:
        return self.tooltip or "It"

    @traitlets.observe("value")
    def _show_value(self, change: traitlets.Bunch) -> None:
        self.refusal = ""
        self.label = self.labels[self.index]

    @traitlets.observe("label")
    def _take_label(self, change: traitlets.Bunch) -> None:
        if change.new in self.labels:  # otherwise it was moved to a place that is gone
            self.value = self._values[self.labels.index(change.new)]
        else:
            self.label = self.labels[self.index]


class StepSlider(Slider):
    """A slider over round numbers, so that each step matters however many decades they span.

    By typing, and from Python, any whole number between the first and the last may be set (any number, if ``whole`` is
    False): it becomes a step of its own, until the next such number.
    """

    def __init__(self, steps: Sequence[float], value: float, *, whole: bool = True, **keywords: Any) -> None:
        self._round, self._whole = tuple(steps), whole
        super().__init__([(_step_label(step), step) for step in steps], value, **keywords)

    def near(self, reach: int) -> list[float]:
        """The steps at most ``reach`` away from the present one, nearest first."""
        at = self.index
        beside = (at + sign * distance for distance in range(1, reach + 1) for sign in (1, -1))
        return [self._values[n] for n in beside if 0 <= n < len(self._values)]

    @traitlets.validate("value")
    def _validate_value(self, proposal: traitlets.Bunch) -> float:
        steps, value = self._values, proposal.value
        if value in steps and not isinstance(value, bool):
            return steps[steps.index(value)]
        right = isinstance(value, int | float) and steps[0] < value < steps[-1]  # false for what is not a number
        if not right or (self._whole and value % 1):
            kind = "whole numbers" if self._whole else "numbers"
            raise traitlets.TraitError(f"{self._name} takes {kind} from {steps[0]:,} to {steps[-1]:,}, got {value!r}")
        value = int(value) if self._whole else float(value)
        self._values = tuple(sorted((*self._round, value)))
        self.labels = [_step_label(step) for step in self._values]
        return value


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


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


def read_number(words: str) -> float | str:
    """The number that people write as "2000", "2,000", "2_000", "2e3" or "2 k"; other words as they are."""
    found = re.fullmatch(r"([-+]?[\d.]+(?:e[-+]?\d+)?)([kmgb]?)", re.sub(r"[\s,_]", "", words).lower())
    try:
        number = float(found[1]) * _UNITS[found[2]] if found else None
    except ValueError:
        number = None
    if number is None:
        return words
    return int(number) if number % 1 == 0 else number


def _step_label(step: float) -> str:
    if step != int(step):
        return f"{step:g}"
    for unit, name in ((10**9, "G"), (10**6, "M")):
        if step >= unit and step % (unit // 10) == 0:
            return f"{step / unit:,g} {name}"
    return f"{step:,}"

"""Predict before you look: a question whose answer is shown only once the reader has committed to one."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from sce_lab.widgets.kit.slider import Slider
from sce_lab.widgets.kit.stage import stage, text

_STYLE = """<style>
.sce-guess { border: 1px solid var(--sce-edge); border-left: 4px solid var(--sce-accent); border-radius: 8px;
  padding: 10px 14px; margin: 2px 0 10px; overflow: visible; }
.sce-guess > * { overflow: visible; }
.sce-question { font-size: 15px; line-height: 21px; font-weight: 600; }
.sce-guess .widget-toggle-buttons .widget-toggle-button { width: auto; border-radius: 6px; height: auto;
  min-height: 28px; white-space: normal; padding: 2px 12px; line-height: 20px; }
.sce-guess .widget-toggle-buttons .mod-active { background: var(--sce-fill); color: var(--sce-ink); font-weight: 600;
  box-shadow: inset 0 0 0 2px var(--sce-accent); }
.sce-guess .jupyter-button.sce-primary { background: var(--sce-accent); color: white; font-weight: 600; width: auto;
  min-width: 90px; border-radius: 6px; margin-left: 16px; }
.sce-guess .jupyter-button:disabled { opacity: 0.45; }
.sce-answer { font-size: 14px; line-height: 20px; min-height: 22px; }
</style>"""


class NotYet(Exception):
    """The answer is not known yet; the message says what it waits for. See :meth:`Guess.settle`."""


class Guess:
    """A question, a control to answer it with, and a button to commit. Then the answer, how far off it was, and more.

    Display it as the last line of a cell. From Python: :meth:`commit`, :meth:`results`.

    Args:
        question: plain text.
        options: (text, value) of the answers to choose from, in order. Numbers make a slider, others make buttons.
        answer: the value that is right, or what computes it; called at the commitment only. It may raise
            :class:`NotYet`: then the guess stands, and :meth:`settle` shows the answer later.
        say: a sentence about the answer, given that; HTML.
        reveal: makes a widget that is shown below after the commitment, if there is more to see.
        off: how far off a number is: "factor" or "points" (of a share of 1).
    """

    def __init__(
        self,
        question: str,
        options: Sequence[tuple[str, Any]],
        answer: Any | Callable[[], Any],
        *,
        say: Callable[[Any], str] = str,
        reveal: Callable[[], widgets.Widget] | None = None,
        off: str = "factor",
    ) -> None:
        if off not in ("factor", "points"):
            raise ValueError(f'off must be "factor" or "points", got {off!r}')
        self.question, self.committed, self.answer = question, False, None
        self.then: list[Callable[[], Any]] = []  #: called after the commitment
        self._answer, self._say, self._make, self._off = answer, say, reveal, off
        self._numeric = all(isinstance(value, int | float) for _, value in options)
        if self._numeric:
            middle = options[len(options) // 2][1]
            self.control = Slider(
                options,
                middle,
                description="Your guess",
                tooltip="Your guess",
                layout=widgets.Layout(width="min(560px, 100%)"),
            )
        else:
            self.control = widgets.ToggleButtons(options=list(options), value=None)
        self.button = widgets.Button(description="Commit", icon="check", tooltip="Fix your guess and see the answer")
        self.button.add_class("sce-primary")
        self.button.on_click(lambda _: self.commit())
        self._result = text('<div class="sce-answer sce-empty">The answer comes when you commit to a guess.</div>')
        self._more = widgets.VBox([], layout=widgets.Layout(overflow="visible"))
        row = widgets.Box(
            [self.control, self.button], layout=widgets.Layout(flex_flow="row wrap", align_items="center")
        )
        asked = text(f'<div class="sce-question">{html.escape(question)}</div>')
        card = widgets.VBox([text(_STYLE), asked, row, self._result])
        card.add_class("sce-guess")
        self.view = stage(card, self._more)

    def commit(self, value: Any = None) -> None:
        """Fix the guess (``value``, or what the control says), and show the answer. The second time nothing happens.

        Raises:
            ValueError: there is no guess yet, or ``value`` is not among the options.
        """
        if self.committed:
            return
        if value is not None:
            values = [v for _, v in self.control.options]
            if value not in values:
                raise ValueError(f"the guess must be one of {', '.join(map(repr, values))}, got {value!r}")
            self.control.value = value
        if self.control.value is None:
            self._result.value = '<div class="sce-answer sce-warning">Choose one first.</div>'
            if value is None and not self._numeric:
                return
        self.committed = True
        self.control.disabled = self.button.disabled = True
        self._result.value = '<div class="sce-answer sce-empty">Working it out ...</div>'
        self.settle()
        for call in self.then:
            call()

    def settle(self) -> None:
        """Show the answer if there is a guess, and the answer is known now and was not shown before."""
        if not self.committed or self.answer is not None:
            return
        try:
            self.answer = self._answer() if callable(self._answer) else self._answer
            verdict = f"{self._verdict()} {self._say(self.answer)}"
            if self._make is not None:
                self._more.children = [self._make()]
        except NotYet as waiting:
            verdict = f"<b>You said {html.escape(str(self.control.label))}.</b> {html.escape(str(waiting))}"
        except Exception as error:
            verdict = f'<span class="sce-problem">The answer failed: {html.escape(str(error))}</span>'
            self._result.value = f'<div class="sce-answer">{verdict}</div>'
            raise
        self._result.value = f'<div class="sce-answer">{verdict}</div>'

    @property
    def distance(self) -> float | None:
        """How far off the guess is: a factor (1 is exact) or points; 0 or 1 for "right" or "wrong". None before."""
        if not self.committed or self.answer is None:
            return None
        guess = self.control.value
        if not self._numeric:
            return float(guess != self.answer)
        if self._off == "points":
            return abs(guess - self.answer)
        return math.exp(abs(math.log(guess / self.answer)))

    def _verdict(self) -> str:
        distance = self.distance
        said = html.escape(self.control.label if self._numeric else str(self.control.label))
        if not self._numeric:
            return f"<b>{'Right.' if not distance else f'You said: {said}. Not so.'}</b>"
        if self._off == "points":
            how = "spot on" if distance < 0.02 else f"{100 * distance:.0f} points off"
        else:
            how = "spot on" if distance < 1.15 else f"off by a factor of {distance:.2g}"
        return f"<b>You said {said}: {how}.</b>"

    def results(self) -> dict[str, Any]:
        """Question, guess, answer and distance as plain data."""
        return {
            "question": self.question,
            "guess": self.control.value if self.committed else None,
            "answer": self.answer,
            "distance": self.distance,
        }

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

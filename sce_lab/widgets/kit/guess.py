"""Predict before you look: a question whose answer is shown only once the reader has committed to one."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from sce_lab.widgets.kit.stage import stage

_HERE = Path(__file__).parent


class GuessCard(anywidget.AnyWidget):
    """What is seen of a :class:`Guess`. Once it knows the answer it needs no kernel: a saved page can ask again.

    Attributes:
        choice: which of the ``labels`` is chosen, -1 for none. Nothing is chosen at first: a handle that stands
            somewhere would be a hint, or take for a guess what is none.
        committed: the choice is fixed; what stands in the next widget of the same box is hidden until then.
        verdicts: how good a guess each of the labels is; empty while the answer is not known.
        told: what is said after the verdict.
    """

    _esm = (_HERE / "guess.js").read_text(encoding="utf-8")
    _css = (_HERE / "guess.css").read_text(encoding="utf-8")
    question = traitlets.Unicode("").tag(sync=True)
    labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    numeric = traitlets.Bool(False).tag(sync=True)
    choice = traitlets.Int(-1).tag(sync=True)
    committed = traitlets.Bool(False).tag(sync=True)
    verdicts = traitlets.List(traitlets.Unicode()).tag(sync=True)
    told = traitlets.Unicode("").tag(sync=True)


class Guess:
    """A question, a control to answer it with, and a button to commit. Then the answer, how far off it was, and more.

    Display it as the last line of a cell. From Python: :meth:`commit`, :meth:`results`.

    Args:
        question: plain text.
        options: (text, value) of the answers to choose from, in order. Numbers make a slider, others make buttons.
        answer: the value that is right, or what computes it; called at the commitment only. If that returns None, the
            answer is not known yet: :meth:`look` asks again.
        say: a sentence about the answer, given that; HTML.
        reveal: makes a widget that is shown below after the commitment, if there is more to see.
        off: how far off a number is: "factor" or "points" (of a share of 1).
        pending: what is said while the answer is not known yet.
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
        pending: str = "The answer is not known yet.",
    ) -> None:
        if off not in ("factor", "points"):
            raise ValueError(f'off must be "factor" or "points", got {off!r}')
        self.question, self.answer = question, None
        self._options, self._answer, self._say, self._make, self._off = list(options), answer, say, reveal, off
        self._pending = pending
        self._numeric = all(isinstance(value, int | float) for _, value in options)
        labels = [label for label, _ in options]
        self.card = GuessCard(question=question, labels=labels, numeric=self._numeric)
        self.card.observe(lambda _: self.look(), "committed")
        self._more = widgets.VBox([], layout=widgets.Layout(overflow="visible"))
        self.view = stage(self.card, self._more)

    @property
    def committed(self) -> bool:
        """Is the guess fixed?"""
        return self.card.committed

    @property
    def value(self) -> Any:
        """What is chosen; None before that."""
        return self._options[self.card.choice][1] if self.card.choice >= 0 else None

    def commit(self, value: Any = None) -> None:
        """Fix the guess (``value``, or what the control says), and show the answer. The second time nothing happens.

        Raises:
            ValueError: there is no guess yet, or ``value`` is not among the options.
        """
        if self.committed:
            return
        values = [v for _, v in self._options]
        if value is not None:
            if value not in values:
                raise ValueError(f"the guess must be one of {', '.join(map(repr, values))}, got {value!r}")
            self.card.choice = values.index(value)
        if self.value is None:
            raise ValueError(f"there is no guess yet: commit one of {', '.join(map(repr, values))}")
        self.card.committed = True

    def look(self) -> None:
        """Answer a guess that is committed and was not answered yet, if the answer is known by now."""
        if not self.committed or self.answer is not None:
            return
        try:
            self.answer = self._answer() if callable(self._answer) else self._answer
            if self.answer is None:
                self.card.told = html.escape(self._pending)
                return
            self.card.verdicts = [self._verdict(label, value) for label, value in self._options]
            self.card.told = self._say(self.answer)
            if self._make is not None:
                self._more.children = [self._make()]
        except Exception as error:
            self.card.told = f'<span class="sce-problem">The answer failed: {html.escape(str(error))}</span>'
            raise

    @property
    def distance(self) -> float | None:
        """How far off the guess is: a factor (1 is exact) or points; 0 or 1 for "right" or "wrong". None before."""
        return None if self.answer is None else self._distance(self.value)

    def _distance(self, guess: Any) -> float:
        if not self._numeric:
            return float(guess != self.answer)
        if self._off == "points":
            return abs(guess - self.answer)
        if guess <= 0 or self.answer <= 0:
            return 1.0 if guess == self.answer else math.inf
        return math.exp(abs(math.log(guess / self.answer)))

    def _verdict(self, label: str, guess: Any) -> str:
        distance = self._distance(guess)
        if not self._numeric:
            return "Right." if not distance else f"You said: {label}. Not so."
        if self._off == "points":
            how = "spot on" if distance < 0.02 else f"{100 * distance:.0f} points off"
        else:
            how = "spot on" if distance < 1.15 else f"off by a factor of {distance:.2g}"
        return f"You said {label}: {how}."

    def results(self) -> dict[str, Any]:
        """Question, guess, answer and distance as plain data; ``off`` says how the distance is measured."""
        distance = self.distance
        return {
            "question": self.question,
            "guess": self.value if self.committed else None,
            "answer": self.answer,
            "distance": distance if distance is None or math.isfinite(distance) else None,
            "off": self._off if self._numeric else "choice",
        }

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

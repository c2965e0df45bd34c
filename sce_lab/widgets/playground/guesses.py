"""Predict before reveal: a guess is committed first, then comes the answer, and how far off the guess was."""

from __future__ import annotations

import dataclasses
import html
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets

from sce_lab.figures import label
from sce_lab.memory import count_work, predict_memory
from sce_lab.widgets.kit.latest import Latest
from sce_lab.widgets.kit.progress import FINISHED, STOPPED
from sce_lab.widgets.kit.stage import table, text
from sce_lab.widgets.playground.assessment import Facts, needed
from sce_lab.widgets.playground.records import RunRecord
from sce_lab.widgets.playground.settings import Settings


@dataclass(frozen=True)
class Question:
    """Something to guess.

    Attributes:
        ask: the question at these settings.
        answer: the answer, given settings, free bytes and the runs that ended since the guess was made; None while it
            is not known. Answers that need no run are known at once.
        form: how the answer is written.
        close: the factor within which a guess counts as good.
    """

    ask: Callable[[Settings], str]
    answer: Callable[[Settings, int, Sequence[RunRecord]], float | None]
    form: str = "{:.3g}"
    close: float = 1.25


def _ratio(settings: Settings, free: int, runs: Sequence[RunRecord]) -> float | None:
    large = dataclasses.replace(settings, dataset="synthetic", catalog_size=1_000_000)
    n_sequences, length = Facts.of(large).step(large)
    ce, sce = (
        predict_memory(large.config(loss), 1_000_000, n_sequences=n_sequences, length=length) for loss in ("ce", "sce")
    )
    return ce.loss_workspace / sce.loss_workspace


def _work(settings: Settings, free: int, runs: Sequence[RunRecord]) -> float | None:
    large = dataclasses.replace(settings, dataset="synthetic", catalog_size=1_000_000)
    n_sequences, length = Facts.of(large).step(large)
    cce, sce = (
        count_work(large.config(loss), 1_000_000, n_sequences=n_sequences, length=length) for loss in ("cce", "sce")
    )
    return cce.flops / sce.flops


def _wall(settings: Settings, free: int, runs: Sequence[RunRecord]) -> float | None:
    """The largest catalog that cross-entropy has room for, by halving the interval of its logarithm."""
    settings = dataclasses.replace(settings, dataset="synthetic")
    n_sequences, length = Facts.of(settings).step(settings)

    def fits(catalog_size: int) -> bool:
        use = predict_memory(settings.config("ce"), catalog_size, n_sequences=n_sequences, length=length)
        return needed(use.as_dict()) <= free

    low, high = 2.0, 9.0  # powers of ten
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(round(10**middle)) else (low, middle)
    return float(f"{10**low:.2g}")


def _hit_rate(settings: Settings, free: int, runs: Sequence[RunRecord]) -> float | None:
    scores = [run.metrics[0]["HR@10"] for run in runs if run.metrics[1]]
    return scores[-1] if scores else None


def _milliseconds(settings: Settings, free: int, runs: Sequence[RunRecord]) -> float | None:
    times = [sum(run.snapshot.milliseconds.values()) for run in runs if run.snapshot.milliseconds]
    return times[-1] if times else None


def _last(settings: Settings) -> str:
    return label(settings.losses[-1]) if settings.losses else "the loss"


QUESTIONS = {
    "Memory of the losses": Question(
        lambda s: (
            "Over 1,000,000 items, the rest as it is now: how many times SCE's loss memory is that of held logits?"
        ),
        _ratio,
        "{:,.0f} times",
        1.5,
    ),
    "Work of the losses": Question(
        lambda s: (
            "Over 1,000,000 items: how many times SCE's operations are those of cross-entropy, logits never held?"
        ),
        _work,
        "{:,.0f} times",
        1.5,
    ),
    "Where the wall is": Question(
        lambda s: f"At batch {s.batch_size:,}, how many items may the catalog have until held logits have no room?",
        _wall,
        "{:,.0f} items",
        2.0,
    ),
    "HR@10": Question(
        lambda s: f"What HR@10 will {_last(s)} reach on the test items in the next run? (0 to 1)", _hit_rate, "{:.3f}"
    ),
    "Time of a step": Question(
        lambda s: f"How many milliseconds will a step of {_last(s)} take in the next run?",
        _milliseconds,
        "{:.0f} ms",
        1.5,
    ),
}


@dataclass
class Commitment:
    """A guess that was committed, and its answer once that is known."""

    name: str
    question: str
    value: float
    settings: Settings
    known: set[int]  # numbers of the runs there were
    answer: float | None = None

    @property
    def off(self) -> float | None:
        """The factor between guess and answer, 1 or more; None before the answer."""
        if self.answer is None:
            return None
        if self.answer == self.value:
            return 1.0
        low, high = sorted((self.value, self.answer))
        return high / low if low > 0 else math.inf


def verdict(guess: Commitment) -> str:
    """How far off it was, in a sentence."""
    off, question = guess.off, QUESTIONS[guess.name]
    if off is None:
        return "Committed. The answer comes when it is known; if it takes a run, press Start."
    answer = question.form.format(guess.answer)
    if off == math.inf:
        return f"It is {answer}."
    side = "too high" if guess.value > guess.answer else "too low"
    far = "exactly that" if off < 1.005 else f"{off - 1:.0%} {side}" if off < 2 else f"{off:,.3g} times {side}"
    return f"It is {answer}: {'well guessed, ' if off <= question.close else ''}{far}."


class Guesses:
    """The panel.

    Args:
        settings: what the controls say now.
        free: bytes that are free.
        runs: all runs.
    """

    def __init__(
        self, settings: Callable[[], Settings], free: Callable[[], int], runs: Callable[[], Sequence[RunRecord]]
    ) -> None:
        self._settings, self._free, self._runs = settings, free, runs
        self._lock = threading.Lock()
        self._looking: Latest[None] = Latest(lambda _: self._look())  # an answer may take a second to compute
        self.made: list[Commitment] = []
        self.choice = widgets.Dropdown(options=list(QUESTIONS), tooltip="What to guess")
        self.field = widgets.Text(placeholder="your guess", tooltip="Your guess, a number")
        self.button = widgets.Button(description="Commit", icon="check", tooltip="The answer comes after that")
        self._ask, self._said, self._table = text(""), text(""), text("")
        self.choice.observe(lambda _: self.ask(), "value")
        self.button.on_click(lambda _: self.commit())
        self.field.on_msg(lambda _, content, __: self.commit() if content.get("event") == "submit" else None)
        row = widgets.HBox([self.choice, self.field, self.button])
        row.add_class("sce-share")
        self.view = widgets.VBox([self._ask, row, self._said, self._table])
        self.view.add_class("sce-guesses")
        self.ask()

    def ask(self) -> None:
        """Put the chosen question, at the present settings."""
        question = QUESTIONS[self.choice.value].ask(self._settings())
        self._ask.value = f'<div class="sce-ask"><b>Guess first.</b> {html.escape(question)}</div>'

    def commit(self) -> Commitment | None:
        """Commit what stands in the field; None, with a sentence, if it is not a number above 0."""
        words = self.field.value.strip().replace(",", "").replace("_", "").rstrip("%×x ")
        try:
            value = float(words)
            if not 0 < value < math.inf:
                raise ValueError
        except ValueError:
            self._say(f"A guess is a number above 0, such as 20, got {self.field.value!r}.", "sce-problem")
            return None
        name, settings = self.choice.value, self._settings()
        guess = Commitment(name, QUESTIONS[name].ask(settings), value, settings, {run.number for run in self._runs()})
        with self._lock:
            self.made.append(guess)
        self.field.value = ""
        self._say(verdict(guess))
        self.look()
        return guess

    def look(self) -> None:
        """Answer the guesses whose answers are known by now, in the background: see :meth:`settle`."""
        if any(guess.answer is None for guess in self.made):
            self._looking.submit(None)

    def settle(self, timeout: float = 60.0) -> None:
        """Wait for that.

        Raises:
            TimeoutError: it takes longer than ``timeout`` seconds.
        """
        self._looking.settle(timeout)

    def _look(self) -> None:
        news = []
        with self._lock:
            for guess in [each for each in self.made if each.answer is None]:
                ended = [
                    run
                    for run in self._runs()
                    if run.number not in guess.known and run.snapshot.state in (FINISHED, STOPPED)
                ]
                asked = guess.settings.losses[-1:]
                ended = [run for run in ended if run.loss in asked]
                guess.answer = QUESTIONS[guess.name].answer(guess.settings, self._free(), ended)
                if guess.answer is not None:
                    news.append(guess)
            rows = [_row(guess) for guess in self.made[-8:]]
        self._table.value = table(reversed(rows), left=("question",), wrap=("question",)) if rows else ""
        if news:
            self._say(verdict(news[-1]))

    def as_list(self) -> list[dict[str, Any]]:
        """The guesses as plain data."""
        return [
            {"question": guess.question, "guess": guess.value, "answer": guess.answer, "off": guess.off}
            for guess in self.made
        ]

    def _say(self, sentence: str, level: str = "") -> None:
        self._said.value = f'<div class="sce-told {level}">{html.escape(sentence)}</div>'


def _row(guess: Commitment) -> dict[str, str]:
    form = QUESTIONS[guess.name].form
    return {
        "question": html.escape(guess.question),
        "your guess": form.format(guess.value),
        "answer": form.format(guess.answer) if guess.answer is not None else "after the run",
        "how far off": html.escape(verdict(guess).split(": ")[-1].rstrip(".")) if guess.answer is not None else "",
    }

"""A small language model trained with several losses, side by side: likelihood, ranking, and what mends the first."""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import ipywidgets as widgets

from sce_lab.figures import brief_label
from sce_lab.figures.language_live import language_live_spec
from sce_lab.language import (
    ENTRIES,
    LANGUAGE_CONFIG,
    Corpus,
    Study,
    corrections,
    evaluate_language,
    evaluation_batches,
    read_corpus,
    train_language_model,
)
from sce_lab.training import Evaluated, Event, Started, StepDone, TrainingConfig
from sce_lab.widgets.kit.legend import losses_key
from sce_lab.widgets.kit.live import LiveRun, stop_all
from sce_lab.widgets.kit.progress import Snapshot
from sce_lab.widgets.kit.slider import Slider
from sce_lab.widgets.kit.speech import Status
from sce_lab.widgets.kit.stage import Canvas, stage, text
from sce_lab.widgets.kit.turns import Turn, take_turns

#: Entries of the recorded experiment that are trained here.
SHOWN = ("cce", "sampled-log-uniform", "sce")
VOCABULARIES = (512, 1_024, 2_048, 4_096, 8_192, 16_384)
SECONDS = (2, 5, 10, 20, 40, 80)
_EVERY = 20  # steps between evaluations


class LanguageRun:
    """Trains one language model a loss, in turns, each for so many seconds of its own; then fits what mends it.

    Args:
        vocabulary: V, where its slider begins.
        seconds: of training for each loss, likewise.
        ended: called when all is done.
    """

    def __init__(
        self,
        *,
        vocabulary: int = 4_096,
        seconds: int = 10,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        stop_all()
        self.ended = ended
        self.corpus: Corpus | None = None
        self.corrected: dict[str, dict[str, float]] = {}
        self._names = {name: (ENTRIES[name].loss, brief_label(ENTRIES[name].loss)) for name in SHOWN}
        self._run = LiveRun()
        self._shot = Snapshot()
        self._fitting = False
        self.controls = {
            "vocabulary": Slider([(f"{v:,}", v) for v in VOCABULARIES], vocabulary, description="Words <i>V</i>")
        }
        self.controls["vocabulary"].tooltip = "Words of the vocabulary"
        self.controls["seconds"] = Slider(
            [(f"{s} s", s) for s in SECONDS], seconds, description="Training of each loss"
        )
        self.controls["seconds"].tooltip = "Seconds of each loss"
        self.buttons = {
            "start": widgets.Button(description="Start", icon="play", tooltip="Train all of them, in turns"),
            "stop": widgets.Button(description="Stop", icon="stop", tooltip="End after the present step"),
        }
        self.buttons["start"].on_click(lambda _: self.start())
        self.buttons["start"].add_class("sce-primary")
        self.buttons["stop"].on_click(lambda _: self.stop())
        self._status = Status()
        self._figure = Canvas(self._spec())
        bar = widgets.HBox([*self.buttons.values(), *self._status.widgets])
        bar.add_class("sce-bar")
        boxes = [widgets.VBox([control]) for control in self.controls.values()]
        for box in boxes:
            box.add_class("sce-control")
        cards = widgets.Box(boxes)
        cards.add_class("sce-cards")
        key = losses_key([loss for loss, _ in self._names.values()], "Validation text; the softmax over all words.")
        self.view = stage(cards, bar, self._figure.widget, text(key))
        self._show(self._shot)

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    @property
    def active(self) -> bool:
        """Is it training?"""
        return self._run.active

    def start(self) -> bool:
        """Train anew, with what the sliders say. False if it is at it."""
        if self.active:
            return False
        self.corrected = {}
        vocabulary, seconds = self.controls["vocabulary"].value, self.controls["seconds"].value
        self._run.start(lambda stop: self._events(vocabulary, seconds, stop), self._show)
        return True

    def stop(self) -> None:
        """End after the present step; nothing is fitted then."""
        self._run.stop()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end.

        Raises:
            TimeoutError: it takes longer than ``timeout`` seconds.
            Exception: what it failed with.
        """
        self._run.wait(timeout)

    def results(self) -> dict[str, Any]:
        """Where each loss is, as plain data."""
        reached = {}
        for name, lane in self._shot.lanes.items():
            spent = lane.curves.seconds
            reached[name] = {"steps": lane.step, "seconds": float(spent[-1]) if len(spent) else None}
            reached[name] |= dict(lane.metrics) | {"corrected": self.corrected.get(name, {})}
        words = len(self.corpus.vocabulary) if self.corpus else None
        return {"state": self._shot.state, "vocabulary": words, "losses": reached}

    def verdict(self) -> str | None:
        """What became of SCE beside cross-entropy; None before the end.

        ``"ranks"``: its first guess is right at least about as often (a point less at most), but perplexity is over
        a tenth higher. ``"both"``, ``"neither"``, ``"likely"``: the other three.
        """
        if not self.corrected:
            return None
        exact, sce = (self._shot.lanes[name].metrics for name in ("cce", "sce"))
        ranks, likely = sce["top1"] >= exact["top1"] - 0.01, sce["perplexity"] <= 1.1 * exact["perplexity"]
        return {(1, 1): "both", (1, 0): "ranks", (0, 1): "likely", (0, 0): "neither"}[ranks, likely]

    def closed(self) -> float | None:
        """What share of SCE's distance to cross-entropy, in nats, is closed by what was fitted to both; None before the
        end. Over 1: it comes out ahead. 0 where there was no distance."""
        if not self.corrected:
            return None
        exact, sce = (self.corrected[name] for name in ("cce", "sce"))
        before, after = (math.log(sce[kind] / exact[kind]) for kind in ("none", "word bias"))
        return 1 - after / before if before > 0.01 else 0.0

    def told(self, what: str) -> str:
        """The outcome in words: the "verdict", or what was "closed"."""
        exact, sce = (self._shot.lanes[name].metrics for name in ("cce", "sce"))
        mended, exactly = (self.corrected[name]["word bias"] for name in ("sce", "cce"))
        if what == "verdict":
            return (
                f"Perplexity is {sce['perplexity']:.0f} with SCE and {exact['perplexity']:.0f} with cross-entropy; the "
                f"first guess is right for {sce['top1']:.1%} and for {exact['top1']:.1%} of the words."
            )
        return (
            f"SCE's perplexity went from {sce['perplexity']:.0f} to {mended:.0f}, cross-entropy's, treated alike, from "
            f"{exact['perplexity']:.0f} to {exactly:.0f}: {self.closed():.0%} of the distance."
        )

    # ---------------------------------------------------------------------------------------------- in the worker

    def _events(self, vocabulary: int, seconds: float, stop: Callable[[], bool]) -> Iterator[Turn]:
        self.corpus = read_corpus(vocabulary)
        study, models = Study(), {}
        windows = evaluation_batches(self.corpus.validation, 2 * study.on_the_way, study.config.max_length)
        runs = {
            name: self._one(
                ENTRIES[name].config(study), seconds, windows, stop, lambda m, n=name: models.update({n: m})
            )
            for name in SHOWN
        }
        yield from take_turns(runs)
        if stop() or len(models) < len(runs):
            return
        self._fitting = True
        training = evaluation_batches(self.corpus.train, study.for_bias, study.config.max_length)
        fitted = {}
        for name, model in models.items():
            found = corrections(model, training, windows, self.corpus.counts)
            fitted[name] = {kind: evaluate_language(model, windows, each).perplexity for kind, each in found.items()}
        self.corrected, self._fitting = fitted, False

    def _one(
        self,
        config: TrainingConfig,
        seconds: float,
        windows: Any,
        stop: Callable[[], bool],
        keep: Callable[[Any], None],
    ) -> Iterator[Event]:
        spent, n = 0.0, config.batch_size * config.max_length
        forever = range(_EVERY, 10**9, _EVERY)
        steps = train_language_model(
            self.corpus, config, steps=10**9, evaluate_at=forever, evaluate_on=windows, stop=stop
        )
        for made in steps:
            if made.step == 1:
                yield Started(config, _EVERY, sum(p.numel() for p in made.model.parameters()))
            yield StepDone(made.step, 0, made.loss, n, {"step": made.seconds - spent})
            spent, last = made.seconds, made.seconds >= seconds
            quality = made.quality or (evaluate_language(made.model, windows) if last else None)
            if quality is not None:
                kept = {name: value for name, value in quality.as_dict().items() if isinstance(value, float)}
                yield Evaluated(made.step, 0, kept, False, 0.0)
            if last:
                return keep(made.model)

    # -------------------------------------------------------------------------------------------------- what to show

    def _show(self, shot: Snapshot) -> None:
        self._shot = shot
        self._figure.show(self._spec())
        active = self.active
        self.buttons["start"].disabled, self.buttons["stop"].disabled = active, not active
        self.buttons["start"].description = "Again" if shot.lanes and not active else "Start"
        self._status.say(self._sentence(shot))
        if not active and self.corrected:
            self.ended()

    def _sentence(self, shot: Snapshot) -> str:
        total = self.controls["seconds"].value
        if shot.error is not None:
            return f'<span class="sce-problem">It failed: {html.escape(str(shot.error))}</span>'
        if self._fitting:
            return "Trained; now a scale and a bias of each word are fitted."
        if shot.active:
            done = statistics.fmean([*(lane.seconds for lane in shot.lanes.values()), 0.0])
            return f"<b>Training</b>, a step of each in turn: {min(done, total):.0f} of {total} s each"
        reached = [
            f"{self._names[name][1]} {lane.metrics['perplexity']:.0f}, {lane.metrics['top1']:.1%}"
            for name, lane in shot.lanes.items()
            if lane.metrics
        ]
        if reached:
            return "<b>Perplexity, and first guess right:</b> " + "; ".join(reached)
        return f"Ready: {len(SHOWN)} models of {LANGUAGE_CONFIG.hidden_size} dimensions, {total} s each."

    def _spec(self) -> dict[str, Any]:
        curves = {name: lane.curves for name, lane in self._shot.lanes.items()}
        return language_live_spec(self._names, curves, self.corrected)

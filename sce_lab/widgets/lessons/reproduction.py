"""A recipe that is trained while one watches, over the curve that was recorded before."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ipywidgets as widgets

from sce_lab.data import open_split
from sce_lab.figures import Curves, live_spec
from sce_lab.memory import guarded_train, measuring
from sce_lab.reproduce import PUBLISHED, Recipe
from sce_lab.training import AUTO, Event, where
from sce_lab.widgets.kit.live import LiveRun, stop_all
from sce_lab.widgets.kit.speech import Status
from sce_lab.widgets.kit.stage import Canvas, stage


class Reproduction:
    """Start and Stop, a sentence on how far it is, and the validation curve; at the end the test result.

    Args:
        recipe: what to train.
        record: of the same recipe, to be drawn behind the run.
        source: the data, by default those of the recipe; see :func:`sce_lab.data.open_split`.
        catalog_size: items of synthetic data.
        settings: settings of the recipe to change.
        device: where to train.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        record: Mapping[str, Any] | None = None,
        source: str | None = None,
        catalog_size: int | None = None,
        settings: dict[str, Any] | None = None,
        device: str = AUTO,
    ) -> None:
        stop_all()
        self.config = dataclasses.replace(recipe.with_settings(settings or {}).config, seed=0, device=device)
        self._source = {"source": source or recipe.dataset, "catalog_size": catalog_size}
        self._recorded = record["seeds"][0] if record else None
        rows = [row for row in PUBLISHED if row.dataset == recipe.dataset and row.model == "SASRec-SCE"]
        self._paper = rows[0].metrics if rows else {}
        self.run = LiveRun()
        self._figure = Canvas(self._spec())
        self._status = Status()
        self.buttons = {
            "start": widgets.Button(description="Start", icon="play", tooltip="Train from the beginning"),
            "stop": widgets.Button(description="Stop", icon="stop", tooltip="End after the present step"),
        }
        self.buttons["start"].on_click(lambda _: self.start())
        self.buttons["stop"].on_click(lambda _: self.run.stop())
        bar = widgets.HBox([*self.buttons.values(), *self._status.widgets])
        bar.add_class("sce-bar")
        self.view = stage(bar, self._figure.widget)
        self._show(self.run.snapshot())

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    def start(self) -> bool:
        """Train from the beginning. False if that is going on."""
        if self.run.active:
            return False
        self.run.start(self._events, self._show)
        return True

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the end; see :meth:`sce_lab.widgets.LiveRun.wait`."""
        self.run.wait(timeout)

    def results(self) -> dict[str, Any]:
        """What came out, as plain data; ``test`` is empty before the end."""
        shot = self.run.snapshot()
        test = dict(shot.finished.test) if shot.finished else {}
        return {"state": shot.state, "epochs": shot.epochs, "seconds": shot.seconds, "test": test, "paper": self._paper}

    # ---------------------------------------------------------------------------------------------- in the worker

    def _events(self, stop: Callable[[], bool]) -> Iterable[Event]:
        split, _ = open_split(**self._source)
        yield from guarded_train(self.config, split, step=measuring(), stop=stop)

    def _show(self, shot: Any) -> None:
        self._figure.show(self._spec(shot))
        self.buttons["start"].disabled, self.buttons["stop"].disabled = shot.active, not shot.active
        self.buttons["start"].description = "Again" if shot.step and not shot.active else "Start"
        self._status.say(self._sentence(shot), aloud=not (shot.active and shot.step))

    def _spec(self, shot: Any = None) -> dict[str, Any]:
        recorded = self._recorded["curve"] if self._recorded else None
        curves = shot.curves if shot else Curves()
        return live_spec(self.config.loss, curves, recorded=recorded, epochs=self.config.max_epochs)

    def _sentence(self, shot: Any) -> str:
        if shot.error is not None:
            return f"<b>It could not be trained.</b> {html.escape(str(shot.error))}"
        if shot.active and not shot.step:
            return "Reading the data ..."
        if shot.active:
            left = shot.seconds / max(shot.epochs, 1e-9) * (self.config.max_epochs - shot.epochs) / 60
            reached = f", NDCG@10 on validation {shot.metrics['NDCG@10']:.4f}" if shot.metrics else ""
            at = f"<b>Epoch {shot.epochs:.1f}</b> of {self.config.max_epochs}{html.escape(where(self.config.device))}"
            return f"{at}{reached}; about {left:.0f} min left"
        if shot.finished and shot.finished.test:
            test, ending = shot.finished.test, f"in {shot.seconds / 60:.1f} minutes"
            others = {"the paper": self._paper, "recorded": self._recorded.get("test", {}) if self._recorded else {}}
            beside = [f"{name} {values['NDCG@10']:.4f}" for name, values in others.items() if "NDCG@10" in values]
            return f"<b>Test NDCG@10 {test['NDCG@10']:.4f}</b> {ending} ({', '.join(beside) or 'nothing to compare'})"
        if shot.finished:
            return "Stopped: the test items are looked at after a whole run only."
        return f"Ready{html.escape(where(self.config.device)).replace(' on', ' to train on', 1)}."


__all__ = ["Reproduction"]

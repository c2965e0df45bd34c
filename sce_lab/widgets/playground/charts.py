"""The figures of what is being trained, each drawn as often as it can be read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np

from sce_lab.figures import METRICS, Curves, insight_spec, label, training_spec
from sce_lab.widgets.kit.stage import Canvas, text
from sce_lab.widgets.playground.records import RunRecord, beside, seeds_of

#: Seconds between two sights of what trembles from step to step.
SLOW = 1.0


class Charts:
    """The newest run of each loss on the data of the newest of all.

    Attributes:
        training: loss, HR@10, NDCG@10 and times of a step.
        insight: how SCE's buckets cover positions and capture softmax mass, COV@10, and memory over a step.
    """

    def __init__(self) -> None:
        self.training = Canvas(training_spec({}, {}))
        self.insight = Canvas(insight_spec(None, {}))
        self.against = widgets.ToggleButtons(options=[("epochs", "epoch"), ("seconds", "seconds")], value="epoch")
        self.against.tooltips = ["as often as all users were gone through", "of training, evaluations not counted"]
        self._seeds = text("")
        row = widgets.HBox([text('<span class="sce-soft">HR and NDCG over</span>'), self.against, self._seeds])
        self.axis = row.add_class("sce-bar").add_class("sce-axis")
        self._slow: tuple[dict[str, Any], Any] = ({}, None)
        self._slow_due = -np.inf

    def _say(self, seeds: Mapping[str, Sequence[RunRecord]]) -> None:
        """Which lines are means of several runs."""
        several = [f"{label(loss)} {len(of)}" for loss, of in seeds.items() if len(of) > 1]
        said = f"Seeds: {', '.join(several)}. Lines are their means, areas reach from the worst to the best."
        self._seeds.value = f'<span class="sce-soft">{said if several else ""}</span>'

    def show(self, runs: Sequence[RunRecord], *, active: bool = False, news: bool = True) -> None:
        """Draw the runs. Without ``news`` the loss goes on, and little else moves."""
        newest = runs[-1] if runs else None
        same = {run.loss: run for run in beside(newest, runs)}
        shots = {loss: run.snapshot for loss, run in same.items()}
        seeds = {loss: seeds_of(run, runs) for loss, run in same.items()}
        curves = {loss: Curves.mean([run.snapshot.curves for run in of]) for loss, of in seeds.items()}
        self._say(seeds)
        if time.monotonic() > self._slow_due or not active:
            milliseconds = {loss: shot.milliseconds for loss, shot in shots.items() if shot.milliseconds}
            self._slow = milliseconds, shots["sce"].followed if "sce" in shots else None
            self._slow_due, news = time.monotonic() + SLOW, True
        milliseconds, followed = self._slow
        epochs = newest.settings.epochs if newest else None
        ceiling = {name: newest.ceiling[name] for name in METRICS if newest and name in newest.ceiling}
        changes = {loss: shot.changes for loss, shot in shots.items() if shot.changes}
        options = {"ceiling": ceiling, "epochs": epochs, "changes": changes, "against": self.against.value}
        self.training.show(training_spec(curves, milliseconds, **options))
        if news:
            moments = {loss: (run.moments.live, run.moments.begins) for loss, run in same.items() if run.moments}
            self.insight.show(insight_spec(followed, curves, epochs=epochs, moments=moments))

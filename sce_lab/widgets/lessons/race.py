"""A first look: the losses trained one after the other, each for the same few seconds, on the same data."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import ipywidgets as widgets

from sce_lab.data import open_split
from sce_lab.figures import METRICS, TAUGHT, label, training_spec
from sce_lab.memory import guarded_train, measuring
from sce_lab.training import AUTO, Evaluated, Event, TrainingConfig, choose_device, where
from sce_lab.widgets.kit.legend import training_key
from sce_lab.widgets.kit.live import LiveRun, stop_all
from sce_lab.widgets.kit.progress import FINISHED, Snapshot
from sce_lab.widgets.kit.speech import Status
from sce_lab.widgets.kit.stage import Canvas, stage, text


class Race:
    """Trains each loss in turn, in the background, for ``seconds`` but at least an epoch, and shows
    them side by side as they learn.

    Args:
        configs: what to train, by loss.
        catalog_size: items of the synthetic world they learn from.
        seconds: for each loss.
        ended: called when the last of them has ended.
        device: where, unless ``configs`` say so.
    """

    def __init__(
        self,
        configs: Mapping[str, TrainingConfig] | None = None,
        *,
        catalog_size: int = 2_000,
        seconds: float = 7.0,
        ended: Callable[[], None] = lambda: None,
        device: str = AUTO,
    ) -> None:
        stop_all()
        self._ended = ended
        self.configs = dict(configs or default_configs(device))
        self.catalog_size, self.seconds = catalog_size, seconds
        self.snapshots: dict[str, Snapshot] = {}
        self.ceiling: dict[str, float] = {}
        self._runs = {loss: LiveRun() for loss in self.configs}
        self._lock = threading.Lock()
        self._stopped = False
        self._data: tuple[Any, Any] | None = None
        self._figure = Canvas(self._spec())
        self._status = Status()
        self.buttons = {
            "start": widgets.Button(description="Start", icon="play", tooltip="Train all of them, one after the other"),
            "stop": widgets.Button(description="Stop", icon="stop", tooltip="End after the present step"),
        }
        self.buttons["start"].on_click(lambda _: self.start())
        self.buttons["start"].add_class("sce-primary")
        self.buttons["stop"].on_click(lambda _: self.stop())
        bar = widgets.HBox([*self.buttons.values(), *self._status.widgets])
        bar.add_class("sce-bar")
        self.view = stage(bar, self._figure.widget, text(training_key(self.configs)))
        self._show_status()

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    @property
    def active(self) -> bool:
        """Is any of them being trained?"""
        return any(run.active for run in self._runs.values())

    def start(self) -> bool:
        """Train all of them anew. False if they are at it."""
        with self._lock:
            if self.active:
                return False
            self.snapshots, self._stopped = {}, False
            self._begin(next(iter(self._runs)))
        return True

    def stop(self) -> None:
        """End after the present step; the losses whose turn it was not are left out."""
        self._stopped = True
        for run in self._runs.values():
            run.stop()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for all of them.

        Raises:
            TimeoutError: it takes longer than ``timeout`` seconds.
            Exception: what a run failed with.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for run in self._runs.values():  # each starts the next before it ends
            run.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def results(self) -> dict[str, Any]:
        """What each loss has reached, as plain data that can be written as JSON."""
        losses = {}
        for loss, shot in self.snapshots.items():
            steps = shot.curves.loss
            losses[loss] = {
                "state": shot.state,
                "steps": shot.step,
                "epochs": shot.epochs,
                "seconds": shot.seconds,
                "loss_first": float(steps[0]) if len(steps) else None,
                "loss_last": float(steps[-1]) if len(steps) else None,
                "milliseconds": dict(shot.milliseconds),
                "measured_memory": shot.memory.as_dict() if shot.memory else None,
                "validation": shot.metrics,
            }
        return {"catalog_size": self.catalog_size, "ceiling": dict(self.ceiling), "losses": losses}

    # ---------------------------------------------------------------------------------------------- in the worker

    def _begin(self, loss: str) -> None:
        self._runs[loss].start(lambda stop: self._events(loss, stop), lambda shot: self._show(loss, shot))

    def _events(self, loss: str, stop: Callable[[], bool]) -> Iterable[Event]:
        if self._data is None:
            self._data = open_split("synthetic", catalog_size=self.catalog_size)
        split, process = self._data
        if process is not None and not self.ceiling:
            self.ceiling = {k: v for k, v in process.ceiling(split.validation).items() if k in METRICS}
        end, scored = time.monotonic() + self.seconds, False
        over = lambda: stop() or (scored and time.monotonic() > end)  # noqa: E731
        for event in guarded_train(self.configs[loss], split, step=measuring(), stop=over):
            scored = scored or isinstance(event, Evaluated)
            yield event

    def _show(self, loss: str, shot: Snapshot) -> None:
        self.snapshots[loss] = shot
        self._figure.show(self._spec())
        if shot.state == FINISHED and not self._stopped:  # not when the interpreter is ending
            order = list(self._runs)
            following = order[order.index(loss) + 1 :]
            if following:
                self._begin(following[0])
        self._show_status()
        if not self.active:
            self._ended()

    def _spec(self) -> dict[str, Any]:
        curves = {loss: shot.curves for loss, shot in self.snapshots.items()}
        milliseconds = {loss: shot.milliseconds for loss, shot in self.snapshots.items() if shot.milliseconds}
        return training_spec(curves, milliseconds, ceiling=self.ceiling, losses=tuple(self.configs))

    def _show_status(self) -> None:
        active = self.active
        self.buttons["start"].disabled, self.buttons["stop"].disabled = active, not active
        self.buttons["start"].description = "Again" if self.snapshots and not active else "Start"
        failed = [(loss, shot.error) for loss, shot in self.snapshots.items() if shot.error is not None]
        if failed:
            loss, error = failed[0]
            sentence = f"{label(loss)} failed: {error}"
        elif active:
            loss = next(loss for loss, run in self._runs.items() if run.active)
            place = html.escape(where(self.configs[loss].device))
            sentence = f"<b>{label(loss)}</b> is learning: {self.seconds:g} seconds for each loss{place}"
        elif self.snapshots:
            reached = [f"{label(k)} {s.metrics['HR@10']:.3f}" for k, s in self.snapshots.items() if s.metrics]
            sentence = f"<b>HR@10 after {self.seconds:g} s each:</b> " + ", ".join(reached)
        else:
            total = self.seconds * len(self.configs)
            sentence = f"Ready: {len(self.configs)} trainings of {self.seconds:g} seconds, {total:g} in all."
        self._status.say(sentence)


def default_configs(device: str = AUTO) -> dict[str, TrainingConfig]:
    """One small training for each loss that the course is about; everything but the loss is the same."""
    settings = {
        "sampled": {"n_negatives": 128},
        "sce": {"n_buckets": 64, "bucket_size_x": 64, "bucket_size_y": 128, "mix_x": True},
    }
    device = choose_device(device)
    shared = {"device": device, "batch_size": 32 if device == "cpu" else 256}  # a GPU would have too little to do
    shared |= {"max_epochs": 1000, "patience": 1000}  # the clock ends it
    return {loss: TrainingConfig(loss=loss, loss_settings=settings.get(loss, {}), **shared) for loss in TAUGHT}

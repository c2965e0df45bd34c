"""What to train on these data: settings that follow from their numbers and from a budget, and what they will take."""

from __future__ import annotations

import dataclasses
import html
import threading
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets

from sce_lab.figures import LOOKS, brief_label, label
from sce_lab.memory import (
    DEVICES,
    DoesNotFitError,
    check_fits,
    format_bytes,
    format_seconds,
    free_memory,
    predict_memory,
    typical_length,
)
from sce_lab.sweeps import Trial, grid, vary
from sce_lab.timing import Duration, predict_time, too_long
from sce_lab.training import AUTO, TrainingConfig, choose_device
from sce_lab.widgets.kit.cores import one_core_left
from sce_lab.widgets.kit.latest import Latest
from sce_lab.widgets.kit.legend import swatch
from sce_lab.widgets.kit.live import anything_trained
from sce_lab.widgets.kit.slider import StepSlider
from sce_lab.widgets.kit.speech import Status
from sce_lab.widgets.kit.stage import stage, table, text
from sce_lab.widgets.kit.words import capitalised, counted
from sce_lab.widgets.own_data.bring import BringFile
from sce_lab.widgets.own_data.file import OwnData
from sce_lab.widgets.own_data.suggesting import suggested


class Plan:
    """The panel: losses, budget, epochs and seeds; below them what each loss would take.

    Args:
        data: where the data come from.
        losses, epochs, seeds: first values.
        device: where to train.
        changes: settings that are changed in all configurations, such as ``{"hidden_size": 16}``.

    Attributes:
        own: the data that it is for; None while there are none.
        configs: what would be trained; empty while there are no data.
        refused: by loss, why it does not fit here; those are left out.
        durations: by loss, how long a run will take, as far as that is known.
    """

    def __init__(
        self,
        data: BringFile,
        *,
        losses: Sequence[str] = ("cce", "sampled", "sce"),
        epochs: int = 10,
        seeds: int = 3,
        device: str = AUTO,
        changes: dict[str, Any] | None = None,
    ) -> None:
        self.data, self.device, self._changes = data, choose_device(device), changes or {}
        self.own: OwnData | None = None
        self.configs: list[TrainingConfig] = []
        self.refused: dict[str, str] = {}
        self._lock = threading.RLock()  # a file that was read and a training that ended come in threads of their own
        self.durations: dict[str, Duration] = {}
        self._made_before: list[Callable[[], None]] = []
        self._latest: Latest[list[TrainingConfig]] = Latest(self._time)
        free = free_memory(self.device)
        budgets = [(f"what is free here, {format_bytes(free)}", free)]
        budgets += [(f"{each.name}, {format_bytes(each.usable)}", each.usable) for each in DEVICES.values()]
        self.losses = {
            loss: widgets.ToggleButton(description=brief_label(loss), value=loss in losses, tooltip=label(loss))
            for loss in LOOKS
        }
        self.budget = widgets.Dropdown(options=budgets, value=free, description="Memory budget")
        self.budget.tooltip = "Memory budget"
        self.epochs = StepSlider([1, 2, 3, 5, 10, 15, 20, 30, 50, 100], epochs, description="Epochs", tooltip="Epochs")
        self.seeds = StepSlider([1, 2, 3, 4, 5], seeds, description="Seeds", tooltip="Seeds")
        self._table, self._said = text(""), Status()
        for each in (*self.losses.values(), self.budget, self.epochs, self.seeds):
            each.observe(lambda _: self.renew(), "value")
        toggles = widgets.HBox(list(self.losses.values())).add_class("sce-losses").add_class("sce-own")
        row = widgets.HBox([self.budget, self.epochs, self.seeds]).add_class("sce-own")
        self.view = stage(toggles, row, self._table, widgets.HBox(self._said.widgets))
        self._show()
        data.when_read(self.renew)

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    @property
    def trials(self) -> list[Trial]:
        """A training for each seed of each loss that fits here."""
        if self.own is None:
            return []
        fitting = [config for config in self.configs if config.loss not in self.refused]
        source, seeds = self.own.source, range(self.seeds.value)
        return [trial for config in fitting for trial in grid(config, source, seed=seeds)]

    @property
    def seconds(self) -> float:
        """How long all of them will take, as far as that is known."""
        return self.seeds.value * sum(took.seconds for loss, took in self.durations.items() if loss not in self.refused)

    def when_made(self, do: Callable[[], None]) -> None:
        """Call ``do`` whenever there is another plan, and now if there is one."""
        self._made_before.append(do)
        if self.configs:
            do()

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until it is known how long the trainings will take."""
        self.data.settle(timeout)
        self._latest.settle(timeout)

    def results(self) -> dict[str, Any]:
        """What would be trained and what it would take, as plain data."""
        return {
            "configs": {config.loss: dataclasses.asdict(config) for config in self.configs},
            "durations": {loss: dataclasses.asdict(each) for loss, each in self.durations.items()},
            "peaks": {config.loss: self._use(config).peak for config in self.configs},
        }

    def _use(self, config: TrainingConfig) -> Any:
        split = self.own.split
        return predict_memory(config, split.catalog_size, length=typical_length(config, split))

    def _refusal(self, config: TrainingConfig) -> str:
        split = self.own.split
        try:
            check_fits(config, split.catalog_size, typical_length(config, split), n_users=len(split.validation.targets))
        except DoesNotFitError as error:
            return str(error)
        return ""

    def renew(self) -> None:
        """Follow the data, the controls and what is free here; what is known of the same configurations stays."""
        with self._lock:
            own, chosen = self.data.data, [loss for loss, toggle in self.losses.items() if toggle.value]
            known = self.configs if own is self.own else []
            self.own, self.configs, self.refused = own, [], {}
            if own is not None and chosen:
                made = suggested(own.split, chosen, self.budget.value, self.device)
                last = {"max_epochs": self.epochs.value, "patience": self.epochs.value} | self._changes
                self.configs = [vary(config, **last) for config in made]
                refusals = {config.loss: self._refusal(config) for config in self.configs}
                self.refused = {loss: why for loss, why in refusals.items() if why}
            same = {config.loss for config in self.configs if config in known}
            self.durations = {loss: took for loss, took in self.durations.items() if loss in same}
            self._latest.submit(self.configs)
            self._show()
            for do in self._made_before:
                do()

    def _time(self, configs: list[TrainingConfig]) -> None:
        """In the background. Beside a training nothing is tried: its end renews the plan."""
        with one_core_left():
            for config in configs:
                own = self.own
                if self.configs is not configs or own is None or anything_trained():
                    return
                if config.loss in self.durations:
                    continue
                found = predict_time(config, own.split)
                with self._lock:
                    if self.configs is not configs:
                        return
                    self.durations = self.durations | {config.loss: found}
                    self._show()

    def _show(self) -> None:
        rows = []
        for config in self.configs:
            use, took = self._use(config), self.durations.get(config.loss)
            over = use.needed > self.budget.value
            wrong = "does not fit here: left out" if config.loss in self.refused else "over the budget" if over else ""
            sign = f' <span class="sce-problem">✗ {wrong}</span>' if wrong else ""
            rows.append(
                {
                    "loss": f"{swatch(config.loss)}{label(config.loss)}",
                    "settings": html.escape(_words(config)),
                    "peak memory": format_bytes(use.peak) + sign,
                    "a step": format_seconds(took.step) if took else "...",
                    "a run": ("" if took.measured else "≥ ") + format_seconds(took.seconds) if took else "...",
                }
            )
        self._table.value = table(rows, left=("loss",), wrap=("settings",))
        self._said.say(self._sentence())

    def _sentence(self) -> str:
        if self.own is None:
            return "Bring a file first: the settings follow from its numbers."
        if not self.configs:
            return "Choose at least one loss."
        out = "".join(
            f' <span class="sce-warning">⚠ {html.escape(capitalised(why))}: left out.</span>'
            for why in self.refused.values()
        )
        one, runs = self.configs[0], (len(self.configs) - len(self.refused)) * self.seeds.value
        if not runs:
            return f"Nothing of it fits here.{out}"
        known = len(self.durations) == len(self.configs)
        tried = "how long they take is tried when the training has ended"
        tried = tried if anything_trained() else "how long they take is being tried"
        took = f"about <b>{format_seconds(self.seconds)}</b> in all" if known else tried
        long = too_long(self.seconds, one.max_epochs) if known else ""
        warned = f' <span class="sce-warning">⚠ {long[:1].upper()}{long[1:]}.</span>' if long else ""
        same = f"batches of {one.batch_size} users, histories up to {one.max_length}, D = {one.hidden_size}"
        return f"{counted(runs, 'training')} with {same}: {took}.{warned}{out}"


def _words(config: TrainingConfig) -> str:
    """The settings of the loss, for people."""
    own = config.loss_settings
    match config.loss:
        case "sce" if "n_buckets" in own:
            sizes = f"{own['bucket_size_x']:,} × {own['bucket_size_y']:,}"
            return f"{own['n_buckets']:,} buckets of {sizes}" + (", Mix" if own.get("mix_x") else "")
        case "sampled" | "ce_minus":
            return f"{own['n_negatives']:,} negatives"
    return ", ".join(f"{name} {value}" for name, value in own.items()) or "as it comes"

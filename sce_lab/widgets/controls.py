"""The controls of the playground: what a person can set, in which steps, and what it means."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import traitlets

from sce_lab.figures import LOOKS, label


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


def _step_label(step: int) -> str:
    return f"{step / 1e6:g} M" if step >= 1_000_000 and step % 100_000 == 0 else f"{step:,}"


class StepSlider(widgets.SelectionSlider):
    """A slider over round numbers, so that each step matters however many decades they span.

    From Python any whole number between the first and the last may be set: it becomes a step of its own.
    """

    def __init__(self, steps: Sequence[int], value: int, **keywords: Any) -> None:
        super().__init__(options=[(_step_label(step), step) for step in steps], value=value, **keywords)

    @traitlets.validate("value")
    def _validate_value(self, proposal: traitlets.Bunch) -> int:
        steps, value = self._options_values, proposal.value
        if value in steps:
            return steps[steps.index(value)]
        if not isinstance(value, int | float) or value != value or not steps[0] < value < steps[-1] or value % 1:
            raise traitlets.TraitError(
                f"{self.tooltip or 'it'} takes whole numbers from {steps[0]:,} to {steps[-1]:,}, got {value!r}"
            )
        # Setting `options` would select the first of them for a moment, and tell everybody.
        self._options_values = tuple(sorted((*steps, int(value))))
        self._options_full = tuple((_step_label(step), step) for step in self._options_values)
        self.set_trait("_options_labels", tuple(name for name, _ in self._options_full))
        return int(value)


@dataclass(frozen=True)
class Control:
    """One setting. ``symbol`` is the paper's, as HTML; ``help`` one sentence."""

    name: str
    title: str
    symbol: str
    help: str

    def described(self) -> dict[str, Any]:
        """Keywords that label a widget."""
        symbol = f" <i>{self.symbol}</i>" if self.symbol else ""
        return {"description": self.title + symbol, "description_allow_html": True, "tooltip": self.title}


_ALL = (
    Control(
        "dataset",
        "Data set",
        "",
        "what to learn from: a synthetic world whose best possible score is known, a real data set, or your file.",
    ),
    Control(
        "catalog_size",
        "Catalog size",
        "C",
        "how many items there are to choose from. Cross-entropy scores every one of them at every position.",
    ),
    Control(
        "path",
        "Path of your file",
        "",
        "a CSV, TSV or parquet file with the columns user, item, timestamp. Press Enter to read it.",
    ),
    Control(
        "loss",
        "Loss",
        "",
        "what the next Start trains with. The memory below is always predicted for all three.",
    ),
    Control(
        "n_negatives",
        "Negatives",
        "",
        "for sampled softmax: how many random items every target competes with in a step.",
    ),
    Control(
        "n_buckets",
        "Buckets",
        'n<span class="sce-sub">b</span>',
        "for SCE: how many random directions are drawn. Each gathers the positions and items that point its way.",
    ),
    Control(
        "bucket_size_x",
        "Positions per bucket",
        'b<span class="sce-sub">x</span>',
        "for SCE: how many positions (outputs of the model) a bucket takes. Those in no bucket learn nothing then.",
    ),
    Control(
        "bucket_size_y",
        "Items per bucket",
        'b<span class="sce-sub">y</span>',
        "for SCE: how many items a bucket takes. They are the hard negatives of the positions in it.",
    ),
    Control(
        "mix_x",
        "Mix",
        "",
        "for SCE: draw the directions as mixtures of the model's own outputs, so that fewer point into the void.",
    ),
    Control(
        "batch_size",
        "Batch size",
        "s",
        "users in a step. Each brings as many positions as its history is long, and every position has to be scored.",
    ),
    Control(
        "epochs",
        "Epochs",
        "",
        "how often training goes through all users at most. The model is scored after each.",
    ),
    Control(
        "seed",
        "Seed",
        "",
        "decides first weights, order of users, dropout, negatives and buckets. The same seed gives the same run.",
    ),
)
CONTROLS = {control.name: control for control in _ALL}

DATASETS = (("Synthetic", "synthetic"), ("Amazon Beauty", "amazon_beauty"), ("Your file", "file"))


def make_controls(values: dict[str, Any]) -> dict[str, widgets.ValueWidget]:
    """The widgets, by name, set to ``values``.

    Raises:
        traitlets.TraitError: a value is not one that its control can have.
    """

    def keywords(name: str) -> dict[str, Any]:
        return CONTROLS[name].described()

    def slider(name: str, steps: list[int]) -> StepSlider:
        made = StepSlider(steps, steps[0], **keywords(name))
        made.value = values[name]
        return made

    losses = [(label(loss), loss) for loss in LOOKS]
    return {
        "dataset": widgets.Dropdown(options=DATASETS, value=values["dataset"], **keywords("dataset")),
        "catalog_size": slider("catalog_size", round_steps(100, 10_000_000)),
        "path": widgets.Text(
            value=values["path"], placeholder="interactions.csv", continuous_update=False, **keywords("path")
        ),
        "loss": widgets.ToggleButtons(options=losses, value=values["loss"], tooltips=[CONTROLS["loss"].help] * 3),
        "n_negatives": slider("n_negatives", octaves(4, 8192)),
        "n_buckets": slider("n_buckets", octaves(1, 4096)),
        "bucket_size_x": slider("bucket_size_x", octaves(1, 8192)),
        "bucket_size_y": slider("bucket_size_y", octaves(1, 8192)),
        "mix_x": widgets.Checkbox(value=values["mix_x"], indent=False, **keywords("mix_x")),
        "batch_size": slider("batch_size", octaves(4, 2048)),
        "epochs": slider("epochs", [*range(1, 11), 12, 15, 20, 30, 50, 100, 200]),
        "seed": slider("seed", list(range(10))),
    }


def with_help(name: str, widget: widgets.Widget) -> widgets.VBox:
    """The widget and its sentence of help, which the style shows at the foot of the deck while it is pointed at."""
    control = CONTROLS[name]
    symbol = f", <i>{control.symbol}</i> in the paper" if control.symbol else ""
    sentence = (
        f'<div class="sce-help-text"><b>{html.escape(control.title)}</b>{symbol}: {html.escape(control.help)}</div>'
    )
    help_line = widgets.HTML(sentence)
    help_line.add_class("sce-help")
    box = widgets.VBox([widget, help_line])
    box.add_class("sce-control")
    return box

"""The controls of the playground: what a person can set, in which steps, and what it means."""

from __future__ import annotations

import html
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import traitlets

from sce_lab.data import DATASETS as REGISTERED
from sce_lab.data import SYNTHETIC
from sce_lab.figures import LOOKS, brief_label
from sce_lab.losses import LOSSES
from sce_lab.training import AUTO, places
from sce_lab.widgets.kit.columns import ColumnChoice
from sce_lab.widgets.kit.own import OwnMoves
from sce_lab.widgets.kit.slider import StepSlider, octaves, round_steps
from sce_lab.widgets.kit.words import capitalised
from sce_lab.widgets.playground.settings import COLUMNS, OWN_FILE


class Choice(widgets.Dropdown):
    """A list to choose from that says, from Python, what there is to choose."""

    @traitlets.validate("value")
    def _validate_value(self, proposal: traitlets.Bunch) -> Any:
        if proposal.value not in self._options_values:
            known = ", ".join(map(repr, self._options_values))
            raise traitlets.TraitError(f"{self.tooltip} takes {known}, got {proposal.value!r}")
        return proposal.value


class LossPicker(widgets.VBox):
    """A button for each loss, any number of which may be down. ``value`` holds the names, in the lab's order."""

    value = traitlets.Any(())

    def __init__(self, value: Sequence[str] | str, tooltip: str) -> None:
        self._own, self._lock = OwnMoves(), threading.Lock()
        self.toggles = {
            loss: widgets.ToggleButton(description=brief_label(loss), tooltip=LOSSES[loss].says or tooltip)
            for loss in LOOKS
        }
        super().__init__(children=list(self.toggles.values()))
        self.add_class("sce-losses")
        self.value = value
        for loss, toggle in self.toggles.items():
            toggle.observe(lambda change, loss=loss: self._pressed(loss, change.new), "value")

    def _pressed(self, loss: str, down: bool) -> None:
        if not self._own:
            self.value = tuple(name for name in self.toggles if (down if name == loss else name in self.value))

    @traitlets.validate("value")
    def _validate_value(self, proposal: traitlets.Bunch) -> tuple[str, ...]:
        names = proposal.value
        names = [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else list(names)
        if unknown := [name for name in names if name not in self.toggles]:
            raise traitlets.TraitError(f"Losses are {', '.join(self.toggles)}, got {unknown[0]!r}")
        return tuple(loss for loss in self.toggles if loss in names)

    @traitlets.observe("value")
    def _show_value(self, change: traitlets.Bunch) -> None:
        with self._lock, self._own:  # a button that follows is not pressed
            for loss, toggle in self.toggles.items():
                toggle.value = loss in self.value


@dataclass(frozen=True)
class Control:
    """One setting. ``symbol`` is the paper's, as HTML; ``help`` one sentence."""

    name: str
    title: str
    symbol: str
    help: str

    def described(self, *, markup: bool = False) -> dict[str, Any]:
        """Keywords that label a widget, with ``markup`` in HTML: widgets that do not read it show it in tooltips."""
        symbol = f" <i>{self.symbol}</i>" if markup else f" {self.symbol}"
        return {"description": self.title + (symbol if self.symbol else ""), "tooltip": self.title}


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
        "how many items there are to choose from. Cross-entropy, held or not, scores each of them at every position.",
    ),
    Control(
        "path",
        "Path of your file",
        "",
        "a file that says who had what and when. Press Enter. Which columns do that can be chosen below it then.",
    ),
    Control(
        "user",
        "Who",
        "",
        "the column of your file that says who. Without a choice it is the one that has a usual name for that.",
    ),
    Control(
        "item",
        "What",
        "",
        "the column of your file that says what. Without a choice it is the one that has a usual name for that.",
    ),
    Control(
        "timestamp",
        "When",
        "",
        "the column of your file that says when, in numbers or dates; or none, if the rows stand oldest first.",
    ),
    Control(
        "losses",
        "Losses",
        "",
        "what the next Start trains with, one or several side by side. Memory and operations are predicted for all.",
    ),
    Control(
        "n_negatives",
        "Negatives",
        "",
        "for sampled softmax and CE-: how many random items every target competes with in a step.",
    ),
    Control(
        "sampling",
        "Sampling",
        "",
        "for sampled softmax: draw negatives evenly or by popularity, or take the other targets of the batch.",
    ),
    Control(
        "paper_rule",
        "As in the paper",
        "2√N",
        "for SCE: take 2√N buckets of as many positions, N being the positions of a step, whatever else changes.",
    ),
    Control(
        "n_buckets",
        "Buckets",
        'n<span class="sce-sub">b</span>',
        "for SCE and RECE: how many random directions are drawn. Each gathers positions and items that point its way.",
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
        "for SCE: draw the directions as mixtures of the model's own outputs, so that fewer point into the void. It is "
        "on here at first; sce-lab train takes it with --mix.",
    ),
    Control(
        "encoder",
        "Encoder",
        "",
        "SASRec, or with gated feed-forward layers, which learns in fewer epochs, or as the paper's authors run it.",
    ),
    Control(
        "hidden_size",
        "Width",
        "D",
        "numbers that describe an item, and an output of the model. All losses pay for it alike.",
    ),
    Control(
        "n_blocks",
        "Blocks",
        "",
        "attention layers that the model has one after the other.",
    ),
    Control(
        "low_pass",
        "Running mean",
        "",
        "what share the mean of the history so far has beside attention, in each block. Short trainings like it.",
    ),
    Control(
        "max_length",
        "History length",
        "l",
        "how many of a user's last items the model sees at most.",
    ),
    Control(
        "dropout",
        "Dropout",
        "",
        "share of the model's inner numbers that a training step ignores. Small data want more of it.",
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
        "learning_rate",
        "Learning rate",
        "",
        "how far Adam moves the weights in a step.",
    ),
    Control(
        "averaging",
        "Averaging",
        "",
        "what is scored is a moving average of the weights that keeps this share of itself each step. 0: no average.",
    ),
    Control(
        "seed",
        "Seed",
        "",
        "decides first weights, order of users, dropout, negatives and buckets. The same seed gives the same run.",
    ),
    Control(
        "n_seeds",
        "Seeds at once",
        "",
        "runs of each loss that Start makes, with this seed and the next ones. Drawn are their mean and their range.",
    ),
    Control(
        "device",
        "Train on",
        "",
        "where the next Start trains. Automatic is a GPU if there is one that can be used, otherwise the processor.",
    ),
)
CONTROLS = {control.name: control for control in _ALL}

DATASETS = (
    ("Synthetic", SYNTHETIC),
    *((each.title.partition(" (")[0], name) for name, each in REGISTERED.items()),
    ("Your file", OWN_FILE),
)
SAMPLINGS = (
    ("Evenly", "uniform"),
    ("By rank of popularity", "log_uniform"),
    ("By popularity", "popularity"),
    ("The batch's targets", "in_batch"),
    ("Half evenly, half the batch's", "mixed"),
)


#: Encoders by title.
ENCODER_TITLES = (("SASRec", "sasrec"), ("SASRec, gated", "sasrec_gated"), ("SASRec, as published", "sasrec_published"))


def devices() -> list[tuple[str, str]]:
    """What there is to train on; and CUDA also where there is none, since a line from elsewhere may ask for it."""
    titles = [place.title for place in places()]
    here = {"cuda": "GPU, none here"}
    for place in reversed(places()):
        here[place.name] = capitalised(place.title) + (f" ({place.name})" if titles.count(place.title) > 1 else "")
    return [("Automatic", AUTO), *((title, name) for name, title in here.items())]


#: Cards: title, and the names of their controls.
CARDS = {
    "data": ("Data", ("dataset", "catalog_size", "path", *COLUMNS)),
    "loss": ("Loss", ("losses", "n_negatives", "sampling")),
    "sce": ("SCE", ("n_buckets", "bucket_size_x", "bucket_size_y", "paper_rule", "mix_x")),
    "model": ("Model", ("encoder", "hidden_size", "n_blocks", "low_pass", "max_length", "dropout")),
    "training": ("Training", ("batch_size", "epochs", "learning_rate", "averaging", "seed", "n_seeds", "device")),
}


def make_controls(values: dict[str, Any]) -> dict[str, widgets.ValueWidget]:
    """The widgets, by name, set to ``values``.

    Raises:
        traitlets.TraitError: a value is not one that its control can have.
    """

    def keywords(name: str) -> dict[str, Any]:
        return CONTROLS[name].described()

    def slider(name: str, steps: list[float], **options: Any) -> StepSlider:
        made = StepSlider(steps, steps[0], **options, **CONTROLS[name].described(markup=True))
        made.value = values[name]
        return made

    def choice(name: str, options: Sequence[tuple[str, str]]) -> widgets.Dropdown:
        return Choice(options=options, value=values[name], **keywords(name))

    def check(name: str) -> widgets.Checkbox:
        return widgets.Checkbox(value=values[name], indent=False, **keywords(name))

    return {
        "dataset": choice("dataset", DATASETS),
        "catalog_size": slider("catalog_size", round_steps(100, 10_000_000)),
        "path": widgets.Text(
            value=values["path"], placeholder="interactions.csv", continuous_update=False, **keywords("path")
        ),
        **{name: ColumnChoice(name, values[name], **keywords(name)) for name in COLUMNS},
        "losses": LossPicker(values["losses"], CONTROLS["losses"].help),
        "n_negatives": slider("n_negatives", octaves(4, 8192)),
        "sampling": choice("sampling", SAMPLINGS),
        "paper_rule": check("paper_rule"),
        "n_buckets": slider("n_buckets", octaves(1, 4096)),
        "bucket_size_x": slider("bucket_size_x", octaves(1, 8192)),
        "bucket_size_y": slider("bucket_size_y", octaves(1, 8192)),
        "mix_x": check("mix_x"),
        "encoder": choice("encoder", ENCODER_TITLES),
        "hidden_size": slider("hidden_size", octaves(8, 512)),
        "n_blocks": slider("n_blocks", [1, 2, 3, 4]),
        "low_pass": slider("low_pass", [0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0], whole=False),
        "max_length": slider("max_length", [5, 10, 20, 50, 100, 200]),
        "dropout": slider("dropout", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], whole=False),
        "batch_size": slider("batch_size", octaves(4, 2048)),
        "epochs": slider("epochs", [*range(1, 11), 12, 15, 20, 30, 50, 100, 200]),
        "learning_rate": slider(
            "learning_rate", [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01], whole=False
        ),
        "averaging": slider("averaging", [0.0, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998], whole=False),
        "seed": slider("seed", list(range(10))),
        "n_seeds": slider("n_seeds", [1, 2, 3, 4, 5]),
        "device": choice("device", devices()),
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

"""A sweep from the page: two settings crossed, each cell a short training, as a map of quality, memory and time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import ipywidgets as widgets

from sce_lab.figures import Spec, heat_spec
from sce_lab.sweeps import Sweep, Trial, grid
from sce_lab.widgets.kit.progress import Snapshot
from sce_lab.widgets.kit.stage import text
from sce_lab.widgets.kit.sweep import SweepBoard
from sce_lab.widgets.playground.settings import Settings

#: What stands where nobody has set anything: cells of a second or two.
SMALL = Settings(
    catalog_size=1_000, hidden_size=32, n_blocks=1, max_length=20, batch_size=64, epochs=4, learning_rate=2e-3,
    bucket_size_x=32,
)  # fmt: skip


@dataclass(frozen=True)
class Crossing:
    """Which settings are crossed, for which losses, and where they stand; ``catalog_size`` is of the small world."""

    title: str
    losses: tuple[str, ...]
    axes: dict[str, tuple[int, ...]]
    x: str
    y: str
    catalog_size: int

    def trials(self, settings: Settings) -> list[Trial]:
        """A training for each cell and seed."""
        seeds = range(settings.seed, settings.seed + settings.n_seeds)
        configs = [dataclasses.replace(settings.config(loss), patience=settings.epochs) for loss in self.losses]
        data = settings.source.arguments
        return [trial for config in configs for trial in grid(config, data, **self.axes, seed=seeds)]

    def figure(self, sweep: Sweep) -> Spec:
        """Quality, memory and time as they are known."""
        values = ("NDCG@10", "peak_memory", "ms")
        return heat_spec(sweep.table(), self.x, self.y, values, loss=self.losses[0])


CROSSINGS = {
    "buckets": Crossing(
        "Buckets × items in each",
        ("sce",),
        {"n_buckets": (8, 32, 128, 512), "bucket_size_y": (8, 32, 128, 512)},
        "n_buckets",
        "bucket_size_y",
        1_000,
    ),
    "negatives": Crossing(
        "Negatives, 16 to 4,096",
        ("sampled", "ce_minus"),
        {"n_negatives": (16, 64, 256, 1_024, 4_096)},
        "loss",
        "n_negatives",
        5_000,
    ),
}


class SettingsSweep(SweepBoard):
    """The panel: what is crossed, where, and the map that grows.

    Args:
        settings: what the controls say now.
        busy: why nothing can be trained now; empty if something can.
    """

    def __init__(self, settings: Callable[[], Settings], busy: Callable[[], str]) -> None:
        self._settings = settings
        self.what = widgets.Dropdown(
            options=[(each.title, name) for name, each in CROSSINGS.items()], tooltip="Which settings are crossed"
        )
        self.where = widgets.Dropdown(
            options=[("in a small world, a minute or two", "small"), ("with the settings above", "above")],
            tooltip="What is trained but for those",
        )
        self._drawn = self._crossing
        super().__init__(self._sweep(), [lambda sweep: self._drawn.figure(sweep)], busy=busy)
        for choice in (self.what, self.where):
            choice.observe(lambda _: self.renew(), "value")
        row = widgets.HBox([text('<span class="sce-soft">Sweep</span>'), self.what, self.where])
        row.add_class("sce-bar")
        self.panel = widgets.VBox([row, *self.view.children[2:], text(_KEY)])

    @property
    def _crossing(self) -> Crossing:
        return CROSSINGS[self.what.value]

    @property
    def active(self) -> bool:
        """Is it being trained?"""
        return self.live.active

    def _sweep(self) -> Sweep:
        settings = self._settings()
        if self.where.value == "small":
            settings = dataclasses.replace(
                SMALL, catalog_size=self._crossing.catalog_size, seed=settings.seed, n_seeds=settings.n_seeds,
                device=settings.place,
            )  # fmt: skip
        return Sweep(self._crossing.trials(settings))

    def renew(self) -> None:
        """Show what the controls ask for now and find out how long it takes, unless something is being trained."""
        if not self.active:
            self._follow()
            self.time()

    def _follow(self) -> None:
        self._drawn = self._crossing
        self.take(self._sweep())

    def _show_state(self, shot: Snapshot) -> None:
        super()._show_state(shot)
        self.what.disabled = self.where.disabled = shot.active

    def start(self) -> bool:
        """Train what the controls ask for now; see :meth:`SweepBoard.start`."""
        if not self.active:
            self._follow()
        return super().start()


_KEY = (
    '<div class="sce-caption"><span>Each cell is a training; what was trained once is kept, not trained again.</span>'
    "<span>More seeds (in the card Training) make means of a cell: with one, a point or two is luck.</span></div>"
)

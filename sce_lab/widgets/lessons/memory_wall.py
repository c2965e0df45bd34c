"""The two walls: sliders whose answer is what a training step would take, where it fits, and how much it computes."""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import ipywidgets as widgets
import pandas as pd

from sce_lab.figures import LOOKS, brief_label, label
from sce_lab.figures.memory_charts import growth_spec, parts_spec
from sce_lab.figures.work import work_spec
from sce_lab.memory import (
    DEVICES,
    count_work,
    format_bytes,
    format_count,
    free_memory,
    measure_memory,
    predict_memory,
    release_memory,
    tables,
)
from sce_lab.training import AUTO, TrainingConfig, choose_device, takes
from sce_lab.widgets.kit.latest import Latest
from sce_lab.widgets.kit.legend import swatch
from sce_lab.widgets.kit.slider import StepSlider, octaves, round_steps
from sce_lab.widgets.kit.stage import Canvas, stage, table, text

CATALOGS = tuple(10**e for e in range(3, 10))
#: Catalogs at which a real step is made: small enough for any machine.
MEASURED = (1_000, 3_000, 10_000, 30_000)
#: A real step may take this much of what is free, and no more than this.
_SHARE, _MOST = 0.25, 2**29


@dataclass(frozen=True)
class Wall:
    """What the sliders say. The loss sees ``batch_size * length`` positions."""

    catalog_size: int = 1_000_000
    batch_size: int = 128
    length: int = 50
    hidden_size: int = 64
    sparse_gradients: bool = False
    device: str = "cpu"

    def config(self, loss: str) -> TrainingConfig:
        """The training they mean for ``loss``; cross-entropy, held or not, has no sparse gradients."""
        return TrainingConfig(
            loss=loss,
            batch_size=self.batch_size,
            max_length=self.length,
            hidden_size=self.hidden_size,
            device=self.device,
            sparse_gradients=self.sparse_gradients and takes(loss, "sparse_grad"),
        )


_CONTROLS: dict[str, tuple[str, str, list[int]]] = {
    "catalog_size": ("Items in the catalog <i>C</i>", "Items in the catalog", round_steps(1_000, 10**9)),
    "batch_size": ("Users in a batch", "Users in a batch", octaves(8, 4096)),
    "length": ("Positions per user", "Positions per user", [5, 10, 17, 20, 30, 50, 75, 100, 150, 200]),
    "hidden_size": ("Numbers per item <i>D</i>", "Numbers per item", octaves(16, 512)),
}


class MemoryWall:
    """Sliders, and what a step takes with each loss: peak, parts, devices, work, and how they grow with the catalog.

    Moving a slider shows peaks and work at once; the curves below, which are many predictions, follow. What the
    neighbouring stops of a slider would show is worked out ahead while nothing else is to do.

    Args:
        measure: make real steps, too, as points on the curves (small ones, in the background).
        device: on which the steps are made, and of which the predictions are.
        settings: first values of the sliders, see :class:`Wall`.

    Raises:
        TypeError: a setting that does not exist.
        traitlets.TraitError: a value that its slider cannot have.
    """

    def __init__(self, *, measure: bool = True, device: str = AUTO, **settings: Any) -> None:
        self._device = choose_device(device)
        first = Wall(**settings, device=self._device)
        self.controls: dict[str, widgets.ValueWidget] = {}
        for name, (title, tooltip, steps) in _CONTROLS.items():
            self.controls[name] = StepSlider(steps, steps[0], description=title, tooltip=tooltip)
            self.controls[name].value = getattr(first, name)
        self.controls["sparse_gradients"] = widgets.Checkbox(
            value=first.sparse_gradients, indent=False, description="Row-sparse gradients (not for cross-entropy)"
        )
        self.memory, self.work = _memory(first), _work(first)
        self.measured = pd.DataFrame(columns=["loss", "catalog_size", "peak", "predicted"])
        self._measure = measure
        self._moved = "catalog_size"
        self._lock = threading.Lock()
        self._now: Latest[Wall] = Latest(self._show_now)
        self._later: Latest[Wall] = Latest(self._show_later, self._look_ahead)
        self._closed = False
        self._build(first)
        for name, control in self.controls.items():
            control.observe(lambda change, name=name: self._changed(name), "value")
        _WALLS.add(self)
        self._later.submit(first)

    @property
    def settings(self) -> Wall:
        """What the sliders say now."""
        return Wall(**{name: control.value for name, control in self.controls.items()}, device=self._device)

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until all that the sliders ask for is shown."""
        self._now.settle(timeout)
        self._later.settle(timeout)

    def results(self) -> dict[str, Any]:
        """Settings, predictions and measured points as plain data."""
        self.settle()
        return {
            "settings": asdict(self.settings),
            "predicted": self.memory.set_index("loss").astype(int).to_dict("index"),
            "work": self.work.set_index("loss").to_dict("index"),
            "curves": self._curves.to_dict("records"),
            "measured": self.measured.to_dict("records"),
        }

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    # ----------------------------------------------------------------------------------------------------- the pieces

    def _build(self, first: Wall) -> None:
        boxes = []
        for control in self.controls.values():
            box = widgets.VBox([control])
            box.add_class("sce-control")
            boxes.append(box)
        sliders = widgets.Box(boxes[:4])
        sliders.add_class("sce-cards")
        self._note = text("")
        self._parts = Canvas(parts_spec(self.memory))
        self._curves = self._predicted_curves(first, few=True)
        self._growth = Canvas(growth_spec(self._curves, at=first.catalog_size))
        self._devices = text("")
        self._arithmetic = Canvas(work_spec(self.work, self._curves, at=first.catalog_size))
        self._show_text(first)
        self.view = stage(
            sliders,
            boxes[4],
            self._note,
            self._parts.widget,
            self._devices,
            self._growth.widget,
            text(_KEY),
            self._arithmetic.widget,
            text(_WORK_KEY),
        )

    def _show_text(self, wall: Wall) -> None:
        positions = wall.batch_size * wall.length
        scores = format_count(positions * wall.catalog_size)
        self._note.value = (
            f'<div class="sce-caption"><span>N = {wall.batch_size:,} × {wall.length} = <b>{positions:,}</b> positions; '
            f"N × C = {positions:,} × {wall.catalog_size:,} = <b>{scores}</b> scores for cross-entropy</span></div>"
        )
        self._devices.value = _device_table(self.memory)

    # -------------------------------------------------------------------------------------------------- what to show

    def _changed(self, name: str) -> None:
        """A slider moved, in whichever thread the kernel runs callbacks: nothing slow happens here."""
        self._moved = name
        settings = self.settings
        self._now.submit(settings)
        self._later.submit(settings)

    def _show_now(self, wall: Wall) -> None:
        """The predictions, in some tens of milliseconds; then the work."""
        memory = _memory(wall)
        with self._lock:
            self.memory = memory
            self._show_text(wall)
            self._parts.show(parts_spec(memory))
        work = _work(wall)
        with self._lock:
            self.work = work
            self._arithmetic.show(work_spec(work, self._curves, at=wall.catalog_size))

    def _show_later(self, wall: Wall) -> None:
        """The curves, unless something newer is asked for meanwhile."""
        self._now.settle()
        if not self._quiet(wall, 0.25):  # whoever still moves a slider is not to wait for this
            return
        curves = self._predicted_curves(wall)
        if curves is None:
            return
        self._curves = curves
        self._arithmetic.show(work_spec(self.work, curves, at=wall.catalog_size))
        same = self.measured.attrs.get("wall") == _but_catalog(wall)
        self._growth.show(growth_spec(curves, at=wall.catalog_size, measured=self.measured if same else None))
        if not same and self._measure:
            self._measure_points(wall)

    def _is_old(self, wall: Wall) -> bool:
        return self._closed or wall != self.settings

    def _quiet(self, wall: Wall, seconds: float) -> bool:
        """Wait so long; True if no slider was moved meanwhile."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._is_old(wall):
                return False
            time.sleep(0.02)
        return not self._is_old(wall)

    def close(self, timeout: float = 10.0) -> None:
        """Stop working ahead, and wait until nothing is being worked out any more."""
        self._closed = True
        self.settle(timeout)

    def _predicted_curves(self, wall: Wall, few: bool = False) -> pd.DataFrame | None:
        rows = []
        for loss in LOOKS:
            for size in CATALOGS[:: len(CATALOGS) - 1] if few else CATALOGS:
                if not few and self._is_old(wall):
                    return None
                peak = predict_memory(wall.config(loss), size).peak
                operations = count_work(wall.config(loss), size).flops
                rows.append({"loss": loss, "catalog_size": size, "peak": peak, "operations": operations})
        return pd.DataFrame(rows)

    def _measure_points(self, wall: Wall) -> None:
        """Real steps, small ones: a person can see that the lines are true."""
        rows: list[dict[str, Any]] = []
        if not self._quiet(wall, 0.6):
            return
        budget = min(_SHARE * free_memory(wall.device), _MOST)
        for loss in LOOKS:
            config = wall.config(loss)
            for size in MEASURED:
                if self._is_old(wall):
                    return
                predicted = predict_memory(config, size)
                if predicted.needed < budget:
                    peak = measure_memory(config, size).peak
                    rows.append({"loss": loss, "catalog_size": size, "peak": peak, "predicted": predicted.peak})
        measured = pd.DataFrame(rows, columns=self.measured.columns)
        release_memory()
        measured.attrs["wall"] = _but_catalog(wall)
        self.measured = measured
        self._growth.show(growth_spec(self._curves, at=wall.catalog_size, measured=measured))

    def _look_ahead(self, wall: Wall) -> Iterator[None]:
        """Predict at the neighbouring stops of the slider that moved last: predictions are remembered."""
        for value in self.controls[self._moved].near(3) if self._moved in _CONTROLS else ():
            if not self._closed:
                neighbour = Wall(**{**asdict(wall), self._moved: value})
                _memory(neighbour)
                _work(neighbour)
                yield


_WALLS: weakref.WeakSet[MemoryWall] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A daemon thread inside torch while the interpreter is taken apart can crash it."""
    for wall in list(_WALLS):
        with contextlib.suppress(Exception):
            wall.close()


def _but_catalog(wall: Wall) -> tuple[Any, ...]:
    return wall.batch_size, wall.length, wall.hidden_size, wall.sparse_gradients


def _memory(wall: Wall) -> pd.DataFrame:
    rows = [{"loss": loss, **predict_memory(wall.config(loss), wall.catalog_size).as_dict()} for loss in LOOKS]
    return pd.DataFrame(rows)


def _work(wall: Wall) -> pd.DataFrame:
    return tables.work([wall.config(loss) for loss in LOOKS], wall.catalog_size)


def _device_table(memory: pd.DataFrame) -> str:
    rows = []
    for row in memory.to_dict("records"):
        cells = {"": f"{swatch(row['loss'])}{brief_label(row['loss'])}"}
        needed = row["peak"] + row["parameters"]
        for device in DEVICES.values():
            short = f'<span class="sce-problem">{format_bytes(needed - device.usable)} short</span>'
            cells[device.name] = '<span title="fits">✓</span>' if needed <= device.usable else short
        rows.append(cells)
    key = (
        '<div class="sce-caption">'
        "<span>✓ fits, the copy of the best weights included; otherwise what is missing.</span>"
        "<span>Counted of each device is what the system, Python and CUDA leave.</span></div>"
    )
    return f'<div class="sce-devices">{_STYLE}{table(rows, left=("",))}{key}</div>'


_STYLE = """<style>
.sce-devices .sce-table { font-size: 12px; }
.sce-devices .sce-table th { white-space: normal; text-align: center; vertical-align: bottom; padding: 3px 4px; }
.sce-devices .sce-table td:not(.sce-left) { text-align: center; }
.sce-devices .sce-table td { padding: 3px 4px; }
.sce-devices .sce-table td:not(.sce-left) { white-space: normal; line-height: 16px; }
</style>"""
_KEY = (
    '<div class="sce-caption">'
    + "".join(f"<span>{swatch(loss)}{label(loss)}</span>" for loss in LOOKS)
    + "<span>Lines are predicted. Open markers are real steps, made on this machine just now.</span></div>"
)
_WORK_KEY = (
    '<div class="sce-caption">'
    "<span>Operations are counted: every product of two numbers and the sum it goes into.</span>"
    "<span>The time is an <b>estimate</b> of the least that this machine can take; no step is that fast.</span></div>"
)

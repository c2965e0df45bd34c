"""Items and batch spread over several devices: a slider, and what each of them takes and sends."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import Any

from sce_lab.distributed.predict import RankUse, predict_rank
from sce_lab.figures import brief_label
from sce_lab.memory import DEVICES, format_bytes
from sce_lab.training import TrainingConfig
from sce_lab.widgets.kit.latest import Latest
from sce_lab.widgets.kit.legend import swatch
from sce_lab.widgets.kit.slider import StepSlider, octaves, round_steps
from sce_lab.widgets.kit.stage import stage, table, text

LOSSES = ("cce", "sampled", "sce")


@dataclass(frozen=True)
class Spread:
    """What the sliders say: ``users`` in the batch of all devices together, with 50 positions each."""

    catalog_size: int = 100_000_000
    users: int = 1024
    devices: int = 8

    def use(self, loss: str) -> RankUse:
        """What the first of the devices takes."""
        return predict_rank(TrainingConfig(loss=loss, batch_size=self.users), self.catalog_size, self.devices)


class DeviceSlider:
    """Sliders for items, users and devices, and a table of the bytes of one device with each loss.

    A prediction takes a second or some: the table follows when the slider rests.

    Args:
        settings: first values of the sliders, see :class:`Spread`.
    """

    def __init__(self, **settings: Any) -> None:
        first = Spread(**settings)
        steps = {
            "catalog_size": ("Items in the catalog <i>C</i>", round_steps(10**6, 10**9)),
            "users": ("Users in a batch, all devices together", octaves(64, 4096)),
            "devices": ("Devices <i>R</i>", octaves(1, 1024)),
        }
        self.controls = {}
        for name, (title, values) in steps.items():
            self.controls[name] = StepSlider(values, values[0], description=title, tooltip=name.replace("_", " "))
            self.controls[name].value = getattr(first, name)
        self._table = text("")
        self._latest: Latest[Spread] = Latest(self._show_or_say)
        for control in self.controls.values():
            control.observe(lambda _: self._latest.submit(self.settings), "value")
        self.view = stage(*self.controls.values(), self._table)
        self._show(first)

    @property
    def settings(self) -> Spread:
        """What the sliders say now."""
        return Spread(**{name: control.value for name, control in self.controls.items()})

    def settle(self, timeout: float = 120.0) -> None:
        """Wait until what the sliders ask for is shown."""
        self._latest.settle(timeout)

    def results(self) -> dict[str, Any]:
        """Settings and predictions as plain data."""
        self.settle()
        uses = {loss: self.settings.use(loss) for loss in LOSSES}
        return asdict(self.settings) | {
            loss: use.memory.as_dict() | {"sent": round(use.sent)} for loss, use in uses.items()
        }

    def _show_or_say(self, spread: Spread) -> None:
        """What an earlier place of the sliders took does not stay under the new one."""
        try:
            self._show(spread)
        except Exception as error:
            said = html.escape(str(error) or type(error).__name__)
            self._table.value = f'<div class="sce-problem">The prediction failed: {said}</div>'
            raise

    def _show(self, spread: Spread) -> None:
        rows = []
        for loss in LOSSES:
            use = spread.use(loss)
            memory = use.memory
            fitting = [device.name for device in DEVICES.values() if memory.needed <= device.usable]
            rows.append(
                {
                    "on each device": f"{swatch(loss)}{brief_label(loss)}",
                    "items, gradient, Adam": format_bytes(
                        memory.parameters + memory.gradients + memory.optimizer_state
                    ),
                    "the loss": format_bytes(memory.loss_workspace),
                    "peak": format_bytes(memory.peak),
                    "sends in a step": format_bytes(use.sent),
                    "fits": ", ".join(fitting) or "on none of the devices above",
                }
            )
        self._table.value = table(rows, left=("on each device",), wrap=("fits",)) + _KEY

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)


_KEY = (
    '<div class="sce-caption"><span>Predicted, by the step itself on tensors without content.</span>'
    "<span>Each device has C / R items and its share of the batch; what it sends is counted around a ring.</span></div>"
)
"""Says what the numbers are."""

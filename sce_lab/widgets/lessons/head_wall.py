"""The wall of a real language model's head: sliders, and what the loss of a step would need there."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass, replace
from typing import Any

import ipywidgets as widgets
import pandas as pd

from sce_lab.figures import TAUGHT, brief_label
from sce_lab.figures.heads import head_spec
from sce_lab.memory import DEVICES, FORMATS, HEADS, PUBLISHED_HEADS, HeadUse, format_bytes, predict_head
from sce_lab.widgets.kit.latest import Latest
from sce_lab.widgets.kit.legend import losses_key, swatch
from sce_lab.widgets.kit.slider import StepSlider, octaves
from sce_lab.widgets.kit.stage import Canvas, stage, table, text

#: Of the lines.
TOKENS = (512, 2_048, 8_192, 32_768, 131_072)


@dataclass(frozen=True)
class HeadStep:
    """What the sliders say."""

    head: str = "gemma_2"
    n_tokens: int = 8_192
    loss: str = "ce"
    dtype: str = "bfloat16"
    frozen: bool = False

    def use(self, loss: str = "", n_tokens: int = 0) -> HeadUse:
        """What is predicted, of another loss or another number of tokens if they are given."""
        how = {"dtype": self.dtype, "frozen": self.frozen}
        return predict_head(HEADS[self.head], loss or self.loss, n_tokens or self.n_tokens, **how)


class HeadWall:
    """Head, tokens, loss and number format to choose; bytes over tokens, what they are for, and where they fit.

    Moving a control shows what it means for the chosen step at once; lines, which are twenty predictions, follow.

    Args:
        settings: where the controls begin, see :class:`HeadStep`.
    """

    def __init__(self, **settings: Any) -> None:
        first = HeadStep(**settings)
        heads = [(f"{head.name}: {head.vocabulary:,} × {head.hidden_size:,}", name) for name, head in HEADS.items()]
        losses = [(brief_label(loss), loss) for loss in TAUGHT]
        wide = {"style": {"description_width": "initial"}}
        self.controls: dict[str, Any] = {
            "head": widgets.Dropdown(options=heads, value=first.head, description="Head V × D", **wide),
            "n_tokens": StepSlider(
                octaves(TOKENS[0], TOKENS[-1]),
                first.n_tokens,
                description="Tokens of a step <i>N</i>",
                tooltip="Tokens",
            ),
            "loss": widgets.Dropdown(options=losses, value=first.loss, description="Loss", **wide),
            "dtype": widgets.ToggleButtons(options=[*FORMATS], value=first.dtype, style={"button_width": "90px"}),
            "frozen": widgets.Checkbox(value=first.frozen, indent=False, description="Table frozen (LoRA)"),
        }
        self._note, self._fits = text(""), text("")
        self._curves = self._predicted(first, TOKENS[:: len(TOKENS) - 1])
        self._figure = Canvas(self._spec(first))
        self._now: Latest[HeadStep] = Latest(self._show)
        self._later: Latest[HeadStep] = Latest(self._show_lines)
        boxes = [widgets.VBox([control]) for control in self.controls.values()]
        for box in boxes:
            box.add_class("sce-control")
        cards = widgets.Box(boxes)
        cards.add_class("sce-cards")
        key = losses_key(TAUGHT, "Open marks were measured by others, on an A100; everything else is predicted.")
        self.view = stage(cards, self._note, self._figure.widget, self._fits, text(key))
        self._show(first)
        for control in self.controls.values():
            control.observe(lambda _: self._changed(), "value")
        self._later.submit(first)

    @property
    def settings(self) -> HeadStep:
        """What the controls say now."""
        return HeadStep(**{name: control.value for name, control in self.controls.items()})

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until all that the controls ask for is shown."""
        self._now.settle(timeout)
        self._later.settle(timeout)

    def results(self) -> dict[str, Any]:
        """Settings and predictions as plain data."""
        self.settle()
        step = self.settings
        uses = {loss: asdict(step.use(loss)) | {"total": step.use(loss).total} for loss in TAUGHT}
        return {"settings": asdict(step), "predicted": uses, "curves": self._curves.to_dict("records")}

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    # -------------------------------------------------------------------------------------------------- what to show

    def _changed(self) -> None:
        self._now.submit(self.settings)
        self._later.submit(self.settings)

    def _show(self, step: HeadStep) -> None:
        head = HEADS[step.head]
        logits = step.n_tokens * head.vocabulary * FORMATS[step.dtype].itemsize
        capped = f", capped at {head.softcap:g}" if head.softcap else ""
        self._note.value = (
            f'<div class="sce-caption"><span>N × V = {step.n_tokens:,} × {head.vocabulary:,} logits{capped}: '
            f"<b>{format_bytes(logits)}</b> for each copy of them in {step.dtype}</span></div>"
        )
        rows = []
        for loss in TAUGHT:
            use = step.use(loss)
            fits = [device.name for device in DEVICES.values() if use.total <= device.usable]
            rows.append({"": f"{swatch(loss)}{brief_label(loss)}", "the loss alone": format_bytes(use.workspace)})
            rows[-1] |= {"in all": format_bytes(use.total)}
            rows[-1]["fits, with nothing else there"] = html.escape(" · ".join(fits)) or "on none of these devices"
        self._fits.value = table(rows, left=("",), wrap=("fits, with nothing else there",))
        self._figure.show(self._spec(step))

    def _show_lines(self, step: HeadStep) -> None:
        self._now.settle()
        curves = self._predicted(step, TOKENS)
        if curves is not None:
            self._curves = curves
            self._figure.show(self._spec(step))

    def _predicted(self, step: HeadStep, tokens: tuple[int, ...]) -> pd.DataFrame | None:
        """None if something else is asked for by now."""
        rows = []
        for loss in TAUGHT:
            for n in tokens:
                if hasattr(self, "_later") and not self._is_about(step):
                    return None
                rows.append({"loss": loss, "n_tokens": n, "total": step.use(loss, n).total})
        return pd.DataFrame(rows)

    def _is_about(self, step: HeadStep) -> bool:
        """Whether lines of this step are those that are asked for: loss and tokens only mark a place among them."""
        return replace(step, loss="ce", n_tokens=1) == replace(self.settings, loss="ce", n_tokens=1)

    def _spec(self, step: HeadStep) -> dict[str, Any]:
        rows = []
        for row in PUBLISHED_HEADS:
            if row.head == step.head and step.dtype == "bfloat16" and not step.frozen:
                inputs = 0 if row.with_inputs else step.use("ce", row.n_tokens).inputs
                rows.append((row.n_tokens, row.nbytes + inputs, row.held, row.what))
        published = pd.DataFrame(rows, columns=["n_tokens", "total", "held", "what"])
        marked = {"loss": step.loss, "n_tokens": step.n_tokens}
        return head_spec(self._curves, step.use(), published=published, **marked)

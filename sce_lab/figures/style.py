"""The lab's one look: colours, dashes and markers of the losses, the template, axes in bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from sce_lab.losses import LOSSES
from sce_lab.memory import format_bytes
from sce_lab.memory.use import power_of_ten

#: Text: of equal contrast on white and on black. Nothing else has this colour, so that THEME_CSS can find it.
INK = "rgb(119, 120, 121)"
GRID = "rgba(128, 129, 130, 0.22)"
LINE = "rgba(128, 129, 130, 0.60)"
#: What the losses share.
GREY, LIGHT_GREY = "rgba(128, 129, 130, 0.70)", "rgba(128, 129, 130, 0.35)"
CLEAR = "rgba(0, 0, 0, 0)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

#: plotly writes colours into its elements: text in INK takes ``--sce-ink`` instead, where a page defines it.
THEME_CSS = f'.js-plotly-plot text[style*="fill: {INK}"] {{ fill: var(--sce-ink, {INK}) !important; }}'


@dataclass(frozen=True)
class Look:
    """How a loss is drawn, everywhere."""

    color: str
    dash: str
    symbol: str

    def faded(self, opacity: float) -> str:
        """The colour, translucent."""
        red, green, blue = (int(self.color[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red}, {green}, {blue}, {opacity})"


#: Vermilion, blue and green of Okabe and Ito's set, which colour-blind people can tell apart; blue is lighter here.
#: The same loss without its logits is vermilion's darker relative: its square stands on a corner.
_TAUGHT = {
    "ce": Look("#d55e00", "dash", "square"),
    "cce": Look("#b5382f", "longdashdot", "diamond"),
    "sampled": Look("#2b83c6", "dot", "triangle-up"),
    "sce": Look("#009e73", "solid", "circle"),
}
#: The losses that the course is about.
TAUGHT = tuple(_TAUGHT)
#: Beside them, dashes and markers tell apart what colours alone might not.
_OWN = _TAUGHT | {
    "ce_minus": Look("#6a63c8", "longdash", "triangle-down"),
    "rece": Look("#b4629a", "dashdot", "cross"),
    "bce": Look("#8f7a1f", "6px,2px,2px,2px", "star"),
}
_NEW = Look("#a06a4a", "2px,5px", "x")


class _Looks(Mapping[str, Look]):
    """The looks of all registered losses, in the registry's order."""

    def __getitem__(self, loss: str) -> Look:
        if loss not in LOSSES:
            raise KeyError(loss)
        return _OWN.get(loss, _NEW)

    def __iter__(self) -> Iterator[str]:
        return iter(LOSSES)

    def __len__(self) -> int:
        return len(LOSSES)


LOOKS: Mapping[str, Look] = _Looks()


def look(loss: str) -> Look:
    """The look of ``loss``; one that has none of its own is brown."""
    return _OWN.get(loss, _NEW)


def label(loss: str) -> str:
    """The name of ``loss`` for people."""
    return LOSSES[loss].label if loss in LOSSES else loss


def narrow_label(loss: str) -> str:
    """:func:`label` for the side of a figure: on two lines if it is long, away from the axis."""
    return label(loss).replace(", ", ",  <br>") + "  "


def on_two_lines(name: str) -> str:
    """A name for the side of a figure, broken in the middle if it is long."""
    if len(name) < 24 or " " not in name:
        return name
    cut = min((i for i, letter in enumerate(name) if letter == " "), key=lambda i: abs(i - len(name) / 2))
    return name[:cut] + "<br>" + name[cut + 1 :]


def brief_label(loss: str) -> str:
    """:func:`label` for a button or a column of a table."""
    return {"cce": "CE (never held)"}.get(loss, label(loss))


def short_label(loss: str) -> str:
    """A name short enough to stand under a bar."""
    return {"ce": "CE", "cce": "Cut CE", "sampled": "Sampled", "sce": "SCE"}.get(loss, label(loss))


_AXIS = {
    "exponentformat": "none",  # 1,000,000 as in the text, not 1M
    "separatethousands": True,
    "gridcolor": GRID,
    "linecolor": LINE,
    "zeroline": False,
    "fixedrange": True,
    "automargin": True,
    "title": {"font": {"size": 12}, "standoff": 6},
}
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "margin": {"l": 12, "r": 12, "t": 40, "b": 32},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top", "bgcolor": CLEAR},
        "hoverlabel": {"font": {"family": FONT, "size": 12}},
        "xaxis": _AXIS | {"ticklabelstandoff": 5},  # in the corner both axes have a number
        "yaxis": _AXIS | {"ticklabelstandoff": 2},
        "annotationdefaults": {"showarrow": False, "font": {"size": 12, "color": INK}},
    }
)

Spec = dict[str, Any]
"""A figure as plain ``{"data": [...], "layout": {...}}``: quick to make many times a second, and to compare."""


def figure(spec: Spec) -> go.Figure:
    """The figure of a spec, in the lab's look."""
    return go.Figure(spec["data"], {"template": TEMPLATE, **spec["layout"]})


# ----------------------------------------------------------------------------------------------------------- axes


def nice_ceiling(value: float, steps: Sequence[float] = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)) -> float:
    """The next of ``steps`` times a power of ten: an axis that grows in steps does not jitter."""
    if not 0 < value < math.inf:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in steps if step * power >= value * (1 - 1e-9))


def bytes_axis(largest: float, *steps: Sequence[float]) -> Spec:
    """A linear axis from 0 to at least ``largest`` bytes, ticks at round binary sizes; ``steps``: of its end."""
    unit = 1024.0 ** math.floor(math.log(max(largest, 1), 1024))
    end = nice_ceiling(largest / unit, *steps) * unit
    step = nice_ceiling(end / unit / 4) * unit
    ticks = np.arange(0, end, step)
    return {"range": [0, end], "tickvals": ticks, "ticktext": ["0", *(format_bytes(t) for t in ticks[1:])]}


def log_bytes_axis(smallest: float, largest: float, room: float = 0.0) -> Spec:
    """A logarithmic axis from one power of two to another. ``room`` is the share left free for text at its end."""
    low, high = math.floor(math.log2(max(smallest, 1.0))), math.ceil(math.log2(max(largest, 2.0)))
    high = max(high, low + 3)
    end = high + (high - low) * room / (1 - room)
    step = next(s for s in (1, 2, 3, 5, 10, 20) if (end - low) / s <= 5 or s == 20)
    ticks = 2.0 ** np.arange(step * math.ceil(low / step), high + step / 2, step)
    span = [low * math.log10(2), end * math.log10(2)]
    return {"type": "log", "range": span, "tickvals": ticks, "ticktext": [format_bytes(t) for t in ticks]}


def log_count_axis(smallest: float, largest: float, room: float = 0.0) -> Spec:
    """A logarithmic axis of numbers, as :func:`log_bytes_axis` is one of bytes; ticks at powers of ten."""
    low, high = math.floor(math.log10(max(smallest, 1.0))), math.ceil(math.log10(max(largest, 10.0)))
    high = max(high, low + 2)
    end = high + (high - low) * room / (1 - room)
    step = next(s for s in (1, 2, 3, 6) if (end - low) / s <= 4 or s == 6)
    ticks = 10.0 ** np.arange(step * math.ceil(low / step), high + 1, step)
    return {
        "type": "log",
        "range": [low, end],
        "tickvals": ticks,
        "ticktext": [power_of_ten(round(math.log10(t))) for t in ticks],
    }


def in_words(n: float) -> str:
    """``20_000`` to ``"20,000"``, ``3_000_000`` to ``"3 million"``: a number as the text has it."""
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if n >= unit:
            return f"{n / unit:,.3g} {name}"
    return f"{n:,.0f}"


def decade_ticks(smallest: float, largest: float) -> Spec:
    """For a logarithmic axis of counts: a tick at each power of ten; at most four have names, the ends if it can be."""
    low, high = math.ceil(math.log10(smallest) - 1e-9), math.floor(math.log10(largest) + 1e-9)
    fitting = [s for s in (1, 2, 3) if high // s - (low - 1) // s <= 4] or [3]
    step = min(fitting, key=lambda s: (low % s > 0) + (high % s > 0))
    ticks = 10.0 ** np.arange(low, high + 1)
    return {"tickvals": ticks, "ticktext": [in_words(10.0**e) if e % step == 0 else "" for e in range(low, high + 1)]}


def panel_widths(*least: int) -> Spec:
    """For a layout: pixels that each panel needs, so that titles and names have room; a page that has fewer puts panels
    on several rows."""
    return {"meta": {"widths": list(least)}}


def panel_title(text: str, panel: str = "") -> Spec:
    """A panel's title above its left corner; ``panel`` is the suffix of its axes: "", "2", ..."""
    where = {"xref": f"x{panel} domain", "yref": f"y{panel} domain", "x": 0, "y": 1}
    return {"text": f"<b>{text}</b>", **where, "xanchor": "left", "yanchor": "bottom", "yshift": 6}


def line_at(x: float, panel: str = "") -> Spec:
    """A dotted vertical line through a whole panel."""
    where = {"xref": f"x{panel}", "yref": f"y{panel} domain", "x0": x, "x1": x, "y0": 0, "y1": 1}
    return {"type": "line", **where, "line": {"color": INK, "width": 1.5, "dash": "dot"}, "layer": "below"}

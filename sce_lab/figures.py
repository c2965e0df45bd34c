"""Figures: from tables to plotly, in one look.

Every public function takes tables (one row a run, or the histories that :mod:`sce_lab.runs` records) and returns a
figure; nothing here trains, measures or draws on a screen. A loss has one colour, dash and marker in all of them.

Backgrounds are transparent and text is a grey that can be read on white and on black. Where a page knows its theme it
may do better: :data:`THEME_CSS` replaces that grey by the page's own ink.
"""

from __future__ import annotations

import html
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sce_lab.losses import LOSSES
from sce_lab.memory import format_bytes
from sce_lab.runs import Run, compare_runs, for_people, summarize_history, write_text

#: Text and lines: a grey of equal contrast on white and on black, one that nothing else uses (see THEME_CSS).
INK = "rgb(119, 120, 121)"
GRID = "rgba(128, 129, 130, 0.25)"
FAINT = "rgba(128, 129, 130, 0.55)"
#: What all losses share (weights, encoder) is grey, so that colour always means "this is the loss".
SHARED, SHARED_LIGHT = "rgba(128, 129, 130, 0.75)", "rgba(128, 129, 130, 0.40)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

#: Text that has the colour INK takes the colour ``--sce-ink`` instead: plotly writes colours into the elements.
THEME_CSS = f""".js-plotly-plot text[style*="fill: {INK}"] {{ fill: var(--sce-ink) !important; }}"""


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


#: Vermilion, blue, green of Okabe and Ito's colour-blind-safe set, the blue lightened for dark pages.
LOOKS = {
    "ce": Look("#d55e00", "dash", "square"),
    "sampled": Look("#2b83c6", "dot", "triangle-up"),
    "sce": Look("#009e73", "solid", "circle"),
}
_OTHER = Look("#b4629a", "dashdot", "cross")

METRICS = ("HR@10", "NDCG@10")
_METRIC_TITLES = {"HR@10": "HR@10: next item in the top ten", "NDCG@10": "NDCG@10: and how high in it"}


def look(loss: str) -> Look:
    """The look of ``loss``; one that is not in :data:`LOOKS` gets a purple one."""
    return LOOKS.get(loss, _OTHER)


def label(loss: str) -> str:
    """The name of ``loss`` for people."""
    return LOSSES[loss].label if loss in LOSSES else loss


TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "colorway": [*(entry.color for entry in LOOKS.values()), _OTHER.color],
        "margin": {"l": 12, "r": 12, "t": 36, "b": 36},
        "title": {"font": {"size": 14}, "x": 0, "xref": "paper", "xanchor": "left"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0, 0, 0, 0)"},
        "hoverlabel": {"font": {"family": FONT, "size": 12}},
        "bargap": 0.4,
        **{
            axis: {
                "gridcolor": GRID,
                "linecolor": FAINT,
                "zeroline": False,
                "automargin": True,
                "fixedrange": True,
                "title": {"font": {"size": 12}, "standoff": 8},
            }
            for axis in ("xaxis", "yaxis")
        },
        "annotationdefaults": {"showarrow": False, "font": {"size": 12}},
    }
)

Spec = dict[str, Any]
"""A figure as plain ``{"data": [...], "layout": {...}}``: cheap to make many times a second, and to compare."""


def figure(spec: Spec) -> go.Figure:
    """The figure of a spec, in the lab's look."""
    return go.Figure(spec["data"], {"template": TEMPLATE, **spec["layout"]})


# ------------------------------------------------------------------------------------------------------ axes


def nice_ceiling(value: float) -> float:
    """The next 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten: axes that grow in steps do not jitter."""
    if not value > 0:
        return 1.0
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def bytes_axis(largest: float) -> Spec:
    """A linear axis from 0 to ``largest`` bytes with ticks at round binary sizes."""
    unit = 1024 ** max(0, math.floor(math.log(max(largest, 1), 1024)))
    step = nice_ceiling(largest / unit / 4) * unit
    ticks = np.arange(0, largest * 1.001, step)
    return {"range": [0, largest], "tickvals": ticks, "ticktext": ["0", *(format_bytes(t) for t in ticks[1:])]}


def log_bytes_axis(smallest: float, largest: float) -> Spec:
    """A logarithmic axis with ticks at binary sizes, each 8, 32 or 1024 times the one before."""
    low, high = math.log2(max(smallest, 1)), math.log2(max(largest, 2))
    step = next(s for s in (3, 5, 10, 20) if (high - low) / s <= 5 or s == 20)
    ticks = 2.0 ** np.arange(step * math.floor(low / step), high + step, step)
    span = [low * math.log10(2), high * math.log10(2)]
    return {"type": "log", "range": span, "tickvals": ticks, "ticktext": [format_bytes(t) for t in ticks], "minor": {}}


def _count(n: float) -> str:
    """``20000`` to ``"20k"``."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if n >= unit:
            return f"{n / unit:.3g}{name}"
    return f"{n:.0f}"


def _title(text: str, panel: str) -> Spec:
    """A panel's title, above its left corner. ``panel`` is the suffix of its axes: "", "2", ..."""
    return {
        "text": f"<b>{text}</b>",
        "xref": f"x{panel} domain",
        "yref": f"y{panel} domain",
        "x": 0,
        "y": 1,
        "xanchor": "left",
        "yanchor": "bottom",
        "yshift": 6,
    }


# ---------------------------------------------------------------------------------------------------- memory


def memory_spec(
    memory: pd.DataFrame,
    *,
    before: pd.DataFrame | None = None,
    measured: Mapping[str, float] | None = None,
    free: float | None = None,
    chosen: str | None = None,
) -> Spec:
    """See :func:`memory_figure`."""
    losses = list(memory["loss"])
    rows = np.arange(len(losses))[::-1]  # the first loss stands on top
    fixed = (memory["parameters"] + memory["gradients"] + memory["optimizer_state"]).to_numpy(float)
    activations = memory["activations"].to_numpy(float)
    peak = memory["peak"].to_numpy(float)
    workspace = np.maximum(memory["loss_workspace"].to_numpy(float), 1.0)
    fixed = np.minimum(fixed, peak)
    activations = np.minimum(activations, peak - fixed)
    colors = [look(loss).color for loss in losses]
    parts = (
        ("weights, gradients, Adam", fixed, SHARED),
        ("encoder activations", activations, SHARED_LIGHT),
        ("the loss", peak - fixed - activations, colors),
    )
    data: list[Spec] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "x": values,
            "y": rows,
            "width": 0.56,
            "marker": {"color": color, "line": {"width": 0}},
            "customdata": [format_bytes(v) for v in values],
            "hovertemplate": f"{name}: %{{customdata}}<extra></extra>",
        }
        for name, values, color in parts
    ]
    known = measured or {}
    data.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "measured",
            "x": [known.get(loss) for loss in losses],
            "y": rows,
            "marker": {"symbol": "diamond", "size": 11, "color": "white", "line": {"color": "black", "width": 1.5}},
            "customdata": [format_bytes(known.get(loss, 0)) for loss in losses],
            "hovertemplate": "measured: %{customdata}<extra></extra>",
        }
    )
    largest = float(max(peak.max(), *known.values(), 1.0)) if known else float(max(peak.max(), 1.0))
    end = nice_ceiling(1.3 * largest / 1024**3) * 1024**3
    data.append(
        {
            "type": "scatter",
            "mode": "text",
            "x": [max(p, known.get(loss, 0)) for p, loss in zip(peak, losses)],
            "y": rows,
            "text": [f"  <b>{format_bytes(p)}</b>" for p in peak],
            "textposition": "middle right",
            "textfont": {"color": INK, "size": 13},
            "cliponaxis": False,
            "hoverinfo": "skip",
            "showlegend": False,
        }
    )
    spans = [workspace.min(), workspace.max()]
    shapes = []
    if before is not None:
        old = before.set_index("loss")
        for row, loss in zip(rows, losses):
            if loss in old.index:
                shapes.append(_ghost(row, float(old.loc[loss, "peak"])))
                spans.append(max(1.0, float(old.loc[loss, "loss_workspace"])))
    old_workspace = [float(before.set_index("loss")["loss_workspace"].get(loss, 0)) if before is not None else 0 for loss in losses]
    return _memory_layout(data, shapes, losses, rows, end, spans, workspace, old_workspace, colors, free, chosen)

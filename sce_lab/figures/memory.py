"""Memory: of a step, part by part, and over the size of the catalog."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sce_lab.figures.style import (
    CLEAR,
    GREY,
    INK,
    LIGHT_GREY,
    LINE,
    Spec,
    brief_label,
    bytes_axis,
    decade_ticks,
    figure,
    label,
    line_at,
    log_bytes_axis,
    log_count_axis,
    look,
    panel_title,
    panel_widths,
)
from sce_lab.memory import format_bytes, format_count, format_seconds

#: Shares of the panels that are kept for the numbers, which stand in a column: beside marks that move they would stand
#: now behind one, now before another.
ROOM = (0.5, 0.52, 0.66)
#: A mark of what was before stays in sight up to this factor from what is now; the axis is that of what is now.
NEAR = 8.0


def memory_spec(
    memory: pd.DataFrame,
    *,
    before: pd.DataFrame | None = None,
    measured: Mapping[str, float] | None = None,
    free: float | None = None,
    work: pd.DataFrame | None = None,
) -> Spec:
    """See :func:`memory_figure`."""
    losses = list(memory["loss"])
    rows = np.arange(len(losses))[::-1]  # the first stands on top
    peak = memory["peak"].to_numpy(float)
    workspace = np.maximum(memory["loss_workspace"].to_numpy(float), 1.0)
    # Every part is at its own largest and they need not be largest together. The bars end at the peak; what the shared
    # parts leave of it is what the loss adds.
    weights = np.minimum(memory[["parameters", "gradients", "optimizer_state"]].sum(axis=1).to_numpy(float), peak)
    encoder = np.minimum(memory["activations"].to_numpy(float), peak - weights)
    colors = [look(loss).color for loss in losses]
    fields = ["peak", "loss_workspace"]
    old = memory.set_index("loss")[fields] if before is None else before.set_index("loss")[fields].reindex(losses)
    old_peak, old_workspace = old.to_numpy(float).T
    same = np.isclose(old_peak, peak, rtol=0.005)  # what did not change needs no outline
    old_peak, old_workspace = np.where(same, np.nan, old_peak), np.where(same, np.nan, old_workspace)
    taken = [(measured or {}).get(loss, np.nan) for loss in losses]

    def bar(name: str, values: np.ndarray, color: str | list[str]) -> Spec:
        hover = {"customdata": [format_bytes(v) for v in values], "hovertemplate": f"{name}: %{{customdata}}"}
        shape = {"orientation": "h", "width": 0.56, "marker": {"color": color, "line": {"width": 0}}}
        return {"type": "bar", "name": name, "x": values, "y": rows, **shape, **hover, "showlegend": False}

    def text(words: list[str], end: float, panel: str) -> Spec:
        where = {"x": np.full(len(rows), end), "y": rows, "xaxis": f"x{panel}", "yaxis": f"y{panel}", "text": words}
        font = {"textposition": "middle left", "textfont": {"color": INK, "size": 12}, "cliponaxis": False}
        return {"type": "scatter", "mode": "text", **where, **font, "hoverinfo": "skip", "showlegend": False}

    def dots(name: str, x: Any, panel: str, marker: Spec) -> Spec:
        sizes = ["" if np.isnan(v) else format_bytes(v) for v in x]
        where = {"x": x, "y": rows, "xaxis": f"x{panel}", "yaxis": f"y{panel}", "customdata": sizes}
        hover = f"{name}: %{{customdata}}<extra></extra>"
        return {"type": "scatter", "mode": "markers", **where, "marker": marker, "hovertemplate": hover} | {
            "showlegend": False,
            "name": name,
        }

    bars = bytes_axis(1.1 * np.nanmax([*peak, *taken]), (1, 2, 5, 10))
    end = bars["range"][1]
    near = (old_workspace >= workspace.min() / NEAR) & (old_workspace <= workspace.max() * NEAR)
    old_workspace = np.where(near, old_workspace, np.nan)
    low, high = max(1.0, np.nanmin([*workspace, *old_workspace])), np.nanmax([*workspace, *old_workspace])
    ghost_x, ghost_y = _outlines(rows, np.fmin(old_peak, end) + 0 * old_peak)
    ghost = {"type": "scatter", "mode": "lines", "name": "before", "x": ghost_x, "y": ghost_y, "hoverinfo": "skip"}
    symbols = [look(loss).symbol for loss in losses]
    filled = {"symbol": symbols, "size": 13, "color": colors}
    hollow = {"symbol": symbols, "size": 13, "color": CLEAR, "line": {"color": LINE, "width": 1.5}}
    known = np.where(peak > 0, 1.0, np.nan)  # of what is not known there is neither a mark nor a number

    def say(values: np.ndarray, how: Any) -> list[str]:
        return ["" if np.isnan(there) else how(v) for v, there in zip(values, known)]

    diamond = {"symbol": "diamond", "size": 11, "color": "white", "line": {"color": "black", "width": 1.5}}
    data = [
        bar("weights, gradients, Adam", weights, GREY),
        bar("encoder", encoder, LIGHT_GREY),
        bar("the loss", peak - weights - encoder, colors),
        ghost | {"line": {"color": LINE, "width": 1.5, "dash": "dot"}, "showlegend": False},
        dots("measured peak", np.array(taken, float), "", diamond),
        text(say(peak, lambda v: f"<b>{format_bytes(v)}</b>"), end / (1 - ROOM[0]), ""),
        dots("before", old_workspace, "2", hollow),
        dots("the loss", workspace * known, "2", filled),
    ]
    inside = free is not None and bool(free < end)
    shapes = [line_at(free if inside else 1.0) | {"visible": inside}]
    annotations = [panel_title("Peak of one step"), panel_title("The loss alone (log)", "2")]
    annotations.append(_free_label(free or 1.0) | {"visible": inside})
    ends = (0.56, 0.63, 1.0) if work is None else (0.38, 0.42, 0.66)
    alone = log_bytes_axis(low / 1.5, high, room=ROOM[1])
    data.append(text(say(workspace, format_bytes), 10 ** alone["range"][1], "2"))
    line = {"showgrid": False, "range": [-0.7, len(losses) - 0.4], "tickvals": rows, "ticks": ""}
    line |= {"ticktext": [f"{brief_label(loss)}  " for loss in losses]}
    layout = {
        "height": 58 + 28 * len(losses),
        "barmode": "stack",
        "margin": {"l": 8, "r": 8, "t": 26, "b": 22},
        # Coarse steps: while the axes stay as they are, moving a slider moves the bars, and little is drawn anew.
        "xaxis": {"domain": [0, ends[0]], **bars, **_few(bars), "range": [0, end / (1 - ROOM[0])]},
        "yaxis": line,
        "xaxis2": {"domain": [ends[1], ends[2]], "anchor": "y2", **alone, **_few(alone)},
        "yaxis2": {**line, "showticklabels": False, "anchor": "x2"},
        "shapes": shapes,
        "annotations": annotations,
        "showlegend": False,
        **panel_widths(*(258, 152, 182)[: 2 if work is None else 3]),
    }
    if work is not None:
        operations = np.maximum(work.set_index("loss").reindex(losses)["operations"].to_numpy(float), 1.0)
        seconds = work.set_index("loss").reindex(losses)["seconds"].to_numpy(float)
        axis = log_count_axis(operations.min() / 1.5, operations.max(), room=ROOM[2])
        words = [f"{format_count(n)}, ≥ {format_seconds(t)}" for n, t in zip(operations, seconds)]
        words = ["" if np.isnan(there) else word for word, there in zip(words, known)]
        data += [dots("operations", operations * known, "3", filled), text(words, 10 ** axis["range"][1], "3")]
        data[-2]["customdata"] = [format_count(n) for n in operations]
        layout["xaxis3"] = {"domain": [0.7, 1], "anchor": "y3", **axis, **_few(axis)}
        layout["yaxis3"] = {**line, "showticklabels": False, "anchor": "x3"}
        annotations.append(panel_title("Operations, time at best", "3"))
    return {"data": data, "layout": layout}


def _few(axis: Spec) -> Spec:
    """The first tick of an axis and the last, which have room in half a panel."""
    ends = slice(None, None, max(1, len(axis["tickvals"]) - 1))
    return {"tickangle": 0, "tickfont": {"size": 10}} | {ticks: axis[ticks][ends] for ticks in ("tickvals", "ticktext")}


def _outlines(rows: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Around the bars as they were, one line with gaps; nothing where they were not."""
    x = np.outer(sizes, [0, 1, 1, 0, 0, np.nan])
    y = rows[:, None] + 0.38 * np.array([-1, -1, 1, 1, -1, np.nan])
    return x.ravel(), y.ravel()


def _free_label(free: float) -> Spec:
    where = {"x": free, "xref": "x", "y": 0, "yref": "y domain", "xanchor": "left", "yanchor": "bottom"}
    return {"text": f" {format_bytes(free)} free", **where, "font": {"size": 11, "color": INK}}


def memory_figure(memory: pd.DataFrame, **options: Any) -> go.Figure:
    """Predicted memory of a step, a bar a loss, and beside it the loss's workspace alone on a log scale.

    Args:
        memory: a row a loss: ``loss`` and the fields of :class:`sce_lab.memory.MemoryUse`, in bytes.
        options: ``before``: the same table at the previous settings, drawn as outlines;
            ``measured``: measured peak by loss, drawn as diamonds; ``free``: bytes there are, drawn as a line;
            ``work``: a row a loss, as :func:`sce_lab.memory.tables.work` makes them: a third panel, the second wall.
    """
    return figure(memory_spec(memory, **options))


def memory_wall_spec(memory: pd.DataFrame, *, free: float | None = None) -> Spec:
    """Peak memory over catalog size, a line a loss, both axes logarithmic.

    Args:
        memory: columns ``loss``, ``catalog_size`` and ``peak`` (bytes), a row a point.
        free: bytes there are: where a line crosses it, training ends.
    """
    data, annotations = [], []
    for loss, rows in memory.groupby("loss", sort=False):
        style = look(loss)
        sizes = [format_bytes(v) for v in rows["peak"]]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": label(loss),
                "x": rows["catalog_size"].to_numpy(float),
                "y": rows["peak"].to_numpy(float),
                "line": {"color": style.color, "dash": style.dash, "width": 2.5},
                "marker": {"symbol": style.symbol, "size": 8, "color": style.color},
                "customdata": sizes,
                "hovertemplate": f"{label(loss)}, %{{x:,}} items: %{{customdata}}<extra></extra>",
            }
        )
    low, high = memory["peak"].min(), memory["peak"].max()
    shapes = []
    if free is not None and free < 64 * high:
        high = max(high, free)
        where = {"xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": free, "y1": free}
        shapes.append({"type": "line", **where, "line": {"color": INK, "width": 1}})  # no loss has so thin a line
        where = {"xref": "x domain", "x": 0, "y": math.log10(free), "xanchor": "left", "yanchor": "bottom"}
        annotations.append({"text": f"free on this machine: {format_bytes(free)}", **where})
    catalog = np.unique(memory["catalog_size"])
    layout = {
        "height": 340,
        "xaxis": {"type": "log", "title": {"text": "items in the catalog"}, **decade_ticks(catalog[0], catalog[-1])},
        "yaxis": {"title": {"text": "peak memory of a step"}, **log_bytes_axis(low / 1.5, 1.5 * high)},
        "shapes": shapes,
        "annotations": annotations,
    }
    return {"data": data, "layout": layout}


def memory_wall(memory: pd.DataFrame, *, free: float | None = None) -> go.Figure:
    """:func:`memory_wall_spec` as a figure."""
    return figure(memory_wall_spec(memory, free=free))

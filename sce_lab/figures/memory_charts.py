"""The memory wall: which device holds a step, how it grows with the catalog, and the moments of one step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from sce_lab.figures.style import (
    CLEAR,
    INK,
    LINE,
    Spec,
    bytes_axis,
    decade_ticks,
    label,
    log_bytes_axis,
    look,
    narrow_label,
    panel_title,
    panel_widths,
)
from sce_lab.memory import DEVICES, Device, format_bytes

#: The devices that are drawn as lines; more would be too close to one another.
SHOWN = tuple(DEVICES[name] for name in ("binder", "laptop_16", "rtx_4090", "h100", "b200"))
#: Greys dark enough for white text.
PARTS = {
    "parameters": ("weights", "#4d5156"),
    "gradients": ("gradients", "#63676d"),
    "optimizer_state": ("Adam", "#7a7e85"),
    "activations": ("encoder", "#a9adb3"),
}
PHASE_NAMES = {
    "forward": "encoder<br>forward",
    "loss_forward": "loss<br>forward",
    "loss_backward": "loss<br>backward",
    "backward": "encoder<br>backward",
    "optimizer": "Adam",
}


#: Dashes, from the whole line to the most broken one; others are broken in ways of their own.
_WHOLE = ("solid", "longdash", "dash", "longdashdot", "dashdot", "dot")


def _brokenness(loss: str) -> int:
    dash = look(loss).dash
    return _WHOLE.index(dash) if dash in _WHOLE else len(_WHOLE)


def parts_spec(memory: pd.DataFrame, devices: Iterable[Device] = SHOWN) -> Spec:
    """Left: peak memory of a step with each loss, against devices. Right: what it is made of, in shares.

    Args:
        memory: a row a loss: ``loss`` and the fields of :class:`sce_lab.memory.MemoryUse`, in bytes.
        devices: drawn as lines; what lies to their right does not fit.
    """
    losses = list(memory["loss"])
    rows = np.arange(len(losses))[::-1]
    peak = memory["peak"].to_numpy(float)
    low = min(2.0 ** math.floor(math.log2(max(peak.min(), 4.0)) - 1), 2.0**20)
    high = max(2.0 ** (5 * math.ceil(math.log2(2 * peak.max()) / 5)), 2.0**40)
    colors = [look(loss).color for loss in losses]
    left = {"orientation": "h", "width": 0.5, "showlegend": False}
    sizes = [format_bytes(v) for v in peak]
    data: list[Spec] = [
        {
            "type": "bar", "name": "peak", "x": peak, "y": rows, **left,
            "marker": {"color": colors, "line": {"width": 0}}, "customdata": sizes,
            "hovertemplate": "peak: %{customdata}<extra></extra>",
            "text": [f"<b>{size}</b>" for size in sizes], "textposition": "auto", "insidetextanchor": "end",
            "insidetextfont": {"color": "white", "size": 13}, "outsidetextfont": {"color": INK, "size": 13},
        },
    ]  # fmt: skip
    begin = np.zeros(len(losses))
    shares = _shares(memory)
    for part, (name, color) in [*PARTS.items(), ("loss", ("the loss", ""))]:
        share, field = shares[part], part if part in PARTS else "loss_workspace"
        here = 100 * share
        data.append(
            {
                "type": "bar", "name": name, "x": here, "y": rows, "base": 100 * begin, **left,
                "xaxis": "x2", "yaxis": "y2", "marker": {"color": color or colors, "line": {"width": 0}},
                "customdata": [f"{format_bytes(v)}, {s:.1%}" for s, v in zip(share, memory[field])],
                "hovertemplate": f"{name}: %{{customdata}}<extra></extra>",
                "text": [f"{name} {s:.0%}" if s > 0.3 else name if s > 0.16 else "" for s in share],
                "textposition": "inside",
                "insidetextanchor": "middle", "textangle": 0, "constraintext": "none",
                "textfont": {"color": "white", "size": 12},
            }
        )  # fmt: skip
        begin = begin + share
    shapes, annotations = [], [panel_title("Its parts, each at its largest", "2")]
    for n, device in enumerate(devices):
        where = {"xref": "x", "x0": device.usable, "x1": device.usable, "yref": "y domain", "y0": 0, "y1": 1}
        shapes.append({"type": "line", **where, "line": {"color": INK, "width": 1.2, "dash": "dot"}, "layer": "below"})
        at = {"xref": "x", "x": math.log10(device.usable), "yref": "y domain", "y": 1.0, "yshift": 4 + 14 * (n % 4)}
        annotations.append({"text": device.name, **at, "yanchor": "bottom", "font": {"size": 11, "color": INK}})
    line = {"showgrid": False, "range": [-0.6, len(losses) - 0.4], "tickvals": rows, "ticks": ""}
    line["ticktext"] = [narrow_label(loss) for loss in losses]
    annotations.append(panel_title("Peak of one step (log scale)") | {"yshift": 62})
    annotations[0] |= {"yshift": 62}
    layout = {
        "height": 110 + 42 * len(losses),
        "barmode": "overlay",
        "margin": {"l": 12, "r": 16, "t": 86, "b": 28},
        "xaxis": {"domain": [0, 0.55], **log_bytes_axis(low, high, room=0.12)},
        "yaxis": line,
        "xaxis2": {"domain": [0.64, 1], "anchor": "y2", "range": [0, 100], "ticksuffix": " %", "nticks": 5},
        "yaxis2": {**line, "showticklabels": False, "anchor": "x2"},
        "shapes": shapes,
        "annotations": annotations,
        "showlegend": False,
        **panel_widths(480, 300),
    }
    return {"data": data, "layout": layout}


def _shares(memory: pd.DataFrame) -> dict[str, np.ndarray]:
    """Parts of a step, each at its own largest, as shares of their sum."""
    parts = memory.rename(columns={"loss": "name", "loss_workspace": "loss"})[[*PARTS, "loss"]].astype(float)
    return {name: column.to_numpy() for name, column in parts.div(parts.sum(axis=1), axis=0).items()}


def growth_spec(
    curves: pd.DataFrame,
    *,
    measured: pd.DataFrame | None = None,
    at: float | None = None,
    devices: Iterable[Device] = SHOWN,
    value: str = "peak",
) -> Spec:
    """Memory of a step over the size of the catalog, a line a loss, on logarithmic axes.

    Args:
        curves: predicted: columns ``loss``, ``catalog_size`` and ``value``.
        measured: the same of real steps, drawn as points.
        at: a catalog size to mark.
        devices: drawn as horizontal lines.
        value: the column that is drawn.
    """
    data: list[Spec] = []
    names = list(curves["loss"].unique())
    # Where lines lie on one another, the more broken one is to be seen on top of the more whole one.
    for loss in sorted(names, key=_brokenness):
        rows = curves[curves["loss"] == loss]
        style, x, y = look(loss), rows["catalog_size"].to_numpy(float), rows[value].to_numpy(float)
        data.append(
            {
                "type": "scatter", "mode": "lines", "name": label(loss), "x": x, "y": y,
                "legendrank": 1 + names.index(loss), "line": {"color": style.color, "dash": style.dash, "width": 2.5},
                "customdata": [format_bytes(v) for v in y],
                "hovertemplate": f"{label(loss)}, %{{x:,}} items: %{{customdata}}<extra>predicted</extra>",
            }
        )  # fmt: skip
    for loss in names:
        points = measured[measured["loss"] == loss] if measured is not None and len(measured) else curves.iloc[:0]
        y = points[value].to_numpy(float)
        data.append(
            {
                "type": "scatter", "mode": "markers", "name": f"{label(loss)}, measured", "showlegend": False,
                "x": points["catalog_size"].to_numpy(float), "y": y, "customdata": [format_bytes(v) for v in y],
                "marker": {
                    "symbol": look(loss).symbol, "size": 10, "color": "white",
                    "line": {"color": look(loss).color, "width": 2.5},
                },
                "hovertemplate": f"{label(loss)}, %{{x:,}} items: %{{customdata}}<extra>measured here</extra>",
            }
        )  # fmt: skip
    low, high = float(curves[value].min()), float(curves[value].max())
    catalog = np.unique(curves["catalog_size"].to_numpy(float))
    shapes, annotations = [], []
    for device in devices:
        y = device.usable
        high = max(high, 2.0 * y)
        shapes.append(
            {
                "type": "line", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": y, "y1": y,
                "line": {"color": INK, "width": 1.2, "dash": "dot"}, "layer": "below",
            }
        )  # fmt: skip
        where = {"xref": "x domain", "x": 1, "yref": "y", "y": math.log10(y), "xanchor": "left", "yanchor": "middle"}
        annotations.append({"text": f" {device.name}", **where, "font": {"size": 11, "color": INK}})
    there = at is not None
    where = {"xref": "x", "x0": at or catalog[0], "x1": at or catalog[0], "yref": "y domain", "y0": 0, "y1": 1}
    shapes.append({"type": "line", **where, "line": {"color": LINE, "width": 1.5}, "layer": "below", "visible": there})
    layout = {
        "height": 380,
        "margin": {"l": 12, "r": 92, "t": 40, "b": 40},
        "xaxis": {"type": "log", "title": {"text": "items in the catalog"}, **catalog_ticks(catalog)},
        "yaxis": {"title": {"text": "peak memory of a step"}, **log_bytes_axis(low / 1.5, 1.5 * high)},
        "shapes": shapes,
        "annotations": annotations,
    }
    return {"data": data, "layout": layout}


def catalog_ticks(catalog: np.ndarray) -> Spec:
    """A tick a power of ten, written as people say it."""
    low, high = math.log10(catalog.min()), math.log10(catalog.max())
    return {"range": [low - 0.05, high + 0.05], **decade_ticks(catalog.min(), catalog.max())}


def timeline_spec(
    moments: pd.DataFrame, loss: str, *, at: int, lines: Mapping[int, str] | None = None, scale: float = 0.0
) -> Spec:
    """Live bytes through one step.

    Args:
        moments: of a :class:`sce_lab.memory.Timeline`.
        loss: whose colour it has.
        at: the moment that is marked.
        lines: by number of a tensor, the line of code that made it.
        scale: bytes the axis reaches at least, so that two timelines can be compared.
    """
    live, x = moments["live"].to_numpy(float), np.arange(len(moments))
    names = lines or {}
    hover = [f"{format_bytes(v)}<br>{names.get(t, '')}" for v, t in zip(live, moments["tensor"])]
    style = look(loss)
    data: list[Spec] = [
        {
            "type": "scatter", "mode": "lines", "name": label(loss), "x": x, "y": live, "showlegend": False,
            "line": {"color": style.color, "width": 2, "shape": "hv"}, "fill": "tozeroy",
            "fillcolor": style.faded(0.18), "customdata": hover, "hovertemplate": "%{customdata}<extra></extra>",
        },
        {
            "type": "scatter", "mode": "markers", "x": [at], "y": [live[at]], "showlegend": False,
            "marker": {"symbol": "circle", "size": 11, "color": "white", "line": {"color": style.color, "width": 3}},
            "hoverinfo": "skip",
        },
    ]  # fmt: skip
    shapes, annotations = [], []
    phases = moments["phase"].to_numpy()
    for n, (phase, name) in enumerate(PHASE_NAMES.items()):
        here = np.flatnonzero(phases == phase)
        begin, end = (here[0], here[-1] + 1) if len(here) else (0, 0)
        shapes.append(
            {
                "type": "rect", "xref": "x", "x0": begin, "x1": end, "yref": "y domain", "y0": 0, "y1": 1,
                "fillcolor": "rgba(128, 129, 130, 0.09)" if n % 2 else CLEAR, "line": {"width": 0}, "layer": "below",
            }
        )  # fmt: skip
        where = {"xref": "x", "x": (begin + end) / 2, "yref": "y domain", "y": 1, "yanchor": "bottom"}
        where["yshift"] = 2 + 26 * (n % 2)  # neighbours may be narrow
        shown = end - begin > 0.035 * len(moments)
        annotations.append({"text": name, **where, "visible": bool(shown), "font": {"size": 10, "color": INK}})
    layout = {
        "height": 346,
        "margin": {"l": 12, "r": 16, "t": 70, "b": 36},
        "xaxis": {"title": {"text": "moments of the step (a tensor comes or goes)"}, "range": [0, len(moments)]},
        "yaxis": {"title": {"text": "bytes alive"}, **bytes_axis(1.05 * max(live.max(), scale))},
        "shapes": shapes,
        "annotations": annotations,
    }
    return {"data": data, "layout": layout}


def ratio_spec(ratios: pd.DataFrame, *, target: float = 100.0) -> Spec:
    """How many times as much cross-entropy needs, over the size of the catalog, a line a setting.

    Args:
        ratios: columns ``setting``, ``catalog_size``, ``ratio``.
        target: a ratio to mark.
    """
    data: list[Spec] = []
    dashes, symbols = ("solid", "dash", "dot", "dashdot", "longdash"), ("circle", "square", "diamond", "cross", "x")
    shades = ("#009e73", "#0072b2", "#b4629a", "#d55e00", "#8c8c8c")
    for n, (setting, rows) in enumerate(ratios.groupby("setting", sort=False)):
        data.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": setting,
                "x": rows["catalog_size"].to_numpy(float), "y": rows["ratio"].to_numpy(float),
                "line": {"color": shades[n % 5], "dash": dashes[n % 5], "width": 2.5},
                "marker": {"symbol": symbols[n % 5], "size": 7},
                "hovertemplate": f"{setting}<br>%{{x:,}} items: %{{y:.3g}} times<extra></extra>",
            }
        )  # fmt: skip
    top = max(float(ratios["ratio"].max()), 2 * target)
    ticks = [float(m * 10**e) for e in range(int(math.log10(top)) + 1) for m in (1, 3) if m * 10**e <= top]
    line = {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": target, "y1": target}
    where = {"xref": "x domain", "x": 0, "yref": "y", "y": math.log10(target), "xanchor": "left", "yanchor": "bottom"}
    layout = {
        "height": 380,
        "margin": {"l": 12, "r": 16, "t": 64, "b": 40},
        "xaxis": {
            "type": "log",
            "title": {"text": "items in the catalog"},
            **catalog_ticks(ratios["catalog_size"].to_numpy(float)),
        },
        "yaxis": {
            "type": "log", "title": {"text": "cross-entropy / SCE"}, "tickvals": ticks,
            "ticktext": [f"{t:g}×" for t in ticks], "range": [-0.1, math.log10(top) + 0.1],
        },
        "shapes": [{**line, "line": {"color": INK, "width": 1.5, "dash": "dot"}}],
        "annotations": [{"text": f" {target:g}×", **where, "font": {"size": 12, "color": INK}}],
    }  # fmt: skip
    return {"data": data, "layout": layout}


__all__ = ["SHOWN", "catalog_ticks", "growth_spec", "parts_spec", "ratio_spec", "timeline_spec"]

"""How memory, time and quality scale: when one thing grows, over seconds, over devices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sce_lab.figures.selection import log_seconds_axis
from sce_lab.figures.style import (
    CLEAR,
    GRID,
    LINE,
    Spec,
    decade_ticks,
    in_words,
    label,
    log_bytes_axis,
    look,
    nice_ceiling,
    panel_title,
)
from sce_lab.memory import format_bytes, format_seconds

AXIS_TITLES = {
    "catalog_size": "items in the catalog",
    "batch_size": "users in a batch",
    "hidden_size": "numbers per item",
}
MARGIN = {"l": 12, "r": 12, "t": 34, "b": 48}


def growth_panels_spec(growth: pd.DataFrame, value: str = "peak") -> Spec:
    """Memory or time of a step over what grows, a panel an axis, a line a loss; real steps are open markers.

    Args:
        growth: as of :func:`sce_lab.memory.growth`.
        value: "peak" (bytes) or "seconds".
    """
    data: list[Spec] = []
    layout: Spec = {"height": 290, "margin": MARGIN, "annotations": [], "showlegend": False}
    both = growth[[value, f"measured_{value}"]].to_numpy(float)
    low, high = np.nanmin(both) / 1.5, 1.5 * np.nanmax(both)
    say, axis_of = (format_bytes, log_bytes_axis) if value == "peak" else (format_seconds, _log_time_axis)
    axes = list(growth["axis"].unique())
    width = (1 - 0.04 * (len(axes) - 1)) / len(axes)
    for number, axis in enumerate(axes):
        panel = str(number + 1) if number else ""
        rows = growth[growth["axis"] == axis]
        for loss, line in rows.groupby("loss", sort=False):
            style, x = look(loss), line["value"].to_numpy(float)
            on = {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "name": label(loss), "cliponaxis": False}
            hover = f"{label(loss)}, %{{x:,}}: %{{customdata}}<extra>"
            data.append({"type": "scatter", "mode": "lines", "x": x, "y": line[value].to_numpy(float), **on})
            data[-1] |= {"line": {"color": style.color, "dash": style.dash, "width": 2.2}}
            data[-1] |= {"customdata": [say(v) for v in line[value]], "hovertemplate": hover + "predicted</extra>"}
            real = line.dropna(subset=[f"measured_{value}"])
            y = real[f"measured_{value}"]
            data.append({"type": "scatter", "mode": "markers", "x": real["value"].to_numpy(float), "y": y.to_numpy()})
            data[-1] |= {**on, "customdata": [say(v) for v in y], "hovertemplate": hover + "measured here</extra>"}
            outline = {"color": style.color, "width": 2}
            data[-1]["marker"] = {"symbol": style.symbol, "size": 8, "color": "white", "line": outline}
        values = sorted(rows["value"].unique())
        ticks = {"tickvals": values, "ticktext": [in_words(v) for v in values]}
        ticks = decade_ticks(values[0], values[-1]) if axis == "catalog_size" else ticks
        span = [math.log10(rows["value"].min()) - 0.08, math.log10(rows["value"].max()) + 0.08]
        start = number * (width + 0.04)
        layout[f"xaxis{panel}"] = {
            "domain": [start, start + width],
            "anchor": f"y{panel}",
            "type": "log",
            "range": span,
        }
        layout[f"xaxis{panel}"] |= ticks
        layout[f"xaxis{panel}"] |= {"title": {"text": AXIS_TITLES.get(axis, axis)}}
        layout[f"yaxis{panel}"] = {"anchor": f"x{panel}", **axis_of(low, high)}
    title = "Peak memory of a step" if value == "peak" else "Time of a step"
    layout["annotations"].append(panel_title(title))
    return {"data": data, "layout": layout}


def _log_time_axis(smallest: float, largest: float) -> Spec:
    """A logarithmic axis of seconds, ticks at powers of ten."""
    low, high = math.floor(math.log10(smallest)), math.ceil(math.log10(largest))
    ticks = [10.0**e for e in range(low, high + 1)]
    return {"type": "log", "range": [low, high], "tickvals": ticks, "ticktext": [_said(t) for t in ticks]}


def _said(seconds: float) -> str:
    return f"{seconds:,g} s" if seconds >= 0.99 else f"{1e3 * seconds:g} ms"


def against_seconds_spec(curves: pd.DataFrame, losses: Sequence[str], value: str = "HR@10") -> Spec:
    """A metric over epochs, and the same over seconds of training: a line a run.

    Args:
        curves: columns ``loss``, ``epoch``, ``seconds`` and ``value``, a row an evaluation.
        losses: which have a place, whether or not they are there yet.
        value: column that is drawn.
    """
    data: list[Spec] = []
    for panel, column in (("", "epoch"), ("2", "seconds")):
        for loss in losses:
            rows, style = curves[curves["loss"] == loss], look(loss)
            data.append({"type": "scatter", "mode": "lines+markers", "name": label(loss)})
            data[-1] |= {"x": rows[column].to_numpy(float), "y": rows[value].to_numpy(float) if len(rows) else []}
            data[-1] |= {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "cliponaxis": False}
            data[-1] |= {"line": {"color": style.color, "dash": style.dash, "width": 2.2}}
            data[-1] |= {"marker": {"color": style.color, "symbol": style.symbol, "size": 6}}
            data[-1]["hovertemplate"] = f"{label(loss)}, {column} %{{x:.2f}}: %{{y:.4f}}<extra></extra>"
    seconds = curves["seconds"].to_numpy(float) if len(curves) else np.array([0.1, 10.0])
    top = nice_ceiling(1.1 * (curves[value].max() if len(curves) else 0.3))
    layout = {
        "height": 290,
        "margin": MARGIN,
        "showlegend": False,
        "xaxis": {"domain": [0, 0.47], "range": [0, 1.05 * max(curves["epoch"].max() if len(curves) else 1, 1)]}
        | {"title": {"text": "epochs"}},
        "yaxis": {"range": [0, top]},
        "xaxis2": {"domain": [0.54, 1], "anchor": "y2", **log_seconds_axis(seconds.min() / 1.2, 1.2 * seconds.max())}
        | {"title": {"text": "seconds of training (log scale)"}},
        "yaxis2": {"anchor": "x2", "range": [0, top]},
        "annotations": [panel_title(f"{value} over epochs"), panel_title("... and over seconds", "2")],
    }
    return {"data": data, "layout": layout}


def ends_spec(ends: pd.DataFrame) -> Spec:
    """The largest catalog that each loss can train, a line a device.

    Args:
        ends: as of :func:`sce_lab.memory.tables.ends`.
    """
    devices, losses = list(ends["device"].unique())[::-1], list(ends["loss"].unique())
    row = {device: n for n, device in enumerate(devices)}
    data: list[Spec] = []
    for nth, loss in enumerate(losses):
        style, rows = look(loss), ends[(ends["loss"] == loss) & (ends["catalog_size"] > 0)]
        spread = 0.13 * (nth - (len(losses) - 1) / 2)  # marks at the same place are to be seen
        y = np.array([row[device] for device in rows["device"]], float) - spread
        data.append({"type": "scatter", "mode": "markers", "name": label(loss), "x": rows["catalog_size"], "y": y})
        data[-1] |= {"marker": {"color": style.color, "symbol": style.symbol, "size": 9}, "cliponaxis": False}
        data[-1] |= {"text": rows["device"], "showlegend": False}
        data[-1]["hovertemplate"] = f"{label(loss)} on %{{text}}: %{{x:,}} items<extra></extra>"
    low, high = np.log10(ends.loc[ends["catalog_size"] > 0, "catalog_size"].agg(["min", "max"]).to_numpy(float))
    stripes = [
        {"type": "rect", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": n - 0.5, "y1": n + 0.5}
        | {"fillcolor": GRID if n % 2 else CLEAR, "opacity": 0.4, "line": {"width": 0, "color": LINE}, "layer": "below"}
        for n in range(len(devices))
    ]
    layout = {
        "height": 80 + 40 * len(devices),
        "margin": MARGIN,
        "xaxis": {"type": "log", "range": [math.floor(low), math.ceil(high)]}
        | {"title": {"text": "items in the catalog"}, **decade_ticks(10 ** math.floor(low), 10 ** math.ceil(high))},
        "yaxis": {"tickvals": list(range(len(devices))), "ticktext": devices, "range": [-0.6, len(devices) - 0.4]}
        | {"showgrid": False, "ticks": ""},
        "shapes": stripes,
        "annotations": [panel_title("The largest catalog whose training fits")],
    }
    return {"data": data, "layout": layout}

"""How memory, time and quality scale: when one thing grows, over settings of SCE, over seconds, over devices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sce_lab.figures.memory import count
from sce_lab.figures.selection import log_seconds_axis
from sce_lab.figures.style import CLEAR, GRID, INK, LINE, Spec, label, log_bytes_axis, look, nice_ceiling, panel_title
from sce_lab.memory import format_bytes, format_seconds
from sce_lab.sweeps import only

AXIS_TITLES = {
    "catalog_size": "items in the catalog",
    "batch_size": "users in a batch",
    "hidden_size": "numbers per item",
}
_MARGIN = {"l": 12, "r": 12, "t": 34, "b": 48}
#: Names of settings as they stand at an axis.
SETTING_TITLES = {
    "n_buckets": "buckets, n<sub>b</sub>",
    "bucket_size_y": "items in a bucket, b<sub>y</sub>",
    "n_negatives": "negatives, k",
    **AXIS_TITLES,
}


def growth_panels_spec(growth: pd.DataFrame, value: str = "peak") -> Spec:
    """Memory or time of a step over what grows, a panel an axis, a line a loss; real steps are open markers.

    Args:
        growth: as of :func:`sce_lab.memory.growth`.
        value: "peak" (bytes) or "seconds".
    """
    data: list[Spec] = []
    layout: Spec = {"height": 290, "margin": _MARGIN, "annotations": [], "showlegend": False}
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
        ticks = [v for v in sorted(rows["value"].unique()) if axis != "catalog_size" or math.log10(v) % 1 == 0]
        span = [math.log10(rows["value"].min()) - 0.08, math.log10(rows["value"].max()) + 0.08]
        start = number * (width + 0.04)
        layout[f"xaxis{panel}"] = {
            "domain": [start, start + width],
            "anchor": f"y{panel}",
            "type": "log",
            "range": span,
        }
        layout[f"xaxis{panel}"] |= {"tickvals": ticks, "ticktext": [count(v) for v in ticks]}
        layout[f"xaxis{panel}"] |= {"title": {"text": AXIS_TITLES.get(axis, axis)}}
        layout[f"yaxis{panel}"] = {"anchor": f"x{panel}", **axis_of(low, high)}
    title = "Peak memory of a step" if value == "peak" else "Time of a step; lines: the least it can take here"
    layout["annotations"].append(panel_title(title))
    return {"data": data, "layout": layout}


def _log_time_axis(smallest: float, largest: float) -> Spec:
    """A logarithmic axis of seconds, from microseconds to days, ticks at powers of ten."""
    low, high = math.floor(math.log10(smallest)), math.ceil(math.log10(largest))
    ticks = [10.0**e for e in range(low, high + 1)]
    return {"type": "log", "range": [low, high], "tickvals": ticks, "ticktext": [_said(t) for t in ticks]}


def _said(seconds: float) -> str:
    return format_seconds(seconds).replace("e+02", "00")


#: From pale to full: a heat map in SCE's colour.
_SCALE = [[0.0, look("sce").faded(0.06)], [1.0, look("sce").color]]
_HEAT_TITLES = {"coverage": "Coverage", "captured_mass": "Captured mass"}
SYMBOLS = {"bucket_size_x": "b<sub>x</sub>", "bucket_size_y": "b<sub>y</sub>", "n_buckets": "n<sub>b</sub>"}


def heat_spec(
    table: pd.DataFrame,
    x: str,
    y: str,
    values: Sequence[str] = ("NDCG@10", "coverage", "captured_mass"),
    beside: str = "",
) -> Spec:
    """Means over seeds in a grid of two settings, as colours and numbers, a panel a value; unknown is empty.

    Args:
        table: as of :meth:`sce_lab.sweeps.Sweep.table`.
        x, y: columns that are crossed.
        values: columns that are drawn; the first has the widest panel.
        beside: a column that is written, small, under each number of the first panel.
    """
    columns, rows = sorted(table[x].unique()), sorted(table[y].unique())
    cells = table.groupby([y, x])
    small = cells[beside].first() if beside else {}
    data: list[Spec] = []
    layout: Spec = {"height": 100 + 50 * len(rows), "margin": _MARGIN, "annotations": []}
    gap = 0.06
    widths = [2 if value == values[0] else 1 for value in values]
    unit, start = (1 - gap * (len(values) - 1)) / sum(widths), 0.0
    for number, (value, width) in enumerate(zip(values, widths)):
        panel = str(number + 1) if number else ""
        z = cells[value].mean().unstack().reindex(index=rows, columns=columns).to_numpy(float)
        known = z[np.isfinite(z)]
        low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
        low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
        share = value in _HEAT_TITLES
        title = _HEAT_TITLES.get(value, f"{value} on validation")
        layout["annotations"].append(panel_title(title, panel))
        for (row, column), _ in cells:
            i, j = rows.index(row), columns.index(column)
            done = np.isfinite(z[i, j])
            color = "white" if done and (z[i, j] - low) / (high - low) > 0.45 else INK
            text = (f"{z[i, j]:.0%}" if share else f"<b>{z[i, j]:.3f}</b>") if done else "·"
            if beside and not number:
                text += f"<br>{SYMBOLS.get(beside, beside)} = {small[row, column]:,}"
            where = {"xref": f"x{panel}", "yref": f"y{panel}", "x": j, "y": i, "font": {"size": 12, "color": color}}
            layout["annotations"].append({"text": text, **where})
        data.append({"type": "heatmap", "x": list(range(len(columns))), "y": list(range(len(rows))), "z": z})
        data[-1] |= {"zmin": low, "zmax": high, "colorscale": _SCALE, "showscale": False, "xgap": 3, "ygap": 3}
        data[-1] |= {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "name": title, "hoverinfo": "skip"}
        layout[f"xaxis{panel}"] = {
            "title": {"text": SETTING_TITLES.get(x, x)},
            "anchor": f"y{panel}",
            "showgrid": False,
        }
        layout[f"xaxis{panel}"] |= {"tickvals": list(range(len(columns))), "ticktext": [f"{v:,}" for v in columns]}
        layout[f"xaxis{panel}"] |= {"range": [-0.5, len(columns) - 0.5], "domain": [start, start + width * unit]}
        layout[f"yaxis{panel}"] = {"anchor": f"x{panel}", "showgrid": False, "range": [-0.5, len(rows) - 0.5]}
        layout[f"yaxis{panel}"] |= {"tickvals": list(range(len(rows))), "ticktext": [f"{v:,}" for v in rows]}
        layout[f"yaxis{panel}"] |= {} if number else {"title": {"text": SETTING_TITLES.get(y, y)}}
        start += width * unit + gap
    return {"data": data, "layout": layout}


def settings_spec(
    table: pd.DataFrame,
    axes: Mapping[str, Any],
    losses: Sequence[str],
    value: str = "NDCG@10",
    best: Mapping[int, float] | None = None,
) -> Spec:
    """A metric over settings, a panel a setting: a line a loss through the means, and every seed as a mark.

    Args:
        table: as of :meth:`sce_lab.sweeps.Sweep.table`.
        axes: columns of settings, and the value at which each stands while another moves. One that has a single value
            has no panel.
        losses: which have a place, whether or not they are there yet.
        value: column that is drawn.
        best: by catalog size, the most that anybody could reach: dotted.
    """
    data: list[Spec] = []
    known = table.dropna(subset=[value])
    top = nice_ceiling(1.1 * max([known[value].max() if len(known) else 0.3, *(best or {}).values()]))
    layout: Spec = {"height": 290, "margin": _MARGIN, "showlegend": False, "annotations": [], "shapes": []}
    drawn = [x for x in axes if table[x].nunique() > 1] or list(axes)[:1]
    width = (1 - 0.05 * (len(drawn) - 1)) / len(drawn)
    for number, x in enumerate(drawn):
        panel = str(number + 1) if number else ""
        stand = {name: at for name, at in axes.items() if name != x}
        on = {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "cliponaxis": False}
        for loss in losses:
            rows, style = only(known[known["loss"] == loss], **stand).sort_values(x), look(loss)
            means = rows.groupby(x)[value].mean()
            line = {"color": style.color, "dash": style.dash, "width": 2.2}
            hover = f"{label(loss)}, %{{x:,}}: %{{y:.4f}}<extra></extra>"
            for mode, at, y in (("lines", means.index, means), ("markers", rows[x], rows[value])):
                data.append({"type": "scatter", "mode": mode, "name": label(loss), "x": np.asarray(at, float), **on})
                data[-1] |= {"y": np.asarray(y, float), "line": line, "hovertemplate": hover}
                data[-1]["marker"] = {"color": style.color, "symbol": style.symbol, "size": 8, "opacity": 0.75}
        limit = best or {}
        at = axes.get("catalog_size")
        reach = (
            {size: limit[size if x == "catalog_size" else at] for size in sorted(table[x].unique())} if limit else {}
        )
        data.append({"type": "scatter", "mode": "lines", "x": list(reach), "y": list(reach.values()), **on})
        data[-1] |= {"line": {"color": INK, "dash": "dot", "width": 1.5}, "hoverinfo": "skip", "name": "best possible"}
        ticks = sorted(table[x].unique())
        span = [math.log10(min(ticks)) - 0.08, math.log10(max(ticks)) + 0.08]
        start = number * (width + 0.05)
        layout[f"xaxis{panel}"] = {
            "domain": [start, start + width],
            "anchor": f"y{panel}",
            "type": "log",
            "range": span,
        }
        layout[f"xaxis{panel}"] |= {"tickvals": ticks, "ticktext": [f"{t:,}" for t in ticks]}
        layout[f"xaxis{panel}"] |= {"title": {"text": SETTING_TITLES.get(x, x)}}
        layout[f"yaxis{panel}"] = {"anchor": f"x{panel}", "range": [0, top], "nticks": 5}
    layout["annotations"].append(panel_title(f"{value} on validation"))
    return {"data": data, "layout": layout}


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
        "margin": _MARGIN,
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
    ticks = [10**e for e in range(math.floor(low), math.ceil(high) + 1)]
    stripes = [
        {"type": "rect", "xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": n - 0.5, "y1": n + 0.5}
        | {"fillcolor": GRID if n % 2 else CLEAR, "opacity": 0.4, "line": {"width": 0, "color": LINE}, "layer": "below"}
        for n in range(len(devices))
    ]
    layout = {
        "height": 80 + 40 * len(devices),
        "margin": _MARGIN,
        "xaxis": {"type": "log", "range": [math.floor(low), math.ceil(high)], "tickvals": ticks}
        | {"ticktext": [count(t) for t in ticks], "title": {"text": "items in the catalog"}},
        "yaxis": {"tickvals": list(range(len(devices))), "ticktext": devices, "range": [-0.6, len(devices) - 0.4]}
        | {"showgrid": False, "ticks": ""},
        "shapes": stripes,
        "annotations": [panel_title("The largest catalog whose training fits")],
    }
    return {"data": data, "layout": layout}

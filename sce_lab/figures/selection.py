"""Runs side by side: what quality costs in memory and in time, and two runs laid over one another."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sce_lab.figures.curves import Curves
from sce_lab.figures.style import (
    CLEAR,
    INK,
    LINE,
    LOOKS,
    Spec,
    label,
    log_bytes_axis,
    look,
    nice_ceiling,
    panel_title,
    panel_widths,
)
from sce_lab.figures.training import METRICS
from sce_lab.memory import format_bytes


def frontier(cost: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Indices of the points that no other one beats in both, from the cheapest on."""
    best, kept = -math.inf, []
    for i in np.lexsort((-gain, cost)):
        if np.isfinite(cost[i]) and gain[i] > best:
            best = gain[i]
            kept.append(i)
    return np.array(kept, dtype=int)


def pareto_spec(runs: pd.DataFrame, *, selected: Collection[int] = (), losses: Sequence[str] | None = None) -> Spec:
    """NDCG@10 of runs against the peak memory of a step and against the seconds of training, the frontier as a line.

    Args:
        runs: columns ``number``, ``loss``, ``peak_memory`` (bytes), ``seconds``, ``NDCG@10``; a row a run.
        selected: numbers of runs to draw a ring around.
        losses: which have a place; default: all.
    """
    losses = tuple(LOOKS) if losses is None else losses
    data: list[Spec] = []
    number, of_loss = runs["number"].to_numpy(), runs["loss"].to_numpy()
    gains = runs["NDCG@10"].to_numpy(float)
    top = nice_ceiling(1.15 * max(gains[np.isfinite(gains)], default=0.0) or 0.1)
    layout: Spec = {
        "height": 300,
        "margin": {"l": 12, "r": 12, "t": 30, "b": 48},
        "showlegend": False,
        "annotations": [panel_title("NDCG@10 for the memory"), panel_title("NDCG@10 for the time", "2")],
        **panel_widths(270, 270),
    }
    for panel, column in (("", "peak_memory"), ("2", "seconds")):
        costs_of_all = runs[column].to_numpy(float)
        known = np.isfinite(gains) & np.isfinite(costs_of_all)
        cost, gain = costs_of_all[known], gains[known]
        axes = {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "showlegend": False, "cliponaxis": False}
        best = frontier(cost, gain)
        line = {"color": LINE, "width": 1.5, "shape": "hv", "dash": "dot"}
        data.append({"type": "scatter", "mode": "lines", "x": cost[best], "y": gain[best], "line": line, **axes})
        data[-1] |= {"hoverinfo": "skip", "name": "the best for their cost"}
        for loss in losses:
            mine = of_loss[known] == loss
            numbers = number[known][mine]
            style = look(loss)
            ringed = [INK if number in selected else CLEAR for number in numbers]
            marker = {"color": style.color, "symbol": style.symbol, "size": 13}
            marker["line"] = {"color": ringed or CLEAR, "width": 3}
            costs = [format_bytes(v) if column == "peak_memory" else f"{v:.1f} s" for v in cost[mine]]
            data.append({"type": "scatter", "mode": "markers+text", "x": cost[mine], "y": gain[mine], **axes})
            data[-1] |= {"name": label(loss), "marker": marker, "textfont": {"color": INK}}
            data[-1] |= {"text": [f" {n}" for n in numbers], "textposition": "middle right", "customdata": costs}
            data[-1] |= {"hovertemplate": f"run %{{text}}, {label(loss)}: %{{customdata}}, NDCG@10 %{{y:.4f}}"}
            data[-1]["hovertemplate"] += "<extra></extra>"
        low, high = (cost.min(), cost.max()) if len(cost) else ((2.0**24, 2.0**28) if not panel else (1.0, 100.0))
        axis = log_bytes_axis(low / 1.6, high * 1.6) if not panel else log_seconds_axis(low / 1.6, high * 1.6)
        title = "peak memory of a step (log scale)" if not panel else "seconds of training (log scale)"
        layout[f"xaxis{panel}"] = {"domain": [0.55, 1] if panel else [0, 0.45], "title": {"text": title}, **axis}
        layout[f"yaxis{panel}"] = {"range": [0, top], "nticks": 6}
    layout["xaxis2"]["anchor"], layout["yaxis2"]["anchor"] = "y2", "x2"
    return {"data": data, "layout": layout}


def log_seconds_axis(smallest: float, largest: float) -> Spec:
    """A logarithmic axis with ticks at 1, 2, 5, 10, ... seconds."""
    low, high = math.log10(max(smallest, 1e-3)), math.log10(max(largest, 2e-3))
    every = (1, 2, 5) if high - low < 2.2 else (1,)
    steps = [m * 10.0**p for p in range(math.floor(low), math.ceil(high) + 1) for m in every]
    ticks = [tick for tick in steps if low <= math.log10(tick) <= high]
    return {"type": "log", "range": [low, high], "tickvals": ticks, "ticktext": [f"{tick:g} s" for tick in ticks]}


def overlay_spec(runs: Sequence[tuple[str, str, Curves]]) -> Spec:
    """At most two runs over one another: training loss, HR@10 and NDCG@10 over epochs, the second one thin and pale.

    Args:
        runs: name, loss and curves of each.

    Raises:
        ValueError: more than two runs.
    """
    if len(runs) > 2:
        raise ValueError(f"two runs can be laid over one another, got {len(runs)}")
    panels = ("loss", *METRICS)
    data: list[Spec] = []
    reached, tops = 1.0, dict.fromkeys(METRICS, 0.0)
    values: list[float] = []
    for number, panel in enumerate(panels):
        suffix = str(number + 1) if number else ""
        for place in range(2):
            name, loss, curves = runs[place] if place < len(runs) else ("", "sce", Curves())
            x, y = curves.of_panel(panel)
            style = look(loss)
            color = style.faded(0.55) if place else style.color
            line = {"color": color, "dash": "dot" if place else "solid", "width": 1.6 if place else 2.4}
            data.append({"type": "scatter", "mode": "lines" if panel == "loss" else "lines+markers", "x": x, "y": y})
            data[-1] |= {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "name": name, "line": line}
            data[-1] |= {"marker": {"color": color, "symbol": style.symbol, "size": 6}, "showlegend": False}
            data[-1] |= {"hovertemplate": f"{name}, epoch %{{x:.1f}}: %{{y:.4f}}<extra></extra>"}
            if len(x):
                reached = max(reached, float(x[-1]))
                if panel == "loss":
                    values += [float(y.min()), float(y.max())]
                else:
                    tops[panel] = max(tops[panel], float(y.max()))
    x_axis: dict[str, Any] = {"range": [0, 1.03 * reached], "title": {"text": "epoch"}, "nticks": 6}
    low, high = (math.floor(min(values)), math.ceil(max(values) + 1e-9)) if values else (0, 10)
    titles = ("Training loss", *METRICS)
    layout: Spec = {"height": 250, "margin": {"l": 12, "r": 8, "t": 30, "b": 44}, "showlegend": False}
    layout |= panel_widths(200, 200, 200)
    layout["annotations"] = [panel_title(title, str(i + 1) if i else "") for i, title in enumerate(titles)]
    for number in range(3):
        suffix = str(number + 1) if number else ""
        span = [low, max(high, low + 1)] if not number else [0, nice_ceiling(1.12 * tops[panels[number]] or 0.5)]
        layout[f"xaxis{suffix}"] = {"domain": [0.345 * number, 0.345 * number + 0.31], **x_axis}
        layout[f"yaxis{suffix}"] = {"range": span, "nticks": 5}
        if number:
            layout[f"xaxis{suffix}"]["anchor"], layout[f"yaxis{suffix}"]["anchor"] = f"y{suffix}", f"x{suffix}"
    return {"data": data, "layout": layout}

"""What a data set is, and what came out on it: its long tail, its time, and losses with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from sce_lab.data.interactions import UNITS, unix_unit
from sce_lab.figures.style import GREY, INK, Spec, label, look, nice_ceiling, panel_title

_MARGIN = {"l": 12, "r": 12, "t": 34, "b": 48}
#: Points that a long tail is drawn with, at most.
_POINTS = 200


def data_spec(counts: np.ndarray, times: np.ndarray, dated: bool) -> Spec:
    """How often items occur, from the most popular on; and how many interactions there are over time.

    Args:
        counts: of each item.
        times: of each interaction.
        dated: whether times are Unix times, of any unit.
    """
    falling = np.sort(counts[counts > 0])[::-1]
    at = np.unique(np.geomspace(1, max(len(falling), 1), _POINTS).astype(int))[: len(falling)]
    often = falling[at - 1] if len(falling) else np.zeros(0)
    bars, edges = np.histogram(times.astype(float), 40) if len(times) else (np.zeros(0), np.zeros(1))
    middles = (edges[:-1] + edges[1:]) / 2
    per_second = UNITS[unix_unit(times) or "seconds"]
    x = [datetime.fromtimestamp(t / per_second, UTC).isoformat() for t in middles] if dated else middles
    line = {"color": GREY, "width": 2.4}
    data: list[Spec] = [
        {"type": "scatter", "mode": "lines", "x": at, "y": often, "xaxis": "x", "yaxis": "y", "line": line}
        | {"hovertemplate": "item %{x:,}: %{y:,} times<extra></extra>", "fill": "tozeroy", "name": "items"},
        {"type": "bar", "x": x, "y": bars, "xaxis": "x2", "yaxis": "y2", "marker": {"color": GREY}, "name": "times"}
        | {"hovertemplate": "%{y:,} interactions<extra></extra>"},
    ]
    ends = [10**e for e in range(math.ceil(math.log10(max(len(falling), 2))) + 1)]
    layout: Spec = {
        "height": 250,
        "margin": _MARGIN,
        "showlegend": False,
        "bargap": 0.1,
        "xaxis": {"domain": [0, 0.47], "type": "log", "tickvals": ends, "ticktext": [f"{e:,}" for e in ends]}
        | {"title": {"text": "items, the most popular first (log scale)"}, "range": [0, math.log10(ends[-1])]},
        "yaxis": {"range": [0, nice_ceiling(1.05 * max(often, default=1))], "nticks": 5},
        "xaxis2": {"domain": [0.54, 1], "anchor": "y2", "nticks": 6, "type": "date" if dated else "linear"},
        "yaxis2": {"anchor": "x2", "range": [0, nice_ceiling(1.1 * max(bars, default=1))], "nticks": 5},
        "annotations": [panel_title("How often an item occurs"), panel_title("Interactions over time", "2")],
    }
    return {"data": data, "layout": layout}


def intervals_spec(rows: pd.DataFrame, losses: Sequence[str], baseline: Mapping[str, float]) -> Spec:
    """Metrics of losses, a panel a metric: every seed a mark, the 95 % interval of the mean a bar.

    Args:
        rows: columns ``loss``, ``metric``, ``low``, ``mean``, ``high``, and ``seeds``, a list of each seed's value.
        losses: which have a line, from the top.
        baseline: by metric, what popularity alone reaches: dotted.
    """
    metrics = list(baseline)
    place = {loss: len(losses) - 1 - n for n, loss in enumerate(losses)}
    data: list[Spec] = []
    layout: Spec = {"height": 100 + 44 * len(losses), "margin": _MARGIN, "annotations": [], "shapes": []}
    for number, metric in enumerate(metrics):
        panel = str(number + 1) if number else ""
        on = {"type": "scatter", "xaxis": f"x{panel}", "yaxis": f"y{panel}", "showlegend": False, "cliponaxis": False}
        known = rows[rows["metric"] == metric].set_index("loss")
        for loss in losses:
            style, there = look(loss), loss in known.index
            ends = known.loc[loss, ["low", "high"]].to_list() if there else []
            data.append({**on, "mode": "lines", "x": ends, "y": [place[loss]] * len(ends), "name": label(loss)})
            data[-1] |= {"line": {"color": style.faded(0.45), "width": 8}, "hoverinfo": "skip"}
            x = [known.loc[loss, "mean"]] if there else []
            data.append({**on, "mode": "markers", "x": x, "y": [place[loss]] * len(x), "name": label(loss)})
            data[-1]["marker"] = {"symbol": "line-ns", "size": 16, "line": {"color": style.color, "width": 3}}
            data[-1]["hovertemplate"] = f"{label(loss)}: %{{x:.4f}}<extra></extra>"
            x = known.loc[loss, "seeds"] if there else []
            data.append({**on, "mode": "markers", "x": x, "y": [place[loss] - 0.22] * len(x), "name": label(loss)})
            data[-1] |= {"marker": {"color": style.color, "symbol": style.symbol, "size": 6, "opacity": 0.8}}
            data[-1]["hovertemplate"] = f"{label(loss)}, a seed: %{{x:.4f}}<extra></extra>"
        most = max([*known["high"], baseline[metric]], default=0.1)
        dotted = {"type": "line", "xref": f"x{panel}", "x0": baseline[metric], "x1": baseline[metric]}
        dotted |= {"yref": f"y{panel} domain", "y0": 0, "y1": 1, "line": {"color": INK, "width": 1.5, "dash": "dot"}}
        layout["shapes"].append(dotted)
        layout["annotations"].append(panel_title(f"{metric} on test", panel))
        start = 0.54 * number
        layout[f"xaxis{panel}"] = {"domain": [start, start + 0.46], "anchor": f"y{panel}", "nticks": 6}
        layout[f"xaxis{panel}"] |= {"range": [0, nice_ceiling(1.1 * max(most, 1e-3))]}
        layout[f"yaxis{panel}"] = {"anchor": f"x{panel}", "range": [-0.6, len(losses) - 0.4], "showgrid": False}
        layout[f"yaxis{panel}"] |= {"tickvals": list(place.values()), "ticks": "", "showticklabels": not number}
        layout[f"yaxis{panel}"] |= {"ticktext": [label(loss).replace(", ", ",<br>") + "  " for loss in losses]}
    return {"data": data, "layout": layout}

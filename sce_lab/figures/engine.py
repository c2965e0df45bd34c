"""Inside the engine: a search in chunks, a sum that grows, two steps beside one another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sce_lab.figures.memory_charts import timeline_spec
from sce_lab.figures.style import GREY, INK, Spec, look, panel_title

_MARGIN = {"l": 12, "r": 12, "t": 34, "b": 48}


def beating_spec(beating: pd.DataFrame) -> Spec:
    """Share of a chunk's scores that are among the best so far, over the rows seen before it.

    Args:
        beating: as of :func:`sce_lab.explain.beating`.
    """
    x, color = beating["seen"].to_numpy(float), look("sce").color
    share = beating["share"].to_numpy(float)
    data = [
        {"type": "scatter", "mode": "lines", "name": "k / n", "x": x, "y": beating["expected"].to_numpy(float)},
        {"type": "scatter", "mode": "markers", "name": "counted", "x": x, "y": share},
    ]
    data[0] |= {"line": {"color": GREY, "width": 2, "dash": "dot"}, "hoverinfo": "skip"}
    data[1] |= {"marker": {"color": color, "size": 7}, "cliponaxis": False}
    data[1]["hovertemplate"] = "after %{x:,} rows: %{y:.2%}<extra></extra>"
    ends = np.log10([share[share > 0].min() / 1.6, 1.6 * share.max()])
    ticks = [v for v in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3) if ends[0] <= np.log10(v) <= ends[1]]
    y_axis = {"type": "log", "range": ends.tolist(), "tickvals": ticks, "ticktext": [f"{100 * v:g} %" for v in ticks]}
    layout = {
        "height": 280,
        "margin": _MARGIN,
        "xaxis": {"title": {"text": "rows of the table seen before"}, "rangemode": "tozero"},
        "yaxis": y_axis,
        "legend": {"x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom", "yref": "paper"},
        "annotations": [panel_title("Scores of a chunk that are among the k best so far")],
    }
    return {"data": data, "layout": layout}


def running_sums_spec(sums: pd.DataFrame) -> Spec:
    """Left: the log-sum-exp as it grows, with the largest logit so far. Right: the sum that is kept.

    Args:
        sums: as of :func:`sce_lab.explain.running_sums`.
    """
    x, color = sums["tile"].to_numpy(float), look("cce").color
    moved = sums[sums["rescaled"]]
    line = {"type": "scatter", "mode": "lines", "x": x, "showlegend": False}
    dots = {"type": "scatter", "mode": "markers", "x": sums["tile"], "y": sums["largest"], "showlegend": False}
    data = [
        {
            **dots,
            "marker": {"color": GREY, "size": 4},
            "hovertemplate": "largest of tile %{x}: %{y:.2f}<extra></extra>",
        },
        {**line, "y": sums["m"], "line": {"color": INK, "width": 2, "shape": "hv"}},
        {**line, "y": sums["log_sum"], "line": {"color": color, "width": 2.4}},
        {**line, "y": sums["s"], "line": {"color": color, "width": 2.4}, "xaxis": "x2", "yaxis": "y2"},
        {**dots, "x": moved["tile"], "y": moved["s"], "xaxis": "x2", "yaxis": "y2"},
    ]
    data[0]["hovertemplate"] = "largest of tile %{x}: %{y:.2f}<extra></extra>"
    data[1]["hovertemplate"] = "m after tile %{x}: %{y:.2f}<extra></extra>"
    data[2]["hovertemplate"] = "log of the sum after tile %{x}: %{y:.3f}<extra></extra>"
    data[3]["hovertemplate"] = "s after tile %{x}: %{y:.3g}<extra></extra>"
    data[4] |= {"marker": {"color": "white", "size": 9, "line": {"color": color, "width": 2}}}
    data[4]["hovertemplate"] = "m has changed: the old sum was made smaller<extra></extra>"
    end = {"x": float(x[-1]), "xanchor": "right", "yanchor": "bottom", "yshift": 4}
    layout = {
        "height": 280,
        "margin": _MARGIN,
        "xaxis": {"domain": [0, 0.47], "title": {"text": "tiles"}},
        "xaxis2": {"domain": [0.54, 1], "anchor": "y2", "title": {"text": "tiles"}},
        "yaxis": {},
        "yaxis2": {"anchor": "x2", "rangemode": "tozero"},
        "annotations": [
            panel_title("What is known so far"),
            panel_title("The sum that is kept, s", "2"),
            {
                "text": "<b>log of the sum, m + log s</b>",
                **end,
                "y": sums["log_sum"].iloc[-1],
                "font": {"color": color},
            },
            {"text": "<b>m, the largest so far</b>", **end, "y": sums["m"].iloc[-1], "font": {"color": INK}},
        ],
    }
    return {"data": data, "layout": layout}


def timelines_spec(moments: Mapping[str, pd.DataFrame], loss: str = "sce") -> Spec:
    """Bytes alive through several steps, side by side on one scale.

    Args:
        moments: of :class:`sce_lab.memory.Timeline`, by title.
        loss: whose colour they have.
    """
    scale = max(float(each["live"].max()) for each in moments.values())
    specs = [timeline_spec(m, loss, at=int(m["live"].argmax()), scale=scale) for m in moments.values()]
    joined: Spec = {"data": [], "layout": {**specs[0]["layout"], "shapes": [], "annotations": []}}
    joined["layout"] |= {"margin": {**specs[0]["layout"]["margin"], "t": 64}, "height": 330}
    width = (1 - 0.05 * (len(specs) - 1)) / len(specs)
    for number, (title, spec) in enumerate(zip(moments, specs)):
        panel, start = str(number + 1) if number else "", number * (width + 0.05)
        joined["data"] += [trace | {"xaxis": f"x{panel}", "yaxis": f"y{panel}"} for trace in spec["data"]]
        for kind in ("shapes", "annotations"):
            joined["layout"][kind] += [_moved(mark, panel) for mark in spec["layout"][kind]]
        joined["layout"]["annotations"].append(panel_title(title, panel) | {"yshift": 34})
        for axis, other in (("xaxis", "y"), ("yaxis", "x")):
            joined["layout"][axis + panel] = {**spec["layout"][axis], "anchor": other + panel}
        joined["layout"][f"xaxis{panel}"] |= {
            "domain": [start, start + width],
            "title": {"text": "moments of the step"},
        }
        joined["layout"][f"yaxis{panel}"].pop("title")
    return joined


def _moved(mark: Spec, panel: str) -> Spec:
    """A shape or an annotation of the first panel, on another one."""
    return mark | {ref: mark[ref][0] + panel + mark[ref][1:] for ref in ("xref", "yref")}

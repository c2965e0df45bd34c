"""The second wall: how much there is to compute in a step, and how that grows with the catalog."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from sce_lab.figures.memory_charts import catalog_ticks
from sce_lab.figures.style import INK, LINE, Spec, label, log_count_axis, look, narrow_label, panel_title, panel_widths
from sce_lab.memory import format_count, format_seconds


def work_spec(work: pd.DataFrame, curves: pd.DataFrame, *, at: float | None = None) -> Spec:
    """Left: operations of a step with each loss, and the least time they take. Right: over the size of the catalog.

    Args:
        work: a row a loss, as :func:`sce_lab.memory.tables.work` makes them.
        curves: columns ``loss``, ``catalog_size`` and ``operations``.
        at: a catalog size to mark.
    """
    losses = list(work["loss"])
    rows, operations = np.arange(len(losses))[::-1], np.maximum(work["operations"].to_numpy(float), 1.0)
    words = [f"<b>{format_count(n)}</b>, ≥ {format_seconds(t)}" for n, t in zip(operations, work["seconds"])]
    low = min(10.0 ** math.floor(math.log10(operations.min()) - 1), 1e9)
    high = max(10.0 ** (2 * math.ceil(math.log10(operations.max()) / 2)), 1e14)
    data: list[Spec] = [
        {
            "type": "bar", "name": "operations", "x": operations, "y": rows, "orientation": "h", "width": 0.5,
            "showlegend": False, "marker": {"color": [look(loss).color for loss in losses], "line": {"width": 0}},
            "customdata": words, "hovertemplate": "%{customdata}<extra></extra>",
            "text": words, "textposition": "auto", "insidetextanchor": "end",
            "insidetextfont": {"color": "white", "size": 13}, "outsidetextfont": {"color": INK, "size": 13},
        }
    ]  # fmt: skip
    for loss in losses:
        points = curves[curves["loss"] == loss]
        style, y = look(loss), np.maximum(points["operations"].to_numpy(float), 1.0)
        data.append(
            {
                "type": "scatter", "mode": "lines", "name": label(loss), "showlegend": False, "xaxis": "x2",
                "yaxis": "y2", "x": points["catalog_size"].to_numpy(float), "y": y,
                "line": {"color": style.color, "dash": style.dash, "width": 2.5},
                "customdata": [format_count(n) for n in y],
                "hovertemplate": f"{label(loss)}, %{{x:,}} items: %{{customdata}}<extra></extra>",
            }
        )  # fmt: skip
    catalog = np.unique(curves["catalog_size"].to_numpy(float))
    mark = {"xref": "x2", "x0": at or catalog[0], "x1": at or catalog[0], "yref": "y2 domain", "y0": 0, "y1": 1}
    line = {"showgrid": False, "range": [-0.6, len(losses) - 0.4], "tickvals": rows, "ticks": ""}
    grown = curves["operations"]
    layout = {
        "height": 110 + 42 * len(losses),
        "margin": {"l": 12, "r": 16, "t": 36, "b": 40},
        "xaxis": {"domain": [0, 0.55], **log_count_axis(low, high)},
        "yaxis": {**line, "ticktext": [narrow_label(loss) for loss in losses]},
        "xaxis2": {"domain": [0.64, 1], "anchor": "y2", "type": "log", "title": {"text": "items in the catalog"}}
        | catalog_ticks(catalog),
        "yaxis2": {"anchor": "x2", **log_count_axis(grown.min() / 1.5, 1.5 * grown.max())},
        "shapes": [
            {"type": "line", **mark, "line": {"color": LINE, "width": 1.5}, "layer": "below", "visible": at is not None}
        ],
        "annotations": [
            panel_title("Operations (log scale), time at best"),
            panel_title("Operations over the catalog", "2"),
        ],
        "showlegend": False,
        **panel_widths(480, 300),
    }
    return {"data": data, "layout": layout}

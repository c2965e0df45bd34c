"""What came out of sweeps: a grid of two settings as colours, a metric over one setting or several."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sce_lab.figures.scaling import AXIS_TITLES, MARGIN
from sce_lab.figures.style import INK, Spec, label, look, nice_ceiling, panel_title, short_label
from sce_lab.sweeps import only

#: Names of settings as they stand at an axis.
SETTING_TITLES = {
    "n_buckets": "buckets, n<sub>b</sub>",
    "bucket_size_y": "items, b<sub>y</sub>",
    "n_negatives": "negatives, k",
    "loss": "",
    **AXIS_TITLES,
}
#: What a heat map shows beside a metric: its title, how a number is written, and whether it is a cost.
_HEAT: dict[str, tuple[str, Callable[[float], str], bool]] = {
    "coverage": ("Coverage", "{:.0%}".format, False),
    "captured_mass": ("Captured mass", "{:.0%}".format, False),
    "peak_memory": ("Peak memory, MiB", lambda n: f"{n / 2**20:.3g}", True),
    "ms": ("ms a step", "{:.3g}".format, True),
}
_COST = [[0.0, "rgba(128, 129, 130, 0.10)"], [1.0, "rgba(128, 129, 130, 0.85)"]]
SYMBOLS = {"bucket_size_x": "b<sub>x</sub>", "bucket_size_y": "b<sub>y</sub>", "n_buckets": "n<sub>b</sub>"}


def heat_spec(
    table: pd.DataFrame,
    x: str,
    y: str,
    values: Sequence[str] = ("NDCG@10", "coverage", "captured_mass"),
    beside: str = "",
    loss: str = "sce",
) -> Spec:
    """Means over seeds in a grid of two settings, as colours and numbers, a panel a value; unknown is empty.

    Args:
        table: as of :meth:`sce_lab.sweeps.Sweep.table`.
        x, y: columns that are crossed.
        values: columns that are drawn; the first has the widest panel.
        beside: a column that is written, small, under each number of the first panel.
        loss: in whose colour quality is drawn; what is a cost is grey.
    """
    scale = [[0.0, look(loss).faded(0.06)], [1.0, look(loss).color]]
    columns, rows = sorted(table[x].unique()), sorted(table[y].unique())
    cells = table.groupby([y, x])
    small = cells[beside].first() if beside else {}
    data: list[Spec] = []
    layout: Spec = {"height": 100 + 50 * len(rows), "margin": MARGIN, "annotations": []}
    gap = 0.06
    alike = any(value in _HEAT and _HEAT[value][2] for value in values)  # costs want room for their numbers, too
    widths = [2 if value == values[0] and not alike else 1 for value in values]
    unit, start = (1 - gap * (len(values) - 1)) / sum(widths), 0.0
    for number, (value, width) in enumerate(zip(values, widths)):
        panel = str(number + 1) if number else ""
        z = cells[value].mean().unstack().reindex(index=rows, columns=columns).to_numpy(float)
        known = z[np.isfinite(z)]
        low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
        low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
        title, write, cost = _HEAT.get(value, (f"{value} on validation", "<b>{:.3f}</b>".format, False))
        layout["annotations"].append(panel_title(title, panel))
        for (row, column), _ in cells:
            i, j = rows.index(row), columns.index(column)
            done = np.isfinite(z[i, j])
            color = "white" if done and (z[i, j] - low) / (high - low) > (0.65 if cost else 0.45) else INK
            text = write(z[i, j]) if done else "·"
            if beside and not number:
                text += f"<br>{SYMBOLS.get(beside, beside)} = {small[row, column]:,}"
            where = {"xref": f"x{panel}", "yref": f"y{panel}", "x": j, "y": i, "font": {"size": 12, "color": color}}
            layout["annotations"].append({"text": text, **where})
        data.append({"type": "heatmap", "x": list(range(len(columns))), "y": list(range(len(rows))), "z": z})
        data[-1] |= {
            "zmin": low,
            "zmax": high,
            "colorscale": _COST if cost else scale,
            "showscale": False,
            "xgap": 3,
            "ygap": 3,
        }
        data[-1] |= {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "name": title, "hoverinfo": "skip"}
        layout[f"xaxis{panel}"] = {
            "title": {"text": SETTING_TITLES.get(x, x)},
            "anchor": f"y{panel}",
            "showgrid": False,
        }
        layout[f"xaxis{panel}"] |= {"tickvals": list(range(len(columns))), "ticktext": list(map(_tick, columns))}
        layout[f"xaxis{panel}"] |= {"range": [-0.5, len(columns) - 0.5], "domain": [start, start + width * unit]}
        layout[f"yaxis{panel}"] = {"anchor": f"x{panel}", "showgrid": False, "range": [-0.5, len(rows) - 0.5]}
        layout[f"yaxis{panel}"] |= {"tickvals": list(range(len(rows))), "ticktext": list(map(_tick, rows))}
        layout[f"yaxis{panel}"] |= {} if number else {"title": {"text": SETTING_TITLES.get(y, y)}}
        start += width * unit + gap
    return {"data": data, "layout": layout}


def _tick(value: Any) -> str:
    return short_label(value) if isinstance(value, str) else f"{value:,}"


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
    layout: Spec = {"height": 290, "margin": MARGIN, "showlegend": False, "annotations": [], "shapes": []}
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

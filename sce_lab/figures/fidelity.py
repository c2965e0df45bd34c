"""How faithful a gradient is, for the bytes it takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sce_lab.figures.comparison import html_page
from sce_lab.figures.style import LINE, Spec, figure, label, log_bytes_axis, look, panel_title
from sce_lab.files import write_text
from sce_lab.memory import format_bytes

_PANELS = {"error": "Error of the item table's gradient", "direction": "Its direction alone"}
_EXACT = 1e-3  # what is nearer than that lies on the axis


def fidelity_spec(table: pd.DataFrame) -> Spec:
    """Relative error of the item table's gradient against the bytes that the loss holds; less is better.

    Twice: as the gradient is, and at its best length, what an optimizer like Adam leaves of the error.

    Args:
        table: as of :func:`sce_lab.fidelity.gradient_fidelity`, of one model.
    """
    data: list[Spec] = []
    layout: dict[str, Any] = {"height": 340, "margin": {"l": 12, "r": 12, "t": 34, "b": 64}}
    layout |= {"legend": {"orientation": "h", "y": -0.22, "yanchor": "top"}, "annotations": []}
    table = table[table["of"] == "items"].sort_values("workspace")
    held = table["workspace"].clip(lower=1024)
    axis = log_bytes_axis(held.min() / 1.6, held.max() * 1.6)
    top = np.log10(max(2.0, 1.3 * float(table["error high"].max())))
    for number, (column, title) in enumerate(_PANELS.items()):
        panel = "2" if number else ""
        for kind, rows in table.groupby("kind", sort=False):
            style = look(str(kind))
            error = rows[column].clip(lower=_EXACT)
            reach = (rows[f"{column} high"] - rows[column]).to_numpy()
            texts = [f"{n}: {format_bytes(b)}" for n, b in zip(rows["loss"], rows["workspace"])]
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": label(str(kind)),
                    "legendgroup": str(kind),
                    "x": rows["workspace"].clip(lower=1024).to_numpy(),
                    "y": error.to_numpy(),
                    "xaxis": f"x{panel}",
                    "yaxis": f"y{panel}",
                    "cliponaxis": False,
                    "showlegend": not number,
                    "line": {"color": style.color, "dash": style.dash, "width": 2},
                    "marker": {"color": style.color, "symbol": style.symbol, "size": 9},
                    "error_y": {"type": "data", "array": reach, "color": style.faded(0.6), "thickness": 1.2},
                    "customdata": texts,
                    "hovertemplate": "%{customdata}, error %{y:.3f}<extra></extra>",
                }
            )
        layout[f"xaxis{panel}"] = {"domain": [0.54, 1] if number else [0, 0.46], "anchor": f"y{panel}", **axis}
        layout[f"xaxis{panel}"] |= {"title": {"text": "bytes that the loss holds (log scale)"}}
        layout[f"yaxis{panel}"] = {"type": "log", "range": [np.log10(_EXACT), top], "anchor": f"x{panel}"}
        ticks = [_EXACT, 0.01, 0.1, 1.0, 10.0]
        texts = ["exact", "0.01", "0.1", "1", "10"]
        layout[f"yaxis{panel}"] |= {"tickvals": ticks, "ticktext": texts}
        layout["annotations"].append(panel_title(title, panel))
    line = {"color": LINE, "width": 1, "dash": "dot"}
    layout["shapes"] = [
        {
            "type": "line",
            "xref": f"x{panel} domain",
            "yref": f"y{panel}",
            "x0": 0,
            "x1": 1,
            "y0": 1,
            "y1": 1,
            "line": line,
        }
        for panel in ("", "2")
    ]  # an error of 1: as wrong as no gradient at all
    return {"data": data, "layout": layout}


def write_page(path: str | os.PathLike[str], data: str, tables: Sequence[pd.DataFrame]) -> None:
    """Write the figures as one HTML file that needs no network.

    Args:
        path: of the file.
        data: name of the data set.
        tables: as of :func:`fidelity_spec`, with a column ``epoch``: a figure each.
    """
    figures = []
    for table in tables:
        spec = fidelity_spec(table)
        for note in spec["layout"]["annotations"]:
            note["text"] += f", after {table['epoch'].iloc[0]} epochs"
        figures.append(figure(spec))
    subtitle = (
        f"Data: {data}. The length of the difference to full cross-entropy's gradient, as a part of its length: 0 is "
        "exact, 1 (dotted) as far off as no gradient at all. Bars are 95 % intervals over draws."
    )
    everything = pd.concat(tables).drop(columns="kind").to_html(index=False, border=0, float_format="%.4g")
    write_text(Path(path), html_page("Gradients beside cross-entropy's", subtitle, everything, figures))

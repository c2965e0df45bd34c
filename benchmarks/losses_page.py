"""What ``losses.py`` measured as a page of plotly figures, and how it grows. Needs pandas, plotly and the lab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plain import format_bytes

from sce_lab.figures import LOOKS, figure, html_page
from sce_lab.figures.style import log_bytes_axis, panel_title
from sce_lab.files import write_text


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Exponents of growth: the slope of log(seconds) and log(workspace) over the upper half of each sweep."""
    rows = []
    for (sweep, peer), part in table.groupby(["case", "peer"], sort=False):
        part = part.dropna(subset=["seconds"]).sort_values(sweep).tail(4)
        if len(part) >= 3:
            x = np.log(part[sweep])
            fits = {k: float(np.polyfit(x, np.log(part[k].clip(lower=1e-9)), 1)[0]) for k in ("seconds", "workspace")}
            rows.append({"sweep": sweep, "peer": peer} | fits)
    return pd.DataFrame(rows)


#: Ours in the lab's green, other SCE implementations in greys, exact cross-entropy in its vermilion, sampled in blue.
PEER_LOOKS = {
    "SCE": (LOOKS["sce"].color, "solid", "circle"),
    "SCE, row-sparse gradient": ("#66c7ab", "solid", "circle-open"),
    "SCE, PyTorch": ("#00563f", "dashdot", "star"),
    "SCE, readable reference": ("#808182", "dash", "diamond"),
    "SCE, replay-rec": ("#4d4e50", "dot", "diamond-open"),
    "CE, materialised": (LOOKS["ce"].color, "dash", "square"),
    "CE, torch chunked": ("#eba57a", "dash", "square-open"),
    "CE, cut-cross-entropy": ("#a34700", "dot", "x"),
    "CE, Liger": ("#c99b00", "dot", "cross"),
    "CE, logits never held": (LOOKS["cce"].color, "solid", "square"),
    "sampled softmax, 256": (LOOKS["sampled"].color, "dot", "triangle-up"),
    "sampled softmax, 4,096": (LOOKS["sampled"].color, "solid", "triangle-up"),
    "sampled softmax, 4,096, logits held": ("#7fb8da", "dash", "triangle-up-open"),
}
AXES = {"C": "items in the catalog", "N": "positions", "n_buckets": "buckets"}


def with_slopes(result: dict[str, Any]) -> dict[str, Any]:
    """The result with the exponents of its sweeps, if there are any."""
    if not result["sweeps"]:
        return result
    found = slopes(pd.DataFrame(result["sweeps"]))
    print(found.round(2).to_string(index=False))
    return result | {"slopes": found.to_dict("records")}


def bars(table: pd.DataFrame, column: str, title: str, write: Callable[[float], str]) -> go.Figure:
    """A bar a peer, grouped by case, on a log scale: bars start at a tenth of the smallest."""
    data = []
    for peer, part in table.groupby("peer", sort=False):
        color = PEER_LOOKS[peer][0]
        text = [write(v) for v in part[column]]
        bar = {"type": "bar", "name": peer, "x": part["case"], "y": part[column], "text": text, "textangle": -90}
        data.append(bar | {"marker": {"color": color}, "hovertemplate": f"{peer}, %{{x}}: %{{text}}<extra></extra>"})
    low, high = np.log10(table[column].min()) - 1, np.log10(table[column].max()) + 0.3
    yaxis = {"type": "log", "range": [low, high], "dtick": 1, "showticklabels": False}
    legend = {"orientation": "v", "x": 1.01, "xanchor": "left", "yanchor": "top", "yref": "paper", "y": 1}
    layout = {"height": 420, "barmode": "group", "yaxis": yaxis, "legend": legend, "margin": {"t": 30, "r": 200}}
    return figure({"data": data, "layout": layout | {"annotations": [panel_title(title)]}})


def lines(table: pd.DataFrame, sweep: str, column: str, title: str) -> go.Figure:
    """Growth: a line a peer, both axes logarithmic, so that the slope is the exponent."""
    data = []
    for peer, part in table.dropna(subset=[column]).groupby("peer", sort=False):
        color, dash, symbol = PEER_LOOKS[peer]
        line = {"type": "scatter", "mode": "lines+markers", "name": peer, "x": part[sweep], "y": part[column]}
        data.append(line | {"line": {"color": color, "dash": dash}, "marker": {"symbol": symbol, "size": 8}})
    axis = log_bytes_axis(table[column].min() / 1.5, table[column].max() * 1.5) if column != "seconds" else {"dtick": 1}
    yaxis = {"type": "log", "title": {"text": "seconds" if column == "seconds" else ""}, **axis}
    legend = {"orientation": "v", "x": 1.01, "xanchor": "left", "yanchor": "top", "yref": "paper", "y": 1}
    layout = {"height": 380, "xaxis": {"type": "log", "dtick": 1, "title": {"text": AXES[sweep]}}, "yaxis": yaxis}
    layout |= {"legend": legend, "margin": {"t": 30, "r": 200}, "annotations": [panel_title(title)]}
    return figure({"data": data, "layout": layout})


def page(result: dict[str, Any], path: Path) -> None:
    """The same as plotly figures, with what was measured where."""
    done = pd.DataFrame([r for r in result["cases"] if "seconds" in r])
    figures = [
        bars(done, "seconds", "Seconds, forward and backward (log scale)", lambda v: f"{v:.2g} s"),
        bars(done, "workspace", "Loss workspace: bytes beyond inputs and their gradients (log scale)", format_bytes),
    ]
    if result["sweeps"]:
        growth = pd.DataFrame([r for r in result["sweeps"] if "seconds" in r])
        for sweep, part in growth.groupby("case", sort=False):
            figures.append(lines(part, sweep, "seconds", f"Time as the {AXES[sweep]} grow"))
            figures.append(lines(part, sweep, "workspace", f"Workspace as the {AXES[sweep]} grow"))
    where = result["environment"]
    machine = ", ".join(where["gpus"]) or f"{where['processor']}, {where['threads']} threads"
    subtitle = f"{machine}, PyTorch {where['versions']['torch']}. Command: {where['command']}"
    without = [r | {"skipped": r.get("skipped") or r["failed"]} for r in result["cases"] if "seconds" not in r]
    skipped = pd.DataFrame(without)
    tables = skipped[["case", "peer", "skipped"]].to_html(index=False, border=0) if len(skipped) else ""
    if result.get("slopes"):
        growth = pd.DataFrame(result["slopes"]).round(2)
        tables += "<h2>Exponents of growth</h2>" + growth.to_html(index=False, border=0)
    write_text(path, html_page("Losses side by side", subtitle, tables, figures, cdn=True))

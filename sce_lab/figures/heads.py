"""The wall of a language model's head: bytes over the tokens of a step, and what they are for."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from sce_lab.figures.style import INK, LINE, Spec, label, log_bytes_axis, look, panel_title, panel_widths
from sce_lab.memory import DEVICES, Device, HeadUse, format_bytes

#: The devices that are drawn as lines.
SHOWN = tuple(DEVICES[name] for name in ("laptop_16", "rtx_4090", "h100"))
_PARTS = ("in all, at most", "the loss beside them", "their gradients", "hidden states, table")
_GREYS = ("#4d5156", "", "#7a7e85", "#a9adb3")


def head_spec(
    curves: pd.DataFrame,
    use: HeadUse,
    *,
    loss: str,
    n_tokens: int,
    published: pd.DataFrame,
    devices: Iterable[Device] = SHOWN,
) -> Spec:
    """Left: what the loss of a step needs over its tokens, a line a loss. Right: what one of them needs it for.

    Args:
        curves: columns ``loss``, ``n_tokens``, ``total`` (bytes, predicted).
        use: of the chosen loss at ``n_tokens``.
        loss: the chosen one: a thick line.
        n_tokens: where the sliders stand.
        published: columns ``n_tokens``, ``total``, ``held``, ``what``: open marks.
        devices: drawn as lines.
    """
    data: list[Spec] = []
    for name, rows in curves.groupby("loss", sort=False):
        style, y = look(str(name)), rows["total"].to_numpy(float)
        line = {"color": style.color, "dash": style.dash, "width": 4.5 if name == loss else 2}
        data.append({"type": "scatter", "mode": "lines", "name": label(str(name)), "line": line})
        data[-1] |= {"x": rows["n_tokens"].to_numpy(float), "y": y, "customdata": [format_bytes(v) for v in y]}
        data[-1]["hovertemplate"] = f"{label(str(name))}, %{{x:,}} tokens: %{{customdata}}<extra>predicted</extra>"
    for held, symbol in ((True, "square"), (False, "diamond")):
        rows = published[published["held"] == held]
        style, y = look("ce" if held else "cce"), rows["total"].to_numpy(float)
        texts = [f"{what}: {format_bytes(v)}" for what, v in zip(rows["what"], y)]
        data.append({"type": "scatter", "mode": "markers", "x": rows["n_tokens"].to_numpy(float), "y": y})
        data[-1] |= {"name": "measured by others", "showlegend": False, "customdata": texts}
        data[-1]["marker"] = {
            "symbol": symbol,
            "size": 11,
            "color": "white",
            "line": {"color": style.color, "width": 2.5},
        }
        data[-1]["hovertemplate"] = "%{customdata}<extra>measured by others, on an A100</extra>"
    data.append({"type": "scatter", "mode": "markers", "x": [n_tokens], "y": [use.total], "hoverinfo": "skip"})
    data[-1] |= {"marker": {"symbol": look(loss).symbol, "size": 13, "color": look(loss).color}, "showlegend": False}

    sizes = [use.total, use.workspace, use.gradients, use.inputs]
    place = np.arange(len(sizes))[::-1]
    colors = [color or look(loss).color for color in _GREYS]
    data.append(
        {"type": "bar", "orientation": "h", "x": sizes, "y": place, "width": 0.55, "xaxis": "x2", "yaxis": "y2"}
    )
    data[-1] |= {"marker": {"color": colors, "line": {"width": 0}}, "showlegend": False, "cliponaxis": False}
    data[-1] |= {"text": [f" {format_bytes(v)}" for v in sizes], "textposition": "outside", "constraintext": "none"}
    data[-1] |= {"hovertemplate": "%{text}<extra></extra>", "outsidetextfont": {"color": INK, "size": 13}}

    low, high = curves["total"].min(), max(curves["total"].max(), *(2 * device.usable for device in devices))
    tokens = np.unique(curves["n_tokens"].to_numpy(float))
    shapes, notes = [], [panel_title("The loss of a step"), panel_title(f"{label(loss)}: what for", "2")]
    where = {"xref": "x", "x0": n_tokens, "x1": n_tokens, "yref": "y domain", "y0": 0, "y1": 1}
    shapes.append({"type": "line", **where, "line": {"color": LINE, "width": 1.5}, "layer": "below"})
    for device in devices:
        y = device.usable
        where = {"xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": y, "y1": y}
        shapes.append({"type": "line", **where, "line": {"color": INK, "width": 1.2, "dash": "dot"}, "layer": "below"})
        at = {"xref": "x domain", "x": 0.01, "yref": "y", "y": math.log10(y), "xanchor": "left", "yanchor": "bottom"}
        notes.append({"text": device.name, **at, "font": {"size": 11, "color": INK}})
    layout = {
        "height": 320,
        "margin": {"l": 12, "r": 16, "t": 34, "b": 44},
        "showlegend": False,
        "xaxis": {"domain": [0, 0.55], "type": "log", "title": {"text": "tokens of a step"}}
        | {"range": [math.log10(tokens[0]) - 0.05, math.log10(tokens[-1]) + 0.05]}
        | {"tickvals": tokens, "ticktext": [f"{t:,.0f}" for t in tokens]},
        "yaxis": log_bytes_axis(low / 1.5, 1.5 * high),
        "xaxis2": {"domain": [0.72, 1], "anchor": "y2", **log_bytes_axis(2.0**22, 2.0**38, room=0.22)},
        "yaxis2": {"anchor": "x2", "showgrid": False, "range": [-0.6, 3.6], "ticks": "", "tickvals": place}
        | {"ticktext": [f"{part}  " for part in _PARTS]},
        "shapes": shapes,
        "annotations": notes,
        **panel_widths(420, 320),
    }
    layout["xaxis2"]["tickvals"] = layout["xaxis2"]["tickvals"][::2]
    layout["xaxis2"]["ticktext"] = layout["xaxis2"]["ticktext"][::2]
    return {"data": data, "layout": layout}

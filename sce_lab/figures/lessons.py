"""What a loss finds, and what its gradient is worth: the figures of the lessons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sce_lab.figures.style import GREY, INK, LIGHT_GREY, Spec, label, look, nice_ceiling, panel_title

_WIDE = {"l": 12, "r": 12, "t": 34, "b": 48}


def _line(name: str, x: Sequence[float], y: Sequence[float], loss: str, panel: str = "", **more: object) -> Spec:
    """A line in the look of a loss; ``panel`` is the suffix of its axes."""
    style = look(loss)
    return {
        "type": "scatter", "mode": "lines+markers", "name": name, "x": np.asarray(x), "y": np.asarray(y),
        "xaxis": f"x{panel}", "yaxis": f"y{panel}", "cliponaxis": False, "showlegend": False,
        "line": {"color": style.color, "dash": style.dash, "width": 2.2},
        "marker": {"color": style.color, "symbol": style.symbol, "size": 6},
        "hovertemplate": f"{name}, %{{x:,}}: %{{y:.3f}}<extra></extra>",
    } | more  # fmt: skip


def _beside(text: str, x: float, y: float, color: str, panel: str = "", **where: object) -> Spec:
    """A line's name, beside a point of it."""
    place = {"xref": f"x{panel}", "yref": f"y{panel}", "x": x, "y": y, "xanchor": "left", "yanchor": "middle"}
    return {"text": f"<b>{text}</b>", **place, "xshift": 8, "font": {"size": 12, "color": color}} | where


def found_spec(found: pd.DataFrame) -> Spec:
    """How often the hardest wrong item is looked at, the second hardest, and so on.

    Args:
        found: as of :func:`sce_lab.explain.found_by_rank`.
    """
    data, notes = [], []
    for loss, points in found.groupby("loss", sort=False):
        x, y = points["rank"].to_numpy(), points["found"].to_numpy()
        data.append(_line(label(loss), x, y, loss, mode="lines"))
        data[-1]["hovertemplate"] = f"{label(loss)}, hardness %{{x}}: %{{y:.0%}}<extra></extra>"
        notes.append(_beside(label(loss), x[-1], y[-1], look(loss).color))
    ranks = int(found["rank"].max())
    layout = {
        "height": 300,
        "margin": _WIDE,
        "xaxis": {"title": {"text": "wrong items of a position, the hardest first"}, "range": [1, 1.22 * ranks]}
        | {"tickvals": [1, *range(10, ranks + 1, 10)]},
        "yaxis": {"range": [0, 1], "tickformat": ".0%"},
        "annotations": [panel_title("Share of positions at which it is looked at"), *notes],
    }
    return {"data": data, "layout": layout}


def collapse_spec(history: pd.DataFrame) -> Spec:
    """Coverage, HR@10 and captured mass over epochs, without Mix and with it.

    Args:
        history: columns mix_x, epoch, coverage, HR@10, captured_mass.
    """
    data, layout = [], {"height": 270, "margin": _WIDE, "annotations": []}
    titles = {"coverage": "Coverage", "HR@10": "HR@10", "captured_mass": "Captured mass"}
    color, epochs = look("sce").color, int(history["epoch"].max())
    for number, (column, title) in enumerate(titles.items()):
        panel = str(number + 1) if number else ""
        top = nice_ceiling(1.05 * history[column].max())
        for mixed, rows in history.groupby("mix_x"):
            name, dash = ("Mix on", "solid") if mixed else ("Mix off", "dot")
            x, y = rows["epoch"].to_numpy(), rows[column].to_numpy()
            data.append(_line(name, x, y, "sce", panel, line={"color": color, "dash": dash, "width": 2.2}))
            data[-1]["marker"] = {"color": color, "size": 6, "symbol": "circle" if mixed else "circle-open"}
            layout["annotations"].append(_beside(name, x[-1], y[-1], color, panel))
        layout[f"xaxis{panel}"] = {"domain": [0.35 * number, 0.35 * number + 0.3], "anchor": f"y{panel}"}
        layout[f"xaxis{panel}"] |= {"range": [0.8, 1.45 * epochs], "tickvals": list(range(1, epochs + 1))}
        layout[f"xaxis{panel}"] |= {"title": {"text": "epoch"}}
        layout[f"yaxis{panel}"] = {"anchor": f"x{panel}", "range": [0, top], "tickformat": ".0%", "nticks": 5}
        layout["annotations"].append(panel_title(title, panel))
    return {"data": data, "layout": layout}


def mass_spec(masses: pd.DataFrame) -> Spec:
    """For each model: the softmax mass that as many items as a bucket holds could have, and what the buckets have.

    Args:
        masses: columns model, own (each position its best items), shared (the same items for all), captured.
    """
    bars = {"own": ("each position's own best", LIGHT_GREY), "shared": ("the same for all positions", GREY)}
    bars["captured"] = ("in its bucket", look("sce").color)
    data = []
    for column, (name, color) in bars.items():
        y = masses[column].to_numpy()
        text = [f"{v:.1%} {name}" for v in y]
        data.append({"type": "bar", "orientation": "h", "name": name, "x": y, "y": list(masses["model"])})
        data[-1] |= {"marker": {"color": color, "line": {"width": 0}}, "showlegend": False, "text": text}
        data[-1] |= {"textposition": "outside", "cliponaxis": False, "textfont": {"color": INK}}
        data[-1] |= {"hovertemplate": f"{name}: %{{x:.1%}}<extra></extra>"}
    top = 1.75 * masses[list(bars)].to_numpy().max()
    layout = {
        "height": 270,
        "margin": _WIDE,
        "barmode": "group",
        "bargap": 0.3,
        "xaxis": {"range": [0, top], "tickformat": ".0%"},
        "yaxis": {"autorange": "reversed", "showgrid": False},
        "annotations": [panel_title("Share of the softmax mass")],
    }
    return {"data": data, "layout": layout}


def gradient_spec(gradients: pd.DataFrame) -> Spec:
    """Cosine with the gradient of cross-entropy, and length beside it, over the share of logits that is computed.

    Args:
        gradients: as of :func:`sce_lab.explain.gradients`.
    """
    data, notes = [], []
    for loss, rows in gradients.groupby("loss", sort=False):
        x = rows["share"].to_numpy()
        for column, panel in (("cosine", ""), ("length", "2")):
            data.append(_line(label(loss), x, rows[column].to_numpy(), loss, panel))
            data[-1]["hovertemplate"] = f"{label(loss)}, %{{x:.1%}} of the logits: %{{y:.2f}}<extra></extra>"
        up = loss == "sce"
        where = {"xanchor": "right" if up else "left", "yanchor": "bottom" if up else "top", "xshift": 0}
        middle = len(x) // 2
        notes.append(_beside(label(loss), np.log10(x[middle]), rows["cosine"].iloc[middle], look(loss).color, **where))
    ticks = [0.003, 0.01, 0.03, 0.1, 0.3, 1]
    low, high = np.log10(0.7 * gradients["share"].min()), np.log10(1.4 * max(gradients["share"].max(), 0.4))
    x_axis = {"type": "log", "range": [low, high], "tickvals": ticks, "ticktext": [f"{t:.3g}" for t in ticks]}
    x_axis |= {"ticktext": [f"{100 * t:.3g} %" for t in ticks], "title": {"text": "logits computed, of N × C"}}
    layout = {
        "height": 310,
        "margin": _WIDE,
        "xaxis": {"domain": [0, 0.47], **x_axis},
        "yaxis": {"range": [0, 1]},
        "xaxis2": {"domain": [0.54, 1], "anchor": "y2", **x_axis},
        "yaxis2": {"anchor": "x2", "range": [0, nice_ceiling(gradients["length"].max())]},
        "shapes": [
            {"type": "line", "xref": "x2 domain", "yref": "y2", "x0": 0, "x1": 1, "y0": 1, "y1": 1}
            | {"line": {"color": look("ce").color, "dash": look("ce").dash, "width": 1.5}}
        ],
        "annotations": [
            panel_title("Cosine with cross-entropy's"),
            panel_title("Length, cross-entropy's is 1", "2"),
            *notes,
        ],
    }
    return {"data": data, "layout": layout}

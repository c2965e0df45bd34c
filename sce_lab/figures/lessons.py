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


_WAYS = {"uniform": ("dot", "triangle-up"), "popularity": ("solid", "circle"), "in-batch": ("dash", "square")}


def estimates_spec(estimates: pd.DataFrame) -> Spec:
    """The loss that sampled softmax reports over the number of negatives, beside the exact one.

    Args:
        estimates: as of :func:`sce_lab.explain.estimates`.
    """
    data, exact, color = [], float(estimates["exact"].iloc[0]), look("sampled").color
    for (corrected, way), rows in estimates.groupby(["corrected", "way"], sort=False):
        dash, symbol = _WAYS[way]
        data.append(_line(way, rows["k"], rows["loss"], "sampled", "2" if corrected else ""))
        data[-1] |= {"line": {"color": color, "dash": dash, "width": 2.2}, "showlegend": not corrected}
        data[-1] |= {"marker": {"color": color, "symbol": symbol, "size": 7}, "legendgroup": way}
        data[-1]["error_y"] = {"type": "data", "array": rows["spread"].to_numpy(), "thickness": 1.2, "width": 2}
    ks = sorted(estimates["k"].unique())
    x_axis = {"type": "log", "tickvals": ks, "ticktext": [f"{k:,}" for k in ks], "title": {"text": "negatives, k"}}
    y_axis = {"range": [0, nice_ceiling(1.05 * max(exact, estimates["loss"].max()))]}
    style = look("ce")
    level = {"type": "line", "x0": 0, "x1": 1, "y0": exact, "y1": exact}
    level |= {"line": {"color": style.color, "dash": style.dash, "width": 1.5}}
    layout = {
        "height": 330,
        "margin": _WIDE | {"t": 60},
        "xaxis": {"domain": [0, 0.47], **x_axis},
        "yaxis": y_axis,
        "xaxis2": {"domain": [0.54, 1], "anchor": "y2", **x_axis},
        "yaxis2": {"anchor": "x2", **y_axis},
        "shapes": [level | {"xref": f"x{panel} domain", "yref": f"y{panel}"} for panel in ("", "2")],
        "annotations": [
            panel_title("Loss, as the items come"),
            panel_title("Loss, corrected by log kQ", "2"),
            _beside("exact", 0, exact, style.color, xref="x domain", yanchor="bottom"),
        ],
    }
    return {"data": data, "layout": layout}


def pushes_spec(pushes: pd.DataFrame) -> Spec:
    """How hard the wrong items of one position are pushed, sorted: by cross-entropy, and by one draw.

    Args:
        pushes: as of :func:`sce_lab.explain.pushes`.
    """
    data, notes, color = [], [], look("sampled").color
    rank, exact = pushes["rank"].to_numpy(), pushes["exact"].to_numpy()
    for panel, way in (("", "uniform"), ("2", "popularity")):
        axes = {"xaxis": f"x{panel}", "yaxis": f"y{panel}", "showlegend": False}
        data.append({"type": "scatter", "mode": "lines", "name": "cross-entropy", "x": rank, "y": exact, **axes})
        data[-1] |= {"fill": "tozeroy", "line": {"color": GREY, "width": 1.2}, "fillcolor": LIGHT_GREY}
        data[-1] |= {"hovertemplate": "cross-entropy, item %{x}: %{y:.1%}<extra></extra>"}
        drawn = pushes[pushes[way] > 0]
        stems = drawn.loc[drawn.index.repeat(3)]
        x, y = np.array(stems["rank"], float), np.array(stems[way], float)
        y[::3], y[2::3] = 0, np.nan  # from the axis up, and a gap
        data.append({"type": "scatter", "mode": "lines", "name": way, "x": x, "y": y, **axes, "hoverinfo": "skip"})
        data[-1] |= {"line": {"color": color, "width": 2}, "connectgaps": False}
        data.append({"type": "scatter", "mode": "markers", "name": way, "x": drawn["rank"], "y": drawn[way], **axes})
        data[-1] |= {"marker": {"color": color, "size": 6, "symbol": look("sampled").symbol}, "cliponaxis": False}
        data[-1] |= {"hovertemplate": f"{way} draw, item %{{x}}: %{{y:.1%}}<extra></extra>"}
        notes.append(panel_title(f"One draw, {way}", panel))
    x_axis = {"type": "log", "range": [-0.05, np.log10(len(pushes)) + 0.05], "tickvals": [1, 3, 10, 30, 100, 300, 1000]}
    x_axis |= {"title": {"text": "wrong items, the hardest first"}}
    top = nice_ceiling(1.05 * pushes[["exact", "uniform", "popularity"]].to_numpy().max())
    layout = {
        "height": 310,
        "margin": _WIDE,
        "xaxis": {"domain": [0, 0.47], **x_axis},
        "yaxis": {"range": [0, top], "tickformat": ".0%"},
        "xaxis2": {"domain": [0.54, 1], "anchor": "y2", **x_axis},
        "yaxis2": {"anchor": "x2", "range": [0, top], "tickformat": ".0%"},
        "annotations": notes,
    }
    return {"data": data, "layout": layout}

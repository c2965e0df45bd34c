"""What a loss looks at and what comes of it: SCE's coverage and captured mass, and how much of the catalog is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sce_lab.figures.style import LOOKS, Spec, label, look, nice_ceiling, panel_title


def insight_spec(
    followed: pd.DataFrame | None,
    histories: Mapping[str, pd.DataFrame],
    *,
    epochs: float | None = None,
    losses: Sequence[str] = tuple(LOOKS),
) -> Spec:
    """Two panels over epochs: of SCE, the share of positions that sit in a bucket and the share of the softmax mass
    that the buckets hold; of each loss, the share of the catalog that is recommended to anybody (COV@10).

    Args:
        followed: columns ``epochs``, ``coverage``, ``captured_mass``; None or empty without SCE.
        histories: by loss, with a column ``epochs``; ``COV@10`` of the evaluations is drawn.
        epochs: where the epoch axes should end.
        losses: which have a place.
    """
    data: list[Spec] = []
    empty = followed is None or followed.empty
    x = np.zeros(0) if empty else followed["epochs"].to_numpy(float)
    style = look("sce")
    for column, name, dash in (
        ("coverage", "positions in a bucket", "solid"),
        ("captured_mass", "softmax mass captured", "dot"),
    ):
        y = np.zeros(0) if empty else followed[column].to_numpy(float)
        data.append({"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "xaxis": "x", "yaxis": "y"})
        data[-1] |= {"line": {"color": style.color, "dash": dash, "width": 2.2}, "showlegend": False}
        data[-1] |= {"hovertemplate": f"{name}, epoch %{{x:.1f}}: %{{y:.1%}}<extra></extra>", "cliponaxis": False}
    reached, top = float(x[-1]) if len(x) else 1.0, 0.0
    for loss in losses:
        style, history = look(loss), histories.get(loss)
        epoch = cov = np.zeros(0)
        if history is not None and "COV@10" in history:
            rows = history[history["kind"] == "evaluation"]
            epoch, cov = rows["epochs"].to_numpy(float), rows["COV@10"].to_numpy(float)
        data.append({"type": "scatter", "mode": "lines+markers", "name": label(loss), "x": epoch, "y": cov})
        data[-1] |= {"xaxis": "x2", "yaxis": "y2", "showlegend": False, "cliponaxis": False}
        data[-1] |= {"line": {"color": style.color, "dash": style.dash, "width": 2.2}}
        data[-1] |= {"marker": {"color": style.color, "symbol": style.symbol, "size": 6}}
        data[-1] |= {"hovertemplate": f"{label(loss)}, epoch %{{x:.0f}}: %{{y:.1%}}<extra></extra>"}
        if len(epoch):
            reached, top = max(reached, float(epoch[-1])), max(top, float(cov.max()))
    last = {column: "" if empty else f" {followed[column].iloc[-1]:.0%}" for column in ("coverage", "captured_mass")}
    x_axis = {"range": [0, max(reached, epochs or 1.0)], "title": {"text": "epoch"}, "nticks": 6}
    layout = {
        "height": 206,
        "margin": {"l": 12, "r": 8, "t": 30, "b": 44},
        "xaxis": {"domain": [0, 0.47], **x_axis},
        "yaxis": {"range": [0, 1.02], "tickformat": ".0%", "nticks": 5},
        "xaxis2": {"domain": [0.53, 1], "anchor": "y2", **x_axis},
        "yaxis2": {"anchor": "x2", "range": [0, nice_ceiling(1.1 * (top or 0.5))], "tickformat": ".0%", "nticks": 5},
        "annotations": [
            panel_title(
                f"SCE: positions in a bucket{last['coverage']} (solid), softmax mass captured{last['captured_mass']}"
                " (dotted)"
            ),
            panel_title("COV@10: share of the catalog that is recommended", "2"),
        ],
        "showlegend": False,
    }
    return {"data": data, "layout": layout}

"""What a loss looks at, what comes of it, and what it held: coverage and captured mass, COV@10, bytes in a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sce_lab.figures.curves import Curves
from sce_lab.figures.style import LOOKS, Spec, bytes_axis, label, look, nice_ceiling, panel_title, panel_widths

#: Phases of a step and their names for people.
PHASES = {
    "forward": "encoder",
    "loss_forward": "loss",
    "loss_backward": "loss<br>backward",
    "backward": "encoder<br>backward",
    "optimizer": "Adam",
}
#: Points a phase of a step is drawn with, at most.
_POINTS = 40


def insight_spec(
    followed: Mapping[str, np.ndarray] | None,
    curves: Mapping[str, Curves],
    *,
    epochs: float | None = None,
    moments: Mapping[str, tuple[np.ndarray, Mapping[str, int]]] | None = None,
    losses: Sequence[str] | None = None,
) -> Spec:
    """Three panels. Over epochs: of SCE, the share of positions that sit in a bucket and the share of the softmax mass
    that the buckets hold; of each loss, the share of the catalog that is recommended to anybody (COV@10). And what the
    last measured step held from moment to moment.

    Args:
        followed: arrays ``epochs``, ``coverage``, ``captured_mass``; None or empty without SCE.
        curves: by loss; ``COV@10`` of the evaluations is drawn.
        epochs: where the epoch axes should end.
        moments: by loss, bytes alive at each moment of a step, and by phase its first moment.
        losses: which have a place; default: all.
    """
    losses = tuple(LOOKS) if losses is None else losses
    data: list[Spec] = []
    known = followed or {}
    x = known.get("epochs", np.zeros(0))
    style = look("sce")
    for column, name, dash in (
        ("coverage", "coverage: positions in a bucket", "solid"),
        ("captured_mass", "captured mass", "dot"),
    ):
        y = known.get(column, np.zeros(0))
        data.append({"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "xaxis": "x", "yaxis": "y"})
        data[-1] |= {"line": {"color": style.color, "dash": dash, "width": 2.2}, "showlegend": False}
        data[-1] |= {"hovertemplate": f"{name}, epoch %{{x:.1f}}: %{{y:.1%}}<extra></extra>", "cliponaxis": False}
    reached, top = float(x[-1]) if len(x) else 1.0, 0.0
    for loss in losses:
        style = look(loss)
        epoch, cov = curves.get(loss, Curves()).of_panel("COV@10")
        data.append({"type": "scatter", "mode": "lines+markers", "name": label(loss), "x": epoch, "y": cov})
        data[-1] |= {"xaxis": "x2", "yaxis": "y2", "showlegend": False, "cliponaxis": False}
        data[-1] |= {"line": {"color": style.color, "dash": style.dash, "width": 2.2}}
        data[-1] |= {"marker": {"color": style.color, "symbol": style.symbol, "size": 6}}
        data[-1] |= {"hovertemplate": f"{label(loss)}, epoch %{{x:.0f}}: %{{y:.1%}}<extra></extra>"}
        if len(epoch):
            reached, top = max(reached, float(epoch[-1])), max(top, float(cov.max()))
    largest = 1.0
    for loss in losses:
        style, (live, begins) = look(loss), (moments or {}).get(loss, (np.zeros(0), {}))
        where, alive = _by_phase(live, begins)
        data.append({"type": "scatter", "mode": "lines", "name": label(loss), "x": where, "y": alive})
        data[-1] |= {"xaxis": "x3", "yaxis": "y3", "showlegend": False, "cliponaxis": False}
        data[-1] |= {"line": {"color": style.color, "dash": style.dash, "width": 1.8}}
        data[-1] |= {"hovertemplate": f"{label(loss)}: %{{y:.3s}}B<extra></extra>"}
        largest = max(largest, alive.max(initial=0.0))
    last = {name: f" {known[name][-1]:.0%}" if len(x) else "" for name in ("coverage", "captured_mass")}
    x_axis = {"range": [0, 1.03 * max(reached, epochs or 1.0)], "title": {"text": "epoch"}, "nticks": 6}
    layout = {
        "height": 206,
        "margin": {"l": 8, "r": 10, "t": 26, "b": 44},
        "xaxis": {"domain": [0, 0.28], **x_axis},
        "yaxis": {"range": [0, 1.02], "tickformat": ".0%", "nticks": 5},
        "xaxis2": {"domain": [0.345, 0.6], "anchor": "y2", **x_axis},
        "yaxis2": {
            "anchor": "x2",
            "range": [0, nice_ceiling(max(1.1 * top, 0.05) if top else 0.5)],
            "tickformat": ".0%",
            "nticks": 5,
        },
        "xaxis3": {"domain": [0.68, 1], "anchor": "y3", "range": [0, len(PHASES)], "tickvals": np.arange(5) + 0.5}
        | {"ticktext": list(PHASES.values()), "showgrid": False, "tickangle": 0, "tickfont": {"size": 10}},
        "yaxis3": {"anchor": "x3", **bytes_axis(1.05 * largest if largest > 1 else 2.0**26)},
        "annotations": [
            panel_title(f"Coverage{last['coverage']}, captured mass{last['captured_mass']}"),
            panel_title("COV@10, of the catalog", "2"),
            panel_title("Memory during one step, measured", "3"),
        ],
        "shapes": [_stripe(number) for number in range(1, len(PHASES), 2)],
        "showlegend": False,
        **panel_widths(275, 210, 300),
    }
    return {"data": data, "layout": layout}


def _by_phase(live: np.ndarray, begins: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """The moments of a step on an axis on which every phase is one wide, thinned to the largest of neighbours."""
    x, y = [np.zeros(0)], [np.zeros(0)]
    starts = [*begins.values(), len(live)]
    for (phase, start), end in zip(begins.items(), starts[1:]):
        if phase not in PHASES or end <= start:
            continue
        edges = np.unique(np.linspace(start, end, min(_POINTS, end - start) + 1).astype(int)[:-1])
        y.append(np.maximum.reduceat(live[:end], edges))
        x.append(list(PHASES).index(phase) + (np.arange(len(edges)) + 0.5) / len(edges))
    return np.concatenate(x), np.concatenate(y)


def _stripe(number: int) -> Spec:
    """The background of a phase."""
    where = {"xref": "x3", "x0": number, "x1": number + 1, "yref": "y3 domain", "y0": 0, "y1": 1}
    return {"type": "rect", **where, "fillcolor": "rgba(128, 129, 130, 0.10)", "line": {"width": 0}, "layer": "below"}

"""Training: loss, ranking quality and time of a step, a run a loss, side by side."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sce_lab.figures.curves import Curves
from sce_lab.figures.style import (
    GREY,
    INK,
    LIGHT_GREY,
    LOOKS,
    Spec,
    figure,
    label,
    line_at,
    look,
    nice_ceiling,
    panel_title,
    panel_widths,
    short_label,
)

METRICS = ("HR@10", "NDCG@10")
#: How a step's time is stacked: name, phases of :func:`sce_lab.training.training_step`, the loss's own?
TIME_PARTS = (
    ("encoder forward", ("forward",), False),
    ("encoder backward, Adam", ("backward", "optimizer"), False),
    ("loss forward", ("loss_forward",), True),
    ("loss backward", ("loss_backward",), True),
)
#: Settings changed while a run goes on, as :attr:`sce_lab.widgets.kit.progress.Snapshot.changes` has them.
Changes = Sequence[tuple[float, Mapping[str, Any]]]
#: So many of the last changes are drawn.
MARKS = 6
SYMBOLS = {
    "n_buckets": "n<sub>b</sub>",
    "bucket_size_x": "b<sub>x</sub>",
    "bucket_size_y": "b<sub>y</sub>",
    "n_negatives": "negatives",
    "mix_x": "Mix",
}


def training_spec(
    curves: Mapping[str, Curves],
    milliseconds: Mapping[str, Mapping[str, float]],
    *,
    ceiling: Mapping[str, float] | None = None,
    epochs: float | None = None,
    losses: Sequence[str] | None = None,
    changes: Mapping[str, Changes] | None = None,
    against: str = "epoch",
) -> Spec:
    """See :func:`training_figure`; ``curves`` by loss."""
    losses = tuple(LOOKS) if losses is None else losses
    panels = {
        name: {loss: each.of_panel(name, against) for loss, each in curves.items()} for name in ("loss", *METRICS)
    }
    data: list[Spec] = []
    for number, (panel, drawn) in enumerate(panels.items()):
        axes = {"xaxis": f"x{number + 1}".replace("x1", "x"), "yaxis": f"y{number + 1}".replace("y1", "y")}
        for loss in losses:
            x, y = drawn.get(loss, (np.zeros(0), np.zeros(0)))
            line, marker = _line_and_marker(loss, 1.8 if panel == "loss" else 2.2)
            mode = "lines" if panel == "loss" else "lines+markers"
            at = "epoch %{x:.1f}" if panel == "loss" or against == "epoch" else "%{x:.3g} s"
            hover = f"{label(loss)}, {at}: %{{y:.4f}}<extra></extra>"
            data.append({"type": "scatter", "mode": mode, "name": label(loss), "x": x, "y": y})
            data[-1] |= {**axes, "line": line, "marker": marker, "hovertemplate": hover}
            data[-1] |= {"showlegend": False, "cliponaxis": panel == "loss"}
    data += [
        _band(loss, curves.get(loss, Curves()).band(metric, against), panel)
        for panel, metric in zip("23", METRICS)
        for loss in losses
    ]
    totals = {loss: sum(parts.values()) for loss, parts in milliseconds.items()}
    for name, phases, is_loss in TIME_PARTS:
        y = [sum(milliseconds.get(loss, {}).get(phase, 0.0) for phase in phases) for loss in losses]
        strong = name.endswith("forward")  # forward hatched, backward plain
        colors = [look(loss).color if is_loss else GREY if strong else LIGHT_GREY for loss in losses]
        # "overlay" would look at one colour for all bars, and complain in the page's console of several.
        pattern = {"shape": "/" if strong else "", "size": 5, "solidity": 0.35}
        pattern |= {"fillmode": "replace", "fgcolor": "rgba(255, 255, 255, 0.75)", "bgcolor": colors}
        data.append({"type": "bar", "name": name, "x": np.arange(len(losses)), "y": np.array(y), "width": 0.6})
        data[-1] |= {
            "xaxis": "x4",
            "yaxis": "y4",
            "marker": {"color": colors, "pattern": pattern, "line": {"width": 0}},
        }
        data[-1] |= {"hovertemplate": f"{name}: %{{y:.1f}} ms<extra></extra>", "showlegend": False}
    shown = [totals.get(loss) for loss in losses]
    data.append({"type": "scatter", "mode": "text", "x": np.arange(len(losses)), "y": [t or 0 for t in shown]})
    data[-1] |= {"text": [f"<b>{t:.0f} ms</b>" if t else "" for t in shown], "textposition": "top center"}
    data[-1] |= {"xaxis": "x4", "yaxis": "y4", "textfont": {"color": INK}, "hoverinfo": "skip", "showlegend": False}
    ends = [float(x[-1]) for each in curves.values() for x in (each.epochs, each.scored) if len(x)]
    layout = _training_layout(panels, totals, ceiling or {}, max(epochs or 1.0, *ends, 1.0), losses)
    if against != "epoch":
        _over_seconds(layout, panels)
    _mark(layout, changes or {}, ("",) if against != "epoch" else ("", "2", "3"))
    return {"data": data, "layout": layout}


@functools.cache  # the same objects every time: that nothing changed is seen at once
def _line_and_marker(loss: str, width: float) -> tuple[Spec, Spec]:
    style = look(loss)
    line = {"color": style.color, "dash": style.dash, "width": width}
    return line, {"color": style.color, "symbol": style.symbol, "size": 6}


def _band(loss: str, outline: tuple[np.ndarray, np.ndarray], panel: str) -> Spec:
    """The range of several runs, as an area."""
    x, y = outline
    area = {"type": "scatter", "mode": "lines", "x": x, "y": y, "xaxis": f"x{panel}", "yaxis": f"y{panel}"}
    area |= {"fill": "toself", "fillcolor": look(loss).faded(0.18), "line": {"width": 0, "color": look(loss).color}}
    return area | {"name": f"{label(loss)}, seeds", "hoverinfo": "skip", "showlegend": False}


def _over_seconds(layout: Spec, panels: Mapping[str, Mapping[str, tuple[Any, Any]]]) -> None:
    """The axes of the metrics in seconds of training."""
    last = max((float(x[-1]) for metric in METRICS for x, _ in panels[metric].values() if len(x)), default=1.0)
    for panel in "23":
        layout[f"xaxis{panel}"] |= {"range": [0, 1.02 * last], "title": {"text": "seconds of training"}}


def _mark(layout: Spec, changes: Mapping[str, Changes], panels: Sequence[str]) -> None:
    """Lines through the panels over epochs where settings of a loss were changed. Words at the last say to what, also
    of those that stand so near that their words would lie on it; of a moved slider, where it came to rest."""
    made = [(epoch, loss, settings) for loss, each in changes.items() for epoch, settings in each[-MARKS:]]
    marks = sorted(made, key=lambda mark: mark[0])
    for epoch, loss, _ in marks[-MARKS:]:
        for panel in panels:
            line = line_at(epoch, panel)
            layout["shapes"].append(line | {"line": {"color": look(loss).color, "width": 1, "dash": "dot"}})
    if not marks:
        return
    at, end = marks[-1][0], layout["xaxis"]["range"][1]
    near = [(loss, settings) for epoch, loss, settings in marks if at - epoch < 0.3 * end]
    last = {(loss, name): value for loss, settings in near for name, value in settings.items()}
    words = [
        f'<span style="color: {look(loss).color}">{SYMBOLS.get(name, name)} → {_value(value)}</span>'
        for (loss, name), value in last.items()
    ]
    where = {"xref": "x", "x": at, "yref": "y domain", "y": 1, "yanchor": "top"}
    late = at > 0.6 * end
    where |= {"xanchor": "right" if late else "left", "xshift": -3 if late else 3, "align": "left"}
    layout["annotations"].append({"text": "<br>".join(words[-4:]), **where, "font": {"size": 11, "color": INK}})


def _value(value: Any) -> str:
    """A setting as people write it."""
    return ("on" if value else "off") if isinstance(value, bool) else f"{value:,}"


def _training_layout(
    panels: Mapping[str, Mapping[str, tuple[Any, Any]]],
    totals: Mapping[str, float],
    ceiling: Mapping[str, float],
    epochs: float,
    losses: Sequence[str],
) -> Spec:
    width, gap = 0.19, 0.06  # the bars have a name each, and need more
    domains = [[i * (width + gap), i * (width + gap) + width] for i in range(3)] + [[3 * (width + gap), 1]]
    # The last points are whole: half of a marker lies beyond its place.
    x_axis = {"range": [0, 1.03 * epochs], "title": {"text": "epoch"}, "nticks": 5}
    names = {"tickvals": np.arange(len(losses)), "ticktext": [short_label(loss) for loss in losses], "showgrid": False}
    names |= {"tickangle": 0, "tickfont": {"size": 11}}
    layout: Spec = {
        "height": 206,
        "barmode": "stack",
        "margin": {"l": 8, "r": 10, "t": 26, "b": 40},
        "xaxis": {"domain": domains[0], **x_axis},
        "xaxis2": {"domain": domains[1], "anchor": "y2", **x_axis},
        "xaxis3": {"domain": domains[2], "anchor": "y3", **x_axis},
        "xaxis4": {"domain": domains[3], "anchor": "y4", "range": [-0.6, len(losses) - 0.4], **names},
        "yaxis": {"rangemode": "normal", "nticks": 5, **_loss_range(panels["loss"])},
        "yaxis4": {"anchor": "x4", "range": [0, nice_ceiling(1.2 * max(totals.values(), default=50.0))], "nticks": 5},
        "annotations": [
            panel_title("Training loss"),
            *(panel_title(metric + _at_best(ceiling.get(metric)), panel) for panel, metric in zip("23", METRICS)),
            panel_title("ms per step", "4"),
        ],
        "shapes": [],
        "showlegend": False,
        **panel_widths(140, 190, 190, 48 + 46 * len(losses)),
    }
    for panel, metric in zip("23", METRICS):
        best = max((float(np.max(y)) for _, y in panels[metric].values() if len(y)), default=0.0)
        top = nice_ceiling(1.12 * max(best, ceiling.get(metric, 0.0)) or 0.5)
        layout[f"yaxis{panel}"] = {"anchor": f"x{panel}", "range": [0, top], "nticks": 5}
        known = metric in ceiling
        y = ceiling.get(metric, 0.0)
        where = {"xref": f"x{panel} domain", "x0": 0, "x1": 1, "yref": f"y{panel}", "y0": y, "y1": y}
        line = {"color": INK, "width": 1.5, "dash": "dot"}
        layout["shapes"].append({"type": "line", **where, "line": line, "visible": known})
    return layout


def _at_best(ceiling: float | None) -> str:
    return "" if ceiling is None else f", at best {ceiling:.2f}"


def _loss_range(curves: Mapping[str, tuple[Any, Any]]) -> Spec:
    values = [np.asarray(y, float) for _, y in curves.values() if len(y)]
    if not values:
        return {"range": [0, 10]}
    low, high = min(v.min() for v in values), max(v.max() for v in values)
    return {"range": [math.floor(low), math.ceil(high + 1e-9) if high > low else math.floor(low) + 1]}


def training_figure(
    histories: Mapping[str, pd.DataFrame], milliseconds: Mapping[str, Mapping[str, float]], **options: Any
) -> go.Figure:
    """A run a loss, side by side: training loss, HR@10 and NDCG@10 over epochs, and the time of a step.

    Args:
        histories: by loss, tables as :func:`sce_lab.runs.history_row` makes them.
        milliseconds: by loss, median milliseconds by phase (:func:`sce_lab.runs.summarize_history`).
        options: ``ceiling``: best reachable metrics, drawn as lines; ``epochs``: where the epoch axis should end;
            ``losses``: which have a place; ``changes``: by loss, settings changed while it ran, drawn as lines;
            ``against``: over what HR and NDCG are drawn, "epoch" or "seconds" of training.
    """
    curves = {loss: Curves.of(history) for loss, history in histories.items()}
    return figure(training_spec(curves, milliseconds, **options))

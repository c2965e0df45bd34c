"""Figures: from tables to plotly, in one look.

Every public function takes tables and returns figures; nothing here trains, measures or draws on a screen. A loss has
one colour, dash and marker in all of them; what all share (weights, encoder) is grey: colour means "the loss".

Backgrounds are transparent and text is a grey that can be read on white and on black. A page that knows its theme can
do better: :data:`THEME_CSS` replaces that grey by the page's own ink.
"""

from __future__ import annotations

import html
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sce_lab.losses import LOSSES
from sce_lab.memory import format_bytes
from sce_lab.runs import Run, compare_runs, for_people, write_text

#: Text: of equal contrast on white and on black. Nothing else has this colour, so that THEME_CSS can find it.
INK = "rgb(119, 120, 121)"
GRID = "rgba(128, 129, 130, 0.22)"
LINE = "rgba(128, 129, 130, 0.60)"
#: What the losses share.
GREY, LIGHT_GREY = "rgba(128, 129, 130, 0.70)", "rgba(128, 129, 130, 0.35)"
CLEAR = "rgba(0, 0, 0, 0)"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

#: plotly writes colours into its elements: text in INK takes ``--sce-ink`` instead, where a page defines it.
THEME_CSS = f'.js-plotly-plot text[style*="fill: {INK}"] {{ fill: var(--sce-ink, {INK}) !important; }}'


@dataclass(frozen=True)
class Look:
    """How a loss is drawn, everywhere."""

    color: str
    dash: str
    symbol: str

    def faded(self, opacity: float) -> str:
        """The colour, translucent."""
        red, green, blue = (int(self.color[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red}, {green}, {blue}, {opacity})"


#: Vermilion, blue and green of Okabe and Ito's set, which colour-blind people can tell apart; blue is lighter here.
LOOKS = {
    "ce": Look("#d55e00", "dash", "square"),
    "sampled": Look("#2b83c6", "dot", "triangle-up"),
    "sce": Look("#009e73", "solid", "circle"),
}
_OTHER = Look("#b4629a", "dashdot", "cross")


def look(loss: str) -> Look:
    """The look of ``loss``; one that is not in :data:`LOOKS` is purple."""
    return LOOKS.get(loss, _OTHER)


def label(loss: str) -> str:
    """The name of ``loss`` for people."""
    return LOSSES[loss].label if loss in LOSSES else loss


_AXIS = {
    "gridcolor": GRID,
    "linecolor": LINE,
    "zeroline": False,
    "fixedrange": True,
    "automargin": True,
    "title": {"font": {"size": 12}, "standoff": 6},
}
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "margin": {"l": 12, "r": 12, "t": 40, "b": 32},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top", "bgcolor": CLEAR},
        "hoverlabel": {"font": {"family": FONT, "size": 12}},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "annotationdefaults": {"showarrow": False, "font": {"size": 12, "color": INK}},
    }
)

Spec = dict[str, Any]
"""A figure as plain ``{"data": [...], "layout": {...}}``: quick to make many times a second, and to compare."""


def figure(spec: Spec) -> go.Figure:
    """The figure of a spec, in the lab's look."""
    return go.Figure(spec["data"], {"template": TEMPLATE, **spec["layout"]})


# ----------------------------------------------------------------------------------------------------------- axes


def nice_ceiling(value: float) -> float:
    """The next 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten: an axis that grows in steps does not jitter."""
    if not 0 < value < math.inf:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def _bytes_axis(largest: float) -> Spec:
    """A linear axis from 0 to at least ``largest`` bytes, ticks at round binary sizes."""
    unit = 1024.0 ** math.floor(math.log(max(largest, 1), 1024))
    end = nice_ceiling(largest / unit) * unit
    step = nice_ceiling(end / unit / 4) * unit
    ticks = np.arange(0, end, step)
    return {"range": [0, end], "tickvals": ticks, "ticktext": ["0", *(format_bytes(t) for t in ticks[1:])]}


def _log_bytes_axis(smallest: float, largest: float, room: float = 0.0) -> Spec:
    """A logarithmic axis with a few ticks at powers of two. ``room`` is the share left free for text at its end."""
    low, high = math.log2(max(smallest, 1.0)), math.log2(max(largest, 2.0))
    high = max(high, low + 3)
    end = high + (high - low) * room / (1 - room)
    step = next(s for s in (1, 2, 3, 5, 10, 20) if (end - low) / s <= 5 or s == 20)
    ticks = 2.0 ** np.arange(step * math.ceil(low / step), high + step / 2, step)
    span = [low * math.log10(2), end * math.log10(2)]
    return {"type": "log", "range": span, "tickvals": ticks, "ticktext": [format_bytes(t) for t in ticks]}


def _title(text: str, panel: str = "") -> Spec:
    """A panel's title above its left corner; ``panel`` is the suffix of its axes: "", "2", ..."""
    where = {"xref": f"x{panel} domain", "yref": f"y{panel} domain", "x": 0, "y": 1}
    return {"text": f"<b>{text}</b>", **where, "xanchor": "left", "yanchor": "bottom", "yshift": 6}


def _line_at(x: float, panel: str = "") -> Spec:
    where = {"xref": f"x{panel}", "yref": f"y{panel} domain", "x0": x, "x1": x, "y0": 0, "y1": 1}
    return {"type": "line", **where, "line": {"color": INK, "width": 1.5, "dash": "dot"}, "layer": "below"}


# --------------------------------------------------------------------------------------------------------- memory


def memory_spec(
    memory: pd.DataFrame,
    *,
    before: pd.DataFrame | None = None,
    measured: Mapping[str, float] | None = None,
    free: float | None = None,
) -> Spec:
    """See :func:`memory_figure`."""
    losses = list(memory["loss"])
    rows = np.arange(len(losses))[::-1]  # the first stands on top
    peak = memory["peak"].to_numpy(float)
    workspace = np.maximum(memory["loss_workspace"].to_numpy(float), 1.0)
    # Every part is at its own largest and they need not be largest together. The bars end at the peak; what the shared
    # parts leave of it is what the loss adds.
    weights = np.minimum(memory[["parameters", "gradients", "optimizer_state"]].sum(axis=1).to_numpy(float), peak)
    encoder = np.minimum(memory["activations"].to_numpy(float), peak - weights)
    colors = [look(loss).color for loss in losses]
    fields = ["peak", "loss_workspace"]
    old = memory.set_index("loss")[fields] if before is None else before.set_index("loss")[fields].reindex(losses)
    old_peak, old_workspace = old.to_numpy(float).T
    same = np.isclose(old_peak, peak, rtol=0.005)  # what did not change needs no outline
    old_peak, old_workspace = np.where(same, np.nan, old_peak), np.where(same, np.nan, old_workspace)
    taken = [(measured or {}).get(loss, np.nan) for loss in losses]

    def bar(name: str, values: np.ndarray, color: str | list[str]) -> Spec:
        hover = {"customdata": [format_bytes(v) for v in values], "hovertemplate": f"{name}: %{{customdata}}"}
        shape = {"orientation": "h", "width": 0.56, "marker": {"color": color, "line": {"width": 0}}}
        return {"type": "bar", "name": name, "x": values, "y": rows, **shape, **hover, "showlegend": False}

    def text(x: np.ndarray, panel: str, bold: bool) -> Spec:
        sizes = [f"  <b>{format_bytes(v)}</b>" if bold else f"  {format_bytes(v)}" for v in x]
        where = {"x": x, "y": rows, "xaxis": f"x{panel}", "yaxis": f"y{panel}", "text": sizes}
        font = {"textposition": "middle right", "textfont": {"color": INK, "size": 13}, "cliponaxis": False}
        return {"type": "scatter", "mode": "text", **where, **font, "hoverinfo": "skip", "showlegend": False}

    def dots(name: str, x: Any, panel: str, marker: Spec) -> Spec:
        sizes = ["" if np.isnan(v) else format_bytes(v) for v in x]
        where = {"x": x, "y": rows, "xaxis": f"x{panel}", "yaxis": f"y{panel}", "customdata": sizes}
        hover = f"{name}: %{{customdata}}<extra></extra>"
        return {"type": "scatter", "mode": "markers", **where, "marker": marker, "hovertemplate": hover} | {
            "showlegend": False,
            "name": name,
        }

    symbols = [look(loss).symbol for loss in losses]
    filled = {"symbol": symbols, "size": 13, "color": colors}
    hollow = {"symbol": symbols, "size": 13, "color": CLEAR, "line": {"color": LINE, "width": 1.5}}
    diamond = {"symbol": "diamond", "size": 11, "color": "white", "line": {"color": "black", "width": 1.5}}
    data = [
        bar("weights, gradients, Adam", weights, GREY),
        bar("encoder", encoder, LIGHT_GREY),
        bar("the loss", peak - weights - encoder, colors),
        dots("measured peak", np.array(taken, float), "", diamond),
        text(np.fmax(peak, taken), "", bold=True),
        dots("before", old_workspace, "2", hollow),
        dots("the loss", workspace, "2", filled),
        text(workspace, "2", bold=False),
    ]
    shapes = [_ghost(row, size) for row, size in zip(rows, old_peak)]
    end = 1.3 * np.nanmax([*peak, *taken, *old_peak])
    low = max(1.0, np.nanmin([*workspace, *old_workspace]))
    high = np.nanmax([*workspace, *old_workspace])
    annotations = [_title("Peak memory of one training step"), _title("The loss alone (log scale)", "2")]
    for panel, inside in (
        ("", free is not None and bool(free < end)),
        ("2", free is not None and bool(free < 30 * high)),
    ):
        shapes.append(_line_at(free if inside else 1.0, panel) | {"visible": inside})
        annotations.append(_free_label(free or 1.0, panel) | {"visible": inside})
        high = max(high, 1.1 * free) if panel and inside else high
    line = {"showgrid": False, "range": [-0.9, len(losses) - 0.5], "tickvals": rows, "ticks": ""}
    layout = {
        "height": 70 + 38 * len(losses),
        "barmode": "stack",
        "margin": {"l": 12, "r": 12, "t": 30, "b": 28},
        "xaxis": {"domain": [0, 0.56], **_bytes_axis(end)},
        "yaxis": {**line, "ticktext": [f"{label(loss)}  " for loss in losses]},
        "xaxis2": {"domain": [0.63, 1], "anchor": "y2", **_log_bytes_axis(low / 1.5, high, room=0.4)},
        "yaxis2": {**line, "showticklabels": False, "anchor": "x2"},
        "shapes": shapes,
        "annotations": annotations,
        "showlegend": False,
    }
    return {"data": data, "layout": layout}


def _ghost(row: float, size: float) -> Spec:
    """The outline of a bar as it was; invisible if it was not."""
    there = bool(np.isfinite(size))
    where = {"x0": 0, "x1": size if there else 0, "y0": row - 0.38, "y1": row + 0.38}
    return {"type": "rect", **where, "line": {"color": LINE, "width": 1.5, "dash": "dot"}, "visible": there}


def _free_label(free: float, panel: str) -> Spec:
    x = math.log10(free) if panel else free  # plotly wants the logarithm in annotations, though not in shapes
    where = {"x": x, "xref": f"x{panel}", "y": 0, "yref": f"y{panel} domain", "xanchor": "left", "yanchor": "bottom"}
    return {"text": f" {format_bytes(free)} free", **where, "font": {"size": 11, "color": INK}}


def memory_figure(memory: pd.DataFrame, **options: Any) -> go.Figure:
    """Predicted memory of a step, a bar a loss, and beside it the loss's workspace alone on a log scale.

    Args:
        memory: a row a loss: ``loss`` and the fields of :class:`sce_lab.memory.MemoryUse`, in bytes.
        options: ``before``: the same table at the previous settings, drawn as outlines;
            ``measured``: measured peak by loss, drawn as diamonds; ``free``: bytes there are, drawn as a line.
    """
    return figure(memory_spec(memory, **options))


def memory_wall(memory: pd.DataFrame, *, free: float | None = None) -> go.Figure:
    """Peak memory over catalog size, a line a loss, both axes logarithmic.

    Args:
        memory: columns ``loss``, ``catalog_size`` and ``peak`` (bytes), a row a point.
        free: bytes there are: where a line crosses it, training ends.
    """
    data, annotations = [], []
    for loss, rows in memory.groupby("loss", sort=False):
        style = look(loss)
        sizes = [format_bytes(v) for v in rows["peak"]]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": label(loss),
                "x": rows["catalog_size"].to_numpy(float),
                "y": rows["peak"].to_numpy(float),
                "line": {"color": style.color, "dash": style.dash, "width": 2.5},
                "marker": {"symbol": style.symbol, "size": 8, "color": style.color},
                "customdata": sizes,
                "hovertemplate": f"{label(loss)}, %{{x:,}} items: %{{customdata}}<extra></extra>",
            }
        )
    low, high = memory["peak"].min(), memory["peak"].max()
    shapes = []
    if free is not None and free < 64 * high:
        high = max(high, free)
        where = {"xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": free, "y1": free}
        shapes.append({"type": "line", **where, "line": {"color": INK, "width": 1.5, "dash": "dot"}})
        where = {"xref": "x domain", "x": 0, "y": math.log10(free), "xanchor": "left", "yanchor": "bottom"}
        annotations.append({"text": f"free on this machine: {format_bytes(free)}", **where})
    catalog = np.unique(memory["catalog_size"])
    decades = 10.0 ** np.arange(math.ceil(math.log10(catalog[0])), math.floor(math.log10(catalog[-1])) + 1)
    layout = {
        "height": 340,
        "xaxis": {"type": "log", "title": {"text": "items in the catalog"}, "tickvals": decades}
        | {"ticktext": [_count(d) for d in decades]},
        "yaxis": {"title": {"text": "peak memory of a step"}, **_log_bytes_axis(low / 1.5, 1.5 * high)},
        "shapes": shapes,
        "annotations": annotations,
    }
    return figure({"data": data, "layout": layout})


def _count(n: float) -> str:
    """``20000`` to ``"20k"``."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if n >= unit:
            return f"{n / unit:.3g}{name}"
    return f"{n:.0f}"


# ------------------------------------------------------------------------------------------------------- training

METRICS = ("HR@10", "NDCG@10")
#: How a step's time is stacked: name, phases of :func:`sce_lab.training.training_step`, the loss's own?
TIME_PARTS = (
    ("encoder forward", ("forward",), False),
    ("encoder backward, Adam", ("backward", "optimizer"), False),
    ("loss forward", ("loss_forward",), True),
    ("loss backward", ("loss_backward",), True),
)


def _epochs(history: pd.DataFrame) -> np.ndarray:
    """The step numbers of a history, in epochs. Before the first evaluation an epoch's length is unknown: 0 to 1."""
    evaluated = history[(history["kind"] == "evaluation") & (history["epoch"] > 0)]
    if len(evaluated):
        length = evaluated["step"].iloc[-1] / evaluated["epoch"].iloc[-1]
    else:
        length = max(1, history["step"].max())
    return history["step"].to_numpy(float) / length


def training_spec(
    histories: Mapping[str, pd.DataFrame],
    milliseconds: Mapping[str, Mapping[str, float]],
    *,
    ceiling: Mapping[str, float] | None = None,
    epochs: float | None = None,
    losses: Sequence[str] = tuple(LOOKS),
) -> Spec:
    """See :func:`training_figure`."""
    panels: dict[str, dict[str, tuple[Any, Any]]] = {"loss": {}, **{metric: {} for metric in METRICS}}
    for loss, history in histories.items():
        x = history["epochs"].to_numpy(float) if "epochs" in history else _epochs(history)
        step = (history["kind"] == "step").to_numpy()
        panels["loss"][loss] = x[step], history["loss"].to_numpy(float)[step] if step.any() else []
        for metric in METRICS:
            if metric in history:
                panels[metric][loss] = x[~step], history[metric].to_numpy(float)[~step]
    data: list[Spec] = []
    for number, (panel, curves) in enumerate(panels.items()):
        axes = {"xaxis": f"x{number + 1}".replace("x1", "x"), "yaxis": f"y{number + 1}".replace("y1", "y")}
        for loss in losses:
            x, y = curves.get(loss, ((), ()))
            style = look(loss)
            line = {"color": style.color, "dash": style.dash, "width": 1.8 if panel == "loss" else 2.2}
            marker = {"color": style.color, "symbol": style.symbol, "size": 6}
            mode = "lines" if panel == "loss" else "lines+markers"
            hover = f"{label(loss)}, epoch %{{x:.1f}}: %{{y:.4f}}<extra></extra>"
            data.append({"type": "scatter", "mode": mode, "name": label(loss), "x": np.asarray(x), "y": np.asarray(y)})
            data[-1] |= {**axes, "line": line, "marker": marker, "hovertemplate": hover}
            data[-1] |= {"showlegend": False, "cliponaxis": panel == "loss"}
    totals = {loss: sum(parts.values()) for loss, parts in milliseconds.items()}
    for name, phases, is_loss in TIME_PARTS:
        y = [sum(milliseconds.get(loss, {}).get(phase, 0.0) for phase in phases) for loss in losses]
        strong = name.endswith("forward")  # forward hatched, backward plain
        colors = [look(loss).color if is_loss else GREY if strong else LIGHT_GREY for loss in losses]
        pattern = {"shape": "/" if strong else "", "size": 5, "solidity": 0.35}
        pattern |= {"fillmode": "overlay", "fgcolor": "rgba(255, 255, 255, 0.75)"}
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
    return {"data": data, "layout": _training_layout(panels, totals, ceiling or {}, epochs, losses)}


def _training_layout(
    panels: Mapping[str, Mapping[str, tuple[Any, Any]]],
    totals: Mapping[str, float],
    ceiling: Mapping[str, float],
    epochs: float | None,
    losses: Sequence[str],
) -> Spec:
    reached = max((float(x[-1]) for curves in panels.values() for x, _ in curves.values() if len(x)), default=1.0)
    width, gap = 0.205, 0.06
    domains = [[i * (width + gap), i * (width + gap) + width] for i in range(4)]
    x_axis = {"range": [0, max(reached, epochs or 1.0)], "title": {"text": "epoch"}, "nticks": 5}
    names = {"tickvals": np.arange(len(losses)), "ticktext": [short_label(loss) for loss in losses], "showgrid": False}
    layout: Spec = {
        "height": 236,
        "barmode": "stack",
        "margin": {"l": 12, "r": 8, "t": 30, "b": 44},
        "xaxis": {"domain": domains[0], **x_axis},
        "xaxis2": {"domain": domains[1], "anchor": "y2", **x_axis},
        "xaxis3": {"domain": domains[2], "anchor": "y3", **x_axis},
        "xaxis4": {"domain": domains[3], "anchor": "y4", "range": [-0.6, len(losses) - 0.4], **names},
        "yaxis": {"rangemode": "normal", "nticks": 5, **_loss_range(panels["loss"])},
        "yaxis4": {"anchor": "x4", "range": [0, nice_ceiling(1.2 * max(totals.values(), default=50.0))], "nticks": 5},
        "annotations": [
            _title("Training loss"),
            _title("HR@10", "2"),
            _title("NDCG@10", "3"),
            _title("ms per step", "4"),
        ],
        "shapes": [],
        "showlegend": False,
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
        where = {
            "xref": f"x{panel} domain",
            "x": 0,
            "xanchor": "left",
            "yref": f"y{panel}",
            "y": y,
            "yanchor": "bottom",
        }
        text = f"best possible {y:.2f}"
        layout["annotations"].append({"text": text, **where, "font": {"size": 11, "color": INK}, "visible": known})
    return layout


def _loss_range(curves: Mapping[str, tuple[Any, Any]]) -> Spec:
    values = [np.asarray(y, float) for _, y in curves.values() if len(y)]
    if not values:
        return {"range": [0, 10]}
    low, high = min(v.min() for v in values), max(v.max() for v in values)
    return {"range": [math.floor(low), math.ceil(high + 1e-9) if high > low else math.floor(low) + 1]}


def short_label(loss: str) -> str:
    """A name short enough to stand under a bar."""
    return {"ce": "CE", "sampled": "Sampled", "sce": "SCE"}.get(loss, label(loss))


def training_figure(
    histories: Mapping[str, pd.DataFrame], milliseconds: Mapping[str, Mapping[str, float]], **options: Any
) -> go.Figure:
    """A run a loss, side by side: training loss, HR@10 and NDCG@10 over epochs, and the time of a step.

    Args:
        histories: by loss, tables as :func:`sce_lab.runs.history_row` makes them; a column ``epochs`` (step number in
            epochs) is used if it is there.
        milliseconds: by loss, median milliseconds by phase (:func:`sce_lab.runs.summarize_history`).
        options: ``ceiling``: best reachable metrics, drawn as lines; ``epochs``: where the epoch axis should end;
            ``losses``: which have a place.
    """
    return figure(training_spec(histories, milliseconds, **options))


# ----------------------------------------------------------------------------------------------------- comparison


def run_names(losses: Sequence[str]) -> list[str]:
    """A name for people for each run: the loss's, numbered where a loss has several runs."""
    seen: dict[str, int] = {}
    names = []
    for loss in losses:
        seen[loss] = seen.get(loss, 0) + 1
        names.append(f"{label(loss)} {seen[loss]}" if list(losses).count(loss) > 1 else label(loss))
    return names


def comparison_page(table: pd.DataFrame, histories: Sequence[pd.DataFrame]) -> list[go.Figure]:
    """The figures that compare recorded runs: memory, time of a step, ranking quality over epochs, quality for memory.

    Args:
        table: :func:`sce_lab.runs.compare_runs`, a row a run.
        histories: :attr:`sce_lab.runs.Run.history`, in the same order.

    Raises:
        ValueError: not as many histories as runs.
    """
    if len(table) != len(histories):
        raise ValueError(f"{len(table)} runs but {len(histories)} histories: pass one history for each run")
    names = run_names(list(table["loss"]))
    return [
        _run_bars(table, names, "memory"),
        _run_bars(table, names, "time"),
        _quality_over_epochs(table, names, histories),
        _quality_for_memory(table, names),
    ]


def _run_bars(table: pd.DataFrame, names: list[str], what: str) -> go.Figure:
    """Horizontal bars, a row a run: peak memory with the loss's share of it, or a step's time by phase."""
    rows = np.arange(len(names))[::-1]
    colors = [look(loss).color for loss in table["loss"]]
    if what == "memory":
        total = table["peak_memory"].to_numpy(float)
        ours = np.fmin(table["loss_workspace"].to_numpy(float), total)
        parts = [("model and optimizer", total - ours, GREY, ""), ("loss workspace", ours, colors, "")]
        write, title = format_bytes, "Measured peak memory of a step (coloured: the loss)"
    else:
        forward, backward = table["forward_ms"].to_numpy(float), table["backward_ms"].to_numpy(float)
        total = table["ms"].to_numpy(float)
        optimizer = total - forward - backward
        parts = [("forward", forward, colors, "/"), ("backward", backward, colors, ""), ("Adam", optimizer, GREY, "")]
        write, title = "{:.1f} ms".format, "Time of a step: forward (hatched), backward, Adam (grey)"
    end = np.nanmax([1.0, *total])
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "x": values,
            "y": rows,
            "width": 0.56,
            "marker": {
                "color": color,
                "pattern": {"shape": pattern, "fillmode": "overlay", "fgcolor": "rgba(255, 255, 255, 0.75)", "size": 6},
            },
            "customdata": ["" if np.isnan(v) else write(v) for v in values],
            "hovertemplate": f"{name}: %{{customdata}}<extra></extra>",
        }
        for name, values, color, pattern in parts
    ]
    shown = ["" if np.isnan(t) else f"  <b>{write(t)}</b>" for t in total]
    data.append({"type": "scatter", "mode": "text", "x": total, "y": rows, "text": shown, "cliponaxis": False})
    data[-1] |= {"textposition": "middle right", "textfont": {"color": INK}, "hoverinfo": "skip"}
    x_axis = _bytes_axis(1.25 * end) if what == "memory" else {"range": [0, 1.25 * end], "ticksuffix": " ms"}
    layout = {
        "height": 80 + 44 * len(names),
        "barmode": "stack",
        "showlegend": False,
        "xaxis": x_axis,
        "yaxis": {"tickvals": rows, "ticktext": [f"{n}  " for n in names], "showgrid": False}
        | {"range": [-0.5, len(names) - 0.5]},
        "annotations": [_title(title)],
    }
    return figure({"data": data, "layout": layout})


def _quality_over_epochs(table: pd.DataFrame, names: list[str], histories: Sequence[pd.DataFrame]) -> go.Figure:
    data = []
    for number, metric in enumerate(METRICS):
        for name, loss, history in zip(names, table["loss"], histories):
            if metric not in history:
                continue
            rows, style = history[history["kind"] == "evaluation"], look(loss)
            axes = {"xaxis": "x2", "yaxis": "y2"} if number else {"xaxis": "x", "yaxis": "y"}
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": name,
                    "legendgroup": name,
                    "showlegend": not number,
                    "x": rows["epoch"].to_numpy(float),
                    "y": rows[metric].to_numpy(float),
                    "line": {"color": style.color, "dash": style.dash, "width": 2.2},
                    "marker": {"color": style.color, "symbol": style.symbol, "size": 7},
                    "hovertemplate": f"{name}, epoch %{{x}}: %{{y:.4f}}<extra></extra>",
                    **axes,
                }
            )
    layout = {
        "height": 360,
        "margin": {"l": 12, "r": 12, "t": 66, "b": 44},
        "xaxis": {"domain": [0, 0.46], "title": {"text": "epoch"}},
        "xaxis2": {"domain": [0.54, 1], "anchor": "y2", "title": {"text": "epoch"}},
        "yaxis": {"rangemode": "tozero"},
        "yaxis2": {"rangemode": "tozero", "anchor": "x2"},
        "annotations": [_title("Validation HR@10"), _title("Validation NDCG@10", "2")],
    }
    return figure({"data": data, "layout": layout})


def _quality_for_memory(table: pd.DataFrame, names: list[str]) -> go.Figure:
    data = []
    for name, (_, row) in zip(names, table.iterrows()):
        style = look(row["loss"])
        there = pd.notna(row["peak_memory"]) and pd.notna(row["NDCG@10"])
        data.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": name,
                "x": [row["peak_memory"]] if there else [],
                "y": [row["NDCG@10"]] if there else [],
                "text": [f"  {name}"],
                "textposition": "middle right",
                "textfont": {"color": INK},
                "marker": {"color": style.color, "symbol": style.symbol, "size": 13},
                "cliponaxis": False,
                "hovertemplate": f"{name}: {format_bytes(row['peak_memory']) if there else ''}, NDCG@10 %{{y:.4f}}"
                "<extra></extra>",
            }
        )
    peaks = table["peak_memory"].dropna()
    span = (peaks.min() / 2, peaks.max() * 4) if len(peaks) else (2.0**20, 2.0**30)
    best = float(table["NDCG@10"].max()) if table["NDCG@10"].notna().any() else 0.1
    layout = {
        "height": 340,
        "showlegend": False,
        "margin": {"l": 12, "r": 12, "t": 40, "b": 48},
        "xaxis": {"title": {"text": "peak memory of a step (log scale)"}, **_log_bytes_axis(*span)},
        "yaxis": {"range": [0, nice_ceiling(1.15 * max(best, 1e-3))]},
        "annotations": [_title("Test NDCG@10 for the memory it takes: up and to the left is better")],
    }
    return figure({"data": data, "layout": layout})


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --sce-ink: light-dark(#222, #ddd); }}
body {{ font: 15px/1.5 {font}; max-width: 1040px; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }}
th, td {{ padding: .35rem .8rem; text-align: right; border-bottom: 1px solid {grid}; }}
th:first-child, td:first-child {{ text-align: left; }}
{theme}
</style></head><body>
<h1>{title}</h1>
<p>{subtitle}</p>
{table}
{figures}
</body></html>
"""


def write_comparison_page(path: str | os.PathLike[str], runs: Sequence[Run]) -> None:
    """Write the comparison of recorded runs as one HTML file that needs no network.

    Raises:
        ValueError: there are no runs.
    """
    if not runs:
        raise ValueError("there are no runs to compare; train some first, for example with sce-lab compare")
    table = compare_runs(list(runs))
    figures = comparison_page(table, [run.history for run in runs])
    people = for_people(table)
    people["loss"] = run_names(list(table["loss"]))
    datasets = ", ".join(dict.fromkeys(str(name) for name in table["dataset"]))
    page = _PAGE.format(
        title="Losses compared",
        subtitle=f"Data: {html.escape(datasets)}. Metrics are those of the test items at the best validation epoch, "
        "ranked against the whole catalog; times and memory are medians and peaks of training steps.",
        table=people.to_html(index=False, border=0),
        figures="\n".join(_divs(figures)),
        font=FONT,
        grid=GRID,
        theme=THEME_CSS,
    )
    write_text(Path(path), page)


def _divs(figures: Iterable[go.Figure]) -> Iterable[str]:
    config = {"displaylogo": False, "responsive": True}
    for number, each in enumerate(figures):
        yield each.to_html(full_html=False, include_plotlyjs=not number, config=config, div_id=f"figure-{number + 1}")

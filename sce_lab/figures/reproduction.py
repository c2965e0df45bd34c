"""Reproductions: published and recorded results side by side, and how the recorded ones got there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sce_lab.figures.comparison import html_page
from sce_lab.figures.curves import Curves
from sce_lab.figures.style import (
    GREY,
    INK,
    Spec,
    figure,
    log_bytes_axis,
    look,
    nice_ceiling,
    on_two_lines,
    panel_title,
    panel_widths,
)
from sce_lab.figures.training import training_figure
from sce_lab.memory import format_bytes
from sce_lab.runs import Run, summarize_history, write_text

_ROW = 32  # pixels a row: two lines of text


def results_spec(table: pd.DataFrame) -> Spec:
    """Ranking quality and the memory of the loss, a row a result; the best NDCG@10 on top.

    Filled marks are ours in the colour of their loss; hollow grey ones are published or need no training. A thin bar is
    the 95 % interval over users and seeds, where it is known; a thick one is one standard deviation over seeds, where
    there are several: other users would change the score by the first, other seeds by the second.

    Args:
        table: rows of :func:`sce_lab.reproduce.results_table` of one data set.

    Raises:
        ValueError: rows of several data sets, or none.
    """
    if table["dataset"].nunique() != 1:
        raise ValueError(f"the figure is of one data set, got {', '.join(table['dataset'].unique()) or 'no rows'}")
    table = table.sort_values("NDCG@10", kind="stable").reset_index(drop=True)
    ours = table[table["loss"].notna()]
    data: list[Spec] = []
    for trained, rows in ((False, table[table["loss"].isna()]), (True, ours)):
        colors = [look(loss).color if trained else GREY for loss in rows["loss"]]
        symbols = [look(loss).symbol if trained else "diamond-open" for loss in rows["loss"]]
        marks = {
            "type": "scatter",
            "mode": "markers",
            "x": rows["NDCG@10"].to_numpy(),
            "y": rows.index.to_numpy(),
            "marker": {"color": colors, "symbol": symbols, "size": 11, "line": {"width": 2, "color": colors}},
            "text": [_hover(row) for row in rows.to_dict("records")],
            "hovertemplate": "%{text}<extra></extra>",
        }
        over_users = _reach(rows, "high"), _reach(rows, "low")
        data.append(marks | {"error_x": _bar(*over_users, thickness=1.5)})
        if trained:  # the spread over seeds lies on the interval, and is the shorter one
            spread = rows["NDCG@10_sd"].fillna(0.0).to_numpy()
            hidden = {"marker": {"opacity": 0, "size": 1}, "hoverinfo": "skip", "hovertemplate": None}
            data.append(marks | hidden | {"error_x": _bar(spread, spread, thickness=5)})
    workspace = ours["loss_workspace"].to_numpy(float)
    data.append(
        {
            "type": "bar",
            "orientation": "h",
            "x": workspace,
            "y": ours.index.to_numpy(),
            "width": 0.5,
            "xaxis": "x2",
            "yaxis": "y2",
            "marker": {"color": [look(loss).color for loss in ours["loss"]]},
            "text": [format_bytes(size) for size in workspace],
            "textposition": "outside",
            "textfont": {"color": INK},
            "hoverinfo": "skip",
        }
    )
    names = [row["model"] + (", published" if row["published"] else "") for row in table.to_dict("records")]
    rows = {"range": [-0.6, len(table) - 0.4], "tickvals": list(range(len(table)))}
    known = workspace[np.isfinite(workspace) & (workspace > 0)]
    memory = log_bytes_axis(known.min() / 4, known.max(), room=0.25) if len(known) else {}
    layout = {
        "height": 90 + _ROW * len(table),
        "margin": {"l": 12, "r": 12, "t": 34, "b": 40},
        "showlegend": False,
        "xaxis": {"domain": [0, 0.58], "nticks": 6},
        "yaxis": {**rows, "ticktext": [on_two_lines(name) for name in names]},
        "xaxis2": {"domain": [0.64, 1], "anchor": "y2", **memory},
        "yaxis2": {**rows, "anchor": "x2", "showticklabels": False},
        **panel_widths(480, 260),
        "annotations": [panel_title("NDCG@10 on test"), panel_title("Memory of the loss (log scale)", "2")],
    }
    return {"data": data, "layout": layout}


def results_figure(table: pd.DataFrame) -> go.Figure:
    """:func:`results_spec` as a figure."""
    return figure(results_spec(table))


def how_sure(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """From the score up and down: to the ends of its interval, or else its deviation over seeds; 0 if none is known."""
    spread = rows["NDCG@10_sd"].fillna(0.0).to_numpy()
    high, low = _reach(rows, "high"), _reach(rows, "low")
    return np.where(high > 0, high, spread), np.where(low > 0, low, spread)


def _reach(rows: pd.DataFrame, end: str) -> np.ndarray:
    """From the score to this end of its interval; 0 where it is not known."""
    if f"NDCG@10_{end}" not in rows:
        return np.zeros(len(rows))
    return (rows[f"NDCG@10_{end}"] - rows["NDCG@10"]).abs().fillna(0.0).to_numpy()


def _bar(right: np.ndarray, left: np.ndarray, thickness: float) -> Spec:
    """Error bars of these lengths to either side."""
    shown = bool(right.any() or left.any())
    bar = {"type": "data", "array": right, "arrayminus": left, "symmetric": False, "visible": shown}
    return bar | {"color": INK, "thickness": thickness, "width": 0 if thickness > 2 else 4}


def _hover(row: Mapping[str, Any]) -> str:
    """The score in words, with what is known of how sure it is."""
    text = f"{row['model']}: NDCG@10 {row['NDCG@10']:.4f}"
    if not pd.isna(row.get("NDCG@10_low", np.nan)):
        text += f", 95 % interval over users {row['NDCG@10_low']:.4f} to {row['NDCG@10_high']:.4f}"
    if not pd.isna(row["NDCG@10_sd"]):
        text += f", standard deviation over seeds {row['NDCG@10_sd']:.4f}"
    return text


def curves_figure(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> go.Figure:
    """Validation NDCG@10 over epochs, a line a record (of its first seed), a dot at the best epoch.

    Args:
        records: of one data set.
        names: one for each record.
    """
    data: list[Spec] = []
    best, last = 0.0, 1.0
    for record, name in zip(records, names, strict=True):
        seed, style = record["seeds"][0], look(record["config"]["loss"])
        curve = seed["curve"]
        twin = sum(record["config"]["loss"] == other["config"]["loss"] for other in records[: len(data) // 2])
        line = {"color": style.color, "dash": ("solid", "dot", "dash", "dashdot")[twin % 4], "width": 2}
        data.append({"type": "scatter", "mode": "lines", "name": name, "x": curve["epoch"], "y": curve["NDCG@10"]})
        data[-1] |= {"line": line, "hovertemplate": f"{name}, epoch %{{x}}: %{{y:.4f}}<extra></extra>"}
        x, y = [seed["best_epoch"]], [seed["validation"]["NDCG@10"]]
        data.append({"type": "scatter", "mode": "markers", "x": x, "y": y, "showlegend": False, "hoverinfo": "skip"})
        data[-1] |= {"marker": {"color": style.color, "symbol": style.symbol, "size": 10}, "cliponaxis": False}
        best, last = max(best, y[0]), max(last, curve["epoch"][-1])
    layout = {
        "height": 260 + 8 * len(records),  # the legend has three names a line
        "margin": {"l": 12, "r": 12, "t": 64, "b": 44},
        "showlegend": True,
        "xaxis": {"title": {"text": "epoch"}, "range": [0, last]},
        "yaxis": {"range": [0, nice_ceiling(1.1 * best)]},
        "annotations": [panel_title("NDCG@10 on validation")],
    }
    return figure({"data": data, "layout": layout})


def live_spec(loss: str, curves: Curves, *, recorded: Mapping[str, Any] | None = None, epochs: float = 1.0) -> Spec:
    """Validation NDCG@10 of a run as it goes, over the recorded curve of the same recipe (grey, dotted).

    Args:
        loss: what is trained.
        curves: of it, as far as it is.
        recorded: ``curve`` of a record's seed: lists ``epoch`` and ``NDCG@10``.
        epochs: where the axis should end.
    """
    before = recorded or {"epoch": [], "NDCG@10": []}
    x, y = curves.of_panel("NDCG@10")
    style = look(loss)
    data = [
        {"type": "scatter", "mode": "lines", "name": "recorded", "x": np.asarray(before["epoch"], float)},
        {"type": "scatter", "mode": "lines+markers", "name": "this run", "x": x, "y": y},
    ]
    data[0] |= {"y": np.asarray(before["NDCG@10"], float), "line": {"color": GREY, "dash": "dot", "width": 2}}
    data[1] |= {"line": {"color": style.color, "width": 2.2}}
    data[1] |= {"marker": {"color": style.color, "symbol": style.symbol, "size": 7}}
    for trace in data:
        trace["hovertemplate"] = trace["name"] + ", epoch %{x}: %{y:.4f}<extra></extra>"
    top = max([0.01, *y, *before["NDCG@10"]])
    layout = {
        "height": 260,
        "margin": {"l": 12, "r": 12, "t": 34, "b": 44},
        "showlegend": bool(before["epoch"]),
        "legend": {"x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom", "yref": "paper"},
        "xaxis": {"title": {"text": "epoch"}, "range": [0, max(epochs, *x, 1)]},
        "yaxis": {"range": [0, nice_ceiling(1.1 * top)]},
        "annotations": [panel_title("NDCG@10 on validation")],
    }
    return {"data": data, "layout": layout}


def write_live_page(path: str | os.PathLike[str], run: Run, *, seconds: int = 10) -> None:
    """Write what a run has recorded so far as one HTML file that loads itself again every few ``seconds``."""
    config, history = run.config, run.history
    last = history[history["kind"] == "evaluation"].iloc[-1]
    milliseconds = {config.loss: summarize_history(history)["ms"]}
    shown = training_figure({config.loss: history}, milliseconds, epochs=config.max_epochs, losses=(config.loss,))
    subtitle = (
        f"Seed {config.seed}, epoch {last['epoch']:.0f} of at most {config.max_epochs}. HR@10 {last['HR@10']:.4f} and "
        f"NDCG@10 {last['NDCG@10']:.4f} on validation. This page follows the run."
    )
    page = html_page(run.settings["dataset"], subtitle, "", [shown])
    write_text(Path(path), page.replace("<head>", f'<head>\n<meta http-equiv="refresh" content="{seconds}">', 1))

"""Recorded runs compared: the figures, and the page that holds them."""

from __future__ import annotations

import dataclasses
import html
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from sce_lab.figures.style import (
    FONT,
    GREY,
    GRID,
    INK,
    THEME_CSS,
    bytes_axis,
    figure,
    label,
    log_bytes_axis,
    look,
    nice_ceiling,
    panel_title,
)
from sce_lab.figures.training import METRICS
from sce_lab.memory import format_bytes
from sce_lab.runs import Run, compare_runs, for_people, write_text
from sce_lab.training import TrainingConfig


def run_names(losses: Sequence[str]) -> list[str]:
    """A name for people for each run: the loss's, numbered where a loss has several runs."""
    seen: dict[str, int] = {}
    names = []
    for loss in losses:
        seen[loss] = seen.get(loss, 0) + 1
        names.append(f"{label(loss)} {seen[loss]}" if list(losses).count(loss) > 1 else label(loss))
    return names


def comparison_page(
    table: pd.DataFrame, histories: Sequence[pd.DataFrame], names: Sequence[str] | None = None
) -> list[go.Figure]:
    """The figures that compare recorded runs: memory, time of a step, ranking quality over epochs, quality for memory.

    Args:
        table: :func:`sce_lab.runs.compare_runs`, a row a run.
        histories: :attr:`sce_lab.runs.Run.history`, in the same order.
        names: of the runs; default: those of their losses.

    Raises:
        ValueError: not as many histories as runs.
    """
    if len(table) != len(histories):
        raise ValueError(f"{len(table)} runs but {len(histories)} histories: pass one history for each run")
    names = list(names or run_names(list(table["loss"])))
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
    x_axis = bytes_axis(1.25 * end) if what == "memory" else {"range": [0, 1.25 * end], "ticksuffix": " ms"}
    layout = {
        "height": 80 + 44 * len(names),
        "barmode": "stack",
        "showlegend": False,
        "xaxis": x_axis,
        "yaxis": {"tickvals": rows, "ticktext": [f"{n}  " for n in names], "showgrid": False}
        | {"range": [-0.5, len(names) - 0.5]},
        "annotations": [panel_title(title)],
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
        "annotations": [panel_title("Validation HR@10"), panel_title("Validation NDCG@10", "2")],
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
        "xaxis": {"title": {"text": "peak memory of a step (log scale)"}, **log_bytes_axis(*span)},
        "yaxis": {"range": [0, nice_ceiling(1.15 * max(best, 1e-3))]},
        "annotations": [panel_title("Test NDCG@10 for the memory it takes: up and to the left is better")],
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
{tables}
{figures}
</body></html>
"""


def html_page(title: str, subtitle: str, tables: str, figures: Iterable[go.Figure], *, cdn: bool = False) -> str:
    """Figures below ``tables`` (HTML) on one page, light or dark as the reader's system is.

    Args:
        title, subtitle: text, not HTML.
        tables: HTML that stands before the figures.
        figures: one below the other.
        cdn: let the reader's browser fetch plotly, which keeps the page small; otherwise the page needs no network.
    """
    config = {"displayModeBar": False, "responsive": True}
    script: bool | str = "cdn" if cdn else True
    divs = [
        each.to_html(
            full_html=False, include_plotlyjs=False if number else script, config=config, div_id=f"figure-{number + 1}"
        )
        for number, each in enumerate(figures)
    ]
    return _PAGE.format(
        title=html.escape(title),
        subtitle=html.escape(subtitle),
        tables=tables,
        figures="\n".join(divs),
        font=FONT,
        grid=GRID,
        theme=THEME_CSS,
    )


def settings_words(run: Run) -> str:
    """The data that a run learned from, and its settings but for those that are as usual."""
    config, usual = run.config, TrainingConfig()
    items = run.settings.get("catalog_size")
    words = [f"{run.settings['dataset']}, {items:,} items" if items else str(run.settings["dataset"])]
    changed = {**config.loss_settings}
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if each.name not in ("loss", "loss_settings", "device") and value != getattr(usual, each.name):
            changed[each.name] = value
    return ", ".join([*words, *(f"{name} = {value}" for name, value in changed.items())])


def write_comparison_page(
    path: str | os.PathLike[str],
    runs: Sequence[Run],
    *,
    names: Sequence[str] | None = None,
    words: Sequence[str] | None = None,
) -> None:
    """Write the comparison of recorded runs as one HTML file that needs no network.

    Args:
        path: of the file.
        runs: what is compared.
        names: of the runs; default: those of their losses.
        words: the data and settings of each; default: :func:`settings_words`.

    Raises:
        ValueError: there are no runs.
    """
    if not runs:
        raise ValueError("there are no runs to compare; train some first, for example with sce-lab compare")
    table = compare_runs(list(runs))
    names = list(names or run_names(list(table["loss"])))
    figures = comparison_page(table, [run.history for run in runs], names)
    people = for_people(table).rename(columns={"loss": "run"})
    people["run"] = names
    people.insert(1, "data and settings", list(words or map(settings_words, runs)))
    datasets = ", ".join(dict.fromkeys(str(name) for name in table["dataset"]))
    subtitle = (
        f"Data: {datasets}. Metrics are those of the test items at the best validation epoch, "
        "ranked against the whole catalog; times and memory are medians and peaks of training steps."
    )
    left = "<style>th:nth-child(2), td:nth-child(2) { text-align: left; }</style>"
    tables = left + people.to_html(index=False, border=0)
    write_text(Path(path), html_page("Losses compared", subtitle, tables, figures))

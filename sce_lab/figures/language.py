"""A language model's head with every loss: perplexity for bytes, ranking beside perplexity, and curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sce_lab.figures.style import LINE, Spec, log_bytes_axis, look, panel_title
from sce_lab.language.report import language_table
from sce_lab.memory import format_bytes

#: Variants of one loss have its colour; these tell them apart.
_OWN_SYMBOL = {"sce-stratum": "diamond", "sce-finish": "square", "sce-union": "hexagon", "sampled": "triangle-down"}
_DASH = {"sce-stratum": "dash", "sce-finish": "dot", "sce-union": "dashdot", "sampled": "longdash"}
_HOLLOW = "-open"
_TICKS = [digit * 10**power for power in range(1, 6) for digit in (1, 2, 5)]
_LOG: Spec = {"type": "log", "tickvals": _TICKS, "ticktext": [f"{tick:,}" for tick in _TICKS]}


def _style(entry: str, loss: str) -> tuple[str, str, str]:
    """Colour, symbol and dash of an entry."""
    style = look(loss)
    return style.color, _OWN_SYMBOL.get(entry, style.symbol), _DASH.get(entry, style.dash)


def perplexity_memory_spec(record: dict[str, Any]) -> Spec:
    """Test perplexity against the bytes that the loss is predicted to hold; less is better.

    A hollow marker is the model as it was trained, the full one below it the same with a word bias and a scale.

    Args:
        record: as of :func:`sce_lab.language.read_language`.
    """
    table = language_table(record)
    data: list[Spec] = []
    for entry, rows in _entries(table):
        color, symbol, _ = _style(entry, rows["loss"].iloc[0])
        by = rows.set_index("correction").loc[["none", "word bias"]]
        words = [f"{name}: {format_bytes(held)}" for name, held in zip(by["words"], by["workspace"])]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": by["words"].iloc[0],
                "x": by["workspace"].to_numpy(),
                "y": by["perplexity"].to_numpy(),
                "line": {"color": color, "width": 1.2, "dash": "dot"},
                "marker": {"color": color, "size": 11, "symbol": [symbol + _HOLLOW, symbol], "line": {"width": 2}},
                "error_y": _bars(by["perplexity sd"], color),
                "customdata": [f"{text}, {how}" for text, how in zip(words, ("as it is", "corrected"))],
                "hovertemplate": "%{customdata}: perplexity %{y:.1f}<extra></extra>",
                "cliponaxis": False,
            }
        )
    held = table["workspace"]
    layout = _layout(record, "perplexity on the test (log scale)")
    layout["xaxis"] = log_bytes_axis(held.min() / 1.6, held.max() * 1.6)
    layout["xaxis"]["title"] = {"text": "bytes that the loss holds (log scale)"}
    layout["yaxis"] |= _LOG
    return {"data": data, "layout": layout}


def top10_perplexity_spec(record: dict[str, Any]) -> Spec:
    """Ranking against probability: top-10 on the test against perplexity, each model as it was trained.

    To the left is better, upwards is better: a loss that ranks well and leaves no probabilities is at the upper right.
    """
    data: list[Spec] = []
    for entry, rows in _entries(language_table(record)):
        row = rows[rows["correction"] == "none"]
        color, symbol, _ = _style(entry, row["loss"].iloc[0])
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": row["words"].iloc[0],
                "x": row["perplexity"].to_numpy(),
                "y": row["top10"].to_numpy(),
                "marker": {"color": color, "size": 12, "symbol": symbol},
                "error_x": _bars(row["perplexity sd"], color),
                "error_y": _bars(row["top10 sd"], color),
                "hovertemplate": "%{fullData.name}: perplexity %{x:.1f}, top-10 %{y:.1%}<extra></extra>",
            }
        )
    layout = _layout(record, "top-10 on the test")
    layout["xaxis"] = _LOG | {"title": {"text": "perplexity on the test (log scale)"}}
    layout["yaxis"]["tickformat"] = ".0%"
    return {"data": data, "layout": layout}


def language_curves_spec(record: dict[str, Any]) -> Spec:
    """Perplexity and top-10 on validation against seconds of the thread, mean over seeds."""
    data: list[Spec] = []
    layout = _layout(record, "")
    layout["annotations"] = [panel_title("Perplexity (log scale)"), panel_title("Top-10", "2")]
    for number, measure in enumerate(("perplexity", "top10")):
        panel = "2" if number else ""
        for name, entry in record["entries"].items():
            if not entry["seeds"]:
                continue
            color, symbol, dash = _style(name, entry["loss"])
            curve = _mean_curve(entry, measure)
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": entry["words"],
                    "legendgroup": name,
                    "showlegend": not number,
                    "x": curve["seconds"].to_numpy(),
                    "y": curve[measure].to_numpy(),
                    "xaxis": f"x{panel}",
                    "yaxis": f"y{panel}",
                    "line": {"color": color, "dash": dash, "width": 2},
                    "marker": {"color": color, "symbol": symbol, "size": 6},
                    "hovertemplate": "%{fullData.name}, %{x:.1f} s: %{y:.3~g}<extra></extra>",
                }
            )
        layout[f"xaxis{panel}"] = {"domain": [0.54, 1] if number else [0, 0.46], "anchor": f"y{panel}"}
        layout[f"xaxis{panel}"] |= {"title": {"text": "seconds of the computing thread"}, "rangemode": "tozero"}
    layout["yaxis"] = _LOG | {"anchor": "x"}
    layout["yaxis2"] = {"tickformat": ".0%", "anchor": "x2", "rangemode": "tozero"}
    return {"data": data, "layout": layout}


def _mean_curve(entry: dict[str, Any], measure: str) -> pd.DataFrame:
    """By step, the means over seeds of seconds and of this measure."""
    points = pd.DataFrame([point for seed in entry["seeds"].values() for point in seed["curve"]])
    return points.groupby("step", as_index=False)[["seconds", measure]].mean()


def _entries(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(name), rows) for name, rows in table.groupby("entry", sort=False)] if len(table) else []


def _bars(deviation: pd.Series, color: str) -> Spec:
    return {"type": "data", "array": np.asarray(deviation), "color": color, "thickness": 1.2, "width": 3}


def _layout(record: dict[str, Any], title: str) -> Spec:
    layout: Spec = {"height": 420, "margin": {"l": 12, "r": 12, "t": 34, "b": 96}, "annotations": [], "shapes": []}
    layout["legend"] = {"orientation": "h", "y": -0.24, "yref": "paper", "yanchor": "top"}
    layout["yaxis"] = {"title": {"text": title}, "linecolor": LINE}
    return layout

"""Trainings and contrasts between them, every seed a dot: how sure a difference is can be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sce_lab.figures.style import GREY, INK, LINE, Spec, look, on_two_lines, panel_title

_MARGIN = {"l": 12, "r": 12, "t": 34, "b": 44}
_COLORS = {"helps": look("sce").color, "hurts": look("ce").color}


def seeds_spec(points: pd.DataFrame, labels: Sequence[str], losses: Mapping[str, str], value: str, title: str) -> Spec:
    """A metric of several trainings, a line each: every seed a dot, the mean a stroke, their range a band.

    Args:
        points: columns ``label``, ``value``, a row a seed.
        labels: which have a line, from the top, whether or not they are there yet.
        losses: by label, whose look it has.
        value: column that is drawn.
        title: above the figure.
    """
    data: list[Spec] = []
    rows = {label: len(labels) - 1 - n for n, label in enumerate(labels)}
    for label, row in rows.items():
        x, style = points.loc[points["label"] == label, value].to_numpy(float), look(losses[label])
        ends = [x.min(), x.max()] if len(x) else []
        mean = [x.mean()] if len(x) else []
        line = {"type": "scatter", "name": label, "showlegend": False, "cliponaxis": False, "hoverinfo": "skip"}
        data.append({**line, "mode": "lines", "x": ends, "y": [row] * len(ends)})
        data[-1]["line"] = {"color": style.faded(0.25), "width": 16}
        data.append({**line, "mode": "markers", "x": mean, "y": [row] * len(mean)})
        data[-1]["marker"] = {"symbol": "line-ns", "size": 18, "line": {"color": style.color, "width": 3}}
        data.append({**line, "mode": "markers", "x": x, "y": [row] * len(x), "hoverinfo": None})
        data[-1] |= {"hovertemplate": f"{label}: %{{x:.4f}}<extra></extra>"}
        data[-1]["marker"] = {"color": style.color, "symbol": style.symbol, "size": 7, "opacity": 0.8}
    layout = {
        "height": 80 + 34 * len(labels),
        "margin": _MARGIN,
        "xaxis": {"nticks": 7},
        "yaxis": _names(rows),
        "annotations": [panel_title(title)],
    }
    return {"data": data, "layout": layout}


def contrasts_spec(
    told: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]], hypotheses: Sequence[str], value: str = "NDCG@10"
) -> Spec:
    """What each suspicion makes of a metric, a panel a moment: every seed a dot, the interval of the mean a bar.

    Args:
        told: by the panel's title, differences and verdicts as of :mod:`sce_lab.explain.hypotheses`.
        hypotheses: which have a line, from the top.
        value: the metric, for the title.
    """
    data: list[Spec] = []
    rows = {name: len(hypotheses) - 1 - n for n, name in enumerate(hypotheses)}
    layout: Spec = {"height": 90 + 40 * len(rows), "margin": _MARGIN, "annotations": [], "shapes": []}
    gap = 0.03
    width, start = (1 - gap * (len(told) - 1)) / len(told), 0.0
    for number, (title, (differences, verdicts)) in enumerate(told.items()):
        panel, end_of_panel = str(number + 1) if number else "", start + width
        on = {"type": "scatter", "xaxis": f"x{panel}", "yaxis": f"y{panel}", "showlegend": False, "cliponaxis": False}
        verdict = verdicts.set_index("hypothesis")
        reach = [
            abs(float(v)) for v in (*differences["difference"], *verdicts["low"], *verdicts["high"]) if np.isfinite(v)
        ]
        end = 1.1 * max(reach, default=0.01)
        for name, row in rows.items():
            mine = differences.loc[differences["hypothesis"] == name, "difference"].to_numpy(float)
            known = name in verdict.index and np.isfinite(verdict.loc[name, "low"])
            x = verdict.loc[name, ["low", "high"]].to_numpy(float) if known else []
            color = _COLORS.get(verdict.loc[name, "verdict"], GREY) if name in verdict.index else GREY
            data.append({**on, "mode": "lines", "x": x, "y": [row] * len(x), "line": {"color": color, "width": 6}})
            data[-1]["hoverinfo"] = "skip"
            data.append({**on, "mode": "markers", "x": mine, "y": [row - 0.26] * len(mine)})
            data[-1] |= {"marker": {"color": INK, "size": 5, "opacity": 0.7}}
            data[-1]["hovertemplate"] = "a seed: %{x:+.4f}<extra></extra>"
            if name in verdict.index:
                said = f"<b>{verdict.loc[name, 'verdict']}</b> {verdict.loc[name, 'mean']:+.4f}"
                where = {
                    "xref": f"x{panel}",
                    "yref": f"y{panel}",
                    "x": verdict.loc[name, "mean"],
                    "y": row,
                    "yshift": 7,
                }
                layout["annotations"].append(
                    {"text": said, **where, "yanchor": "bottom", "font": {"size": 11, "color": INK}}
                )
        zero = {"type": "line", "xref": f"x{panel}", "yref": f"y{panel} domain", "x0": 0, "x1": 0, "y0": 0, "y1": 1}
        layout["shapes"].append({**zero, "line": {"color": LINE, "width": 1.5}, "layer": "below"})
        layout["annotations"].append(panel_title(title, panel))
        layout[f"xaxis{panel}"] = {"domain": [start, end_of_panel], "anchor": f"y{panel}", "range": [-end, end]}
        layout[f"xaxis{panel}"] |= {"nticks": 5, "title": {"text": f"difference of {value}"}}
        layout[f"yaxis{panel}"] = {**_names(rows), "anchor": f"x{panel}", "showticklabels": not number}
        start = end_of_panel + gap
    return {"data": data, "layout": layout}


def _names(rows: Mapping[str, int]) -> Spec:
    spec = {"tickvals": list(rows.values()), "ticktext": [on_two_lines(name) for name in rows], "showgrid": False}
    return spec | {"range": [-0.6, len(rows) - 0.4], "ticks": ""}


def recorded_seeds_spec(records: Sequence[Mapping[str, Any]], names: Sequence[str], value: str = "NDCG@10") -> Spec:
    """The test metric of every recorded seed, a line a record, the best mean on top.

    Args:
        records: of one data set; those whose test was not looked at are left out.
        names: one for each record.
        value: the metric.
    """
    rows, losses = [], {}
    for record, name in zip(records, names, strict=True):
        found = [seed["test"][value] for seed in record["seeds"] if seed.get("test")]
        rows += [{"label": name, value: v} for v in found]
        losses[name] = record["config"]["loss"]
    points = pd.DataFrame(rows, columns=["label", value])
    labels = list(points.groupby("label")[value].mean().sort_values(ascending=False).index)
    return seeds_spec(points, labels, losses, value, f"{value} on test, every seed")

"""A language model while it is trained with several losses: how likely it finds the text, and how well it ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sce_lab.figures.curves import Curves
from sce_lab.figures.style import Spec, look, nice_ceiling, panel_title, panel_widths

_TICKS = [mantissa * 10.0**e for e in range(6) for mantissa in (1, 2, 5)]
#: How what is fitted afterwards is called in a figure.
CORRECTIONS = {"none": "as trained", "scale": "and a scale", "word bias": "and a word bias"}


def language_live_spec(
    names: Mapping[str, tuple[str, str]],
    curves: Mapping[str, Curves],
    corrected: Mapping[str, Mapping[str, float]],
) -> Spec:
    """Perplexity and top-1 accuracy over seconds, a line an entry; and perplexity after what is fitted afterwards.

    Args:
        names: by entry, the loss whose look it has, and what it is called.
        curves: by entry, with the metrics ``perplexity`` and ``top1``; what is missing has not begun.
        corrected: by entry and correction (:data:`CORRECTIONS`) the perplexity; empty before the end.
    """
    data: list[Spec] = []
    known = {name: curves.get(name, Curves()) for name in names}
    for panel, metric in (("", "perplexity"), ("2", "top1")):
        for name, (loss, called) in names.items():
            x, y = known[name].of_panel(metric, "seconds")
            style = look(loss)
            data.append({"type": "scatter", "mode": "lines", "name": called, "x": x, "y": y})
            data[-1] |= {"xaxis": f"x{panel}", "yaxis": f"y{panel}"}
            data[-1] |= {"line": {"color": style.color, "dash": style.dash, "width": 2.5}}
            data[-1]["hovertemplate"] = f"{called}, %{{x:.1f}} s: %{{y:.4g}}<extra></extra>"
    for n, (name, (loss, called)) in enumerate(names.items()):
        found = corrected.get(name, {})
        y = [found[c] for c in CORRECTIONS] if found else []
        x = [i + 0.26 * (n - (len(names) - 1) / 2) for i in range(len(y))]
        data.append({"type": "scatter", "mode": "markers", "name": called, "x": x, "y": y})
        data[-1] |= {"xaxis": "x3", "yaxis": "y3", "cliponaxis": False}
        data[-1] |= {"marker": {"color": look(loss).color, "symbol": look(loss).symbol, "size": 11}}
        data[-1]["hovertemplate"] = f"{called}: %{{y:.4g}}<extra></extra>"
    perplexities = [v for each in known.values() for v in each.of_panel("perplexity", "seconds")[1]]
    perplexities += [v for found in corrected.values() for v in found.values()]
    axis = _perplexity_axis(perplexities)
    seconds = max([1.0, *(x for each in known.values() for x in each.of_panel("top1", "seconds")[0])])
    top = nice_ceiling(1.1 * max([0.05, *(v for each in known.values() for v in each.of_panel("top1", "seconds")[1])]))
    time = {"title": {"text": "seconds of training"}, "range": [0, 1.03 * seconds], "nticks": 5}
    layout: Spec = {
        "height": 290,
        "margin": {"l": 12, "r": 12, "t": 34, "b": 44},
        "showlegend": False,
        "xaxis": {"domain": [0, 0.3], **time},
        "yaxis": axis,
        "xaxis2": {"domain": [0.38, 0.65], "anchor": "y2", **time},
        "yaxis2": {"anchor": "x2", "range": [0, top], "nticks": 5, "tickformat": ".0%"},
        "xaxis3": {"domain": [0.73, 1], "anchor": "y3", "range": [-0.5, 2.5], "tickvals": [0, 1, 2], "tickangle": 0}
        | {"ticktext": [words.replace(" a ", "<br>a ") for words in CORRECTIONS.values()]},
        "yaxis3": {"anchor": "x3", **axis},
        "annotations": [
            panel_title("Perplexity (log scale)"),
            panel_title("The word is the first guess", "2"),
            panel_title("Perplexity, mended afterwards", "3"),
        ],
        **panel_widths(270, 250, 270),
    }
    return {"data": data, "layout": layout}


def _perplexity_axis(values: Sequence[float]) -> Spec:
    there = np.array([v for v in values if math.isfinite(v)] or [10.0, 1000.0])
    low, high = max(there.min() / 1.2, 1.0), 1.2 * there.max()
    ticks = [t for t in _TICKS if low <= t <= high]
    span = [math.log10(low), math.log10(high)]
    return {"type": "log", "range": span, "tickvals": ticks, "ticktext": [f"{t:,.0f}" for t in ticks]}

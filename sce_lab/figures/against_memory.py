"""The paper's figure: what ranking quality comes for which memory."""

from __future__ import annotations

import pandas as pd

from sce_lab.figures.reproduction import how_sure
from sce_lab.figures.selection import frontier
from sce_lab.figures.style import INK, LINE, Spec, label, log_bytes_axis, look, nice_ceiling, panel_title
from sce_lab.memory import format_bytes

_PANELS = {"peak_memory": "NDCG@10 for the memory of a step", "loss_workspace": "NDCG@10 for the memory of the loss"}


def quality_memory_spec(table: pd.DataFrame) -> Spec:
    """NDCG@10 on test against peak memory of a step, and against that of the loss; a mark a trained model.

    Bars are the 95 % interval over users and seeds, or one standard deviation over seeds where no ranks were kept. The
    dotted line joins those that no other one beats in both. A step's memory holds encoder, item table and Adam's state
    as well, which are alike for all losses of one encoder.

    Args:
        table: rows of :func:`sce_lab.reproduce.results_table` of one data set; those without a test or without memory
            have no mark. With none left the figure says so.

    Raises:
        ValueError: rows of several data sets.
    """
    if table["dataset"].nunique() > 1:
        raise ValueError(f"the figure is of one data set, got {', '.join(table['dataset'].unique())}")
    known = table.dropna(subset=["loss", "NDCG@10", *_PANELS])
    data: list[Spec] = []
    layout: Spec = {"height": 340, "margin": {"l": 12, "r": 12, "t": 34, "b": 64}, "showlegend": True}
    layout["legend"] = {"orientation": "h", "y": -0.24, "yanchor": "top"}
    notes = [panel_title(title, "2" if number else "") for number, title in enumerate(_PANELS.values())]
    top = nice_ceiling(1.15 * max([0.01, *known["NDCG@10"]]))
    for number, column in enumerate(_PANELS):
        panel = "2" if number else ""
        axes = {"xaxis": f"x{panel}", "yaxis": f"y{panel}"}
        cost = known[column].to_numpy(float)
        best = frontier(cost, known["NDCG@10"].to_numpy(float))
        line = {"color": LINE, "width": 1.5, "shape": "hv", "dash": "dot"}
        data.append({"type": "scatter", "mode": "lines", "name": "the best for their memory", "line": line, **axes})
        data[-1] |= {"x": cost[best], "y": known["NDCG@10"].to_numpy()[best], "hoverinfo": "skip", "showlegend": False}
        for loss, rows in known.groupby("loss", sort=False):
            style = look(str(loss))
            high, low = how_sure(rows)
            bar = {"type": "data", "array": high, "arrayminus": low, "symmetric": False, "thickness": 1.2, "width": 3}
            texts = [f"{model}: {format_bytes(held)}" for model, held in zip(rows["model"], rows[column])]
            data.append(
                {"type": "scatter", "mode": "markers", "name": label(str(loss)), "legendgroup": str(loss), **axes}
            )
            data[-1] |= {"x": rows[column].to_numpy(), "y": rows["NDCG@10"].to_numpy(), "showlegend": not number}
            mark = {"symbol": style.symbol, "size": 11, "color": style.faded(0.35)}  # one behind another is seen, too
            mark |= {"line": {"color": style.color, "width": 1.5}}
            data[-1] |= {"marker": mark, "customdata": texts}
            data[-1] |= {"error_y": bar | {"color": style.faded(0.7)}, "cliponaxis": False}
            data[-1]["hovertemplate"] = "%{customdata}, NDCG@10 %{y:.4f}<extra></extra>"
        low, high = (cost.min(), cost.max()) if len(cost) else (2.0**22, 2.0**28)
        layout[f"xaxis{panel}"] = {"domain": [0.54, 1] if number else [0, 0.46], "anchor": f"y{panel}"}
        layout[f"xaxis{panel}"] |= log_bytes_axis(low / 1.6, high * 1.6)
        layout[f"xaxis{panel}"] |= {"title": {"text": "bytes (log scale)"}}
        layout[f"yaxis{panel}"] = {"range": [0, top], "nticks": 6, "anchor": f"x{panel}"}
    if known.empty:
        words = {"text": "nothing is trained and tested here yet", "showarrow": False, "font": {"color": INK}}
        notes.append(words | {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5})
    return {"data": data, "layout": layout | {"annotations": notes}}

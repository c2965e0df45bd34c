"""What widgets stand on: the lab's style in the page's theme, and figures that fill their place."""

from __future__ import annotations

import html
from collections.abc import Iterable

import anywidget
import ipywidgets as widgets
import pandas as pd
import psutil
import torch

from sce_lab.figures import Spec
from sce_lab.memory import format_bytes, free_memory
from sce_lab.training import choose_device, places
from sce_lab.widgets.kit.plot import Canvas, engine
from sce_lab.widgets.kit.style import CSS


class Stage(anywidget.AnyWidget):
    """An empty line that brings the style, and marks the cell that it stands in."""

    _esm = """
    export default {
      render({ el }) {
        el.style.height = "0";
        requestAnimationFrame(() => el.closest(".jp-CodeCell")?.classList.add("sce-cell"));
      },
    };
    """
    _css = CSS


def stage(*children: widgets.Widget) -> widgets.VBox:
    """The widgets in a column, in the lab's style."""
    box = widgets.VBox([Stage(), engine(), *children], layout=widgets.Layout(width="100%", overflow="visible"))
    box.add_class("sce-lab")
    return box


def text(content: str, css_class: str = "") -> widgets.HTML:
    """A piece of HTML as a widget."""
    made = widgets.HTML(content)
    if css_class:
        made.add_class(css_class)
    return made


def table(rows: Iterable[dict[str, str]], left: tuple[str, ...] = (), wrap: tuple[str, ...] = ()) -> str:
    """An HTML table of cells that are HTML already; the columns are those of the first row."""
    rows = list(rows)
    if not rows:
        return ""

    def css(column: str) -> str:
        classes = ["sce-left"] * (column in left or column in wrap) + ["sce-wrap"] * (column in wrap)
        return f' class="{" ".join(classes)}"' if classes else ""

    head = "".join(f"<th{css(name)}>{html.escape(name)}</th>" for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td{css(k)}>{v}</td>" for k, v in row.items()) + "</tr>" for row in rows)
    content = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="sce-scroll"><table class="sce-table">{content}</table></div>'


def shown(spec: Spec, *below: widgets.Widget) -> widgets.VBox:
    """A figure that does not change, and what stands below it."""
    return stage(Canvas(spec).widget, *below)


def table_of(frame: pd.DataFrame, wrap: tuple[str, ...] = ()) -> widgets.VBox:
    """A table of plain text as a widget; the first column and those in ``wrap`` stand to the left."""
    rows = [{str(k): html.escape(str(v)) for k, v in row.items()} for row in frame.to_dict("records")]
    return stage(text(table(rows, left=(str(frame.columns[0]),), wrap=wrap)))


def machine() -> dict[str, str]:
    """What this machine can do, for people."""
    gpus = [place for place in places() if place.name not in ("cpu",)]
    said = [f"{gpu.title}, cannot be used ({gpu.problem})" if gpu.problem else gpu.title for gpu in gpus]
    device = choose_device()
    free = f"{format_bytes(free_memory())} free for this notebook"
    return {
        "processor": f"{psutil.cpu_count()} cores, {torch.get_num_threads()} used by PyTorch",
        "GPU": "; ".join(said) if said else "none found: everything here runs on the processor",
        "memory": free if device == "cpu" else f"{free}, {format_bytes(free_memory(device))} free on the GPU",
        "PyTorch": torch.__version__,
    }


def machine_card() -> widgets.VBox:
    """:func:`machine` as a widget."""
    rows = [{"This machine": html.escape(name), "": html.escape(value)} for name, value in machine().items()]
    return stage(text(table(rows, left=("This machine", ""))))


__all__ = ["CSS", "Canvas", "Stage", "machine", "machine_card", "stage", "table", "text"]

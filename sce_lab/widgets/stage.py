"""What widgets stand on: the lab's style in the page's theme, and figures that fill their place."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterable
from typing import Any

import anywidget
import ipywidgets as widgets
import numpy as np
import plotly.graph_objects as go
import psutil
import torch

from sce_lab.figures import Spec, figure
from sce_lab.memory import format_bytes, free_memory
from sce_lab.widgets.style import CSS

# plotly asks for a figure's width once, when it draws; after that, it listens to the window only. The side bar of
# JupyterLab changes the width too, and a figure may be drawn before its place is laid out.
_RESIZE = """
function render({ el }) {
  let width = 0, pending = 0;
  const place = () => el.closest(".sce-lab") ?? el.parentElement ?? el;
  const refit = () => {
    clearTimeout(pending);
    pending = setTimeout(() => window.dispatchEvent(new Event("resize")), 30);
  };
  const watcher = new ResizeObserver(() => {
    const now = Math.round(place().getBoundingClientRect().width);
    if (now > 0 && now !== width) { width = now; refit(); }
  });
  // A figure in a tab that was not shown has no width yet.
  const shown = (event) => { if (event.target.closest?.(".lm-TabBar")) refit(); };
  el.style.height = "0";
  watcher.observe(el);
  document.addEventListener("plotlywidget-after-render", refit);
  for (const name of ["pointerup", "keyup"]) document.addEventListener(name, shown);
  return () => {
    watcher.disconnect();
    document.removeEventListener("plotlywidget-after-render", refit);
    for (const name of ["pointerup", "keyup"]) document.removeEventListener(name, shown);
  };
}
export default { render };
"""


class Stage(anywidget.AnyWidget):
    """An empty line that brings the style and keeps the figures around it as wide as their place."""

    _esm = _RESIZE
    _css = CSS


def stage(*children: widgets.Widget) -> widgets.VBox:
    """The widgets in a column, in the lab's style."""
    box = widgets.VBox([Stage(), *children], layout=widgets.Layout(width="100%", overflow="visible"))
    box.add_class("sce-lab")
    return box


#: Of plotly's tools only the camera, which saves a figure as PNG; it shows while the pointer is on the figure.
CONFIG = {
    "displaylogo": False,
    "displayModeBar": "hover",
    "modeBarButtons": [["toImage"]],
    "responsive": True,
    "toImageButtonOptions": {"format": "png", "scale": 2, "filename": "sce-lab"},
}


class Canvas:
    """A figure on screen that is made once and then changed into what it shall look like.

    Only what differs from the last time is sent. ``show`` may be called from any thread; calls wait for one another.
    """

    def __init__(self, spec: Spec) -> None:
        made = figure(spec)
        self.widget = go.FigureWidget(made)
        self.widget._config = CONFIG
        self._spec = spec
        self._lock = threading.Lock()

    def show(self, spec: Spec) -> None:
        """Make the figure look like ``spec``, which has the same traces in the same order.

        Raises:
            ValueError: another number of traces.
        """
        with self._lock:
            if len(spec["data"]) != len(self.widget.data):
                raise ValueError(f"{len(spec['data'])} traces for a figure of {len(self.widget.data)}")
            with self.widget.batch_update():
                for trace, new, old in zip(self.widget.data, spec["data"], self._spec["data"]):
                    for key, value in new.items():
                        if not _same(value, old.get(key)):
                            trace[key] = value
                for key, value in spec["layout"].items():
                    if not _same(value, self._spec["layout"].get(key)):
                        self.widget.layout[key] = value
            self._spec = spec


def _same(one: Any, other: Any) -> bool:
    """Equal, also for arrays, not-a-numbers and dicts of them."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        numeric = one.dtype.kind == other.dtype.kind == "f"
        return one.shape == other.shape and np.array_equal(one, other, equal_nan=numeric)
    return one is other or one == other or (one != one and other != other)


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


def machine() -> dict[str, str]:
    """What this machine can do, for people."""
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "processor": f"{psutil.cpu_count()} cores, {torch.get_num_threads()} used by PyTorch",
        "GPU": ", ".join(cuda) if cuda else "none found: everything here runs on the processor",
        "memory": f"{format_bytes(free_memory())} free for this notebook",
        "PyTorch": torch.__version__,
    }


def machine_card() -> widgets.VBox:
    """:func:`machine` as a widget."""
    rows = [{"This machine": html.escape(name), "": html.escape(value)} for name, value in machine().items()]
    return stage(text(table(rows, left=("This machine", ""))))

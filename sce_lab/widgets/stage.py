"""What widgets stand on: the lab's style in the page's theme, and figures that fill their place."""

from __future__ import annotations

import html
import threading
from collections.abc import Iterable
from typing import Any

import anywidget
import ipywidgets as widgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import psutil
import torch

from sce_lab.figures import FONT, LOOKS, THEME_CSS, Spec, figure
from sce_lab.memory import format_bytes, free_memory

# The variables are JupyterLab's, with values for pages that do not define them.
CSS = (
    f"""
.sce-lab {{
  --sce-ink: var(--jp-ui-font-color1, #222);
  --sce-soft: var(--jp-ui-font-color2, #666);
  --sce-edge: var(--jp-border-color2, #ccc);
  --sce-fill: var(--jp-layout-color2, #f3f3f3);
  --sce-accent: #009e73;
  --sce-warn: #c77700;
  --sce-stop: #d5400e;
  font-family: {FONT};
  color: var(--sce-ink);
}}
[data-jp-theme-light="false"] .sce-lab {{ --sce-warn: #f0a830; --sce-stop: #ff7a4d; }}
body {{ --sce-ink: var(--jp-ui-font-color1, #222); }}
"""
    + THEME_CSS
    + """
.sce-lab .widget-html-content, .sce-lab .widget-html > div { line-height: 1.4; }
.sce-lab .js-plotly-plot { width: 100%; }

/* transport: the buttons and what is going on */
.sce-bar { align-items: center; gap: 6px; flex-flow: row wrap; padding-bottom: 6px; }
.sce-bar .jupyter-button { border-radius: 6px; width: auto; min-width: 84px; margin: 0; }
.sce-bar .jupyter-button.sce-primary { background: var(--sce-accent); color: white; font-weight: 600; }
.sce-bar .jupyter-button:disabled { opacity: 0.38; }
.sce-bar .sce-status { flex: 1 1 280px; min-width: 0; margin: 0 0 0 8px; }
.sce-status-text {
  font-size: 13px; line-height: 18px; height: 36px; overflow: hidden auto; display: flex; align-items: center;
  overflow-wrap: anywhere;
}
.sce-status-text > div { margin: auto 0; }
.sce-progress { height: 4px; border-radius: 2px; background: var(--sce-fill); overflow: hidden; }
.sce-progress > div { height: 100%; background: var(--sce-accent); }

/* the deck: cards of controls, and one line of help for the control under the pointer or the keyboard */
.sce-deck { position: relative; padding-bottom: 40px; overflow: visible; }
.sce-cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 10px; overflow: visible; }
.sce-cards, .sce-card, .sce-control, .sce-control > * { position: static !important; }
.sce-card {
  border: 1px solid var(--sce-edge); border-radius: 8px; padding: 8px 12px 6px; overflow: visible; margin: 0;
  min-width: 0;
}
.sce-card > * { width: auto; margin-left: 0; margin-right: 0; }
.sce-heading {
  font-weight: 600; font-size: 12px; letter-spacing: 0.04em; text-transform: uppercase; color: var(--sce-soft);
}
.sce-control { margin: 0; overflow: visible; }
.sce-control > * { width: auto; margin: 1px 0; }
.sce-control .widget-hslider {
  display: grid; grid-template-columns: 1fr auto; grid-template-areas: "label readout" "slider slider";
  height: auto; align-items: center;
}
.sce-control .widget-hslider > .widget-label { grid-area: label; }
.sce-control .widget-hslider > .slider-container {
  grid-area: slider; margin: 0 8px; height: 18px; display: flex; align-items: center;
}
.sce-control .slider-container > .slider { flex: 1; margin: 0; }
.sce-control .widget-hslider > .widget-readout {
  grid-area: readout; font-weight: 600; text-align: right; min-width: 0; width: auto; height: auto; line-height: 20px;
  padding: 0; margin: 0; border: none; pointer-events: none; color: var(--sce-ink);
}
.sce-sub { font-size: 75%; position: relative; bottom: -0.3em; }
.sce-control .widget-label { width: auto; min-width: 0; text-align: left; height: 20px; line-height: 20px; }
.sce-control .widget-dropdown, .sce-control .widget-text { flex-flow: column; height: auto; align-items: stretch; }
.sce-control .widget-dropdown > select, .sce-control .widget-text > input { flex: 0 0 28px; width: 100%; }
.sce-control .widget-checkbox { width: 100%; }
.sce-control .widget-toggle-buttons { height: auto; flex-flow: column; }
.sce-control .widget-toggle-buttons > div { display: flex; flex-flow: column; gap: 3px; overflow: visible; }
"""
    + "\n".join(
        f".sce-control .widget-toggle-button:nth-child({n + 1}) {{ --sce-loss: {look.color}; }}"
        for n, look in enumerate(LOOKS.values())
    )
    + """
.sce-control .widget-toggle-buttons .widget-toggle-button {
  width: 100%; margin: 0; text-align: left; height: 26px; line-height: 24px; border-radius: 6px; box-shadow: none;
}
.sce-control .widget-toggle-buttons .widget-toggle-button::before {
  content: ""; display: inline-block; width: 11px; height: 11px; margin-right: 8px; border-radius: 2px;
  background: var(--sce-loss);
}
.sce-control .widget-toggle-buttons .widget-toggle-button.mod-active {
  box-shadow: inset 0 0 0 2px var(--sce-loss); background: var(--sce-fill); color: var(--sce-ink); font-weight: 600;
}
.sce-aside { opacity: 0.55; }
.sce-aside:hover, .sce-aside:focus-within { opacity: 1; }
.sce-help {
  position: absolute !important; left: 0; right: 0; bottom: 0; height: 38px; visibility: hidden; margin: 0 !important;
  overflow: hidden;
}
.sce-control:hover > .sce-help, .sce-control:focus-within > .sce-help { visibility: visible; }
.sce-deck:hover .sce-control:focus-within:not(:hover) > .sce-help { visibility: hidden; }
.sce-deck:has(.sce-control:hover) > .sce-hint, .sce-deck:has(.sce-control:focus-within) > .sce-hint {
  visibility: hidden;
}
.sce-hint { position: absolute !important; left: 0; right: 0; bottom: 0; height: 38px; margin: 0; }
.sce-help-text { font-size: 12.5px; line-height: 17px; color: var(--sce-soft); padding: 3px 4px; }
.sce-help-text b { color: var(--sce-ink); }

/* notes at the foot of a card: what the settings come to, or what is wrong with them */
.sce-note { margin-top: auto !important; }
.sce-note-text {
  font-size: 12px; color: var(--sce-soft); min-height: 38px; border-top: 1px solid var(--sce-edge); padding-top: 4px;
  max-height: 72px; overflow: hidden auto; overflow-wrap: anywhere;
}
.sce-note, .sce-note .widget-html-content { min-width: 0; overflow: hidden; }
.sce-lab .sce-warning { color: var(--sce-warn); }
.sce-lab .sce-problem { color: var(--sce-stop); font-weight: 500; }
.sce-caption { font-size: 12px; color: var(--sce-soft); display: flex; flex-wrap: wrap; gap: 4px 18px; }
.sce-caption span { white-space: nowrap; }
.sce-caption svg { vertical-align: -1px; margin-right: 5px; }

/* tables */
.sce-table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; width: 100%; }
.sce-table th { text-align: right; font-weight: 600; color: var(--sce-soft); padding: 4px 8px; white-space: nowrap; }
.sce-table td { text-align: right; padding: 4px 8px; border-top: 1px solid var(--sce-edge); white-space: nowrap; }
.sce-table .sce-left { text-align: left; }
.sce-table td.sce-wrap { white-space: normal; text-align: left; color: var(--sce-soft); }
.sce-table td.sce-best { font-weight: 700; }
.sce-scroll { overflow-x: auto; }
.sce-empty { color: var(--sce-soft); font-size: 13px; }
"""
)

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
  el.style.height = "0";
  watcher.observe(el);
  document.addEventListener("plotlywidget-after-render", refit);
  return () => { watcher.disconnect(); document.removeEventListener("plotlywidget-after-render", refit); };
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


class Canvas:
    """A figure on screen that is made once and then changed into what it shall look like.

    Only what differs from the last time is sent. ``show`` may be called from any thread; calls wait for one another.
    """

    def __init__(self, spec: Spec) -> None:
        made = figure(spec)
        self.widget = go.FigureWidget(made)
        self.widget._config = {"displayModeBar": False, "responsive": True}
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


def shown(spec: Spec, *below: widgets.Widget) -> widgets.VBox:
    """A figure that does not change, and what stands below it."""
    return stage(Canvas(spec).widget, *below)


def table_of(frame: pd.DataFrame, wrap: tuple[str, ...] = ()) -> widgets.VBox:
    """A table of plain text as a widget; the first column and those in ``wrap`` stand to the left."""
    rows = [{str(k): html.escape(str(v)) for k, v in row.items()} for row in frame.to_dict("records")]
    return stage(text(table(rows, left=(str(frame.columns[0]),), wrap=wrap)))


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

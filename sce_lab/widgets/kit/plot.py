"""Figures on screen that change often: plotly.js is brought to the page once, and only what changed is sent.

``plotly.graph_objects.FigureWidget`` brings its own five megabytes of script for every figure. On a slow machine that
takes longer than the two seconds that anywidget waits, and such a figure then never changes again.
"""

from __future__ import annotations

import functools
import threading
import weakref
from typing import Any

import anywidget
import numpy as np
import plotly.graph_objects as go
import traitlets
from plotly.offline import get_plotlyjs

from sce_lab.figures import Spec, figure
from sce_lab.figures.style import TEMPLATE

_ENGINE = """
const waiting = (globalThis.sceLabPlotly ??= {});
waiting.ready ??= new Promise((resolve) => { waiting.resolve = resolve; });
export default {
  initialize({ model }) {
    if (waiting.loaded) return;
    waiting.loaded = true;
    // The script is written for CommonJS, AMD or a global; as a module it leaves the page's globals alone.
    const head = "const module = { exports: {} }, exports = module.exports, define = undefined;\\n";
    const parts = [head, model.get("source"), "\\nexport default module.exports;"];
    const url = URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));
    import(url).then((loaded) => { URL.revokeObjectURL(url); waiting.resolve(loaded.default); });
  },
  render({ el }) { el.style.display = "none"; },
};
"""

_PLOT = """
const waiting = (globalThis.sceLabPlotly ??= {});
waiting.ready ??= new Promise((resolve) => { waiting.resolve = resolve; });

// A figure's panels by their x axes, each a figure of its own: most changes concern one, and the others stay as drawn.
// Where there is no room for them beside one another (layout.meta.widths: what each needs), they stand in several rows.
const axisOf = ({ xaxis = "x" }) => xaxis;
const panelsOf = ({ data, layout }) => {
  const ends = Object.keys(layout).filter((name) => name.startsWith("xaxis")).map((name) => name.slice(5));
  const { annotations = [], shapes = [], meta } = layout;
  const shared = Object.fromEntries(Object.entries(layout).filter(([name]) => !/^[xy]axis/.test(name)));
  return Object.fromEntries(ends.map((end, nth) => {
    const on = ({ xref = "x" }) => xref.split(" ")[0] === "x" + end;
    const moved = (mark) => ({ ...mark, xref: mark.xref?.replace(/\\d+/, ""), yref: mark.yref?.replace(/\\d+/, "") });
    const { domain = [0, 1], anchor: _x, ...xaxis } = layout["xaxis" + end];
    const { anchor: _y, ...yaxis } = layout["yaxis" + end];
    const marks = { annotations: annotations.filter(on).map(moved), shapes: shapes.filter(on).map(moved) };
    const traces = [...data.keys()].filter((index) => axisOf(data[index]) === "x" + end);
    const size = { share: domain[1] - domain[0], least: meta?.widths?.[nth] ?? 0, height: layout.height };
    return ["x" + end, { traces, size, layout: { ...shared, ...marks, xaxis, yaxis } }];
  }));
};
const onePair = ({ xaxis, yaxis, ...rest }) => rest;
const SECOND = 1000;
const AT_ONCE = { mode: "immediate", transition: { duration: 0 }, frame: { duration: 0, redraw: false } };

class Panel {
  constructor(axis, { share, least, height }, again) {
    this.axis = axis;
    this.again = again;  // asks for another drawing
    this.place = document.createElement("div");
    this.place.style.cssText = `flex: ${100 * share} 1 ${least}px; min-width: min(100%, ${least}px)`;
    this.fit(height);
    this.whole = true;  // draw all of it, or
    this.fresh = {};  // what is new, by trace
    this.touched = false;  // is anything newer than what is seen?
    this.settling = null;  // a timer, after which plotly.js draws what was moved without it
    this.width = 0;
    this.laidOut = "";
  }
  fit(height) { this.place.style.minHeight = height + "px"; }  // nothing below it moves when it is drawn
  get begins() {  // a row?
    const [here, row] = [this.place, this.place.parentElement].map((each) => each.getBoundingClientRect().left);
    return Math.abs(here - row) < 2;
  }
  add(index, changes) {
    this.whole ||= changes.x?.length === 0;  // plotly.js leaves a trace as it was when nothing of it is left
    this.fresh[index] = { ...this.fresh[index], ...changes };
    this.touched = true;
  }
  // Lines on their way to somewhere else: a tenth of the work of plotly.js, which hears of it a second later.
  moveLines(spec) {
    const { _fullData: drawn, _fullLayout: { xaxis, yaxis } } = this.place, paths = [];
    for (const [index, changes] of Object.entries(this.fresh)) {
      const { mode, line, x, y } = spec.data[index], { uid } = drawn[this.traces.indexOf(Number(index))];
      const path = this.place.querySelector(`.trace${uid} path.js-line`);
      const known = Object.keys(changes).every((key) => key === "x" || key === "y");
      const plain = mode === "lines" && !line.shape && x.length > 0 && [...x, ...y].every(Number.isFinite);
      if (!(path && known && plain)) return false;
      paths.push([path, "M" + x.map((value, i) => xaxis.c2p(value) + "," + yaxis.c2p(y[i])).join("L")]);
    }
    for (const [path, where] of paths) path.setAttribute("d", where);
    this.settling ??= setTimeout(() => { this.settling = "due"; this.again(); }, SECOND);
    return true;
  }
  settled() {
    clearTimeout(this.settling);
    [this.whole, this.fresh, this.settling] = [false, {}, null];
  }
  async draw(plotly, spec, config) {
    const width = this.place.clientWidth, { fresh } = this, news = this.touched || this.whole;
    this.touched = false;
    if (this.whole || width !== this.width) {
      const { traces, layout } = panelsOf(spec)[this.axis];
      [this.traces, this.laidOut, this.width] = [traces, JSON.stringify(layout), width];
      if (layout.yaxis.ticktext && this.begins) layout.yaxis = { ...layout.yaxis, showticklabels: true };  // of its row
      this.settled();
      await plotly.react(this.place, traces.map((index) => onePair(spec.data[index])), { ...layout, width }, config);
    } else if (this.settling === "due" || (news && !this.moveLines(spec))) {
      // Lines and bars alone: axes, titles and shapes would take three times as long. Bars not named would go.
      this.settled();
      const data = this.traces.map((index) => fresh[index] ?? {});
      await plotly.animate(this.place, { data, traces: [...data.keys()] }, AT_ONCE);
    }
    if (news) this.place.dispatchEvent(new Event("sce-drawn"));
  }
}

export default {
  initialize({ model }) {
    model.on("msg:custom", ({ data, layout }) => {
      const spec = model.get("spec");
      for (const [index, changes] of Object.entries(data)) spec.data[index] = { ...spec.data[index], ...changes };
      Object.assign(spec.layout, layout);
    });
  },
  render({ model, el }) {
    let alive = true, pending = false, plotly = null, last = Promise.resolve();
    const soon = () => {
      if (pending) return;
      pending = true;
      requestAnimationFrame(() => { last = last.then(draw).catch(failed); });
    };
    const sizes = Object.entries(panelsOf(model.get("spec")));
    const panels = sizes.map(([axis, { size }]) => new Panel(axis, size, soon));
    el.style.cssText += "display: flex; flex-wrap: wrap; width: 100%";
    el.setAttribute("role", "figure");
    const told = ({ text }) => text.replace(/<[^>]+>/g, "");
    const name = () => {
      const { layout } = model.get("spec"), titles = (layout.annotations ?? []).map(told);
      const axes = ["xaxis", "yaxis"].map((axis) => layout[axis]?.title?.text).filter(Boolean).reverse();
      el.setAttribute("aria-label", "Figure: " + (titles.length ? titles.join("; ") : axes.join(" over ")));
    };
    name();
    el.append(...panels.map(({ place }) => place));
    const draw = async () => {
      pending = false;
      if (!alive || !plotly || !el.clientWidth) return;
      for (const panel of panels) panel.fit(model.get("spec").layout.height);
      name();
      for (const panel of panels) await panel.draw(plotly, model.get("spec"), model.get("config"));
    };
    const failed = (error) => {
      for (const panel of panels) panel.whole = true;
      if (alive) reportError(error);
    };
    const changed = ({ data, layout }) => {
      const spec = model.get("spec"), now = Object.keys(layout).length ? panelsOf(spec) : {};
      for (const panel of panels) {
        panel.whole ||= panel.axis in now && JSON.stringify(now[panel.axis].layout) !== panel.laidOut;
        for (const [index, changes] of Object.entries(data))
          if (axisOf(spec.data[index]) === panel.axis) panel.add(index, changes);
      }
      soon();
    };
    const watcher = new ResizeObserver(soon);
    model.on("msg:custom", changed);
    waiting.ready.then((loaded) => { plotly = loaded; watcher.observe(el); });
    return () => {
      alive = false;
      watcher.disconnect();
      model.off("msg:custom", changed);
      for (const panel of panels) panel.settled();
      for (const { place } of panels) plotly?.purge(place);
    };
  },
};
"""

#: Of plotly's tools only the camera, which saves a figure as PNG; it shows while the pointer is on the figure.
CONFIG = {
    "displaylogo": False,
    "displayModeBar": "hover",
    "modeBarButtons": [["toImage"]],
    "toImageButtonOptions": {"format": "png", "scale": 2, "filename": "sce-lab"},
}


class Engine(anywidget.AnyWidget):
    """plotly.js for all figures of a page; see :func:`engine`."""

    _esm = _ENGINE
    source = traitlets.Unicode("").tag(sync=True)


@functools.cache
def engine() -> Engine:
    """The one of this kernel."""
    return Engine(source=get_plotlyjs())


class Plot(anywidget.AnyWidget):
    """A figure made of a spec; :meth:`change` sends what is new of another one with as many traces.

    Panels beside one another are drawn each for itself, so all traces, shapes and annotations refer to a pair of axes.
    """

    _esm = _PLOT
    spec = traitlets.Dict().tag(sync=True)
    config = traitlets.Dict(CONFIG).tag(sync=True)

    def __init__(self, spec: Spec) -> None:
        self.current = spec
        layout = {"template": TEMPLATE.to_plotly_json(), **spec["layout"]}
        super().__init__(spec=_plain({"data": spec["data"], "layout": layout}))
        self.add_class("sce-plot")
        _PLOTS.add(self)

    def change(self, spec: Spec) -> None:
        """Look like ``spec`` from now on; sends one message, or none if nothing differs.

        Raises:
            ValueError: another number of traces.
        """
        if len(spec["data"]) != len(self.current["data"]):
            raise ValueError(f"{len(spec['data'])} traces for a figure of {len(self.current['data'])}")
        data = {str(i): new for i, pair in enumerate(zip(spec["data"], self.current["data"])) if (new := _new(*pair))}
        layout = _new(spec["layout"], self.current["layout"])
        self.current = spec
        if data or layout:
            self.send({"data": _plain(data), "layout": _plain(layout)})

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """As of any widget; a page that is opened later gets the figure as it is now."""
        state = super().get_state(key, drop_defaults)
        if "spec" in state and self.spec:
            layout = {**self.spec["layout"], **_plain(self.current["layout"])}
            state["spec"] = {"data": _plain(self.current["data"]), "layout": layout}
        return state

    @property
    def data(self) -> tuple[Any, ...]:
        """The traces as plotly objects, as they are now."""
        return figure(self.current).data

    @property
    def layout(self) -> go.Layout:
        """The layout as a plotly object, as it is now."""
        return figure(self.current).layout


def send_all() -> None:
    """Send all figures as they are now: who keeps what widgets sent has heard of changes as messages only."""
    for plot in list(_PLOTS):
        plot.send_state("spec")


_PLOTS: weakref.WeakSet[Plot] = weakref.WeakSet()


class Canvas:
    """A figure on screen that is made once and then changed into what it shall look like.

    Only what differs from the last time is sent. ``show`` may be called from any thread; calls wait for one another.
    """

    def __init__(self, spec: Spec) -> None:
        self.widget = Plot(spec)
        self._lock = threading.Lock()

    def show(self, spec: Spec) -> None:
        """Make the figure look like ``spec``, which has the same traces in the same order.

        Raises:
            ValueError: another number of traces.
        """
        with self._lock:
            self.widget.change(spec)


def _new(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """What of ``now`` is not so in ``before``."""
    return {key: value for key, value in now.items() if not _same(value, before.get(key))}


def _same(one: Any, other: Any) -> bool:
    """Equal, also for arrays, not-a-numbers and dicts of them."""
    if one is other:
        return True
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        one, other = np.asarray(one), np.asarray(other)
        numeric = one.dtype.kind == other.dtype.kind == "f"
        return one.shape == other.shape and np.array_equal(one, other, equal_nan=numeric)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other or (one != one and other != other)


def _plain(value: Any) -> Any:
    """What JSON can say; not-a-number becomes null, which plotly leaves out."""
    match value:
        case dict():
            return {key: _plain(each) for key, each in value.items()}
        case np.ndarray() if value.dtype.kind == "f" and np.isfinite(value).all():
            return value.tolist()
        case list() | tuple() | np.ndarray():
            return [_plain(each) for each in value]
        case np.generic():
            return _plain(value.item())
        case float() if value != value or value in (float("inf"), float("-inf")):
            return None
        case _:
            return value

"""One training step in moments: what is alive, and which line of code made it."""

from __future__ import annotations

import html
import linecache
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pandas as pd

import sce_lab
from sce_lab.figures import LOOKS, brief_label
from sce_lab.figures.memory_charts import timeline_spec
from sce_lab.memory import Timeline, format_bytes, predict_timeline
from sce_lab.widgets.kit.latest import Latest
from sce_lab.widgets.kit.slider import Slider
from sce_lab.widgets.kit.stage import Canvas, stage, table, text
from sce_lab.widgets.lessons.memory_wall import Wall

_STYLE = """<style>
.sce-code { font-family: var(--jp-code-font-family, monospace); font-size: 12px; line-height: 18px; margin: 4px 0 0;
  border: 1px solid var(--sce-edge); border-radius: 8px; padding: 6px 0; overflow-x: auto;
  background: var(--sce-fill); }
.sce-code div { white-space: pre; padding: 0 12px; color: var(--sce-ink); }
.sce-code .sce-here { background: color-mix(in srgb, var(--sce-accent) 28%, transparent); font-weight: 600; }
.sce-moment { font-size: 13px; line-height: 19px; min-height: 40px; }
</style>"""


class StepTimeline:
    """One training step, moment by moment: how much is alive, what the largest tensors are, which line made them.

    Args:
        catalog_size, batch_size, length, hidden_size: of the step.
        loss: shown first.
    """

    def __init__(
        self,
        catalog_size: int = 100_000,
        batch_size: int = 64,
        length: int = 17,
        hidden_size: int = 64,
        loss: str = "ce",
    ) -> None:
        self._wall = Wall(catalog_size, batch_size, length, hidden_size)
        self._timelines: dict[str, Timeline] = {}
        options = [(brief_label(name), name) for name in LOOKS]
        tooltips = ["Show the step with this loss"] * len(LOOKS)
        self.loss = widgets.ToggleButtons(options=options, value=loss, tooltips=tooltips)
        self.loss.style.button_width = "auto"
        timeline = self.timeline
        self.moment = Slider(self._places(), timeline.peak, description="Moment", tooltip="Moment of the step")
        jump = {"Peak": self.to_peak, "Next larger": self.to_next}
        self.buttons = {name: widgets.Button(description=name, tooltip=f"Go to: {name.lower()}") for name in jump}
        for name, button in self.buttons.items():
            button.on_click(lambda _, name=name: jump[name]())
        self._figure = Canvas(self._spec())
        self._said, self._code, self._table = text(""), text(""), text("")
        self._show()
        self._shown: Latest[tuple[str, int]] = Latest(lambda _: self._show())
        self.loss.observe(lambda change: self._loss_changed(), "value")
        self.moment.observe(lambda change: self._shown.submit((self.loss.value, self.moment.value)), "value")
        bar = widgets.HBox([self.loss, *self.buttons.values()])
        bar.add_class("sce-bar")
        self.view = stage(text(_STYLE), bar, self._figure.widget, self.moment, self._said, self._code, self._table)

    @property
    def timeline(self) -> Timeline:
        """Of the chosen loss."""
        loss = self.loss.value
        if loss not in self._timelines:
            self._timelines[loss] = predict_timeline(self._wall.config(loss), self._wall.catalog_size)
        return self._timelines[loss]

    def to_peak(self) -> None:
        """Go to the moment of the peak."""
        self.moment.value = self.timeline.peak

    def to_next(self) -> None:
        """Go to the next moment at which a tensor comes that is larger than half a percent of the peak."""
        changes = self.timeline.moments["change"].to_numpy()
        after = (changes > 0.005 * self.timeline.use.peak).nonzero()[0]
        later = after[after > self.moment.value]
        self.moment.value = int(later[0] if len(later) else after[0])

    def settle(self) -> None:
        """Wait until what the controls ask for is shown."""
        self._shown.settle()

    def results(self) -> dict[str, Any]:
        """What is shown, as plain data."""
        self.settle()
        timeline = self.timeline
        top = timeline.alive(self.moment.value).head(5)
        return {
            "loss": self.loss.value,
            "moment": self.moment.value,
            "peak": timeline.use.peak,
            "phase": timeline.moments["phase"][self.moment.value],
            "largest": top[["name", "bytes", "file", "line", "code"]].to_dict("records"),
        }

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    def _loss_changed(self) -> None:
        timeline = self.timeline
        if self.moment.value == timeline.peak:
            self._shown.submit((self.loss.value, self.moment.value))
        self.moment.offer(self._places(), timeline.peak)

    def _places(self) -> list[tuple[str, int]]:
        """The moments by what is so then, for eyes and ears."""
        moments = self.timeline.moments
        names = (phase.replace("_", " ") for phase in moments["phase"])
        said = zip(names, map(format_bytes, moments["live"]))
        return [(f"{nth:,}: {phase}, {size}", nth) for nth, (phase, size) in enumerate(said)]

    def _spec(self) -> dict[str, Any]:
        tensors = self.timeline.tensors
        lines = {n: f"{row.name}<br>{row.file}:{row.line}" for n, row in zip(tensors.index, _named(tensors))}
        at = min(self.moment.value, len(self.timeline.moments) - 1)
        return timeline_spec(self.timeline.moments, self.loss.value, at=at, lines=lines)

    def _show(self) -> None:
        timeline, at = self.timeline, min(self.moment.value, len(self.timeline.moments) - 1)
        self._figure.show(self._spec())
        row = timeline.moments.iloc[at]
        tensor = timeline.tensors.loc[row["tensor"]]
        does = "comes" if row["change"] > 0 else "goes"
        self._said.value = (
            f'<div class="sce-moment">Moment {at:,}, {html.escape(row["phase"].replace("_", " "))}: '
            f"<b>{html.escape(tensor['name'])}</b> {_shape(tensor)} {does}, {format_bytes(abs(row['change']))}. "
            f"<b>{format_bytes(row['live'])}</b> are alive, {row['live'] / timeline.use.peak:.0%} of the peak.</div>"
        )
        self._code.value = excerpt(tensor["file"], tensor["line"])
        self._table.value = table(
            [_table_row(t) for _, t in timeline.alive(at).head(6).iterrows()],
            left=("alive now", "made in"),
            wrap=("line of code",),
        )


def _named(tensors: pd.DataFrame) -> Any:
    return tensors[["name", "file", "line"]].itertuples(index=False)


def _shape(tensor: pd.Series) -> str:
    return html.escape(" × ".join(f"{n:,}" for n in tensor["shape"])) if tensor["shape"] else "one number"


def _table_row(tensor: pd.Series) -> dict[str, str]:
    code = tensor["code"] if len(tensor["code"]) <= 46 else tensor["code"][:43] + "..."
    return {
        "alive now": html.escape(tensor["name"]),
        "shape": _shape(tensor),
        "bytes": format_bytes(tensor["bytes"]),
        "made in": f"{html.escape(tensor['file'])}:{tensor['line']}" if tensor["file"] else "there before the step",
        "line of code": f"<code>{html.escape(code)}</code>",
    }


def excerpt(file: str, line: int, around: int = 2) -> str:
    """Some lines of a file of this package, with one marked, as HTML. What cannot be read gives a remark."""
    path = Path(sce_lab.__file__).parents[1] / file
    if not file or not path.is_file():
        return '<div class="sce-code"><div>It was there before the step began.</div></div>'
    first, rows = max(1, line - around), []
    for number in range(first, line + around + 1):
        content = linecache.getline(str(path), number).rstrip("\n")
        here = ' class="sce-here"' if number == line else ""
        rows.append(f"<div{here}>{number:4}  {html.escape(content)}</div>")
    return f'<div class="sce-code"><div>{html.escape(file)}</div>{"".join(rows)}</div>'

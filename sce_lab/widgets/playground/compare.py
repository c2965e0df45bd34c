"""All runs so far: a table to sort, what quality costs, two runs over one another, and ways to take them along."""

from __future__ import annotations

import base64
import csv
import dataclasses
import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pandas as pd

from sce_lab.figures import METRICS, brief_label, label, overlay_spec, pareto_spec, write_comparison_page
from sce_lab.memory import format_bytes
from sce_lab.runs import Run, differences, runs_root
from sce_lab.widgets.kit.legend import swatch
from sce_lab.widgets.kit.stage import Canvas, table, text
from sce_lab.widgets.playground.records import RunRecord, beside
from sce_lab.widgets.playground.repeat import as_code
from sce_lab.widgets.playground.run_table import Cell, Column, RunTable
from sce_lab.widgets.playground.status import data_title, run_words

QUALITY = (*METRICS, "COV@10")
COLUMNS = (
    Column("#", left=True),
    Column("loss", left=True),
    Column("settings", wrap=True),
    Column("peak memory"),
    Column("loss memory"),
    Column("ms/step"),
    Column("epochs"),
    *(Column(name, falling=True) for name in QUALITY),
)
EMPTY = "The runs you make are compared here. They are kept in a folder, also when the kernel ends."
_KEY = (
    '<div class="sce-caption"><span>Memory as measured; HR, NDCG and COV on the test items, '
    "* on the validation items so far. A click on a column's name sorts.</span></div>"
)


def table_row(record: RunRecord) -> dict[str, Cell]:
    """A run as a row of the table."""
    shot = record.snapshot
    metrics, tested = record.metrics
    milliseconds = sum(shot.milliseconds.values())
    peak, loss = (shot.memory.peak, shot.memory.loss_workspace) if shot.memory else (None, None)
    return {
        "#": Cell(str(record.number), record.number),
        "loss": Cell(f"{swatch(record.loss)}{brief_label(record.loss)}", label(record.loss)),
        "settings": Cell(html.escape(run_words(record)), run_words(record)),
        "peak memory": Cell(format_bytes(peak) if peak else "", peak),
        "loss memory": Cell(format_bytes(loss) if loss else "", loss),
        "ms/step": Cell(f"{milliseconds:.0f}" if milliseconds else "", milliseconds or None),
        "epochs": Cell(f"{shot.epochs:.1f}".removesuffix(".0"), shot.epochs),
        **{
            name: Cell(f"{metrics[name]:.3f}{'' if tested else '*'}", metrics[name]) if name in metrics else Cell("")
            for name in QUALITY
        },
    }


def plain_rows(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """A row a run, plain numbers with their units in the names: what the CSV holds."""
    rows: list[dict[str, Any]] = []
    for record in records:
        shot = record.snapshot
        metrics, tested = record.metrics
        settings = dataclasses.asdict(record.settings) | record.live
        rows.append(
            {
                "run": record.number,
                "loss": record.loss,
                **{k: v for k, v in settings.items() if k != "losses"},
                "catalog_size": record.catalog_size,
                "state": shot.state,
                "steps": shot.step,
                "epochs_done": round(shot.epochs, 4),
                "seconds": round(shot.seconds, 3),
                **{f"{phase}_ms": round(ms, 3) for phase, ms in shot.milliseconds.items()},
                **{f"{part}_bytes": size for part, size in (shot.memory.as_dict() if shot.memory else {}).items()},
                "metrics_of": "test" if tested else "validation",
                **{name: round(value, 6) for name, value in metrics.items()},
                "folder": str(record.folder or ""),
            }
        )
    return rows


class Compare:
    """The panel. ``remove`` is called with the numbers of runs that shall go."""

    def __init__(self, remove: Callable[[list[int]], None]) -> None:
        self._records: list[RunRecord] = []
        self.table = RunTable(COLUMNS, EMPTY)
        self.pareto = Canvas(pareto_spec(_points([])))
        self.overlay = Canvas(overlay_spec([]))
        self._which = text("")
        self._difference, self._code, self._link, self._said = text(""), text(""), text(""), text("")
        self.buttons = {
            "remove": widgets.Button(
                description="Remove picked", icon="eye-slash", tooltip="Undo brings them back; their folders stay"
            ),
            "page": widgets.Button(
                description="Write page", icon="file-text-o", tooltip="All finished runs as one HTML file"
            ),
        }
        self.buttons["remove"].on_click(lambda _: remove(list(self.table.selected)))
        self.buttons["page"].on_click(lambda _: self.write_page())
        self.table.observe(lambda _: self._show_picked(), "selected")
        bar = widgets.HBox([*self.buttons.values(), self._link, self._said])
        bar.add_class("sce-bar")
        self.view = widgets.VBox(
            [
                self.table,
                text(_KEY),
                bar,
                self.pareto.widget,
                self._which,
                self._difference,
                self.overlay.widget,
                self._code,
            ]
        )
        self._show_picked()

    @property
    def picked(self) -> list[RunRecord]:
        """The picked runs, in the order they were picked."""
        by_number = {record.number: record for record in self._records}
        return [by_number[number] for number in self.table.selected if number in by_number]

    def show(self, records: Sequence[RunRecord]) -> None:
        """Show these runs as they are now."""
        self._records = list(records)
        self.table.show((record.number, table_row(record)) for record in records)
        self._show_picked()

    def say(self, sentences: Sequence[str]) -> None:
        """Say what is wrong with runs, the first of it and how much more there is."""
        more = f" So it is with {len(sentences) - 1} more." if len(sentences) > 1 else ""
        self._said.value = f'<span class="sce-problem">{html.escape(sentences[0])}{more}</span>' if sentences else ""

    def write_page(self) -> Path | None:
        """Write the finished runs as one HTML file beside their folders; None, and a sentence, if that cannot be."""
        records = [r for r in self._records if r.folder and r.snapshot.finished and r.snapshot.step]
        names = [f"{record.number}. {brief_label(record.loss)}" for record in records]
        words = [run_words(record) for record in records]
        path = runs_root() / "playground.html"
        try:
            write_comparison_page(path, [Run(record.folder) for record in records], names=names, words=words)
        except (ValueError, OSError) as error:
            self.say([str(error)])
            return None
        self._said.value = f"Written: {html.escape(str(path))}"
        return path

    def _show_picked(self) -> None:
        picked = self.picked
        of = (picked or self._records)[-1:]
        same = beside(of[0] if of else None, self._records)
        self.pareto.show(pareto_spec(_points(same), selected=self.table.selected))
        self._which.value = _which(same, len(self._records) - len(same))
        self.overlay.show(overlay_spec([(f"run {r.number}", r.loss, r.snapshot.curves) for r in picked]))
        self._difference.value = _difference(picked)
        self.buttons["remove"].disabled = not picked
        self.buttons["page"].disabled = not any(r.folder and r.snapshot.finished for r in self._records)
        self._code.value = "".join(
            f'<pre class="sce-run-code">{html.escape(as_code(record))}</pre>' for record in of
        ) and '<div class="sce-heading">The same in code</div>' + "".join(
            f'<pre class="sce-run-code">{html.escape(as_code(record))}</pre>' for record in of
        )
        self._link.value = _csv_link(self._records)


def _points(records: Sequence[RunRecord]) -> pd.DataFrame:
    rows = [
        {
            "number": record.number,
            "loss": record.loss,
            "peak_memory": record.snapshot.memory.peak if record.snapshot.memory else float("nan"),
            "seconds": record.snapshot.seconds or float("nan"),
            "NDCG@10": record.metrics[0].get("NDCG@10", float("nan")),
        }
        for record in records
    ]
    return pd.DataFrame(rows, columns=["number", "loss", "peak_memory", "seconds", "NDCG@10"])


def _which(same: Sequence[RunRecord], others: int) -> str:
    """On which data the runs of the frontier are, if there are others."""
    if not others:
        return ""
    items = f", {same[0].catalog_size:,} items" if same[0].catalog_size else ""
    aside = "1 run on other data is" if others == 1 else f"{others} runs on other data are"
    where = f"{html.escape(data_title(same[0].settings))}{items}"
    return f'<div class="sce-caption"><span>Runs on {where}. {aside} not drawn: pick one to see it.</span></div>'


def _difference(picked: Sequence[RunRecord]) -> str:
    if len(picked) < 2:
        how = "one run more" if picked else "two runs"
        return f'<div class="sce-empty">Pick {how} in the table to lay them over one another.</div>'
    rows = []
    for record in picked:
        cells = table_row(record)
        rows.append({"": f"{swatch(record.loss)}run {record.number}"} | {k: cells[k].html for k in _COMPARED})
    one, other = (table_row(record) for record in picked)
    same, ratio = picked[0].data == picked[1].data, {"": f"run {picked[0].number} / run {picked[1].number}"}
    for name in _COMPARED:
        x, y = one[name].value, other[name].value
        told = x and y and (same or name not in QUALITY)
        ratio[name] = f"{x / y:.3g} ×" if told else ""
    words = "".join(
        f"<span>run {record.number} ({'bold' if not place else 'pale'}): {html.escape(run_words(record))}</span>"
        for place, record in enumerate(picked)
    )
    if not same:
        words += "<span>They learned from different data: their quality cannot be compared.</span>"
    words += "".join(f"<span>{html.escape(sentence)}</span>" for sentence in _told(picked))
    return table([*rows, ratio], left=("",)) + f'<div class="sce-caption">{words}</div>'


def _told(picked: Sequence[RunRecord]) -> list[str]:
    """Which of two runs ranks better on the same test users, or that this cannot be told; nothing if ranks lack."""
    if not all(record.folder and record.snapshot.finished for record in picked):
        return []
    number = {record.folder: record.number for record in picked}
    said = []
    try:
        for metric in METRICS:
            for found in differences([Run(folder) for folder in number], metric):
                i, better, worse = found.interval, number[found.better.folder], number[found.worse.folder]
                ends = f"{i.mean:+.3f}, 95 % interval over {i.n_users:,} test users [{i.low:+.3f}, {i.high:+.3f}]"
                if i.told_apart:
                    said.append(f"In {metric} run {better} is ahead of run {worse}: {ends}.")
                else:
                    said.append(f"In {metric} the two are not told apart: {ends}.")
    except ValueError as error:  # a file of one of them is damaged: it says which
        return [str(error)]
    return said


_COMPARED = ("peak memory", "loss memory", "ms/step", "epochs", *QUALITY)


def _csv_link(records: Sequence[RunRecord]) -> str:
    if not records:
        return ""
    rows, written = plain_rows(records), io.StringIO()
    writer = csv.DictWriter(written, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    content = base64.b64encode(written.getvalue().encode()).decode()
    return f'<a class="sce-link" download="sce-lab-runs.csv" href="data:text/csv;base64,{content}">Download CSV</a>'

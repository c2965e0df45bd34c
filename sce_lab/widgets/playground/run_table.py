"""A table of runs that can be sorted by any column and in which two runs can be picked, by mouse or keyboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anywidget
import traitlets

# Sorting is done in the page, so that it also works while the kernel is busy. Cells are HTML that the lab wrote.
_TABLE = """
function render({ model, el }) {
  el.classList.add("sce-scroll");
  const key = (v) => (v === null || v === undefined ? -Infinity : v);
  function draw() {
    const focused = el.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const rows = [...model.get("rows")], columns = model.get("columns"), picked = model.get("selected");
    const [by, falling] = model.get("sort");
    if (by) rows.sort((a, b) => {
      const x = key(a.cells[by]?.value), y = key(b.cells[by]?.value);
      return (x < y ? -1 : x > y ? 1 : a.id - b.id) * (falling ? -1 : 1);
    });
    el.replaceChildren();
    if (!rows.length) {
      const empty = document.createElement("div");
      empty.className = "sce-empty";
      empty.textContent = model.get("empty");
      el.append(empty);
      return;
    }
    const table = document.createElement("table");
    table.className = "sce-table sce-runs";
    const head = table.createTHead().insertRow();
    head.append(document.createElement("th"));
    for (const column of columns) {
      const th = document.createElement("th"), button = document.createElement("button");
      th.className = column.wrap ? "sce-settings" : column.left ? "sce-left" : "";
      th.setAttribute("aria-sort", by !== column.name ? "none" : falling ? "descending" : "ascending");
      button.textContent = column.name + (by !== column.name ? "" : falling ? " \\u25be" : " \\u25b4");
      button.title = "Sort by " + column.name;
      button.dataset.key = "sort " + column.name;
      button.onclick = () => {
        model.set("sort", [column.name, by === column.name ? !falling : column.falling]);
        model.save_changes();
      };
      th.append(button);
      head.append(th);
    }
    const body = table.createTBody();
    for (const row of rows) {
      const tr = body.insertRow(), box = document.createElement("input");
      tr.className = picked.includes(row.id) ? "sce-picked" : "";
      box.type = "checkbox";
      box.checked = picked.includes(row.id);
      box.title = "Pick run " + row.id + " to lay it over another";
      box.dataset.key = "pick " + row.id;
      box.onchange = () => {
        const others = picked.filter((id) => id !== row.id);
        model.set("selected", box.checked ? [...others.slice(-1), row.id] : others);
        model.save_changes();
      };
      tr.insertCell().append(box);
      for (const column of columns) {
        const td = tr.insertCell(), cell = row.cells[column.name] ?? { html: "" };
        td.className = column.wrap ? "sce-wrap sce-settings" : column.left ? "sce-left" : "";
        if (!column.wrap && !column.left && cell.html) td.dataset.name = column.name;
        td.innerHTML = cell.html;
      }
    }
    el.append(table);
    if (focused) [...el.querySelectorAll("[data-key]")].find((e) => e.dataset.key === focused)?.focus();
  }
  for (const name of ["rows", "selected", "sort"]) model.on("change:" + name, draw);
  draw();
}
export default { render };
"""


@dataclass(frozen=True)
class Column:
    """A column. ``falling``: the first click sorts from the largest on; ``wrap``: its text has a line of its own."""

    name: str
    left: bool = False
    wrap: bool = False
    falling: bool = False


@dataclass(frozen=True)
class Cell:
    """What a cell shows, as HTML, and what it is sorted by; None stands below everything."""

    html: str
    value: float | str | None = None


class RunTable(anywidget.AnyWidget):
    """Rows with a number each. ``selected`` holds the numbers of at most two picked ones."""

    _esm = _TABLE
    columns = traitlets.List().tag(sync=True)
    rows = traitlets.List().tag(sync=True)
    selected = traitlets.List().tag(sync=True)
    sort = traitlets.List(["", False]).tag(sync=True)
    empty = traitlets.Unicode("").tag(sync=True)

    def __init__(self, columns: Sequence[Column], empty: str) -> None:
        super().__init__(columns=[vars(column) for column in columns], empty=empty)
        self.add_class("sce-run-table")

    def show(self, rows: Iterable[tuple[int, Mapping[str, Cell]]]) -> None:
        """Show these rows, (number, cells by column). Picks of rows that are gone are dropped."""
        made = [{"id": number, "cells": {k: vars(cell) for k, cell in cells.items()}} for number, cells in rows]
        known = [row["id"] for row in made]
        with self.hold_sync():
            if made != self.rows:
                self.rows = made
            self.selected = [number for number in self.selected if number in known]

    def text(self) -> list[dict[str, Any]]:
        """What the table shows, as plain rows in the order of their numbers."""
        return [{name: cell["html"] for name, cell in row["cells"].items()} for row in self.rows]

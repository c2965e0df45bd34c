"""Bring a file: by its path, from those that lie near, or from the reader's own machine; and see what it is."""

from __future__ import annotations

import html
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np

from sce_lab.data import columns_of
from sce_lab.data.naming import ORDER
from sce_lab.figures import data_spec
from sce_lab.runs import runs_root
from sce_lab.widgets.kit.latest import Latest
from sce_lab.widgets.kit.own import OwnMoves
from sce_lab.widgets.kit.speech import Status
from sce_lab.widgets.kit.stage import Canvas, stage, table, text
from sce_lab.widgets.kit.words import capitalised
from sce_lab.widgets.own_data.file import READABLE, RULES, OwnData, bring, files_near, names_of

_ROLES = {"user": "Who", "item": "What", "timestamp": "When"}
_IN_ORDER = "(no column: the rows stand in order)"


class BringFile:
    """The panel. From Python: :meth:`open`, :meth:`settle`; what was read is :attr:`data`.

    Args:
        path: a file to begin with.
        folder: where files are looked for.

    Attributes:
        data: what was read last; None before that, and while something is wrong.
        problem: what is wrong, a sentence.
    """

    def __init__(self, path: str | os.PathLike[str] = "", *, folder: str | os.PathLike[str] = ".") -> None:
        self.data: OwnData | None = None
        self.problem = ""
        self._own = OwnMoves()
        self._read_before: list[Callable[[], None]] = []
        self._latest: Latest[tuple[str, dict[str, str | None], str]] = Latest(self._read)
        self.path = widgets.Text(placeholder="interactions.csv", continuous_update=False, description="Path")
        near = [(str(each), str(each)) for each in files_near(folder)]
        self.near = widgets.Dropdown(options=[("choose a file ...", ""), *near], value="", description="Near here")
        self.upload = widgets.FileUpload(accept=",".join(READABLE), description="From your machine")
        self.roles = {role: widgets.Dropdown(description=title, options=[]) for role, title in _ROLES.items()}
        rules = [(says, name) for name, says in RULES.items()]
        self.rule = widgets.Dropdown(options=rules, description="The test is")
        self._said, self._facts = Status(), text("")
        self._canvas = Canvas(data_spec(*_nothing()))
        self.view = self._laid_out()
        self.path.observe(lambda change: self.open(change.new), "value")
        self.near.observe(lambda change: change.new and self.open(change.new), "value")
        self.upload.observe(lambda _: self._uploaded(), "value")
        for choice in (*self.roles.values(), self.rule):
            choice.observe(lambda _: self._own or self._submit(), "value")
        self._say("Choose a file with one row for each time that somebody had something.")
        if path:
            self.open(path)

    def _laid_out(self) -> widgets.VBox:
        for each in (self.path, self.near, *self.roles.values(), self.rule):
            each.tooltip = each.description
        where = widgets.HBox([self.path, self.near, self.upload]).add_class("sce-own")
        how = widgets.HBox([*self.roles.values(), self.rule]).add_class("sce-own")
        return stage(where, how, widgets.HBox(self._said.widgets), self._facts, self._canvas.widget)

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    def when_read(self, do: Callable[[], None]) -> None:
        """Call ``do`` whenever other data are there, and now if some are."""
        self._read_before.append(do)
        if self.data is not None:
            do()

    def open(self, path: str | os.PathLike[str], **columns: str | None) -> None:
        """Read a file, with the columns that are named, the others by their usual names. Returns at once."""
        path = os.path.expanduser(str(path).strip())
        if not path:
            return
        problem, chosen = "", dict.fromkeys(_ROLES) | columns
        try:
            try:
                found, names = columns_of(path, **columns)
                names = names if found.header else [str(number + 1) for number in range(len(names))]
                chosen = {role: getattr(found, role) for role in _ROLES}
            except ValueError as error:  # a person may know better
                names, problem = names_of(path), str(error)
        except (OSError, ValueError) as error:
            self._fail(str(error))
            return
        with self._own:
            self.path.value = path
            for role, choice in self.roles.items():
                none = ("choose ...", None) if role != "timestamp" or problem else (_IN_ORDER, ORDER)
                choice.options = [none, *([(_IN_ORDER, ORDER)] * (none[1] is None and role == "timestamp"))]
                choice.options = [*choice.options, *((name, name) for name in names)]
                choice.value = chosen[role] if chosen[role] in (*names, ORDER) else None
        if problem:
            self._fail(problem)
        else:
            self._submit()

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until the file is read.

        Raises:
            TimeoutError: that takes longer than ``timeout`` seconds.
        """
        self._latest.settle(timeout)

    def results(self) -> dict[str, Any]:
        """What was read, as plain data."""
        return {
            "problem": self.problem,
            "columns": dict(self.data.columns) if self.data else {},
            "facts": self.data.facts if self.data else {},
            "test_users": len(self.data.split.test) if self.data else 0,
            "catalog_size": self.data.split.catalog_size if self.data else 0,
            "baselines": {k: dict(v) for k, v in self.data.baselines.items()} if self.data else {},
        }

    def _uploaded(self) -> None:
        for each in self.upload.value:
            path = runs_root() / "own_data" / Path(each["name"]).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(each["content"]))
            self.open(path)

    def _submit(self) -> None:
        path, columns = self.path.value, {role: choice.value for role, choice in self.roles.items()}
        if missing := next((role for role in _ROLES if columns[role] is None), None):
            self._fail(f"Choose the column that says {_ROLES[missing].lower()}.")
            return
        self._say(f"Reading {path} ...")
        self._latest.submit((path, columns, self.rule.value))

    # ---------------------------------------------------------------------------------------------- in the background

    def _read(self, asked: tuple[str, dict[str, str | None], str]) -> None:
        try:
            self.data = bring(*asked)
        except (ValueError, OSError) as error:
            self._fail(str(error))
            return
        data, self.problem = self.data, ""
        said = ", ".join(
            f"<b>{html.escape(str(name or 'their order'))}</b> says {_ROLES[role].lower()}"
            for role, name in data.columns.items()
        )
        few = f' <span class="sce-warning">⚠ {html.escape(capitalised(data.split.few_test_users))}.</span>'
        self._said.say(f"{html.escape(data.name)}: {said}.{few if data.split.few_test_users else ''}")
        rows = [{"Your data": html.escape(name), "": html.escape(value)} for name, value in data.facts.items()]
        self._facts.value = table(rows, left=("Your data", ""), wrap=("",))
        self._canvas.show(data_spec(data.counts, data.times, data.dated))
        for do in self._read_before:
            do()

    def _fail(self, problem: str) -> None:
        self.data, self.problem = None, problem
        self._facts.value = ""
        self._said.say(html.escape(capitalised(problem)), "sce-problem")
        self._canvas.show(data_spec(*_nothing()))

    def _say(self, sentence: str) -> None:
        self._said.say(html.escape(sentence))


def _nothing() -> tuple[np.ndarray, np.ndarray, bool]:
    return np.zeros(0), np.zeros(0), False

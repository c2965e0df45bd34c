"""Bring a file: by its path, from those that lie near, or from the reader's own machine; and see what it is."""

from __future__ import annotations

import hashlib
import html
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np

from sce_lab.data import ColumnsError, columns_of
from sce_lab.data.tables import READABLE
from sce_lab.figures import data_spec
from sce_lab.files import replacing
from sce_lab.runs import runs_root
from sce_lab.widgets.kit.columns import ROLES, ColumnChoice
from sce_lab.widgets.kit.latest import Latest
from sce_lab.widgets.kit.own import OwnMoves
from sce_lab.widgets.kit.speech import Status
from sce_lab.widgets.kit.stage import Canvas, stage, table, text
from sce_lab.widgets.kit.words import capitalised
from sce_lab.widgets.own_data.file import RULES, OwnData, bring, files_near


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
        self._latest: Latest[_Asked] = Latest(self._read)
        self._asked: _Asked | None = None  # the newest; None once something is wrong
        self._lock = threading.RLock()  # what is read and what a person does meanwhile do not mix
        self.path = widgets.Text(placeholder="interactions.csv", continuous_update=False, description="Path")
        near = [(str(each), str(each)) for each in files_near(folder)]
        self.near = widgets.Dropdown(options=[("choose a file ...", ""), *near], value="", description="Near here")
        self.upload = widgets.FileUpload(accept=",".join(READABLE), description="From your machine")
        self.roles = {role: ColumnChoice(role) for role in ROLES}
        rules = [(says, name) for name, says in RULES.items()]
        self.rule = widgets.Dropdown(options=rules, description="The test is")
        self.date_format = widgets.Text(placeholder="%d/%m/%Y", continuous_update=False, description="Date format")
        self.drop_repeats = widgets.Checkbox(description="Drop repeats", indent=False)
        self._said, self._facts = Status(), text("")
        self._canvas = Canvas(data_spec(*_nothing()))
        self.view = self._laid_out()
        self.path.observe(lambda change: self._own or self.open(change.new), "value")
        self.near.observe(lambda change: change.new and self.open(change.new), "value")
        self.upload.observe(lambda _: self._uploaded(), "value")
        for choice in (*self.roles.values(), self.rule, self.date_format, self.drop_repeats):
            choice.observe(lambda _: self._own or self._submit(), "value")
        self._say("Choose a file with one row for each time that somebody had something.")
        if path:
            self.open(path)

    def _laid_out(self) -> widgets.VBox:
        for each in (self.path, self.near, *self.roles.values(), self.rule):
            each.tooltip = each.description
        self.date_format.tooltip = "How dates are written, as strftime has it; empty: numbers, or as 2024-05-01"
        self.drop_repeats.tooltip = "Of a user's interactions with one item keep the first"
        where = widgets.HBox([self.path, self.near, self.upload]).add_class("sce-own")
        rest = (self.rule, self.date_format, self.drop_repeats)
        how = widgets.HBox([*self.roles.values(), *rest]).add_class("sce-own")
        return stage(where, how, widgets.HBox(self._said.widgets), self._facts, self._canvas.widget)

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    def when_read(self, do: Callable[[], None]) -> None:
        """Call ``do`` whenever other data are there or none are any more, and now if some are."""
        self._read_before.append(do)
        if self.data is not None:
            do()

    def open(self, path: str | os.PathLike[str], **columns: str | None) -> None:
        """Read a file, with the columns that are named, the others by their usual names. Returns at once."""
        path = os.path.expanduser(str(path).strip())
        if not path:
            return
        problem, found = "", dict.fromkeys(ROLES)
        try:
            taken, names = columns_of(path, **columns)
            found = {role: getattr(taken, role) for role in ROLES}
        except ColumnsError as error:  # a person may know better
            names, problem = error.names, str(error)
        except (OSError, ValueError) as error:
            self._fail(str(error))
            return
        with self._own:
            self.path.value = path
            for role, choice in self.roles.items():
                asked = columns.get(role)
                choice.offer(names, found[role])
                choice.value = asked if asked in (*names, "") else None
        if problem:
            self._fail(problem)
        else:
            self._submit()

    def read_again(self) -> None:
        """Read the file as it is now, in the same way. Returns at once."""
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
        """What was sent is kept by its content: another file of the same name does not take its place."""
        for each in self.upload.value:
            content = bytes(each["content"])
            digest = hashlib.sha256(content).hexdigest()[:12]
            path = runs_root() / "own_data" / "sent" / digest / Path(each["name"]).name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    with replacing(path) as partial:
                        partial.write_bytes(content)
            except OSError as error:
                self._fail(str(error))
                return
            self.open(path)

    def _submit(self) -> None:
        columns = {role: choice.meant for role, choice in self.roles.items()}
        if missing := next((role for role in ROLES if columns[role] is None), None):
            self._fail(f"Choose the column that says {ROLES[missing].lower()}.")
            return
        asked = _Asked(
            self.path.value, columns, self.rule.value, self.date_format.value.strip(), self.drop_repeats.value
        )
        with self._lock:
            self._asked = asked
            self._say(f"Reading {asked.path} ...")
        self._latest.submit(asked)

    # ---------------------------------------------------------------------------------------------- in the background

    def _read(self, asked: _Asked) -> None:
        try:
            data = bring(asked.path, asked.columns, asked.rule, asked.date_format, asked.drop_repeats)
        except Exception as error:  # whatever it is, somebody waits for a word
            self._fail(str(error) or type(error).__name__, asked)
            return
        with self._lock:
            if self._asked is asked:
                self._take(data)

    def _take(self, data: OwnData) -> None:
        self.data, self.problem = data, ""
        said = ", ".join(
            f"<b>{html.escape(str(name or 'their order'))}</b> says {ROLES[role].lower()}"
            for role, name in data.columns.items()
        )
        few = f' <span class="sce-warning">⚠ {html.escape(capitalised(data.split.few_test_users))}.</span>'
        self._said.say(f"{html.escape(data.name)}: {said}.{few if data.split.few_test_users else ''}")
        rows = [{"Your data": html.escape(name), "": html.escape(value)} for name, value in data.facts.items()]
        self._facts.value = table(rows, left=("Your data", ""), wrap=("",))
        self._canvas.show(data_spec(data.counts, data.times, data.dated))
        for do in self._read_before:
            do()

    def _fail(self, problem: str, asked: _Asked | None = None) -> None:
        """There are no data; of a request that is no longer the newest nobody wants to know."""
        with self._lock:
            if asked is not None and asked is not self._asked:
                return
            self.data, self.problem, self._asked = None, problem, None
            self._facts.value = ""
            self._said.say(html.escape(capitalised(problem)), "sce-problem")
            self._canvas.show(data_spec(*_nothing()))
            for do in self._read_before:
                do()

    def _say(self, sentence: str) -> None:
        self._said.say(html.escape(sentence))


@dataclass(frozen=True, eq=False)
class _Asked:
    """A request: which file, and how it is read."""

    path: str
    columns: dict[str, str | None]
    rule: str
    date_format: str
    drop_repeats: bool


def _nothing() -> tuple[np.ndarray, np.ndarray, bool]:
    return np.zeros(0), np.zeros(0), False

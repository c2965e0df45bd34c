"""What commands print.

Names, columns and values are printed as they are: ``[red]`` in the name of a file is no colour.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd


def _console(**options: Any) -> Console:
    return Console(markup=False, emoji=False, highlight=False, **options)


def say(text: str = "", style: str = "") -> None:
    """Print a sentence. It is not broken into lines: a path or a command in it can be copied."""
    _console().print(Text(text, style), soft_wrap=True)


def complain(text: str, colour: str = "red", who: str = "sce-lab") -> None:
    """Print a sentence about what is wrong to standard error."""
    _console(stderr=True).print(Text.assemble((f"{who}: ", colour), text), soft_wrap=True)


def show(table: pd.DataFrame, title: str | None = None) -> None:
    """Print a table of text at its natural width: nothing is cut off, whatever the terminal's."""
    heading = Text(title) if title else None
    out = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=heading, title_justify="left")
    words = ("loss", "model", "run", "data", "name", "data set", "split", "status", "what", "seen items")
    words += ("pages", "challenges", "file", "where", "machine", "entry", "what it changes")
    for name in table.columns:
        out.add_column(Text(str(name)), justify="left" if name in words else "right", no_wrap=True)
    for row in table.itertuples(index=False):
        out.add_row(*(Text(str(value)) for value in row))
    console = _console()
    natural = console.measure(out, options=console.options.update(width=1000)).maximum
    _console(width=natural).print(out)


def check_writable(path: Path | None, option: str) -> None:
    """Refuse a page that could not be written, before anything is trained for it.

    Raises:
        ValueError: its folder is not there, or it is a folder itself.
    """
    if path is None:
        return
    if path.is_dir():
        raise ValueError(
            f"{option} takes the name of a file, and {path} is a folder: add a name, as {path / 'page.html'}"
        )
    if not path.parent.is_dir():
        raise ValueError(f"{option} {path} cannot be written: there is no folder {path.parent}")

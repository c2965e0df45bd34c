"""What commands print."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

console = Console()


def show(table: pd.DataFrame, title: str | None = None) -> None:
    """Print a table of text at its natural width: nothing is cut off, whatever the terminal's."""
    out = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=title, title_justify="left")
    words = ("loss", "model", "run", "data", "name", "data set", "split", "status", "what")
    for name in table.columns:
        out.add_column(str(name), justify="left" if name in words else "right", no_wrap=True)
    for row in table.itertuples(index=False):
        out.add_row(*map(str, row))
    natural = console.measure(out, options=console.options.update(width=1000)).maximum
    Console(width=natural).print(out)

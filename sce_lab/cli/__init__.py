"""``sce-lab``: train, compare and look at data and runs from a shell."""

from __future__ import annotations

import typer
from rich.console import Console

from sce_lab.cli.looking import data, memory, runs
from sce_lab.cli.paper import reproduce, results
from sce_lab.cli.training import compare, train
from sce_lab.memory import RanOutOfMemoryError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="See what full cross-entropy, sampled softmax and Scalable Cross-Entropy (SCE) cost in memory and time, and "
    "what they give in ranking quality.\n\nStart with `sce-lab compare`: it needs no data and takes about a minute.",
)
for _command in (compare, train, reproduce, memory, results, runs, data):
    app.command()(_command)


def main() -> None:
    """Entry point: what is wrong with an input is said in one sentence, not in a traceback."""
    try:
        app(standalone_mode=True)
    except (ValueError, OSError, FloatingPointError, RanOutOfMemoryError) as error:
        Console(stderr=True).print(f"[red]sce-lab:[/red] {error}", highlight=False)
        raise SystemExit(2) from None

"""The commands as one program."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import typer

from sce_lab.cli.course import notebooks
from sce_lab.cli.exporting import export
from sce_lab.cli.fidelity import fidelity
from sce_lab.cli.grading import grade
from sce_lab.cli.language import language
from sce_lab.cli.looking import data, memory, runs
from sce_lab.cli.output import complain
from sce_lab.cli.paper import baselines, open_test, reproduce, results
from sce_lab.cli.racing import speedrun
from sce_lab.cli.searching import search
from sce_lab.cli.tournament import tournament
from sce_lab.cli.training import compare, train
from sce_lab.cli.variants import variants

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="See what full cross-entropy, sampled softmax and Scalable Cross-Entropy (SCE) cost in memory and time, and "
    "what they give in ranking quality.\n\nStart with `sce-lab compare`: it needs no data and takes about a minute.",
)
for _command in (
    compare, train, reproduce, search, tournament, variants, open_test, baselines, memory, fidelity, results, runs,
    data, grade, notebooks, export, speedrun, language,
):  # fmt: skip
    app.command()(_command)


def run() -> None:
    """Run the command that the arguments name. Errors that a person can mend, and warnings, are sentences."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        _note.cache_clear()
        try:
            app(standalone_mode=True)
        except MemoryError as error:
            complain(f"memory ran out ({error}): take less of it, a smaller catalog for example")
        except OverflowError as error:
            complain(f"a number is too large to be worked with ({error}): take smaller ones")
        except (ValueError, OSError, FloatingPointError) as error:
            complain(str(error))
        except RuntimeError as error:
            from sce_lab.memory import RanOutOfMemoryError

            if isinstance(error, RanOutOfMemoryError):
                complain(str(error))
            elif "overflow" in str(error):  # what torch says of the size of a tensor
                complain(f"a number is too large to be worked with ({error}): take smaller ones")
            else:
                raise
        raise SystemExit(2)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _note(str(message))


@cache
def _note(text: str) -> None:
    """Once: predicting a step and training it warn of the same."""
    complain(text, "yellow", "note")

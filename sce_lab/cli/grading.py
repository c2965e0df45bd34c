"""A command for teachers: ``grade``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sce_lab.cli.output import check_writable, complain, say, show


def grade(
    folder: Annotated[Path, typer.Argument(help="The folder with the hand-ins, one file a person.")],
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file, for a spreadsheet.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the table to this file, as Markdown.")] = None,
) -> None:
    """Make a table of the hand-ins of a class: who guessed what, how well, and what was solved.

    The files are those that *Save my hand-in* writes on the pages. Any other file in the folder is named, with the
    reason why it could not be read, and the command then ends with exit code 1.

    `sce-lab grade hand-ins --csv class.csv`
    """
    from sce_lab.hand_in import as_csv, as_markdown
    from sce_lab.hand_in import grade as table_of

    for path, option in ((csv, "--csv"), (markdown, "--markdown")):
        check_writable(path, option)
    table, said = table_of(folder)
    show(table.drop(columns="state"))
    for path, made in ((csv, as_csv), (markdown, as_markdown)):
        if path is not None:
            path.write_text(made(table), encoding="utf-8")
            say(f"Written to {path}.")
    for sentence in said:
        complain(f"{sentence}.", "yellow", "note")
    if said:
        raise typer.Exit(1)

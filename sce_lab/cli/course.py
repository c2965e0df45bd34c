"""A command for whoever installed the package without its repository: ``notebooks``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from sce_lab.cli.output import say


def notebooks(
    folder: Annotated[Path, typer.Argument(help="Where to: a folder that is not there yet, or an empty one.")],
) -> None:
    """Copy the notebooks of the course to a folder, with the pages and sources that they link to.

    `sce-lab notebooks my-course`
    """
    from sce_lab.course import copy_course

    made = copy_course(folder)
    say(f"{len(made)} notebooks copied. Open the first one with: {shlex.join(['jupyter', 'lab', str(made[0])])}")

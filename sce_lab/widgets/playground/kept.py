"""The settings that a page was left with, for the next one: a kernel that restarts forgets them otherwise."""

from __future__ import annotations

import os

from sce_lab.runs import runs_root, write_text
from sce_lab.widgets.playground.settings import Settings, read_line

#: Beside the folders of the runs.
FILE = "playground-settings.json"


def keep(settings: Settings) -> None:
    """Write them down, where runs are kept. If nothing can be written there, Start says so of the run."""
    try:
        os.makedirs(runs_root(), exist_ok=True)
        write_text(runs_root() / FILE, settings.line())
    except OSError:
        pass


def kept() -> Settings | None:
    """Those that were written down last; None if there are none, or they are of another version."""
    try:
        return read_line((runs_root() / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None

"""What a page was left with, for the next one: a kernel that restarts forgets its settings and what was solved."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from sce_lab.runs import runs_root, write_text
from sce_lab.widgets.playground.settings import Settings, read_line

#: Beside the folders of the runs.
FILE, SOLVED = "playground-settings.json", "playground-challenges.json"


def keep(settings: Settings) -> None:
    """Write the settings down, where runs are kept. If nothing can be written there, Start says so of the run."""
    _write(FILE, settings.line())


def kept() -> Settings | None:
    """Those that were written down last; None if there are none, or they are of another version."""
    try:
        return read_line((runs_root() / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def keep_solved(solved: Mapping[str, str]) -> None:
    """Write down which challenges are solved, and what was said when they were."""
    _write(SOLVED, json.dumps(dict(solved), indent=2))


def kept_solved() -> dict[str, str]:
    """What :func:`keep_solved` has written; nothing if there is nothing, or it cannot be read."""
    try:
        solved = json.loads((runs_root() / SOLVED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in solved.items()} if isinstance(solved, dict) else {}


def _write(file: str, content: str) -> None:
    try:
        os.makedirs(runs_root(), exist_ok=True)
        write_text(runs_root() / file, content)
    except OSError:
        pass

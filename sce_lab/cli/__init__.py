"""``sce-lab``: train, compare and look at data and runs from a shell.

Modules of the commands import ``sce_lab`` and nothing heavier, and name what they need from it where they need it:
torch is imported when a command begins to work, and help is there at once.
"""

from __future__ import annotations

import os


def main() -> None:
    """Entry point: what is wrong with an input is said in one sentence, not in a traceback."""
    # Read when torch is imported. Threads that wait must not spin: beside another program that computes, each would
    # keep a core from the very thread it waits for.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    try:
        from sce_lab.cli.app import run

        run()
    except KeyboardInterrupt:  # while that was imported
        raise SystemExit(130) from None

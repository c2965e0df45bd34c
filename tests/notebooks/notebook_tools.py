"""Runs whole notebooks as papermill does in CI, and watches what they take."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
EXECUTED = ROOT / "build" / "notebooks"
LIMIT_SECONDS = 90
LIMIT_BYTES = 1.5 * 2**30


@dataclass(frozen=True)
class Execution:
    """What a notebook wrote and took."""

    results: dict[str, Any]
    seconds: float
    peak_bytes: int
    notebook: nbformat.NotebookNode


class PeakMemory(threading.Thread):
    """The most resident memory of any process this one has started (the kernel), sampled."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._done = 0, threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self._done.wait(0.05):
            for child in me.children(recursive=True):
                try:
                    self.peak = max(self.peak, child.memory_info().rss)
                except psutil.Error:
                    continue

    def stop(self) -> int:
        self._done.set()
        self.join()
        return self.peak


def check_parameters(path: Path, parameters: dict[str, Any]) -> None:
    """Papermill only warns about a parameter that the notebook does not have; here it is an error."""
    known = papermill.inspect_notebook(path)
    if unknown := sorted(parameters.keys() - known.keys()):
        raise KeyError(f"{path.name} has no parameter {', '.join(unknown)}; it has {', '.join(known)}")


def execute(path: Path, parameters: dict[str, Any], folder: Path, extra: str = "") -> Execution:
    """Run a notebook in the fast profile, its last cell being the one that writes results.

    Args:
        extra: code of a cell that is put before the last one, in a temporary copy.
    """
    name = path.stem + ("_moved" if extra else "")
    results = folder / f"{name}.json"
    parameters = {"profile": "fast", "results_path": str(results), **parameters}
    check_parameters(path, parameters)
    source = nbformat.read(path, as_version=4)
    if extra:
        last = max(
            i for i, cell in enumerate(source.cells) if "write_results(" in cell.source and "import" not in cell.source
        )
        source.cells.insert(last, nbformat.v4.new_code_cell(extra))
    copy = folder / f"{name}.ipynb"
    nbformat.write(source, copy)
    EXECUTED.mkdir(parents=True, exist_ok=True)
    memory = PeakMemory()
    memory.start()
    began = time.monotonic()
    try:
        papermill.execute_notebook(
            copy,
            EXECUTED / f"{name}.ipynb",
            parameters=parameters,
            kernel_name="python3",
            cwd=str(folder),
            execution_timeout=LIMIT_SECONDS,
            progress_bar=False,
        )
    finally:
        peak = memory.stop()
    seconds = time.monotonic() - began
    executed = nbformat.read(EXECUTED / f"{name}.ipynb", as_version=4)
    return Execution(json.loads(results.read_text()), seconds, peak, executed)

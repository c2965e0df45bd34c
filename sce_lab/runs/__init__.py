"""A run is a folder: what was asked, what happened, where, and how it ended. Files are written whole or not at all.

``config.json``, ``environment.json``, ``items.json`` (the item of each row of the catalog): written first.
``history.parquet``, ``checkpoint.safetensors``: after every evaluation. ``summary.json``: at the end; a folder without
it was interrupted and can be resumed. ``ranks.npz``: where the test targets came out, if the test was looked at.
"""

from sce_lab.files import write_text
from sce_lab.runs.differences import Difference, differences
from sce_lab.runs.environment import environment
from sce_lab.runs.folder import Run, list_runs, new_run_folder, runs_root
from sce_lab.runs.history import CURVES, curve_of, history_row, summarize_history
from sce_lab.runs.ranks import Ranks
from sce_lab.runs.recording import is_recorded_now, record
from sce_lab.runs.tables import compare_runs, for_people

__all__ = [
    "CURVES",
    "Difference",
    "Ranks",
    "Run",
    "compare_runs",
    "curve_of",
    "differences",
    "environment",
    "for_people",
    "history_row",
    "is_recorded_now",
    "list_runs",
    "new_run_folder",
    "record",
    "runs_root",
    "summarize_history",
    "write_text",
]

"""The folder of a run: reading what is in it, and making a new one."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sce_lab.data.labels import read_labels
from sce_lab.runs.ranks import Ranks
from sce_lab.training import TrainingConfig

#: Names of a run's checkpoint, and how a run goes on that has it.
CHECKPOINTS = {
    "checkpoint.safetensors": "without --shard-items",
    "checkpoint": "under torchrun with --shard-items",
}


def runs_root() -> Path:
    """Where runs are kept: ``SCE_LAB_RUNS``, or ``runs`` in the working directory."""
    return Path(os.environ.get("SCE_LAB_RUNS", "runs"))


class Run:
    """A recorded run, read from its folder when asked. A file that is not there is empty.

    Every property raises a ValueError that names the file if the file is damaged or somebody else's.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def settings(self) -> dict[str, Any]:
        """``dataset``, ``catalog_size`` and ``source`` of the data, and the configuration, ``config``.

        Runs that know it have ``fingerprint`` and ``test_users`` of the data, too.
        """
        required = {"dataset": str, "source": dict, "config": dict}
        return self._read("config.json", required, {"fingerprint": str, "test_users": int})

    @property
    def config(self) -> TrainingConfig:
        """What was trained."""
        return TrainingConfig.read(self.settings.get("config"), f"the configuration in {self.folder / 'config.json'}")

    @property
    def environment(self) -> dict[str, Any]:
        """Hardware, versions and command."""
        return self._read("environment.json")

    @property
    def history(self) -> pd.DataFrame:
        """One row an event (:func:`sce_lab.runs.history_row`), up to the last evaluation or the end."""
        path = self.folder / "history.parquet"
        if not path.exists():
            return pd.DataFrame()
        try:
            if path.is_dir():  # which would be read as a table in many files
                raise IsADirectoryError("it is a folder")
            history = pd.read_parquet(path)
        except (pa.ArrowException, ValueError, OSError) as error:
            raise ValueError(f"{path} is damaged ({error}): move it away, the run can go on without it") from error
        if len(history) and not {"step", "epoch", "kind"} <= set(history):
            raise ValueError(f"{path} is no history of a run: it has the columns {', '.join(map(str, history))}")
        return history

    @property
    def summary(self) -> dict[str, Any]:
        """How it ended; empty if it did not."""
        tables = dict.fromkeys(("ms", "memory", "validation", "test"), dict)
        return self._read("summary.json", {"reason": str}, tables)

    @property
    def ranks(self) -> Ranks | None:
        """Where the test targets came out; None if the test was not looked at, or by an earlier version."""
        path = self.folder / "ranks.npz"
        return Ranks.read(path) if path.exists() else None

    @property
    def item_labels(self) -> np.ndarray | None:
        """``(catalog_size,)`` the item that each row of the model's table is; None in a run of an earlier version."""
        path = self.folder / "items.json"
        return read_labels(path, self.settings.get("catalog_size", 0)) if path.exists() else None

    @property
    def checkpoint(self) -> Path:
        """The latest checkpoint's path, which may not exist yet."""
        return self.folder / "checkpoint.safetensors"

    def _read(
        self, name: str, required: Mapping[str, type] | None = None, possible: Mapping[str, type] | None = None
    ) -> dict[str, Any]:
        """A table of the folder; some of its entries must be there, and some must be of a kind if they are."""
        path, required = self.folder / name, required or {}
        if not path.exists():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}): get it back, or move its folder away") from error
        if not isinstance(content, dict):
            raise ValueError(
                f"{path} is damaged: it holds {content!r}, not a table; get it back, or move its folder away"
            )
        for entry, kind in {**required, **(possible or {})}.items():
            if entry in required and entry not in content:
                raise ValueError(f"{path} is damaged or not of a run: it has no {entry!r}")
            if entry in content and not isinstance(content[entry], kind):
                raise ValueError(f"{path} is damaged: its {entry!r} is {content[entry]!r}")
        return content


def new_run_folder(root: str | os.PathLike[str] | None = None, label: str = "run") -> Path:
    """Create an empty run folder with a name that sorts by time.

    Raises:
        ValueError: ``label`` is no part of a file's name.
        OSError: it cannot be made.
    """
    if not re.fullmatch(r"[\w.+=,-]+", label):
        raise ValueError(f"label must be letters, digits and any of . + = , - _ (it is part of a name), got {label!r}")
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path(root or runs_root()) / f"{stamp}-{label}-{secrets.token_hex(2)}"
    try:
        folder.mkdir(parents=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"{folder.parent} is a file: name a folder for the runs") from None
    return folder


def list_runs(root: str | os.PathLike[str] | None = None) -> list[Run]:
    """Every run in ``root``, the oldest first.

    Raises:
        FileNotFoundError: ``root`` was named and is no folder.
    """
    if root is not None and not Path(root).is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    return [Run(path.parent) for path in sorted(Path(root or runs_root()).glob("*/config.json"))]

"""Records of the referee: how far each loss's gradient is from cross-entropy's, on a model at several moments."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sce_lab.data import Split
from sce_lab.files import write_text
from sce_lab.runs import environment
from sce_lab.training import TrainingConfig


def fidelity_record(
    tables: Sequence[pd.DataFrame], config: TrainingConfig, split: Split, *, n_positions: int, draws: int, repeat: str
) -> dict[str, Any]:
    """What the referee said, with where and how.

    Args:
        tables: as of :func:`sce_lab.fidelity.fidelity_while_training`.
        config: of the model that was trained meanwhile.
        split: the data.
        n_positions: that were looked at.
        draws: of each loss.
        repeat: the command that repeats it.
    """
    return {
        "dataset": split.name,
        "repeat": repeat,
        "config": dataclasses.asdict(config),
        "catalog_size": split.catalog_size,
        "n_positions": n_positions,
        "draws": draws,
        "fingerprint": split.fingerprint,
        "environment": environment(),
        "rows": [json.loads(row.to_json()) for _, row in pd.concat(tables, ignore_index=True).iterrows()],
    }


def write_fidelity(path: Path, record: dict[str, Any]) -> None:
    """Write it, whole or not at all."""
    write_text(path, json.dumps(record, indent=1) + "\n")


def read_fidelity(path: Path) -> pd.DataFrame:
    """The table of a record: a row a loss, moment (``epoch``) and gradient (``of``); ``trained`` is the model's loss.

    Raises:
        FileNotFoundError: there is none; the message says which command makes one.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no record {path}: sce-lab fidelity --record {path} makes one")
    record = json.loads(path.read_text(encoding="utf-8"))
    return pd.DataFrame(record["rows"]).assign(trained=record["config"]["loss"], dataset=record["dataset"])

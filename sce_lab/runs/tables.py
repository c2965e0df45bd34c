"""Runs beside one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from sce_lab.losses import LOSSES
from sce_lab.memory import format_bytes
from sce_lab.runs.folder import Run

#: Status of a run whose folder is damaged.
UNREADABLE = "unreadable"


def compare_runs(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run: loss, data set, memory in bytes, milliseconds, epochs and test metrics of the best epoch.

    ``forward_ms`` is the encoder's and the loss's forward, ``backward_ms`` likewise; ``ms`` also has the optimizer.
    ``fingerprint`` tells data of one name apart, and ``test_users`` is how many the metrics are a mean of; runs from
    before they were recorded have none. A run without a summary shows what is known: its status is "interrupted". One
    whose folder is damaged is "unreadable", and ``problem`` says why.
    """
    return pd.DataFrame([_row(run) for run in runs])


def _row(run: Run) -> dict[str, Any]:
    try:
        settings, summary, problem = run.settings, run.summary, ""
        if not settings:
            raise ValueError(f"{run.folder} is no run folder: it has no config.json")
    except (ValueError, OSError) as error:
        settings, summary, problem = {"dataset": "", "config": {}}, {"reason": UNREADABLE}, str(error)
    ms, memory = summary.get("ms", {}), summary.get("memory", {})
    metrics = summary.get("test") or {}
    nan = float("nan")

    def together(*phases: str) -> float:
        return sum(ms.get(phase, nan) for phase in phases)

    return {
        "run": run.name,
        "dataset": settings["dataset"],
        "fingerprint": settings.get("fingerprint", ""),
        "test_users": settings.get("test_users", nan),
        "loss": settings["config"].get("loss", ""),
        "status": summary.get("reason", "interrupted"),
        "problem": problem,
        "peak_memory": memory.get("peak", nan),
        "loss_workspace": memory.get("loss_workspace", nan),
        "ms": sum(ms.values()) if ms else nan,
        "forward_ms": together("forward", "loss_forward"),
        "backward_ms": together("backward", "loss_backward"),
        "epochs": summary.get("epoch", nan),
        "best_epoch": summary.get("best_epoch", nan),
        "seconds": summary.get("seconds", nan),
        **{name: metrics.get(name, nan) for name in ("HR@10", "NDCG@10", "COV@10")},
    }


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of :func:`compare_runs` that a person compares, with units and rounded, all as text."""

    def text(value: float, form: str) -> str:
        return "" if pd.isna(value) else form.format(value)

    def size(value: float) -> str:
        return "" if pd.isna(value) else format_bytes(value)

    def times(row: dict[str, float]) -> str:
        return "" if pd.isna(row["ms"]) else "{ms:.0f} ({forward_ms:.0f}/{backward_ms:.0f})".format(**row)

    return pd.DataFrame(
        {
            "loss": [LOSSES[name].label if name in LOSSES else name for name in table["loss"]],
            "peak memory": [size(v) for v in table["peak_memory"]],
            "loss workspace": [size(v) for v in table["loss_workspace"]],
            "ms/step (fwd/bwd)": [times(row) for row in table.to_dict("records")],
            "epochs": [text(v, "{:.0f}") for v in table["epochs"]],
            **{name: [text(v, "{:.4f}") for v in table[name]] for name in ("HR@10", "NDCG@10", "COV@10")},
        },
        index=table.index,
    )

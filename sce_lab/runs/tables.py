"""Runs beside one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from sce_lab.losses import LOSSES
from sce_lab.memory import format_bytes
from sce_lab.metrics import interval
from sce_lab.runs.folder import Run
from sce_lab.runs.ranks import Ranks

#: Metrics of single users, which have intervals.
_MEANS = ("HR@10", "NDCG@10")

#: Status of a run whose folder is damaged.
UNREADABLE = "unreadable"


def compare_runs(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run: loss, data set, memory in bytes, milliseconds, epochs and test metrics of the best epoch.

    ``forward_ms`` is the encoder's and the loss's forward, ``backward_ms`` likewise; ``ms`` also has the optimizer.
    ``fingerprint`` tells data of one name apart, ``test_users`` is how many the metrics are a mean of, and ``seen`` is
    the rule about seen items; runs from before they were recorded have none; ``followers`` is the weight of counts
    that were added to the scores. ``HR@10_low``, ``HR@10_high`` and those of
    NDCG@10 are the 95 % interval over test users. A run without a summary shows what is known: its status is
    "interrupted". One whose folder is damaged is "unreadable", and ``problem`` says why.
    """
    return pd.DataFrame([_row(run) for run in runs])


def _row(run: Run) -> dict[str, Any]:
    try:
        settings, summary, ranks, problem = run.settings, run.summary, run.ranks, ""
        if not settings:
            raise ValueError(f"{run.folder} is no run folder: it has no config.json")
    except (ValueError, OSError) as error:
        settings, ranks, problem = {"dataset": "", "config": {}}, None, str(error)
        summary = {"reason": UNREADABLE}
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
        "seen": settings["config"].get("seen", ""),
        "followers": settings["config"].get("followers", 0.0),
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
        **{name: metrics.get(name, nan) for name in (*_MEANS, "COV@10")},
        **_intervals(ranks),
    }


def _intervals(ranks: Ranks | None) -> dict[str, float]:
    """``HR@10_low`` and the like: NaN where ranks are not known, or of fewer than two users."""
    ends = {}
    for name in _MEANS:
        known = ranks is not None and len(ranks.repeats) > 1
        found = interval(ranks.gains(name)) if known else None
        ends |= {f"{name}_{end}": getattr(found, end, float("nan")) for end in ("low", "high")}
    return ends


def _named(row: dict[str, Any]) -> str:
    label = LOSSES[row["loss"]].label if row["loss"] in LOSSES else row["loss"]
    return f"{label} + counts" if row["followers"] else label


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of :func:`compare_runs` that a person compares, with units and rounded, all as text.

    In brackets stands the 95 % interval over test users.
    """

    def text(value: float, form: str) -> str:
        return "" if pd.isna(value) else form.format(value)

    def mean(row: dict[str, float], name: str) -> str:
        ends = f" [{row[f'{name}_low']:.4f}, {row[f'{name}_high']:.4f}]"
        return text(row[name], "{:.4f}") + ("" if pd.isna(row[f"{name}_low"]) else ends)

    def size(value: float) -> str:
        return "" if pd.isna(value) else format_bytes(value)

    def times(row: dict[str, float]) -> str:
        return "" if pd.isna(row["ms"]) else "{ms:.0f} ({forward_ms:.0f}/{backward_ms:.0f})".format(**row)

    rows = table.to_dict("records")
    return pd.DataFrame(
        {
            "loss": [_named(row) for row in rows],
            "peak memory": [size(v) for v in table["peak_memory"]],
            "loss workspace": [size(v) for v in table["loss_workspace"]],
            "ms/step (fwd/bwd)": [times(row) for row in rows],
            "epochs": [text(v, "{:.0f}") for v in table["epochs"]],
            **{name: [mean(row, name) for row in rows] for name in _MEANS},
            "COV@10": [text(v, "{:.4f}") for v in table["COV@10"]],
        },
        index=table.index,
    )

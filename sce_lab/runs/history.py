"""What happened in a run, as a table."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sce_lab.training import Changed, Evaluated, StepDone

#: Metrics that are looked at over time.
CURVES = ("HR@10", "NDCG@10", "COV@10")


def history_row(event: StepDone | Changed | Evaluated) -> dict[str, Any]:
    """One event as a flat row: ``kind`` is "step", "evaluation" or "change"; ``seconds_*`` per phase, ``memory_*`` in
    bytes, ``changed_*`` the new values of settings, words as they are."""
    row: dict[str, Any] = {"step": event.step, "epoch": event.epoch}
    if isinstance(event, Changed):
        changed = {f"changed_{name}": value for name, value in event.settings.items()}
        return row | {"kind": "change"} | {k: v if isinstance(v, str) else float(v) for k, v in changed.items()}
    if isinstance(event, Evaluated):
        return row | {"kind": "evaluation", "is_best": event.is_best, "seconds": event.seconds} | event.metrics
    row |= {"kind": "step", "loss": event.loss, "n_positions": event.n_positions}
    row |= {f"seconds_{phase}": seconds for phase, seconds in event.seconds.items()}
    if event.memory is not None:
        row |= {f"memory_{part}": nbytes for part, nbytes in event.memory.as_dict().items()}
    if event.statistics is not None:
        row |= event.statistics.as_dict()
    return row


def summarize_history(history: pd.DataFrame) -> dict[str, Any]:
    """Median milliseconds per step and phase, and the largest measured memory, of a run's history.

    Steps whose memory was measured are left out of the times (measuring slows them), and so is the first.
    """
    if history.empty:  # stopped before its first step
        return {"ms": {}, "memory": {}}
    steps = history[history["kind"] == "step"].iloc[1:]
    measured = [c for c in history.columns if c.startswith("memory_")]
    timed = steps[steps["memory_peak"].isna()] if measured else steps
    phases = [c for c in history.columns if c.startswith("seconds_")]
    ms = {c.removeprefix("seconds_"): 1e3 * float(timed[c].median()) for c in phases} if len(timed) else {}
    memory = {c.removeprefix("memory_"): int(history[c].max()) for c in measured if history[c].notna().any()}
    return {"ms": ms, "memory": memory}


def curve_of(history: pd.DataFrame) -> pd.DataFrame:
    """Metrics of a run over the seconds that its training took up to there: ``epoch``, ``seconds``, metrics.

    Evaluations are not counted. A step that was measured or looked into took longer for it: it counts as the median of
    the others. Empty before the first evaluation.
    """
    if history.empty or not (history["kind"] == "evaluation").any():
        return pd.DataFrame(columns=["epoch", "seconds", *CURVES])
    steps = history[history["kind"] == "step"]
    phases = [name for name in history if name.startswith("seconds_")]
    seconds = steps[phases].sum(axis=1)
    watched = [name for name in ("memory_peak", "coverage") if name in steps]
    others = steps[watched].isna().all(axis=1)
    seconds = seconds.where(others, seconds[others].median() if others.any() else seconds.median())
    spent = pd.Series(seconds.cumsum().to_numpy(), index=steps["step"].to_numpy())
    scored = history[history["kind"] == "evaluation"]
    metrics = [name for name in CURVES if name in history]
    return scored[["epoch", *metrics]].assign(seconds=spent.reindex(scored["step"]).to_numpy()).reset_index(drop=True)


def thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every second step, of the measured ones the largest, and whatever is not a step."""
    steps = [row for row in rows if row["kind"] == "step"]
    kept = {id(row) for row in steps[::2]}
    if measured := [row for row in steps if pd.notna(row.get("memory_peak"))]:  # NaN: of a row read again
        kept.add(id(max(measured, key=lambda row: row["memory_peak"])))
    return [row for row in rows if row["kind"] != "step" or id(row) in kept]

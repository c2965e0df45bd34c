"""A run over epochs as plain arrays: several times a second a table would take longer to read than to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd


def _nothing() -> np.ndarray:
    return np.zeros(0)


@dataclass(frozen=True)
class Curves:
    """What of a run is drawn over epochs.

    Attributes:
        epochs, loss: training loss, and the epoch (with a fraction) of each value.
        scored, metrics: by name the metrics of the evaluations, and their epochs.
        seconds: of training alone, up to each evaluation; empty if nobody knows.
        ranges: of several runs, by name the least and the largest at each evaluation.
    """

    epochs: np.ndarray = field(default_factory=_nothing)
    loss: np.ndarray = field(default_factory=_nothing)
    scored: np.ndarray = field(default_factory=_nothing)
    metrics: Mapping[str, np.ndarray] = field(default_factory=dict)
    seconds: np.ndarray = field(default_factory=_nothing)
    ranges: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def mean(cls, runs: Sequence[Curves]) -> Curves:
        """Of runs that differ in their seeds: the training loss of the last, means of the metrics and of the
        seconds, and the ranges of the metrics.

        Where a run is not as far as another, the mean is of those that are.
        """
        last, most = runs[-1], max(runs, key=lambda run: len(run.scored))
        if len(runs) == 1 or not len(most.scored):
            return last
        metrics, ranges = {}, {}
        for name in most.metrics:
            rows = _side_by_side([run.metrics.get(name, _nothing()) for run in runs], len(most.scored))
            metrics[name], ranges[name] = np.nanmean(rows, 0), (np.nanmin(rows, 0), np.nanmax(rows, 0))
        known = [run.seconds for run in runs if len(run.seconds)]
        took = _side_by_side([np.diff(seconds, prepend=0.0) for seconds in known], len(most.seconds))
        seconds = np.cumsum(np.nanmean(took, 0)) if known else _nothing()  # time goes on where a run has ended, too
        return cls(last.epochs, last.loss, most.scored, metrics, seconds, ranges)

    @classmethod
    def of(cls, history: pd.DataFrame) -> Curves:
        """Of rows as :func:`sce_lab.runs.history_row` makes them."""
        if not len(history):
            return cls()
        kind = history["kind"].to_numpy()
        step, scored = kind == "step", kind == "evaluation"
        epochs = history["step"].to_numpy(float) / epoch_length(history)
        return cls(
            epochs=epochs[step],
            loss=history["loss"].to_numpy(float)[step] if step.any() else _nothing(),
            scored=epochs[scored],
            metrics={name: history[name].to_numpy(float)[scored] for name in history if "@" in name},
            seconds=_spent(history)[scored],
        )

    def of_panel(self, name: str, against: str = "epoch") -> tuple[np.ndarray, np.ndarray]:
        """Epochs (or "seconds") and values of a metric, or epochs of the training loss; empty if it is not known."""
        if name == "loss":
            return self.epochs, self.loss
        values = self.metrics.get(name)
        x = self.scored if against == "epoch" else self.seconds
        return (_nothing(), _nothing()) if values is None or len(x) != len(values) else (x, values)

    def band(self, name: str, against: str = "epoch") -> tuple[np.ndarray, np.ndarray]:
        """The outline of a metric's range, there and back; empty if this is a single run."""
        x, _ = self.of_panel(name, against)
        if name not in self.ranges or not len(x):
            return _nothing(), _nothing()
        low, high = self.ranges[name]
        return np.concatenate([x, x[::-1]]), np.concatenate([high, low[::-1]])


def _side_by_side(columns: Sequence[np.ndarray], n: int) -> np.ndarray:
    """A row each, of ``n`` values, NaN where a column has no more."""
    rows = np.full((len(columns), n), np.nan)
    for row, values in zip(rows, columns):
        row[: min(n, len(values))] = values[:n]
    return rows


def _spent(history: pd.DataFrame) -> np.ndarray:
    """Seconds of the steps up to each row: of a long run not all steps are kept, so it is their mean that counts."""
    phases = [name for name in history if name.startswith("seconds_")]
    kept = (history["kind"] == "step").cumsum().clip(lower=1)
    return (history[phases].sum(axis=1).cumsum() / kept * history["step"]).to_numpy(float)


def epoch_length(history: pd.DataFrame) -> float:
    """Steps of an epoch. Before the first evaluation it is unknown, and all there is counts as one."""
    evaluated = history[(history["kind"] == "evaluation") & (history["epoch"] > 0)]
    if len(evaluated):
        return float(evaluated["step"].iloc[-1] / evaluated["epoch"].iloc[-1])
    return max(1.0, float(history["step"].max()))


__all__ = ["Curves", "epoch_length"]

"""A run over epochs as plain arrays: several times a second a table would take longer to read than to draw."""

from __future__ import annotations

from collections.abc import Mapping
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
    """

    epochs: np.ndarray = field(default_factory=_nothing)
    loss: np.ndarray = field(default_factory=_nothing)
    scored: np.ndarray = field(default_factory=_nothing)
    metrics: Mapping[str, np.ndarray] = field(default_factory=dict)

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
        )

    def of_panel(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and values of the training loss ("loss") or of a metric; empty if it is not known."""
        if name == "loss":
            return self.epochs, self.loss
        values = self.metrics.get(name)
        return (_nothing(), _nothing()) if values is None else (self.scored, values)


def epoch_length(history: pd.DataFrame) -> float:
    """Steps of an epoch. Before the first evaluation it is unknown, and all there is counts as one."""
    evaluated = history[(history["kind"] == "evaluation") & (history["epoch"] > 0)]
    if len(evaluated):
        return float(evaluated["step"].iloc[-1] / evaluated["epoch"].iloc[-1])
    return max(1.0, float(history["step"].max()))


__all__ = ["Curves", "epoch_length"]

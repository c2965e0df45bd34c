"""How the memory and the time of a step grow when one thing grows and the rest stays: predicted, and measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from sce_lab.memory.measure import measure_memory, timed_step
from sce_lab.memory.predict import predict_memory
from sce_lab.memory.roofline import count_work, this_machine
from sce_lab.training import TrainingConfig


def growth(
    configs: Iterable[TrainingConfig],
    catalog_size: int,
    axes: Mapping[str, Sequence[int]],
    *,
    measured: Mapping[str, Sequence[int]] | None = None,
    repeats: int = 3,
) -> pd.DataFrame:
    """A row a loss, an axis and a value of it; what is on no axis is as in the configuration.

    Args:
        configs: one for each loss.
        catalog_size: items C, where that is not the axis.
        axes: values by name: "catalog_size", "batch_size", "hidden_size", or another field of a configuration.
        measured: those of the values at which a real step is made and timed, too.
        repeats: of timed steps.

    Returns:
        Columns ``loss``, ``axis``, ``value``; predicted ``peak`` (bytes), ``operations``, ``seconds`` (the least a step
        can take on this machine); ``measured_peak`` and ``measured_seconds``, NaN where nothing was measured.
    """
    here, rows, configs = this_machine(), [], list(configs)
    for axis, values in axes.items():
        for config in configs:
            for value in values:
                items = value if axis == "catalog_size" else catalog_size
                made = config if axis == "catalog_size" else dataclasses.replace(config, **{axis: value})
                work = count_work(made, items)
                row = {"loss": config.loss, "axis": axis, "value": value, "peak": predict_memory(made, items).peak}
                row |= {"operations": work.flops, "seconds": work.seconds(here)}
                real = value in (measured or {}).get(axis, ())
                row["measured_peak"] = measure_memory(made, items).peak if real else np.nan
                row["measured_seconds"] = timed_step(made, items, repeats=repeats) if real else np.nan
                rows.append(row)
    return pd.DataFrame(rows)


def loss_operations(config: TrainingConfig, catalog_size: int) -> float:
    """Operations of the loss alone for one position, forward and backward."""
    operations = count_work(config, catalog_size).operations
    own = operations[operations["phase"].isin(["loss_forward", "loss_backward"])]
    return float(own["flops"].sum()) / (config.batch_size * config.max_length)

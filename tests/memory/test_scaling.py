"""One thing grows, and the rest stays."""

import numpy as np
import pytest

from sce_lab.memory import DEVICES, count_work, growth, largest, loss_operations, measure_memory, predict_memory, tables
from sce_lab.training import TrainingConfig

SMALL = TrainingConfig(loss="sampled", batch_size=8, max_length=10, hidden_size=16, n_blocks=1)


def test_growth_is_the_prediction_at_every_value_and_a_real_step_where_asked():
    axes = {"catalog_size": [500, 2_000], "batch_size": [4, 16], "hidden_size": [8, 32]}
    rows = growth([SMALL], 1_000, axes, measured={"catalog_size": [500], "hidden_size": [32]}, repeats=1)
    assert rows[["axis", "value"]].to_numpy().tolist() == [[axis, v] for axis, values in axes.items() for v in values]
    by = rows.set_index(["axis", "value"])
    assert by.loc[("catalog_size", 2_000), "peak"] == predict_memory(SMALL, 2_000).peak
    wide = TrainingConfig(**vars(SMALL) | {"hidden_size": 32})
    assert by.loc[("hidden_size", 32), "peak"] == predict_memory(wide, 1_000).peak
    assert by.loc[("hidden_size", 32), "measured_peak"] == measure_memory(wide, 1_000).peak
    assert by.loc[("batch_size", 16), "operations"] > 3 * by.loc[("batch_size", 4), "operations"]
    known = rows.set_index(["axis", "value"])["measured_seconds"].dropna()
    assert list(known.index) == [("catalog_size", 500), ("hidden_size", 32)]
    assert (known > 0).all()
    assert np.isnan(by.loc[("batch_size", 4), "measured_peak"])


def test_operations_of_a_position():
    """Cross-entropy: three products of C and D. SCE by the paper's rule: half of it for four times the positions."""
    config = TrainingConfig(loss="ce", batch_size=16, max_length=20)
    assert loss_operations(config, 50_000) == pytest.approx(3 * 2 * 50_000 * 64, rel=0.01)
    sce = [loss_operations(TrainingConfig(loss="sce", batch_size=b, max_length=20), 10**6) for b in (64, 256)]
    assert 0.45 < sce[1] / sce[0] < 0.65
    whole = count_work(config, 50_000).flops / 320
    assert loss_operations(config, 50_000) < whole


def test_ends_are_the_largest_that_fit():
    configs = [TrainingConfig(loss=loss, batch_size=8, max_length=10) for loss in ("ce", "cce")]
    rows = tables.ends(configs, ["binder", "t4"])
    assert rows["device"].tolist() == ["Binder"] * 2 + ["T4"] * 2
    row = rows.iloc[1]
    assert row["catalog_size"] == largest("catalog_size", configs[1], DEVICES["binder"].usable)
    assert row["usable"] == DEVICES["binder"].usable

"""Tables of predictions."""

import dataclasses

import pytest

from sce_lab.losses import LOSSES
from sce_lab.memory import DEVICES, count_work, format_count, format_seconds, largest, predict_memory, tables
from sce_lab.training import TrainingConfig

CONFIGS = [
    TrainingConfig(loss=loss, batch_size=8, max_length=10, hidden_size=16) for loss in ("ce", "cce", "sampled", "sce")
]


def test_formulas_stand_beside_what_the_code_takes():
    table = tables.formulas(CONFIGS, 5000)
    assert table["loss"].tolist() == [LOSSES[config.loss].label for config in CONFIGS]
    assert table["gives"][0] == table["the code takes"][0]


def test_the_ratio_is_that_of_two_predictions_and_tends_to_its_limit():
    table = tables.ratios([1000, 10**9], {"one": (40, 64, 5000)})
    assert table["catalog_size"].tolist() == [1000, 5000, 10**9]
    assert table["own"].tolist() == [False, True, False]
    assert table["setting"].unique().tolist() == ["one: N = 400"]
    assert table["ratio"].iloc[-1] == pytest.approx(3 / 4 * (1 + 400 / 64), rel=0.001)
    (own,) = tables.own_catalogs(table).to_dict("records")
    assert own["items of the data set"] == "5,000"
    assert own["cross-entropy / SCE"] == f"{table['ratio'][1]:.0f} times"
    ce = TrainingConfig(loss="ce", batch_size=20, max_length=20)
    sizes = {"n_buckets": 40, "bucket_size_x": 40, "bucket_size_y": 64}
    sce = dataclasses.replace(ce, loss="sce", loss_settings=sizes)
    assert table["ratio"][1] == predict_memory(ce, 5000).peak / predict_memory(sce, 5000).peak


def test_devices_name_the_largest_catalogs():
    table = tables.devices(CONFIGS, ["binder", "h100"], 10_000)
    assert table["device"].tolist() == ["Binder", "H100"]
    found = int(table["items, Cross-entropy"][0].replace(",", ""))
    most = largest("catalog_size", CONFIGS[0], DEVICES["binder"].usable)
    assert 0.99 * most < found <= most
    assert found % 10 ** (len(str(found)) - 3) == 0
    assert table["SCE for 10,000 items"][0].startswith("17 buckets of 17 × ")
    assert tables.devices(CONFIGS, ["binder"], 10**9)["SCE for 1,000,000,000 items"][0] == "does not fit"


def test_times_are_estimated_and_measured():
    table = tables.times(CONFIGS, 1000, repeats=1)
    assert len(table) == 4
    assert [column for column in table.columns if "estimate" in column] == ["estimate, here", "estimate, H100"]


def test_work_is_what_is_counted_and_an_estimate_of_its_time_here():
    table = tables.work(CONFIGS, 10**6, n_sequences=4)
    assert table["loss"].tolist() == [config.loss for config in CONFIGS]
    assert table["operations"].tolist() == [count_work(config, 10**6, n_sequences=4).flops for config in CONFIGS]
    ce, cce, _, sce = table["operations"]
    assert cce > ce > 9 * sce
    assert (table["seconds"] > 0).all()


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (0, "0"),
        (999_999, "1 M"),
        (1_234_567, "1.23 M"),
        (999.9e6, "1 G"),
        (6.4e12, "6.4 T"),
        (6.4e15, "6.40 × 10¹⁵"),
        (1.25e21, "1.25 × 10²¹"),
    ],
)
def test_large_numbers_are_short_and_written_as_people_do(n, words):
    assert format_count(n) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3.2e-5, "32 µs"), (0.0312, "31 ms"), (0.9999, "1 s"), (61, "1 min"), (7300, "2 h"), (1e7, "116 days")],
)
def test_times_for_people(seconds, words):
    assert format_seconds(seconds) == words

"""What fits."""

import dataclasses

import pytest

from sce_lab.memory import DEVICES, MemoryUse, fits, largest, predict_memory, suggest_sce
from sce_lab.training import TrainingConfig

GIB = 2**30
SMALL = TrainingConfig(loss="ce", hidden_size=16, max_length=10, batch_size=8)


def test_every_device_says_how_much_how_fast_and_who_says_so():
    gpus = {"t4", "rtx_4090", "l4", "a100_40", "a100_80", "h100", "h200", "b200"}
    assert set(DEVICES) == {"binder", "laptop_8", "laptop_16"} | gpus
    for device in DEVICES.values():
        assert 0 < device.usable < device.memory
        assert device.source
    sizes = [DEVICES[name].memory for name in ("binder", "laptop_8", "t4", "l4", "a100_40", "h100", "h200", "b200")]
    assert sizes == sorted(sizes)
    assert DEVICES["h100"].bandwidth == 3.35e12


def test_fitting_is_counted_to_the_byte():
    usable = DEVICES["binder"].usable
    use = MemoryUse(100, 0, 0, 0, 0, usable - 100)
    row = fits(use).set_index("device").loc["Binder"]
    assert (row["fits"], row["left"]) == (True, 0)
    row = fits(dataclasses.replace(use, peak=usable)).set_index("device").loc["Binder"]
    assert (row["fits"], row["left"]) == (False, -100)


@pytest.mark.parametrize("setting", ["catalog_size", "batch_size"])
def test_the_largest_fits_and_a_little_more_does_not(setting):
    found = largest(setting, SMALL, GIB / 4, catalog_size=2000 if setting == "batch_size" else None)

    def needed(value):
        if setting == "batch_size":
            return predict_memory(SMALL, 2000, n_sequences=value).needed
        return predict_memory(SMALL, value).needed

    assert needed(found) <= GIB / 4 < needed(int(found * 1.002) + 2)


def test_nothing_fits_into_nothing():
    assert largest("catalog_size", SMALL, 1000) == 0
    assert suggest_sce(1000, SMALL, 10**6) is None


def test_a_sensible_question_is_asked():
    with pytest.raises(ValueError, match="setting must be one of catalog_size, batch_size, got 'width'"):
        largest("width", SMALL, GIB)
    with pytest.raises(ValueError, match="give catalog_size"):
        largest("batch_size", SMALL, GIB)


def test_sce_gets_the_papers_rule_and_as_many_items_as_fit():
    config = TrainingConfig(loss="sce", batch_size=64, max_length=17)
    need = {
        y: predict_memory(
            dataclasses.replace(config, loss_settings={"n_buckets": 65, "bucket_size_x": 65, "bucket_size_y": y}), 10**5
        ).needed
        for y in (256, 512, 1024, 4096)
    }
    assert suggest_sce(need[4096], config, 10**5) == {"n_buckets": 65, "bucket_size_x": 65, "bucket_size_y": 4096}
    assert suggest_sce(need[4096] - 1, config, 10**5)["bucket_size_y"] == 1024
    assert suggest_sce(8 * GIB, config, 50)["bucket_size_y"] == 50
    other = dataclasses.replace(SMALL, loss="ce")
    assert suggest_sce(8 * GIB, other, 10**5)["n_buckets"] == int(2 * 80**0.5)

"""The slider for devices, driven from Python."""

import pytest

from sce_lab.distributed.predict import predict_rank
from sce_lab.memory import format_bytes
from sce_lab.training import TrainingConfig
from sce_lab.widgets import DeviceSlider
from sce_lab.widgets.lessons import devices


def test_more_devices_take_less_each_and_send_more():
    shown = DeviceSlider(catalog_size=10**8, users=64, devices=1)
    assert "sends in a step" in shown._table.value
    alone = shown.results()
    shown.controls["devices"].value = 8
    shown.settle()
    several = shown.results()
    for loss in ("cce", "sampled", "sce"):
        assert several[loss]["parameters"] == pytest.approx(alone[loss]["parameters"] / 8, rel=0.01)
        assert several[loss]["sent"] > alone[loss]["sent"] == 0
        use = predict_rank(TrainingConfig(loss=loss, batch_size=64), 10**8, 8)
        assert format_bytes(use.memory.peak) in shown._table.value
        assert format_bytes(use.sent) in shown._table.value


def test_a_prediction_that_fails_says_so_in_place_of_the_table(monkeypatch):
    shown = DeviceSlider(catalog_size=10**8, users=64, devices=1)

    def fails(*_):
        raise ValueError("no prediction <here>")

    monkeypatch.setattr(devices, "predict_rank", fails)
    shown.controls["devices"].value = 8
    with pytest.raises(ValueError, match="no prediction"):
        shown.settle()
    assert "The prediction failed: no prediction &lt;here&gt;" in shown._table.value
    assert "sends in a step" not in shown._table.value

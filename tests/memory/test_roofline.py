"""Operations and bytes of a step."""

import dataclasses
from contextlib import nullcontext

import pytest
from torch.utils.flop_counter import FlopCounterMode

from sce_lab.memory import DEVICES, Device, LiveBytes, count_work, this_machine
from sce_lab.training import TrainingConfig, training_step

from steps import steady  # isort: skip

CONFIG = TrainingConfig(loss="ce", batch_size=8, max_length=10, hidden_size=32)
C = 2000


@pytest.mark.parametrize("loss", ["ce", "sampled", "sce"])
def test_flops_are_what_torch_counts_in_a_real_step(loss):
    config = dataclasses.replace(CONFIG, loss=loss)
    trainer, batch = steady(config, C)
    with FlopCounterMode(display=False) as counter, LiveBytes():  # which looks into the engine
        training_step(trainer.model, trainer.loss, trainer.optimizer, batch, lambda name: nullcontext())
    work = count_work(config, C)
    if loss == "sce":  # as if every slot had a gradient
        assert counter.get_total_flops() <= work.flops <= 3 * counter.get_total_flops()
    else:
        assert work.flops == counter.get_total_flops()


def test_cross_entropy_multiplies_three_times_and_moves_its_scores():
    work = count_work(CONFIG, 10**6)
    n = 80
    assert work.flops == pytest.approx(3 * 2 * n * 10**6 * 32, rel=0.02)
    assert work.bytes > 6 * 4 * n * 10**6


def test_sce_does_less_the_larger_the_catalog():
    ratio = [
        count_work(CONFIG, c).flops / count_work(dataclasses.replace(CONFIG, loss="sce"), c).flops
        for c in (10**4, 10**6)
    ]
    assert ratio[1] > ratio[0]


def test_the_time_is_that_of_the_slower_of_both():
    work = count_work(CONFIG, C)
    computes = Device("computes", 1, 0, 1e30, 1e9, "")
    moves = Device("moves", 1, 0, 1e9, 1e30, "")
    assert work.seconds(computes) == pytest.approx(work.flops / 1e9)
    assert work.seconds(moves) == pytest.approx(work.bytes / 1e9)
    assert work.seconds(Device("both", 1, 0, 1e9, 1e9, "")) >= max(work.seconds(computes), work.seconds(moves))
    assert work.seconds(DEVICES["h100"]) < work.seconds(DEVICES["t4"])
    with pytest.raises(ValueError, match="no speed is known of Binder"):
        work.seconds(DEVICES["binder"])


def test_this_machine_is_measured():
    machine = this_machine(0.01)
    assert 1e8 < machine.flops < 1e15
    assert 1e8 < machine.bandwidth < 1e13

"""Operations and bytes of a step."""

import dataclasses
from contextlib import nullcontext

import pytest
from torch.utils.flop_counter import FlopCounterMode

from sce_lab.memory import DEVICES, Device, count_work, this_machine
from sce_lab.memory.measure import real_step
from sce_lab.training import TrainingConfig, training_step

CONFIG = TrainingConfig(loss="ce", batch_size=8, max_length=10, hidden_size=32)
C = 2000
N, D = 80, 32


def of_the_loss(config, catalog_size):
    """What is multiplied for the loss alone."""
    work = count_work(config, catalog_size).operations
    return work.loc[work["phase"].str.startswith("loss"), "flops"].sum()


def test_flops_are_what_torch_counts_in_areal_step():
    step = real_step(CONFIG, C, None, None)
    with FlopCounterMode(display=False) as counter:
        training_step(*step, lambda name: nullcontext())
    assert count_work(CONFIG, C).flops == counter.get_total_flops()


def test_cross_entropy_multiplies_three_times_and_moves_its_scores():
    work = count_work(CONFIG, 10**6)
    assert of_the_loss(CONFIG, 10**6) == 3 * 2 * N * 10**6 * D
    assert work.bytes > 6 * 4 * N * 10**6


@pytest.mark.parametrize(("catalog_size", "products"), [(C, 3), (10**6, 4), (10**9, 4)])
def test_without_held_logits_it_multiplies_three_times_or_four_and_moves_no_scores(catalog_size, products):
    config = dataclasses.replace(CONFIG, loss="cce")
    assert of_the_loss(config, catalog_size) == products * 2 * N * catalog_size * D
    work = count_work(config, catalog_size).operations
    moved = work.loc[work["phase"].str.startswith("loss"), "bytes"].sum()
    assert 3 * 4 * catalog_size * D < moved < 10 * 4 * catalog_size * D + 2**20  # the table, and its gradient


def test_sampled_softmax_multiplies_with_its_negatives_and_moves_no_whole_table_for_them():
    config = dataclasses.replace(CONFIG, loss="sampled", loss_settings={"n_negatives": 100})
    assert of_the_loss(config, 10**6) == of_the_loss(config, 10**3) == 3 * 2 * N * 100 * D
    work = count_work(config, 10**6).operations
    moved = work.loc[work["phase"].str.startswith("loss"), "bytes"].sum()
    assert 4 * 10**6 * D < moved < 5 * 4 * 10**6 * D  # the dense gradient, which is scaled once


def test_sce_multiplies_for_its_search_and_its_buckets():
    sizes = {"n_buckets": 16, "bucket_size_x": 16, "bucket_size_y": 64}
    config = dataclasses.replace(CONFIG, loss="sce", loss_settings=sizes)
    search, buckets = 2 * 16 * (N + 10**6) * D, 2 * 16 * 16 * 64 * D
    assert search + 4 * buckets <= of_the_loss(config, 10**6) < search + 6 * buckets + 2 * 16 * N * D


def test_it_is_counted_in_one_piece_whatever_the_workspace():
    small = dataclasses.replace(CONFIG, loss="sce", loss_settings={"workspace_bytes": 2**20})
    assert count_work(small, 10**5).flops == count_work(dataclasses.replace(CONFIG, loss="sce"), 10**5).flops


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

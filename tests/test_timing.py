"""How long a run will take: predicted from its own steps, without a trace of them."""

import dataclasses

import pytest
import torch

from sce_lab import timing
from sce_lab.memory import count_work, this_machine
from sce_lab.timing import Duration, expected, predict_time, time_left, too_long, with_catalog
from sce_lab.training import Evaluated, StepDone, TrainingConfig, train

CONFIG = TrainingConfig(loss="ce", hidden_size=16, n_blocks=1, max_length=10, batch_size=20, max_epochs=6)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(timing, "_found", {})
    monkeypatch.setattr(timing, "PROBE", 0.0)


def test_it_counts_the_steps_and_evaluations_that_the_run_makes(cycle_split):
    found = predict_time(dataclasses.replace(CONFIG, max_epochs=5, evaluate_every=2), cycle_split)
    events = list(train(dataclasses.replace(CONFIG, max_epochs=5, evaluate_every=2), cycle_split))
    assert found.n_steps == sum(isinstance(event, StepDone) for event in events)
    assert found.n_evaluations == sum(isinstance(event, Evaluated) for event in events) + 1  # the test
    assert found.measured
    assert found.step > 0 < found.evaluation
    assert found.seconds == found.step * found.n_steps + found.evaluation * found.n_evaluations


def test_epochs_that_are_cut_short_have_fewer_steps(cycle_split):
    whole = predict_time(CONFIG, cycle_split)
    cut = predict_time(dataclasses.replace(CONFIG, batch_size=2, steps_per_epoch=3), cycle_split)
    assert (cut.n_steps, cut.n_evaluations) == (3 * CONFIG.max_epochs, whole.n_evaluations)


def test_a_probe_changes_no_random_number_of_the_process_or_of_a_run(cycle_split):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run = train(CONFIG, cycle_split)
    seen = [event.loss for event in run if isinstance(event, StepDone)]
    again, told = train(CONFIG, cycle_split), []
    for event in again:  # a probe in the middle of a run
        if isinstance(event, StepDone):
            told.append(event.loss)
            timing._found.clear()
            predict_time(CONFIG, cycle_split)
    assert told == seen
    assert torch.equal(torch.get_rng_state(), before)


def test_what_was_found_is_remembered_for_all_that_takes_the_same(cycle_split, monkeypatch):
    first = predict_time(CONFIG, cycle_split)
    monkeypatch.setattr(timing, "_probe", lambda *_: pytest.fail("it was probed again"))
    other = dataclasses.replace(CONFIG, max_epochs=12, seed=5, learning_rate=0.01)
    assert predict_time(other, cycle_split).step == first.step
    assert predict_time(other, cycle_split).n_steps == 2 * first.n_steps
    assert predict_time(other, cycle_split, epochs_done=6).n_steps == first.n_steps
    with pytest.raises(pytest.fail.Exception, match="probed again"):
        predict_time(dataclasses.replace(CONFIG, hidden_size=8), cycle_split)


@pytest.mark.parametrize("why", ["slow", "no room", "no number"])
def test_what_is_not_tried_takes_the_least_that_it_can(cycle_split, monkeypatch, why):
    def failing(*_):
        if why != "no number":
            pytest.fail("it was tried")
        raise FloatingPointError

    monkeypatch.setattr(timing, "_probe", failing)
    if why == "slow":
        monkeypatch.setattr(timing, "TRIED", 0.0)
    if why == "no room":
        monkeypatch.setattr(timing, "free_memory", lambda device: 1)
    found = predict_time(CONFIG, cycle_split)
    work = count_work(CONFIG, 12, n_sequences=20, length=5)
    assert found.step == work.seconds(this_machine(device="cpu"))
    assert (found.evaluation, found.measured) == (0.0, False)
    assert found.words.startswith("at least ")


def test_another_catalog_has_the_same_histories(cycle_split):
    wide = with_catalog(cycle_split, 1000)
    assert wide.catalog_size == 1000
    for part in ("train", "validation", "test"):
        mine, theirs = getattr(wide, part), getattr(cycle_split, part)
        mine, theirs = getattr(mine, "histories", mine), getattr(theirs, "histories", theirs)
        assert (mine.offsets == theirs.offsets).all()
        assert mine.items.max() > 12


def test_sentences():
    quick, slow = Duration(0.05, 0.5, 100, 2, True), Duration(2.0, 0.0, 1000, 11, False)
    assert expected({"CE": quick}) == "Expected: 50 ms a step, 6 s a run at most."
    assert expected({"CE": quick, "SCE": slow}) == (
        "Expected: CE 50 ms a step, 6 s a run; SCE at least 2 s a step, 33 min a run. At least 33 min in all."
    )
    assert expected({"SCE": slow}) == "Expected: at least 2 s a step, 33 min a run."
    assert expected({"CE": quick, "RECE": quick}) == (
        "Expected: CE 50 ms a step, 6 s a run; RECE 50 ms a step, 6 s a run. 12 s in all at most."
    )
    assert too_long(600, 10) == ""
    assert too_long(1800, 30) == "that is 30 min; 10 of its 30 epochs would take 10 min"
    assert too_long(36_000, 10) == "that is 10 h"
    assert time_left(30.0, 0.25) == 90.0
    assert time_left(30.0, 0.001) is None

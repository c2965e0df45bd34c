"""Who trains leaves a core alone, and nothing of that is left when the training has ended."""

import threading

import pytest
import torch
from events import fake_events

from sce_lab.widgets import LiveRun
from sce_lab.widgets.kit import cores


@pytest.fixture(autouse=True)
def four_threads_on_three_cores(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 3)
    yield
    torch.set_num_threads(before)


def in_a_new_thread():
    """How many threads torch uses where nobody has said anything."""
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def watched(seen, *events):
    """Made-up events of a run that notes how many threads it has."""
    return lambda stop: (seen.append(torch.get_num_threads()) or event for event in fake_events(*events)(stop))


def test_a_run_leaves_a_core_alone_and_the_process_as_it_was():
    seen, run = [], LiveRun()
    run.start(watched(seen))
    run.wait(10)
    assert set(seen) == {2}
    assert in_a_new_thread() == torch.get_num_threads() == 4


def test_runs_that_overlap_put_back_what_was_before_the_first():
    seen, first, second = [], LiveRun(), LiveRun()
    first.start(fake_events(1000, 20, 0.002))
    second.start(watched(seen, 2, 5, 0.002))
    second.wait(10)
    assert set(seen) == {2}
    assert in_a_new_thread() == 2  # the first still trains
    first.stop()
    first.wait(10)
    assert in_a_new_thread() == 4


def test_a_run_that_fails_puts_it_back_too():
    run = LiveRun()
    run.start(fake_events(fail_at=3))
    with pytest.raises(FloatingPointError):
        run.wait(10)
    assert in_a_new_thread() == 4

"""A thousand starts and stops, an hour in a nutshell, two pages at once, interrupts: nothing is left over or lost."""

import gc
import threading
import time
import tracemalloc

import pytest
from events import SECONDS, fake_events

from sce_lab.training import Finished, Started, StepDone, TrainingConfig
from sce_lab.widgets import LiveRun, Playground
from sce_lab.widgets.turns import take_turns

TINY = {"catalog_size": 200, "epochs": 2, "batch_size": 64, "n_buckets": 16, "bucket_size_x": 32, "bucket_size_y": 32}


def workers():
    return [t for t in threading.enumerate() if t.name.startswith("sce-lab")]


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_a_thousand_starts_and_stops_leave_no_thread_and_no_memory():
    run = LiveRun()

    def many(times):
        for n in range(times):
            run.start(lambda stop: take_turns({name: fake_events(1000, 20)(stop) for name in "ab"}), lambda shot: None)
            (run.step, run.pause, run.stop, run.resume)[n % 4]()
            run.stop()
            run.wait(10)
        gc.collect()

    many(100)
    tracemalloc.start()
    many(1)
    before = tracemalloc.get_traced_memory()[0]
    many(1000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 2**20
    assert not workers()


def test_an_hour_of_steps_takes_little_memory():
    """200,000 steps, as many as an hour of the quickest runs has."""

    def events(stop):
        yield Started(TrainingConfig(), 1000, 10)
        for step in range(1, 200_001):
            yield StepDone(step, step // 1000, 1.0, 5, SECONDS)
        yield Finished("epochs", 200_000, 200, 200, {}, {}, 0.0)

    tracemalloc.start()
    run = LiveRun()
    run.start(events)
    shot = run.wait(120)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert shot.step == 200_000
    assert len(shot.curves.loss) == 300
    assert held < 10 * 2**20


def test_pages_made_again_and_again_are_given_back():
    """Run All twice, and then some: what the last page holds stays, the others go."""
    for _ in range(2):
        Playground(**TINY)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(3):
        Playground(**TINY)
    gc.collect()
    grown = (tracemalloc.get_traced_memory()[0] - before) / 3
    tracemalloc.stop()
    assert grown < 3 * 2**20  # the kernel's widget manager knows every widget until it is closed


def test_two_pages_at_once_keep_their_runs_apart(monkeypatch):
    one = Playground(**TINY)
    two = Playground(**TINY, seed=1)
    assert one.start()
    one.wait(60)
    assert two.start()
    two.wait(60)
    assert [run["settings"]["seed"] for run in one.results()["runs"]] == [0]
    assert [run["settings"]["seed"] for run in two.results()["runs"]] == [1]
    three = Playground(**TINY)
    assert sorted(run["settings"]["seed"] for run in three.results()["runs"]) == [0, 1]  # both are kept
    assert len({run["folder"] for run in three.results()["runs"]}) == 2
    three.reset()


def test_an_interrupt_while_waiting_stops_and_keeps_the_run(monkeypatch):
    monkeypatch.setattr(Playground, "_events", lambda self, record, stop: fake_events(1000, 20, 0.002)(stop))
    page = Playground(**TINY)
    page.start()
    until(lambda: page.runs[0].snapshot.step > 3)
    worker = next(thread for thread in workers() if thread.name == "sce-lab-training")
    monkeypatch.setattr(worker, "join", lambda timeout=None: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        page.wait(10)
    monkeypatch.setattr(worker, "join", lambda timeout=None: threading.Thread.join(worker, timeout))
    page.wait(10)
    (run,) = page.results()["runs"]
    assert run["state"] == "stopped"
    assert run["steps"] > 3
    page.reset()


def test_starts_and_stops_of_the_whole_page(monkeypatch):
    monkeypatch.setattr(Playground, "_events", lambda self, record, stop: fake_events(1000, 20)(stop))
    page = Playground(**TINY, losses=("ce", "sampled", "sce"))
    for _ in range(30):
        page.buttons["start"].click()
        page.buttons["stop"].click()
        page.wait(10)
        page.reset()
    assert page.runs == []
    until(lambda: not workers())

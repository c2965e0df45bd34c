"""Pages made again and again, two at once, interrupts: nothing is left over or lost."""

import gc
import threading
import time
import tracemalloc

import pytest
from events import fake_events

from sce_lab.widgets import Playground
from sce_lab.widgets.playground.session import Session

TINY = {"catalog_size": 200, "epochs": 2, "batch_size": 64, "n_buckets": 16, "bucket_size_x": 32, "bucket_size_y": 32}


def workers():
    return [t for t in threading.enumerate() if t.name.startswith("sce-lab")]


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


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
    monkeypatch.setattr(Session, "_events", lambda self, record, stop: fake_events(1000, 20, 0.002)(stop))
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
    monkeypatch.setattr(Session, "_events", lambda self, record, stop: fake_events(1000, 20)(stop))
    page = Playground(**TINY, losses=("ce", "sampled", "sce"))
    for _ in range(30):
        page.view.transport.buttons["start"].click()
        page.view.transport.buttons["stop"].click()
        page.wait(10)
        page.reset()
    assert page.runs == []
    until(lambda: not workers())

"""A thousand starts and stops, an hour in a nutshell: no thread is left over, and little memory is taken."""

import gc
import threading
import tracemalloc

from events import SECONDS, fake_events

from sce_lab.training import Finished, Started, StepDone, TrainingConfig
from sce_lab.widgets import LiveRun
from sce_lab.widgets.kit.turns import take_turns


def workers():
    return [t for t in threading.enumerate() if t.name.startswith("sce-lab")]


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

import gc
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from events import MEMORY, fake_events

from sce_lab.widgets.kit.live import LiveRun, stop_all


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def workers():
    return [t for t in threading.enumerate() if t.name == "sce-lab-training"]


@pytest.fixture
def run():
    live = LiveRun()
    yield live
    live.stop()
    until(lambda: not workers())


def test_a_run_ends_with_everything_that_happened(run):
    run.start(fake_events(epochs=3, steps=10))
    shot = run.wait(5)
    assert (shot.state, shot.step, shot.epochs, shot.steps_per_epoch) == ("finished", 30, 3.0, 10)
    assert shot.curves.loss.tolist() == [100.0 - i for i in range(30)]
    assert shot.curves.epochs[-1] == 3.0
    assert shot.curves.scored.tolist() == [1.0, 2.0, 3.0]
    assert shot.curves.metrics["HR@10"].tolist() == [0.1, 0.2, 0.3]
    assert shot.metrics == {"HR@10": 0.3, "NDCG@10": 0.15}
    assert shot.milliseconds == pytest.approx(
        {"forward": 1, "loss_forward": 2, "loss_backward": 3, "backward": 4, "optimizer": 5}
    )
    assert shot.memory == MEMORY
    assert shot.finished.test == {"HR@10": 0.5}
    assert shot.config.loss == "ce"
    assert not workers()


def test_before_the_first_run_there_is_an_empty_snapshot(run):
    shot = run.snapshot()
    assert (shot.state, shot.step, shot.active, shot.metrics, shot.memory) == ("idle", 0, False, {}, None)
    assert [len(x) for x in (shot.curves.loss, shot.curves.scored, *shot.followed.values())] == [0, 0, 0, 0, 0]
    assert run.wait(0.1).state == "idle"


def test_start_returns_at_once_and_the_worker_is_a_daemon(run):
    began = time.monotonic()
    run.start(fake_events(seconds=0.05))
    assert time.monotonic() - began < 0.2
    assert run.active
    assert all(t.daemon for t in workers())


def test_stop_ends_it_within_a_step_and_keeps_what_was_reached(run):
    run.start(fake_events(epochs=1000, seconds=0.01))
    until(lambda: run.snapshot().step > 3)
    run.stop()
    assert run.state == "stopping"
    began = time.monotonic()
    shot = run.wait(5)
    assert time.monotonic() - began < 0.5
    assert shot.state == "stopped"
    assert shot.finished.reason == "stopped"
    assert 3 < shot.step < 1000


def test_pause_holds_and_resume_goes_on(run):
    run.start(fake_events(epochs=1000, seconds=0.002))
    until(lambda: run.snapshot().step > 3)
    run.pause()
    assert run.state == "paused"
    time.sleep(0.05)
    held, seconds = run.snapshot().step, run.snapshot().seconds
    time.sleep(0.1)
    assert run.snapshot().step == held
    assert run.snapshot().seconds == pytest.approx(seconds, abs=0.02)  # pauses do not count
    run.resume()
    until(lambda: run.snapshot().step > held)
    assert run.state == "running"


def test_a_paused_run_can_be_stopped_and_is_not_waited_for(run):
    run.start(fake_events(epochs=1000, seconds=0.002))
    run.pause()
    with pytest.raises(RuntimeError, match="paused: resume"):
        run.wait()
    with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
        run.wait(0.1)
    run.stop()
    assert run.wait(5).state == "stopped"


def test_pause_resume_and_stop_without_a_run_do_nothing(run):
    run.pause(), run.resume(), run.stop()
    assert run.state == "idle"
    run.start(fake_events())
    run.wait(5)
    run.pause(), run.resume(), run.stop()
    assert run.state == "finished"


def test_a_second_start_is_refused_while_the_first_runs(run):
    run.start(fake_events(epochs=1000, seconds=0.01))
    with pytest.raises(RuntimeError, match=r"a run is running: stop\(\) it"):
        run.start(fake_events())
    assert len(workers()) == 1
    run.stop()
    run.wait(5)
    run.start(fake_events(epochs=1))
    assert run.wait(5).step == 10  # nothing of the first is left


@pytest.mark.parametrize("fail_at", [1, 7])
def test_an_error_in_the_events_is_kept_and_raised_by_wait(run, fail_at):
    run.start(fake_events(fail_at=fail_at))
    with pytest.raises(FloatingPointError, match="nan at step 7"):
        run.wait(5)
    shot = run.snapshot()
    assert shot.state == "failed"
    assert "nan" in str(shot.error)
    assert shot.step == fail_at - 1


def test_an_error_in_the_view_ends_the_run_too(run):
    def publish(shot):
        raise KeyError("no such figure")

    run.start(fake_events(epochs=1000, seconds=0.01), publish)
    with pytest.raises(KeyError, match="no such figure"):
        run.wait(5)
    assert run.state == "failed"


def test_an_error_before_the_first_event_is_caught_as_well(run):
    def broken(stop):
        raise ValueError("no data")

    run.start(broken)
    with pytest.raises(ValueError, match="no data"):
        run.wait(5)


def test_it_publishes_about_every_period_and_always_at_evaluations_and_the_end():
    run, shots = LiveRun(period=0.1), []
    run.start(fake_events(epochs=2, steps=50, seconds=0.005), shots.append)
    run.wait(10)
    times = len(shots)
    assert 6 <= times <= 18  # half a second and more at ten a second, not one a step
    assert [len(s.metrics) > 0 for s in shots].count(True) >= 2
    assert shots[0].step == 0
    assert shots[-1].state == "finished"
    assert all(s.state == "running" for s in shots[:-1])
    assert shots[-1].step == 100


def test_a_slow_view_is_asked_less_often():
    run, calls = LiveRun(period=0.01), []

    def slow(shot):
        calls.append(shot.step)
        time.sleep(0.03)

    began = time.monotonic()
    run.start(fake_events(epochs=1, steps=200, seconds=0.002), slow)
    run.wait(10)
    assert 0.03 * len(calls) < 0.3 * (time.monotonic() - began)


def test_a_long_history_is_thinned_to_means(run):
    run.start(fake_events(epochs=2, steps=2500))
    curves = run.wait(20).curves
    assert len(curves.loss) == len(curves.epochs) == 300
    assert np.average(curves.loss) == pytest.approx(101 - 5001 / 2, rel=0.01)
    assert (np.diff(curves.epochs) > 0).all()
    assert curves.epochs[-1] == pytest.approx(2, abs=0.01)


def test_a_snapshot_does_not_change_afterwards(run):
    run.start(fake_events(epochs=1000, seconds=0.001))
    until(lambda: run.snapshot().step > 5)
    shot = run.snapshot()
    rows = len(shot.curves.loss)
    until(lambda: run.snapshot().step > shot.step + 5)
    assert len(shot.curves.loss) == rows


def test_reset_stops_and_forgets(run):
    run.start(fake_events(epochs=1000, seconds=0.01))
    until(lambda: run.snapshot().step > 1)
    run.reset()
    assert (run.state, run.snapshot().step) == ("idle", 0)
    assert not workers()


def test_an_interrupt_while_waiting_stops_the_run(run, monkeypatch):
    run.start(fake_events(epochs=1000, seconds=0.01))
    worker = workers()[0]
    monkeypatch.setattr(worker, "join", lambda timeout=None: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run.wait()
    monkeypatch.undo()
    assert run.wait(5).state == "stopped"


def test_many_starts_and_stops_leave_no_thread(run):
    for _ in range(100):
        run.start(fake_events(epochs=1000, seconds=0.0005))
        run.stop()
        run.wait(5)
    assert not workers()


def test_stop_all_reaches_runs_that_nobody_holds_any_more():
    run = LiveRun()
    run.start(fake_events(epochs=100_000, seconds=0.005))
    del run
    gc.collect()
    assert workers()
    stop_all()
    until(lambda: not workers())


@pytest.mark.parametrize("paused", [True, False])
def test_what_a_kernel_leaves_behind_is_not_made_to_look_like_an_end(run, paused):
    told, closed = [], []

    def events(stop):
        try:
            for event in fake_events(epochs=100_000, seconds=0.001)(stop):
                told.append(event)
                yield event
        finally:
            closed.append(stop())

    run.start(events, steps=3 if paused else None)
    until(lambda: len(told) > 3 and (run.state == "paused") is paused)
    run.leave()
    until(lambda: not workers())
    assert closed == [False]  # the events were dropped, and nobody asked them to stop
    assert run.snapshot().finished is None
    assert not run.active


def test_the_interpreter_ends_while_a_run_goes_on():
    code = (
        "import sys; sys.path.insert(0, 'tests/widgets')\n"
        "from events import fake_events\nfrom sce_lab.widgets.kit.live import LiveRun\n"
        "run = LiveRun(); run.start(fake_events(epochs=100000, seconds=0.01)); print('left')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "left", "")

import time

import pytest
import torch
from events import fake_events

from sce_lab.training import Changed, StepDone, Trainer, TrainingConfig, looking_inside
from sce_lab.widgets.kit.live import LiveRun
from sce_lab.widgets.kit.progress import Failed, Progress
from sce_lab.widgets.kit.turns import Turn, take_turns


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def never():
    return False


def names(turns, kind):
    return [turn.run for turn in turns if isinstance(turn.event, kind)]


def test_each_run_does_a_step_in_turn_and_the_others_go_on_when_one_ends():
    turns = list(take_turns({"a": fake_events(1, 3)(never), "b": fake_events(1, 5)(never)}))
    assert names(turns, StepDone) == ["a", "b", "a", "b", "a", "b", "b", "b"]
    assert [type(turn.event).__name__ for turn in turns[:2]] == ["Started", "Started"]
    assert {turn.run for turn in turns[-2:]} == {"b"}


def test_one_that_fails_is_told_and_the_others_go_on():
    turns = list(take_turns({"a": fake_events(1, 3, fail_at=2)(never), "b": fake_events(1, 3)(never)}))
    assert names(turns, Failed) == ["a"]
    assert names(turns, StepDone) == ["a", "b", "b", "b"]


def test_they_train_on_the_same_batches_and_as_if_they_were_alone(cycle_split):
    def trainer(loss):
        return Trainer(TrainingConfig(loss=loss, max_epochs=2, batch_size=16, hidden_size=8), cycle_split)

    def steps(events):
        return [(e.loss, e.n_positions) for e in events if isinstance(e, StepDone)]

    turns = list(take_turns({loss: trainer(loss).events() for loss in ("ce", "sampled")}))
    together = {loss: steps(t.event for t in turns if t.run == loss) for loss in ("ce", "sampled")}
    assert [n for _, n in together["ce"]] == [n for _, n in together["sampled"]]
    for loss in ("ce", "sampled"):
        assert together[loss] == steps(trainer(loss).events())


@pytest.fixture
def run():
    live = LiveRun()
    yield live
    live.stop()
    live.wait(10)


def pair(epochs=1000, seconds=0.001):
    return lambda stop: take_turns({name: fake_events(epochs, 20, seconds)(stop) for name in "ab"})


def test_a_worker_keeps_runs_that_take_turns_apart(run):
    run.start(lambda stop: take_turns({"a": fake_events(1, 5)(stop), "b": fake_events(2, 5)(stop)}))
    shot = run.wait(10)
    assert {name: lane.step for name, lane in shot.lanes.items()} == {"a": 5, "b": 10}
    assert shot.lanes["a"].metrics == {"HR@10": 0.1, "NDCG@10": 0.05}
    assert (shot.step, shot.state, shot.lanes["a"].state) == (10, "finished", "finished")


def test_one_that_failed_is_raised_at_the_end_and_the_other_is_whole(run):
    run.start(lambda stop: take_turns({"a": fake_events(fail_at=2)(stop), "b": fake_events(1, 5)(stop)}))
    with pytest.raises(FloatingPointError):
        run.wait(10)
    lanes = run.snapshot().lanes
    assert (lanes["a"].state, lanes["a"].step) == ("failed", 1)
    assert (lanes["b"].state, lanes["b"].step) == ("finished", 5)
    run.start(fake_events())  # and nothing of it is left


@pytest.mark.parametrize("events", [fake_events(1000, 20, 0.001), pair()])
def test_step_does_one_step_of_each_and_holds(run, events):
    def steps():
        shot = run.snapshot()
        return {lane.step for lane in shot.lanes.values()} or {shot.step}

    run.start(events, steps=1)
    for expected in (1, 2, 3):
        until(lambda: run.state == "paused")
        assert steps() == {expected}
        run.step()
    until(lambda: run.state == "paused")
    run.resume()
    until(lambda: max(steps()) > 20)
    run.step()  # from full speed: the present round, then hold
    until(lambda: run.state == "paused")
    assert len(steps()) == 1


def test_what_is_shown_while_it_holds_is_where_it_stands(run):
    shots = []
    run.start(pair(), shots.append, steps=2)
    until(lambda: run.state == "paused" and shots[-1].state == "paused")
    assert {lane.step for lane in shots[-1].lanes.values()} == {2}


def test_looking_inside_happens_now_and_then_and_changes_nothing(cycle_split):
    config = TrainingConfig(loss="sce", max_epochs=4, batch_size=16, hidden_size=8)

    def losses(**options):
        events = Trainer(config, cycle_split, **options).events()
        return [(e.loss, e.statistics is not None) for e in events if isinstance(e, StepDone)]

    from sce_lab.training import training_step

    looked, plain = losses(step=looking_inside(training_step, every=10)), losses()
    assert [loss for loss, _ in looked] == [loss for loss, _ in plain]
    assert [i + 1 for i, (_, seen) in enumerate(looked) if seen] == [n for n in range(1, len(plain) + 1) if n % 10 == 5]


def test_progress_follows_statistics_and_changes(cycle_split):
    config = TrainingConfig(loss="sce", loss_settings={"n_buckets": 4}, max_epochs=3, batch_size=16, hidden_size=8)
    from sce_lab.training import training_step

    trainer, progress = Trainer(config, cycle_split, step=looking_inside(training_step, every=2)), Progress()
    torch.manual_seed(0)
    for event in trainer.events():
        progress.take(event)
        if isinstance(event, StepDone) and event.step == 4:
            trainer.change(n_buckets=9)
            trainer.change(mix_x=True)
    shot = progress.snapshot("running", 100)
    assert shot.state == "finished"
    assert shot.changes == ((4 / shot.steps_per_epoch, {"n_buckets": 9, "mix_x": True}),)
    assert list(shot.followed) == ["epochs", "coverage", "captured_mass"]
    assert ((shot.followed["coverage"] >= 0) & (shot.followed["coverage"] <= 1)).all()
    assert len(shot.followed["epochs"]) == len(shot.followed["captured_mass"]) == shot.step // 2


def test_turn_and_changed_are_plain():
    assert Turn("a", Changed(1, 0, {"n_buckets": 2})).event.settings == {"n_buckets": 2}

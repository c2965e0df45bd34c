"""How long Start would take, how long is left, and several seeds of one setting."""

from dataclasses import replace

import numpy as np
import pytest

from sce_lab import timing
from sce_lab.figures import Curves
from sce_lab.timing import Duration
from sce_lab.widgets import Playground
from sce_lab.widgets.kit.progress import RUNNING, Snapshot
from sce_lab.widgets.playground.assessment import Assessment, assess, needed_together
from sce_lab.widgets.playground.charts import Charts
from sce_lab.widgets.playground.forecast import Forecast
from sce_lab.widgets.playground.pace import Pace
from sce_lab.widgets.playground.records import RunRecord, seeds_of
from sce_lab.widgets.playground.settings import Settings
from sce_lab.widgets.playground.status import progress, ready

TINY = {"catalog_size": 200, "epochs": 2, "batch_size": 64, "n_buckets": 16, "bucket_size_x": 32, "bucket_size_y": 32}
FREE = 2**40


def found(settings, busy=False, moved=False):
    """What a pace shows of an assessment."""
    shown = []
    assessment = assess(settings, FREE)
    current = Assessment(settings, None, assessment.memory) if moved else assessment
    pace = Pace(lambda: busy, lambda: current, lambda _, timed: shown.append(timed))
    pace.ask(assessment)
    pace._latest.settle(60)
    return shown


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(timing, "PROBE", 0.0)


def test_what_start_would_take_is_tried_and_said():
    [timed] = found(Settings(**TINY, losses=("sce", "ce"), n_seeds=2))
    assert list(timed.durations) == ["ce", "sce"]
    assert all(each.measured and each.n_steps == 94 for each in timed.durations.values())
    assert timed.seconds == 2 * sum(each.seconds for each in timed.durations.values())
    said = ready(timed)
    assert "Cross-entropy, SCE, 2 seeds</b>" in said
    assert " a step, " in said
    assert " in all. Press Start." in said
    assert "sce-warning" not in said


def test_a_large_synthetic_catalog_is_tried_with_its_own_number_of_items():
    [timed] = found(Settings(**TINY | {"catalog_size": 5_000}, losses=("sampled",)))
    assert timed.durations["sampled"].measured


def test_what_was_tried_does_not_take_the_place_of_what_came_meanwhile():
    nothing = lambda *_: []  # noqa: E731
    forecast = Forecast(Settings(**TINY), lambda: True, nothing, nothing, nothing)
    old, newer = forecast.assessment, assess(Settings(**TINY | {"epochs": 3}), FREE)
    forecast._take(newer)
    forecast._timed(old, replace(old, durations={}))
    assert forecast.assessment is newer


def test_nothing_is_tried_beside_a_training_or_of_what_was_moved_on_from(monkeypatch):
    monkeypatch.setattr(timing, "_probe", lambda *_: pytest.fail("it was tried"))
    assert found(Settings(**TINY), busy=True) == []
    assert found(Settings(**TINY), moved=True) == []
    assert found(Settings(losses=())) == []


def test_a_word_above_ten_minutes():
    settings = Settings(epochs=50)
    made = assess(settings, FREE)
    slow = Duration(6.0, 0.0, 1000, 51, False)
    said = ready(Assessment(settings, made.facts, made.memory, fitting=("sce",), durations={"sce": slow}))
    assert "at least 6 s a step, at least 1.7 h in all" in said
    assert "(that is 1.7 h; 5 of its 50 epochs would take 10 min)" in said


def test_time_left_while_it_runs():
    record = RunRecord(1, Settings(epochs=10), "sce")
    record.snapshot = Snapshot(state=RUNNING, step=50, epochs=2.5, steps_per_epoch=20, seconds=30.0)
    assert "epoch 2.5 of 10, about 1.5 min left" in progress([record], RUNNING, later=False)[0]
    assert "left" not in progress([record], "paused", later=False)[0]


def run(number, seed, *hr, loss="sce", **settings):
    record = RunRecord(number, Settings(seed=seed, **settings), loss)
    curves = Curves(scored=np.arange(1.0, 1 + len(hr)), metrics=dict.fromkeys(("HR@10", "NDCG@10"), np.array(hr)))
    record.snapshot = Snapshot(curves=curves)
    return record


def test_runs_that_differ_in_their_seed_alone_are_one_setting():
    runs = [run(1, 0, 0.1), run(2, 1, 0.2), run(3, 1, 0.4), run(4, 2, 0.3, n_buckets=8), run(5, 2, 0.5, n_negatives=9)]
    runs.append(run(6, 3, 0.5, loss="ce"))
    assert [each.number for each in seeds_of(runs[4], runs)] == [1, 3, 5]  # negatives are nothing to SCE
    assert [each.number for each in seeds_of(runs[3], runs)] == [4]
    runs[0].snapshot = Snapshot(changes=((0.5, {"n_buckets": 4}),))
    assert [each.number for each in seeds_of(runs[4], runs)] == [3, 5]
    assert [each.number for each in seeds_of(runs[0], runs)] == [1]


def test_they_are_drawn_as_a_mean_and_a_band():
    view = Charts()
    view.show([run(1, 0, 0.1, 0.2), run(2, 1, 0.3, 0.6)])
    lines = [t for t in view.training.widget.data if t.name == "SCE" and t.x is not None and len(t.x)]
    assert [list(t.y) for t in lines] == [pytest.approx([0.2, 0.4])] * 2
    bands = [t for t in view.training.widget.data if t.name == "SCE, seeds"]
    assert [list(t.y) for t in bands] == [[0.3, 0.6, 0.2, 0.1]] * 2
    assert "SCE 2" in view._seeds.value


def test_start_makes_a_run_of_each_seed():
    page = Playground(**TINY, losses=("sce", "ce"), seed=3, n_seeds=2)
    assert page.start()
    page.wait(120)
    runs = page.results()["runs"]
    assert [(r["loss"], r["settings"]["seed"]) for r in runs] == [("ce", 3), ("ce", 4), ("sce", 3), ("sce", 4)]
    assert len({r["loss_last"] for r in runs}) == 4
    assert "CE" in page.view.transport.status.value
    assert "2 seeds</b> done" in page.view.transport.status.value
    page.controls["seed"].value = 4
    page.results()
    page.view.charts.against.value = "seconds"
    x = next(t.x for t in page.view.charts.training.widget.data if t.name == "SCE, seeds")
    assert 0 < x[0] < x[1]
    page.reset()


def test_seeds_side_by_side_need_room_for_their_models():
    made = assess(Settings(catalog_size=100_000), FREE)
    one, three = (needed_together(made.memory, ("sce",), n) for n in (1, 3))
    row = made.memory.set_index("loss").loc["sce"]
    assert three - one == 2 * (2 * row["parameters"] + row["optimizer_state"])
    tight = assess(Settings(catalog_size=100_000, n_seeds=3), int(three) - 1)
    assert "side by side need" in tight.problem

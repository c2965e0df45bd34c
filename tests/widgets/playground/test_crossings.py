"""A sweep from the page: what is crossed, where, one training at a time, and a map of what came out."""

from dataclasses import replace

import pytest

from sce_lab.timing import Duration
from sce_lab.widgets import Playground
from sce_lab.widgets.kit import sweep
from sce_lab.widgets.playground import sweeps
from sce_lab.widgets.playground.forecast import Forecast
from sce_lab.widgets.playground.settings import Settings
from sce_lab.widgets.playground.sweeps import CROSSINGS, SMALL, SettingsSweep

SHORT = replace(SMALL, hidden_size=8, max_length=8, batch_size=512, epochs=1)


@pytest.fixture
def quick(monkeypatch):
    """Small maps of a small world."""
    small = {
        "buckets": replace(CROSSINGS["buckets"], axes={"n_buckets": (4, 8), "bucket_size_y": (8,)}, catalog_size=120),
        "negatives": replace(CROSSINGS["negatives"], axes={"n_negatives": (4, 8)}, catalog_size=120),
    }
    monkeypatch.setattr(sweep, "predict_time", lambda config, split: _duration(config))
    monkeypatch.setattr(sweeps, "CROSSINGS", small)
    monkeypatch.setattr(sweeps, "SMALL", SHORT)


def _duration(config):
    """Ten seconds for four buckets, twenty for eight."""
    return Duration(2.5 * config.loss_settings.get("n_buckets", 4), 0.0, 1, 1, measured=True)


@pytest.fixture
def page(quick):
    made = Playground(catalog_size=200, batch_size=512, epochs=1, hidden_size=8)
    yield made
    made.view.sweep.live.stop()
    made.reset()


def cells(board):
    notes = board._canvases[0].widget.current["layout"]["annotations"]
    of = lambda panel: [n["text"] for n in notes if n.get("xref", "x").split()[0] == f"x{panel}"]  # noqa: E731
    return {panel: of(panel) for panel in ("", "2", "3")}


@pytest.mark.parametrize("name", CROSSINGS)
def test_the_small_world_is_small_and_the_settings_are_crossed(name):
    crossing = CROSSINGS[name]
    trials = crossing.trials(replace(SMALL, catalog_size=crossing.catalog_size))
    assert 10 <= len(trials) <= 20
    assert {trial.source["catalog_size"] for trial in trials} == {crossing.catalog_size}
    for axis, values in crossing.axes.items():
        assert {trial.settings[axis] for trial in trials} == set(values)
    assert {trial.config.loss for trial in trials} == set(crossing.losses)
    of_seeds = crossing.trials(Settings(seed=4, n_seeds=2))
    assert len(of_seeds) == 2 * len(trials)
    assert {trial.config.seed for trial in of_seeds} == {4, 5}
    assert {trial.config.hidden_size for trial in of_seeds} == {64}


def test_quality_memory_and_time_of_each_cell(page):
    board = page.view.sweep
    assert cells(board)[""][1:] == ["·", "·"]
    assert board.start()
    assert board.what.disabled
    board.wait(120)
    found = cells(board)
    assert [title[0].replace("<b>", "").replace("</b>", "") for title in found.values()] == [
        "NDCG@10 on validation",
        "Peak memory, MiB",
        "ms a step",
    ]
    assert all(text.startswith("<b>0.") for text in found[""][1:])
    peaks = [row["peak_memory"] / 2**20 for row in board.results()["rows"]]
    assert [float(text) for text in found["2"][1:]] == pytest.approx(peaks, rel=0.01)
    assert all(float(text) > 0 for text in found["3"][1:])
    assert not board.what.disabled
    board.what.value = "negatives"
    assert cells(board)[""][1:] == ["·"] * 4
    ticks = board._canvases[0].widget.current["layout"]["xaxis"]["ticktext"]
    assert ticks == ["CE-", "Sampled"]
    board.what.value = "buckets"  # it was trained, and is there again
    assert cells(board) == found
    assert not board.start()


def test_the_whole_sweep_says_how_long_it_takes_before_start(page):
    board = page.view.sweep
    assert (board.seconds, "Expected" in board._status.seen.value) == (None, False)  # nobody has looked
    page.view.tabs.selected_index = 4
    board.settle()
    assert board.results()["seconds"] == 30
    assert "Expected: 30 s in all" in board._status.seen.value
    board.what.value = "negatives"
    board.settle()
    assert board.seconds == 40  # two losses, two numbers
    board.what.value = "buckets"
    board.settle()
    assert board.start()
    board.wait(120)
    assert board.seconds == 0
    assert "Expected" not in board._status.seen.value


def test_what_is_left_is_counted_by_what_each_takes(page, monkeypatch):
    board = page.view.sweep
    board.time()
    board.settle()
    board._asked = first, second = board.sweep.trials
    board._now, board._here = second, 0.5
    monkeypatch.setattr(board.sweep, "state", lambda trial: "done" if trial is first else "begun")
    assert board._made() == (10 + 10) / 30
    board._expected.clear()
    assert board._made() == 0.75  # as long as nothing is known each counts alike


def test_the_settings_above_are_taken_as_they_are_at_the_start(page):
    board = page.view.sweep
    board.where.value = "above"
    page.controls["hidden_size"].value = 16
    assert board.start()
    board.wait(120)
    rows = board.results()["rows"]
    assert {row["hidden_size"] for row in rows} == {16}
    assert {row["catalog_size"] for row in rows} == {200}


def test_one_training_at_a_time(page, monkeypatch):
    board = page.view.sweep
    monkeypatch.setattr(type(page.session), "active", property(lambda session: True))
    assert not board.start()
    assert "is being trained above" in board._status.seen.value
    monkeypatch.undo()
    monkeypatch.setattr(SettingsSweep, "active", property(lambda board: True))
    assert not page.start()
    assert "A sweep is being trained below" in page.view.transport.status.value


def test_nothing_is_tried_beside_a_sweep_and_its_end_asks_again(quick, monkeypatch):
    asked, busy = [], []
    monkeypatch.setattr(Forecast, "time", lambda forecast: asked.append(forecast))
    page = Playground(catalog_size=200, batch_size=512, epochs=1, hidden_size=8)
    page.wait(60)
    asked.clear()
    board, pace = page.view.sweep, page._forecast._pace
    events = board._events

    def watched(stop):
        for each in events(stop):
            busy.append(pace._busy())
            yield each

    monkeypatch.setattr(board, "_events", watched)
    assert board.start()
    board.wait(60)
    assert busy
    assert all(busy)
    assert not pace._busy()
    assert asked == [page._forecast]

"""A sweep from the page: what is crossed, where, one training at a time, and a map of what came out."""

from dataclasses import replace

import pytest

from sce_lab.widgets import Playground
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
    monkeypatch.setattr(sweeps, "CROSSINGS", small)
    monkeypatch.setattr(sweeps, "SMALL", SHORT)


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
    sweep, pace = page.view.sweep, page._forecast._pace
    events = sweep._events

    def watched(stop):
        for each in events(stop):
            busy.append(pace._busy())
            yield each

    monkeypatch.setattr(sweep, "_events", watched)
    assert sweep.start()
    sweep.wait(60)
    assert busy
    assert all(busy)
    assert not pace._busy()
    assert asked == [page._forecast]

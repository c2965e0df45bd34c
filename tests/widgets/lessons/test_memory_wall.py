"""The memory wall, its guesses and the moments of a step, driven from Python."""

import dataclasses
import time

import pytest
import traitlets

from sce_lab.figures import LOOKS
from sce_lab.memory import DEVICES, count_work, format_seconds, predict_memory
from sce_lab.widgets import MemoryWall, StepTimeline
from sce_lab.widgets.lessons.step_timeline import excerpt

SMALL = {"catalog_size": 10_000, "batch_size": 16, "length": 10, "hidden_size": 32}


@pytest.fixture
def wall():
    made = MemoryWall(measure=False, **SMALL)
    made.settle()
    yield made
    made.close()


def drawn(wall):
    """The peaks that the figure shows."""
    return dict(zip(LOOKS, wall._parts.widget.data[0].x))


def test_it_shows_what_is_predicted(wall):
    config = wall.settings.config("ce")
    assert (config.batch_size, config.max_length, config.hidden_size) == (16, 10, 32)
    for loss in LOOKS:
        assert drawn(wall)[loss] == predict_memory(wall.settings.config(loss), 10_000).peak
    shares = [sum(trace.x[i] for trace in wall._parts.widget.data[1:]) for i in range(len(LOOKS))]
    assert shares == pytest.approx([100] * len(LOOKS))


@pytest.mark.parametrize(("name", "value"), [("catalog_size", 10**9), ("batch_size", 64), ("length", 50)])
def test_a_slider_moves_the_bars_the_devices_and_the_curves(wall, name, value):
    before, devices, curve = drawn(wall), wall._devices.value, wall._growth.widget.data[0].y
    wall.controls[name].value = value
    wall.settle()
    after = drawn(wall)
    assert all(after[loss] > before[loss] for loss in LOOKS)
    assert wall.settings == dataclasses.replace(wall.settings, **{name: value})
    if name == "catalog_size":
        assert wall._devices.value != devices
        assert wall._growth.widget.layout.shapes[-1].x0 == 10**9  # the mark
    else:
        assert (wall._growth.widget.data[0].y > curve).all()


def test_a_billion_items_fit_nowhere_and_the_table_says_by_how_much(wall):
    wall.controls["catalog_size"].value = 10**9
    wall.settle()
    assert wall._devices.value.count("sce-problem") == len(LOOKS) * len(DEVICES)
    wall.controls["catalog_size"].value = 1_000
    wall.settle()
    assert wall._devices.value.count("✓</span>") == len(LOOKS) * len(DEVICES)


def test_sparse_gradients_do_nothing_for_cross_entropy(wall):
    wall.controls["catalog_size"].value = 1_000_000
    wall.settle()
    before = drawn(wall)
    wall.controls["sparse_gradients"].value = True
    wall.settle()
    after = drawn(wall)
    assert (after["ce"], after["cce"]) == (before["ce"], before["cce"])
    assert after["sce"] < 0.8 * before["sce"]


def test_work_stands_beside_memory_and_follows_the_sliders(wall):
    wall.controls["catalog_size"].value = 1_000_000
    work = wall.results()["work"]
    assert list(wall._arithmetic.widget.data[0].x) == [each["operations"] for each in work.values()]
    assert work["ce"]["operations"] == count_work(wall.settings.config("ce"), 1_000_000).flops
    assert work["cce"]["operations"] > work["ce"]["operations"] > 5 * work["sce"]["operations"]
    lines = wall._arithmetic.widget.data[1:]
    assert [len(line.y) for line in lines] == [7] * len(LOOKS)
    words = dict(zip(LOOKS, wall._arithmetic.widget.data[0].text))
    assert f"≥ {format_seconds(work['sce']['seconds'])}" in words["sce"]


def test_only_the_newest_of_many_moves_is_shown(wall):
    for value in (20_000, 50_000, 100_000, 200_000, 500_000):
        wall.controls["catalog_size"].value = value
    wall.settle()
    assert drawn(wall)["ce"] == predict_memory(wall.settings.config("ce"), 500_000).peak


def test_neighbours_are_predicted_ahead(wall):
    from sce_lab.memory.predict import _predict

    wall.controls["catalog_size"].value = 20_000
    wall.settle()
    end = time.monotonic() + 30
    while wall._later._alive:  # until all that is made ready ahead is
        assert time.monotonic() < end
        time.sleep(0.02)
    misses = _predict.cache_info().misses
    for neighbour in (10_000, 50_000, 100_000):
        for loss in LOOKS:
            predict_memory(wall.settings.config(loss), neighbour)
    assert _predict.cache_info().misses == misses


def test_real_steps_lie_on_the_lines():
    wall = MemoryWall(**SMALL)
    wall.settle()
    points = wall.measured
    wall.close()
    assert set(points["loss"]) == set(LOOKS)
    exact = points[~points["loss"].isin(["sce", "rece"])]
    assert (exact["peak"] / exact["predicted"]).tolist() == pytest.approx([1] * len(exact), rel=0.01)
    assert (points["peak"] <= 1.02 * points["predicted"]).all()
    assert sum(len(trace.x) for trace in wall._growth.widget.data[len(LOOKS) :]) == len(points)


def test_what_cannot_be_is_refused():
    with pytest.raises(TypeError):
        MemoryWall(catalog=5)
    with pytest.raises(traitlets.TraitError, match="Items in the catalog takes whole numbers from 1,000"):
        MemoryWall(measure=False, catalog_size=10)


# ------------------------------------------------------------------------------------------------------------- moments


@pytest.fixture(scope="module")
def steps():
    return StepTimeline(20_000, batch_size=16, length=10)


def test_it_begins_at_the_peak_with_its_line_of_code(steps):
    steps.loss.value = "ce"
    steps.to_peak()
    found = steps.results()
    assert found["moment"] == steps.timeline.peak
    assert found["largest"][0]["file"] == "sce_lab/losses/ce.py"
    assert 'class="sce-here"' in steps._code.value
    assert "F.cross_entropy" in steps._code.value.split('class="sce-here"')[1].split("</div>")[0]
    assert "100% of the peak" in steps._said.value
    assert steps._figure.widget.data[1].x[0] == found["moment"]


def test_any_moment_can_be_looked_at(steps):
    steps.loss.value = "ce"
    steps.moment.value = 0
    assert steps.results()["phase"] == "forward"
    steps.to_next()
    steps.settle()
    assert 0 < steps.moment.value < steps.timeline.peak
    assert "comes" in steps._said.value
    assert steps._table.value.count("<tr>") == 7
    for moment in (0, 50, len(steps.moment.options) - 1):
        steps.moment.value = moment
        assert steps.results()["moment"] == moment


def test_another_loss_has_another_step(steps):
    steps.loss.value = "ce"
    peak = steps.results()["peak"]
    steps.loss.value = "sce"
    found = steps.results()
    assert found["peak"] < peak / 2
    assert found["moment"] == steps.timeline.peak
    assert len(steps.moment.options) - 1 == len(steps.timeline.moments) - 1
    assert len(steps._figure.widget.data[0].x) == len(steps.timeline.moments)
    steps.loss.value = "ce"
    assert steps.results()["peak"] == peak


def test_a_line_that_cannot_be_read_is_a_remark():
    assert "before the step began" in excerpt("", 0)
    assert "before the step began" in excerpt("../../etc/passwd_no", 1)
    shown = excerpt("sce_lab/losses/ce.py", 1)
    assert "Full softmax" in shown
    assert "<script" not in shown

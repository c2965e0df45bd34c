"""Figures of the memory wall: what they show, as numbers."""

import itertools

import numpy as np
import pandas as pd
import pytest

from sce_lab.figures import LOOKS, figure, label, memory_spec
from sce_lab.figures.memory import ROOM
from sce_lab.figures.memory_charts import SHOWN, growth_spec, parts_spec, ratio_spec, timeline_spec
from sce_lab.figures.work import work_spec
from sce_lab.memory import count_work, format_count, format_seconds, predict_memory, predict_timeline, tables
from sce_lab.training import TrainingConfig

CONFIG = TrainingConfig(batch_size=16, max_length=10, hidden_size=32)


def config(loss):
    return TrainingConfig(**{**vars(CONFIG), "loss": loss})


@pytest.fixture(scope="module")
def memory():
    return pd.DataFrame([{"loss": loss, **predict_memory(config(loss), 10**6).as_dict()} for loss in LOOKS])


@pytest.fixture(scope="module")
def curves():
    rows = [
        {"loss": loss, "catalog_size": c, "peak": predict_memory(config(loss), c).peak}
        for loss in LOOKS
        for c in (10**3, 10**5, 10**9)
    ]
    return pd.DataFrame(rows)


def test_bars_end_at_the_peak_and_parts_are_shares_of_their_sum(memory):
    drawn = figure(parts_spec(memory))
    peak, *parts = drawn.data
    assert list(peak.x) == memory["peak"].tolist()
    assert [bar.name for bar in parts] == ["weights", "gradients", "Adam", "encoder", "the loss"]
    fields = ["parameters", "gradients", "optimizer_state", "activations", "loss_workspace"]
    shares = memory[fields].div(memory[fields].sum(axis=1), axis=0).astype(float) * 100
    for bar, field in zip(parts, fields):
        np.testing.assert_allclose(np.array(bar.x, float), shares[field])
    ends = np.array(parts[-1].base, float) + np.array(parts[-1].x, float)
    np.testing.assert_allclose(ends, 100)
    assert [look.color for look in LOOKS.values()] == list(peak.marker.color)


def test_every_device_is_a_line_at_what_it_leaves(memory, curves):
    lines = [shape.x0 for shape in figure(parts_spec(memory)).layout.shapes]
    assert lines == [device.usable for device in SHOWN]
    names = [a.text.strip() for a in figure(growth_spec(curves)).layout.annotations]
    assert names == [device.name for device in SHOWN]


def test_numbers_stand_in_a_column_that_no_mark_reaches(memory):
    bars = memory[:4].assign(peak=100, loss_workspace=64)
    before = bars.assign(peak=[104, 400, 90, 100], loss_workspace=[70, 1024, 60, 64])
    made = memory_spec(bars, before=before)
    total, alone = [trace for trace in made["data"] if trace["mode" if "mode" in trace else "type"] == "text"]
    assert total["text"] == ["<b>100 B</b>"] * 4
    assert alone["text"] == ["64 B"] * 4
    for trace, axis, room in ((total, "xaxis", ROOM[0]), (alone, "xaxis2", ROOM[1])):
        low, end = made["layout"][axis]["range"]
        there = end if axis == "xaxis" else 10**end
        assert trace["x"] == pytest.approx([there] * 4)
        last = low + (1 - room) * (end - low)
        drawn = [t["x"] for t in made["data"] if t is not trace and t.get("xaxis", "x") == axis.replace("axis", "")]
        reached = np.nanmax([np.nanmax(np.asarray(x, float), initial=0.0) for x in drawn])
        assert (reached if axis == "xaxis" else np.log10(reached)) <= last + 1e-9


@pytest.fixture(scope="module")
def work():
    return tables.work([config(loss) for loss in LOOKS], 10**6)


def test_work_stands_beside_memory_as_a_third_panel(memory, work):
    two, three = memory_spec(memory), memory_spec(memory, work=work)
    assert len(three["data"]) == len(two["data"]) + 2
    dots, words = three["data"][-2:]
    assert list(dots["x"]) == work["operations"].tolist()
    assert dots["marker"]["color"] == [look.color for look in LOOKS.values()]
    for text, operations, seconds in zip(words["text"], work["operations"], work["seconds"]):
        assert text.strip() == f"{format_count(operations)}, ≥ {format_seconds(seconds)}"
    low, high = three["layout"]["xaxis3"]["range"]
    assert low < np.log10(work["operations"].min()) < np.log10(work["operations"].max()) < high
    ends = [three["layout"][axis]["domain"] for axis in ("xaxis", "xaxis2", "xaxis3")]
    assert all(one[1] < other[0] for one, other in itertools.pairwise(ends))


def test_operations_are_bars_and_curves(work, curves):
    curves = curves.assign(operations=[count_work(config(r.loss), r.catalog_size).flops for r in curves.itertuples()])
    bars, *lines = figure(work_spec(work, curves, at=10**6)).data
    assert list(bars.x) == work["operations"].tolist()
    assert list(bars.marker.color) == [line.line.color for line in lines]
    for loss, line in zip(LOOKS, lines):
        assert list(line.y) == curves[curves["loss"] == loss]["operations"].tolist()


def test_the_bars_keep_their_traces_whatever_the_numbers(memory):
    small = memory.assign(**{c: memory[c] // 1000 for c in memory.columns if c != "loss"})
    one, other = parts_spec(memory), parts_spec(small)
    assert len(one["data"]) == len(other["data"])
    assert one["layout"].keys() == other["layout"].keys()
    for spec in (one, other):
        low, high = spec["layout"]["xaxis"]["range"]
        peaks = np.log10(spec["data"][0]["x"])
        assert (low < peaks).all()
        assert (peaks < high).all()


def test_curves_and_measured_points_have_the_colour_of_their_loss(curves):
    points = pd.DataFrame([{"loss": "sce", "catalog_size": 1000, "peak": 5e6}])
    drawn = figure(growth_spec(curves, measured=points, at=10**5))
    lines = {trace.name: trace for trace in drawn.data if trace.mode == "lines"}
    assert lines["SCE"].line.color == LOOKS["sce"].color
    assert list(lines["Cross-entropy"].y) == curves[curves["loss"] == "ce"]["peak"].tolist()
    markers = {trace.name: list(trace.y) for trace in drawn.data if trace.mode == "markers"}
    assert markers == {f"{label(loss)}, measured": [5e6] if loss == "sce" else [] for loss in LOOKS}
    mark = drawn.layout.shapes[-1]
    assert (mark.x0, mark.visible) == (10**5, True)
    assert figure(growth_spec(curves)).layout.shapes[-1].visible is False
    assert drawn.layout.xaxis.ticktext[-1] == "1 billion"


def test_a_timeline_is_drawn_in_its_phases():
    timeline = predict_timeline(config("ce"), 3000)
    drawn = figure(timeline_spec(timeline.moments, "ce", at=timeline.peak, lines={0: "x.py:3"}))
    line, mark = drawn.data
    assert list(line.y) == timeline.moments["live"].tolist()
    assert (mark.x[0], mark.y[0]) == (timeline.peak, timeline.use.peak)
    bands = [(shape.x0, shape.x1) for shape in drawn.layout.shapes]
    assert bands[0][0] == 0
    assert bands[-1][1] == len(timeline.moments)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(bands))
    assert sum("x.py:3" in hover for hover in line.customdata) == (timeline.moments["tensor"] == 0).sum()


def test_ratios_are_drawn_against_the_target():
    rows = [
        {"setting": s, "catalog_size": c, "ratio": r * c / 1000} for s, r in (("a", 1), ("b", 2)) for c in (1e3, 1e5)
    ]
    drawn = figure(ratio_spec(pd.DataFrame(rows)))
    assert [trace.name for trace in drawn.data] == ["a", "b"]
    assert list(drawn.data[1].y) == [2, 200]
    assert drawn.layout.shapes[0].y0 == 100
    assert "100×" in drawn.layout.yaxis.ticktext
    assert len({trace.line.dash for trace in drawn.data}) == 2

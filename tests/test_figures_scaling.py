"""The figures of scaling and of the engine: every number of a table is drawn, in the look of its loss."""

import math

import numpy as np
import pandas as pd
import pytest

from sce_lab.explain import beating, running_sums
from sce_lab.figures import (
    LOOKS,
    against_seconds_spec,
    beating_spec,
    ends_spec,
    figure,
    growth_panels_spec,
    heat_spec,
    running_sums_spec,
    settings_spec,
    timelines_spec,
)
from sce_lab.memory import predict_timeline
from sce_lab.training import TrainingConfig

NAN = float("nan")


def texts(spec):
    return [note["text"] for note in spec["layout"]["annotations"]]


@pytest.mark.parametrize(("value", "unit"), [("peak", 2**20), ("seconds", 1e-3)])
def test_growth(value, unit):
    rows = [
        {
            "loss": loss,
            "axis": axis,
            "value": v,
            value: unit * v,
            f"measured_{value}": 1.1 * unit * v if v < 50 else NAN,
        }
        for loss in ("ce", "sce")
        for axis, values in (("catalog_size", (10, 100)), ("batch_size", (8, 64)))
        for v in values
    ]
    spec = growth_panels_spec(pd.DataFrame(rows), value)
    lines = [t for t in figure(spec).data if t.mode == "lines"]
    marks = [t for t in figure(spec).data if t.mode == "markers"]
    assert [(t.xaxis, t.line.color) for t in lines] == [
        (x, LOOKS[loss].color) for x in ("x", "x2") for loss in ("ce", "sce")
    ]
    assert list(lines[0].y) == [10 * unit, 100 * unit]
    assert [list(t.x) for t in marks] == [[10], [10], [8], [8]]
    low, high = (10**end for end in spec["layout"]["yaxis"]["range"])
    assert low < 8 * unit
    assert high > 100 * unit
    assert spec["layout"]["yaxis"]["range"] == spec["layout"]["yaxis2"]["range"]


def cells(done=True):
    rows = [
        {"n_buckets": n, "bucket_size_y": y, "bucket_size_x": 64 // n, "NDCG@10": (n + seed) / 100 if done else NAN}
        | {"coverage": n / 64, "captured_mass": y / 64}
        for n, y in ((4, 8), (4, 16), (16, 8))
        for seed in (0, 2)
    ]
    return pd.DataFrame(rows)


def test_heat():
    spec = heat_spec(cells(), "n_buckets", "bucket_size_y", beside="bucket_size_x")
    quality, coverage, mass = figure(spec).data
    assert np.allclose(quality.z, [[0.05, 0.17], [0.05, NAN]], equal_nan=True)  # means of seeds
    assert coverage.z[0][1] == 0.25
    assert mass.z[1][0] == 0.25
    assert "<b>0.170</b><br>b<sub>x</sub> = 4" in texts(spec)
    assert "25%" in texts(spec)
    assert spec["layout"]["xaxis"]["ticktext"] == ["4", "16"]
    assert sum("b<sub>x</sub>" in text for text in texts(spec)) == 3  # no text where there is no cell
    empty = heat_spec(cells(done=False), "n_buckets", "bucket_size_y", values=("NDCG@10",))
    assert texts(empty)[1:] == ["·"] * 3


def test_settings():
    rows = [
        {"loss": loss, "catalog_size": c, "batch_size": b, "NDCG@10": c / 1000 + b / 1000 + seed / 100}
        for loss in ("ce", "sce")
        for c, b in ((10, 8), (100, 8), (100, 32))
        for seed in (0, 1)
    ]
    table = pd.DataFrame(rows).assign(hidden_size=64)
    at = {"catalog_size": 100, "batch_size": 8, "hidden_size": 64}  # the width was not varied, and has no panel
    spec = settings_spec(table, at, ["ce", "sce", "bce"], best={10: 0.9, 100: 0.8})
    traces = figure(spec).data
    lines = [t for t in traces if t.mode == "lines" and t.name != "best possible"]
    assert [list(t.x) for t in lines] == [[10, 100], [10, 100], [], [8, 32], [8, 32], []]
    assert list(lines[0].y) == pytest.approx([0.023, 0.113])
    marks = [t for t in traces if t.mode == "markers"]
    assert sorted(marks[0].y) == pytest.approx([0.018, 0.028, 0.108, 0.118])  # every seed
    best = [list(t.y) for t in traces if t.name == "best possible"]
    assert best == [[0.9, 0.8], [0.8, 0.8]]
    alone = settings_spec(table[["loss", "catalog_size", "NDCG@10"]], {"catalog_size": 10}, ["ce"])
    assert "xaxis2" not in alone["layout"]
    nothing = settings_spec(table.assign(**{"NDCG@10": NAN}), at, ["ce"])
    assert all(len(trace["x"]) == 0 for trace in nothing["data"])
    assert len(nothing["data"]) == len(settings_spec(table, at, ["ce"])["data"])  # the same traces, so it can change


def test_against_seconds():
    curves = pd.DataFrame({"loss": ["ce", "ce", "sce"], "epoch": [1, 2, 1], "seconds": [3.0, 6.0, 1.0], "HR@10": [0.1, 0.2, 0.15]})  # fmt: skip  # noqa: E501
    spec = against_seconds_spec(curves, ["ce", "sce"])
    epochs, _, seconds, fast = figure(spec).data
    assert (list(epochs.x), list(seconds.x), list(fast.x)) == ([1, 2], [3.0, 6.0], [1.0])
    assert fast.line.color == LOOKS["sce"].color
    assert 10 ** spec["layout"]["xaxis2"]["range"][0] < 1 < 6 < 10 ** spec["layout"]["xaxis2"]["range"][1]
    empty = against_seconds_spec(curves.iloc[:0], ["ce", "sce"])
    assert len(empty["data"]) == len(spec["data"])


def test_ends():
    rows = [{"device": d, "loss": loss, "catalog_size": n} for d, n in (("small", 1_000), ("large", 90_000)) for loss in ("ce", "sce")]  # fmt: skip  # noqa: E501
    rows[0]["catalog_size"] = 0  # nothing fits
    spec = ends_spec(pd.DataFrame(rows))
    held, sce = figure(spec).data
    assert (list(held.x), list(held.text)) == ([90_000], ["large"])
    assert list(sce.x) == [1_000, 90_000]
    assert (np.round(sce.y) == [1, 0]).all()  # the first device on top
    assert spec["layout"]["yaxis"]["ticktext"] == ["large", "small"]


def test_beating():
    import torch

    generator = torch.Generator().manual_seed(0)
    rows = beating(torch.randn(9, 4, generator=generator), torch.randn(300, 4, generator=generator), 5, 30)
    law, counted = figure(beating_spec(rows)).data
    assert list(counted.y) == rows["share"].tolist()
    assert list(law.y) == rows["expected"].tolist()


def test_running_sums():
    import torch

    rows = running_sums(torch.tensor([0.0, 1.0, 5.0, 2.0]), 1)
    spec = running_sums_spec(rows)
    largest, m, log_sum, s, moved = figure(spec).data
    assert list(largest.y) == [0, 1, 5, 2]
    assert list(m.y) == [0, 1, 5, 5]
    assert log_sum.y[-1] == pytest.approx(math.log(1 + math.e + math.exp(5) + math.exp(2)), rel=1e-5)
    assert s.xaxis == moved.xaxis == "x2"
    assert list(moved.x) == [2, 3]


def test_timelines_share_a_scale():
    config = TrainingConfig(batch_size=8, max_length=5, hidden_size=8, n_blocks=1)
    both = {loss: predict_timeline(TrainingConfig(**vars(config) | {"loss": loss}), 2_000).moments for loss in ("ce", "sampled")}  # fmt: skip  # noqa: E501
    spec = timelines_spec(both)
    assert spec["layout"]["yaxis"]["range"] == spec["layout"]["yaxis2"]["range"]
    live = {t.xaxis: list(t.y) for t in figure(spec).data if t.mode == "lines"}
    assert live == {"x": both["ce"]["live"].tolist(), "x2": both["sampled"]["live"].tolist()}
    refs = {mark["xref"].split()[0] for mark in spec["layout"]["annotations"]}
    assert refs == {"x", "x2"}
    assert {"<b>ce</b>", "<b>sampled</b>"} <= set(texts(spec))

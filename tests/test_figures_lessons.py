"""The figures of the lessons: every number of a table is drawn, in the look of its loss."""

import pandas as pd
import pytest

from sce_lab.figures import (
    LOOKS,
    collapse_spec,
    estimates_spec,
    figure,
    found_spec,
    gradient_spec,
    mass_spec,
    pushes_spec,
)


def texts(spec):
    return " ".join(note["text"] for note in figure(spec).layout.annotations)


def test_found():
    rows = [(loss, rank, share / rank) for loss, share in (("sce", 0.5), ("sampled", 0.05)) for rank in (1, 2, 3)]
    spec = found_spec(pd.DataFrame(rows, columns=["loss", "rank", "found"]))
    sce, sampled = figure(spec).data
    assert list(sce.y) == [0.5, 0.25, 0.5 / 3]
    assert (sce.line.color, sampled.line.color) == (LOOKS["sce"].color, LOOKS["sampled"].color)
    assert "SCE" in texts(spec)
    assert "Sampled softmax" in texts(spec)


def test_collapse():
    rows = [{"mix_x": mix, "epoch": e, "coverage": 0.3 + mix / 10, "HR@10": e / 10, "captured_mass": 0.06} for mix in (False, True) for e in (1, 2)]  # fmt: skip  # noqa: E501
    spec = collapse_spec(pd.DataFrame(rows))
    traces = figure(spec).data
    assert [(t.name, t.xaxis) for t in traces] == [(n, x) for x in ("x", "x2", "x3") for n in ("Mix off", "Mix on")]
    assert list(traces[1].y) == [0.4, 0.4]
    assert list(traces[3].y) == [0.1, 0.2]
    assert {t.line.dash for t in traces} == {"solid", "dot"}


def test_masses():
    spec = mass_spec(pd.DataFrame([{"model": "a", "own": 0.4, "shared": 0.3, "captured": 0.1}]))
    own, shared, captured = figure(spec).data
    assert (own.x[0], shared.x[0], captured.x[0]) == (0.4, 0.3, 0.1)
    assert captured.marker.color == LOOKS["sce"].color
    assert captured.text[0].startswith("10.0%")


def test_gradients():
    rows = [{"loss": loss, "n_logits": 10 * n, "share": n / 100, "cosine": n / 10, "length": 5 / n} for loss in ("sce", "sampled") for n in (1, 5, 50)]  # fmt: skip  # noqa: E501
    spec = gradient_spec(pd.DataFrame(rows))
    cosine, length = figure(spec).data[:2]
    assert (list(cosine.y), list(length.y)) == ([0.1, 0.5, 5.0], [5.0, 1.0, 0.1])
    assert (cosine.xaxis, length.xaxis) == ("x", "x2")
    assert spec["layout"]["xaxis"]["type"] == "log"
    assert 10 ** spec["layout"]["xaxis"]["range"][0] < 0.01
    assert 10 ** spec["layout"]["xaxis"]["range"][1] == pytest.approx(0.7)
    assert spec["layout"]["shapes"][0]["y0"] == 1


def test_estimates():
    rows = [{"way": way, "corrected": c, "k": k, "loss": k / 100 + c, "spread": 0.1, "exact": 3.0} for way in ("uniform", "in-batch") for c in (False, True) for k in (10, 100)]  # fmt: skip  # noqa: E501
    spec = estimates_spec(pd.DataFrame(rows))
    traces = figure(spec).data
    drawn = {(trace.name, trace.xaxis): list(trace.y) for trace in traces}
    assert drawn == {(way, x): [0.1 + c, 1.0 + c] for way in ("uniform", "in-batch") for c, x in ((0, "x"), (1, "x2"))}
    assert {shape["y0"] for shape in spec["layout"]["shapes"]} == {3.0}
    assert spec["layout"]["yaxis"]["range"][1] >= 3


def test_pushes():
    rows = {"item": [4, 2, 7], "rank": [1, 2, 3], "exact": [0.5, 0.3, 0.1], "uniform": [0, 0, 0.8], "popularity": [0.6, 0, 0.2]}  # fmt: skip  # noqa: E501
    spec = pushes_spec(pd.DataFrame(rows))
    exact, _, uniform, _, _, popularity = figure(spec).data
    assert list(exact.y) == [0.5, 0.3, 0.1]
    assert (list(uniform.x), list(uniform.y)) == ([3], [0.8])
    assert list(popularity.x) == [1, 3]
    assert spec["layout"]["yaxis"]["range"][1] >= 0.8

"""The wall of real heads, driven from Python."""

import pytest

from sce_lab.figures import TAUGHT
from sce_lab.memory import HEADS, PUBLISHED_HEADS, format_bytes, predict_head, tables
from sce_lab.widgets import HeadWall
from sce_lab.widgets.lessons.head_wall import TOKENS


@pytest.fixture(scope="module")
def wall():
    return HeadWall()


def trace(wall, name):
    return next(t for t in wall._figure.widget.current["data"] if t.get("name") == name)


def test_it_shows_what_is_predicted_and_moves_with_its_controls(wall):
    for changes in ({}, {"n_tokens": 2_048}, {"head": "gpt2", "dtype": "float32"}, {"loss": "sce", "frozen": True}):
        for name, value in changes.items():
            wall.controls[name].value = value
        wall.settle()
        step = wall.settings
        how = {"dtype": step.dtype, "frozen": step.frozen}
        use = predict_head(HEADS[step.head], step.loss, step.n_tokens, **how)
        *_, mark, bars = wall._figure.widget.current["data"]
        assert (mark["x"], mark["y"]) == ([step.n_tokens], [use.total])
        assert bars["x"] == [use.total, use.workspace, use.gradients, use.inputs]
        lines = {row["loss"] for row in wall.results()["curves"]}
        assert lines == set(TAUGHT)
        line = trace(wall, "Cross-entropy")
        assert line["x"].tolist() == list(TOKENS)
        assert line["y"].tolist() == [predict_head(HEADS[step.head], "ce", n, **how).total for n in TOKENS]
        for loss in TAUGHT:
            found = predict_head(HEADS[step.head], loss, step.n_tokens, **how)
            assert format_bytes(found.total) in wall._fits.value


def test_what_others_measured_is_marked_where_it_was_measured(wall):
    wall.controls["dtype"].value, wall.controls["frozen"].value = "bfloat16", False
    for head in ("llama_3", "gemma_2", "gpt2"):
        wall.controls["head"].value = head
        wall.settle()
        marks = [t for t in wall._figure.widget.current["data"] if t.get("name") == "measured by others"]
        expected = sorted(row.n_tokens for row in PUBLISHED_HEADS if row.head == head)
        assert sorted(n for mark in marks for n in mark["x"]) == expected
    wall.controls["head"].value = "gemma_2"
    wall.controls["frozen"].value = True  # nobody measured that
    wall.settle()
    marks = [t for t in wall._figure.widget.current["data"] if t.get("name") == "measured by others"]
    assert [len(mark["x"]) for mark in marks] == [0, 0]


def test_the_table_of_others_has_sources():
    found = tables.heads()
    assert len(found) == len(PUBLISHED_HEADS)
    assert {where.split(", ")[0] for where in found["where it stands"]} == {
        "apple/ml-cross-entropy",
        "linkedin/Liger-Kernel",
    }
    assert ("cut-cross-entropy", "1.14 GiB") in list(zip(found["measured by others"], found[""]))

import json

import numpy as np
import pytest

from sce_lab.figures import LOOKS, training_spec
from sce_lab.widgets.results import write_results
from sce_lab.widgets.stage import Canvas, machine, stage, table, text
from sce_lab.widgets.style import CSS


def spec(y, color="red", title="one"):
    return {
        "data": [{"type": "scatter", "x": np.arange(len(y)), "y": np.array(y, float), "line": {"color": color}}],
        "layout": {"title": {"text": title}, "shapes": []},
    }


def sent(canvas, new):
    """What showing ``new`` sends to the front end."""
    messages = []
    canvas.widget.observe(lambda change: messages.append(change.new), "_py2js_update")
    canvas.show(new)
    return [m for m in messages if m is not None]


def test_a_canvas_takes_on_the_new_look_and_stays_the_same_widget():
    canvas = Canvas(spec([1, 2]))
    widget, trace = canvas.widget, canvas.widget.data[0]
    canvas.show(spec([3, 4, 5], title="two"))
    assert canvas.widget is widget
    assert canvas.widget.data[0] is trace
    assert list(trace.y) == [3, 4, 5]
    assert list(trace.x) == [0, 1, 2]
    assert widget.layout.title.text == "two"


def test_only_what_changed_is_sent_in_one_message():
    canvas = Canvas(spec([1, 2, np.nan]))
    assert sent(canvas, spec([1, 2, np.nan])) == []
    messages = sent(Canvas(spec([1, 2])), spec([1, 3]))
    assert len(messages) == 1
    assert set(messages[0]["style_data"]) == {"y"}


def test_a_canvas_refuses_another_number_of_traces():
    with pytest.raises(ValueError, match="2 traces for a figure of 1"):
        Canvas(spec([1])).show({"data": spec([1])["data"] * 2, "layout": {}})


def test_a_live_update_is_small():
    y = {loss: np.random.default_rng(0).random(300) for loss in LOOKS}
    import pandas as pd

    def history(scale):
        steps = {"kind": "step", "step": np.arange(300), "epochs": np.arange(300) / 100}
        return {loss: pd.DataFrame({**steps, "loss": scale * y[loss]}) for loss in LOOKS}

    canvas = Canvas(training_spec(history(1), {}))
    (message,) = sent(canvas, training_spec(history(2), {}))
    assert len(json.dumps(message, default=str)) < 60_000  # a few hundred numbers, not the whole figure


def test_the_style_follows_the_theme_and_marks_the_losses():
    assert "--jp-ui-font-color1" in CSS
    for look in LOOKS.values():
        assert look.color in CSS
    assert "sce-lab" in stage(text("hello"))._dom_classes


def test_a_table_is_html_and_an_empty_one_is_nothing():
    made = table([{"name": "<b>x</b>", "n & m": "2"}], left=("name",))
    assert "<th>n &amp; m</th>" in made
    assert '<td class="sce-left"><b>x</b></td>' in made
    assert table([]) == ""


def test_the_machine_is_described():
    assert set(machine()) == {"processor", "GPU", "memory", "PyTorch"}
    assert "GiB" in machine()["memory"] or "MiB" in machine()["memory"]


def test_results_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "there" / "results.json"
    write_results(str(path), {"a": np.float64(1.5), "b": [np.int64(2)], "c": np.arange(2)})
    assert json.loads(path.read_text()) == {"a": 1.5, "b": [2], "c": [0, 1]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results(str(path), {"a": float("nan")})
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        write_results(str(path), {"a": object()})
    assert json.loads(path.read_text())["a"] == 1.5
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]
    write_results("", {"a": 1})

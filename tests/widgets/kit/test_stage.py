import json

import numpy as np
import pytest

from sce_lab.figures import LOOKS, Curves, training_spec
from sce_lab.widgets.kit.plot import Engine
from sce_lab.widgets.kit.results import write_results
from sce_lab.widgets.kit.stage import Canvas, machine, stage, table, text
from sce_lab.widgets.kit.style import CSS


def spec(y, color="red", title="one"):
    return {
        "data": [{"type": "scatter", "x": np.arange(len(y)), "y": np.array(y, float), "line": {"color": color}}],
        "layout": {"title": {"text": title}, "shapes": []},
    }


def sent(canvas, new):
    """What showing ``new`` sends to the front end, as it arrives there."""
    messages = []
    canvas.widget.send = lambda content, buffers=None: messages.append(json.loads(json.dumps(content, allow_nan=False)))
    canvas.show(new)
    return messages


def test_a_canvas_takes_on_the_new_look_and_stays_the_same_widget():
    canvas = Canvas(spec([1, 2]))
    widget = canvas.widget
    canvas.show(spec([3, 4, 5], title="two"))
    assert canvas.widget is widget
    assert list(widget.data[0].y) == [3, 4, 5]
    assert list(widget.data[0].x) == [0, 1, 2]
    assert widget.layout.title.text == "two"


def test_only_what_changed_is_sent_in_one_message():
    canvas = Canvas(spec([1, 2, np.nan]))
    assert sent(canvas, spec([1, 2, np.nan])) == []
    assert sent(canvas, spec([1, np.nan, np.inf])) == [{"data": {"0": {"y": [1, None, None]}}, "layout": {}}]
    assert sent(canvas, spec([1, np.nan, np.inf], title="two")) == [{"data": {}, "layout": {"title": {"text": "two"}}}]


def test_a_page_that_is_opened_later_gets_the_figure_as_it_is_now():
    canvas = Canvas(spec([1, 2]))
    canvas.show(spec([5, 6], title="two"))
    state = canvas.widget.get_state()["spec"]
    assert state["data"][0]["y"] == [5, 6]
    assert state["layout"]["title"] == {"text": "two"}
    assert "font" in state["layout"]["template"]["layout"]
    json.dumps(state, allow_nan=False)


def test_plotly_is_brought_once_however_many_figures_there_are():
    boxes = [stage(Canvas(spec([1])).widget) for _ in range(3)]
    engines = {child for box in boxes for child in box.children if isinstance(child, Engine)}
    assert len(engines) == 1
    assert len(engines.pop().source) > 1_000_000
    assert len(json.dumps(Canvas(spec([1])).widget.get_state(), default=str)) < 20_000


def test_a_canvas_refuses_another_number_of_traces():
    with pytest.raises(ValueError, match="2 traces for a figure of 1"):
        Canvas(spec([1])).show({"data": spec([1])["data"] * 2, "layout": {}})


def test_a_live_update_is_small():
    y = {loss: np.random.default_rng(0).random(300) for loss in LOOKS}

    def curves(scale):
        return {loss: Curves(np.arange(300) / 100, scale * y[loss]) for loss in LOOKS}

    canvas = Canvas(training_spec(curves(1), {}))
    (message,) = sent(canvas, training_spec(curves(2), {}))
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

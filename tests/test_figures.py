import colorsys
import itertools
import re

import numpy as np
import pandas as pd
import pytest

from sce_lab import figures
from sce_lab.figures import (
    INK,
    LOOKS,
    METRICS,
    TAUGHT,
    Curves,
    comparison_page,
    data_spec,
    insight_spec,
    label,
    look,
    memory_figure,
    memory_spec,
    memory_wall,
    nice_ceiling,
    run_names,
    style,
    training_figure,
    training_spec,
    write_comparison_page,
)
from sce_lab.figures.memory import NEAR, ROOM
from sce_lab.losses import LOSSES
from sce_lab.memory import MemoryUse
from sce_lab.runs import Run, compare_runs, record
from sce_lab.training import Trainer, TrainingConfig
from sce_lab.widgets.kit.live import Snapshot

MIB = 2**20


@pytest.fixture
def memory():
    return pd.DataFrame(
        {"loss": loss, **MemoryUse(10 * MIB, 10 * MIB, 20 * MIB, 5 * MIB, work * MIB, (45 + work) * MIB).as_dict()}
        for loss, work in (("ce", 900), ("sampled", 10), ("sce", 30))
    )


@pytest.fixture
def histories():
    def history(level):
        steps = pd.DataFrame({"kind": "step", "step": np.arange(1, 21), "epoch": 0, "loss": np.linspace(7, level, 20)})
        scores = pd.DataFrame(
            {"kind": "evaluation", "step": [10, 20], "epoch": [1, 2], "HR@10": [0.1, 0.2 * level / 6]}
        )
        return pd.concat([steps, scores.assign(**{"NDCG@10": scores["HR@10"] / 2})], ignore_index=True)

    return {"ce": history(5), "sce": history(6)}


MILLISECONDS = {
    "ce": {"forward": 4, "loss_forward": 10, "loss_backward": 20, "backward": 5, "optimizer": 1},
    "sce": {"forward": 4, "loss_forward": 3, "loss_backward": 2, "backward": 5, "optimizer": 1},
}


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def as_hex(rgb):
    return "#" + "".join(f"{int(part):02x}" for part in re.findall(r"\d+", rgb)[:3])


def test_every_loss_has_a_look_and_no_two_share_colour_dash_or_marker():
    assert list(LOOKS) == list(LOSSES)
    assert [look(loss) for loss in LOSSES] == list(LOOKS.values())
    for part in ("color", "dash", "symbol"):
        assert len({getattr(look, part) for look in LOOKS.values()}) == len(LOOKS)
    with pytest.raises(KeyError):
        LOOKS["new loss"]
    assert look("new loss") not in LOOKS.values()
    assert label("ce") == "Cross-entropy"
    assert label("new loss") == "new loss"


@pytest.mark.parametrize("page", ["#ffffff", "#111111"])
def test_colours_and_text_can_be_seen_on_light_and_dark_pages(page):
    for each in LOOKS.values():
        assert contrast(each.color, page) >= 3  # WCAG's bound for graphics
    assert contrast(as_hex(INK), page) >= 4


def test_colours_stay_apart_for_colour_blind_people():
    taught = {loss: LOOKS[loss] for loss in TAUGHT}  # the others differ in dash and marker
    # deuteranopia and protanopia, Viénot et al. 1999, in linear RGB
    for matrix in (
        np.array([[0.293, 0.707, 0], [0.293, 0.707, 0], [-0.022, 0.022, 1]]),
        np.array([[0.112, 0.888, 0], [0.112, 0.888, 0], [0.004, -0.004, 1]]),
    ):
        seen = [matrix @ [int(each.color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for each in taught.values()]
        for one, other in itertools.combinations(seen, 2):
            assert np.abs(one - other).max() > 0.15
    hues = {
        loss: colorsys.rgb_to_hsv(*(int(each.color[i : i + 2], 16) for i in (1, 3, 5)))[0]
        for loss, each in taught.items()
    }
    assert abs(hues.pop("cce") - hues["ce"]) < 0.08  # relatives
    assert len({round(h, 1) for h in hues.values()}) == 3


def test_relatives_can_be_told_apart_in_grey():
    assert contrast(LOOKS["cce"].color, "#ffffff") > 1.4 * contrast(LOOKS["ce"].color, "#ffffff")


def test_backgrounds_are_transparent_and_text_is_the_ink_that_pages_replace(memory):
    shown = memory_figure(memory)
    template = shown.layout.template.layout
    assert template.paper_bgcolor == template.plot_bgcolor == "rgba(0, 0, 0, 0)"
    assert template.font.color == INK
    assert INK in figures.THEME_CSS


def bar_ends(shown):
    bars = [trace for trace in shown.data if trace.type == "bar"]
    return np.sum([bar.x for bar in bars], axis=0)


def test_memory_bars_end_at_the_peak_and_say_how_much(memory):
    shown = memory_figure(memory)
    assert bar_ends(shown) == pytest.approx(memory["peak"])
    texts = [
        re.sub("<.*?>", "", t).strip()
        for trace in shown.data
        if trace.type == "scatter" and trace.mode == "text"
        for t in trace.text
    ]
    assert texts == ["945 MiB", "55 MiB", "75 MiB", "900 MiB", "10 MiB", "30 MiB"]
    assert list(shown.layout.yaxis.ticktext) == ["Cross-entropy  ", "Sampled softmax  ", "SCE  "]
    assert shown.layout.xaxis2.type == "log"


def test_memory_parts_that_peak_at_another_time_do_not_lengthen_the_bar(memory):
    memory["loss_workspace"] *= 3
    assert bar_ends(memory_figure(memory)) == pytest.approx(memory["peak"])


def test_memory_has_outlines_only_of_what_was_different(memory):
    before = memory.copy()
    before.loc[2, ["peak", "loss_workspace"]] *= 2
    shown = memory_figure(memory, before=before)
    (outlines,) = [trace for trace in shown.data if trace.name == "before" and trace.mode == "lines"]
    there = np.isfinite(outlines.x)
    assert np.nanmax(outlines.x) == 150 * MIB
    assert set(np.round(outlines.y[there])) == {0.0}  # only around the third bar, which stands lowest
    (none,) = [trace for trace in memory_figure(memory).data if trace.name == "before" and trace.mode == "lines"]
    assert not np.isfinite(none.x).any()


def test_a_small_move_leaves_the_layout_of_the_memory_as_it_is(memory):
    numbers = list(memory.columns.drop("loss"))
    moved = memory.copy()
    moved[numbers] = moved[numbers] * 1.01
    plain, ghosts = memory_spec(memory, free=2**50), memory_spec(moved, before=memory, free=2**50)
    assert repr(ghosts["layout"]) == repr(plain["layout"])  # then only bars move, which is quick to draw
    moved[numbers] = moved[numbers] * 10
    assert repr(memory_spec(moved)["layout"]) != repr(plain["layout"])


def test_memory_axes_hold_everything_that_is_drawn(memory):
    shown = memory_figure(memory, measured={"ce": 5000 * MIB}, free=4000 * MIB)
    assert shown.layout.xaxis.range[1] > 5000 * MIB
    low, high = (10**v for v in shown.layout.xaxis2.range)
    assert low < memory["loss_workspace"].min()
    assert high > memory["loss_workspace"].max()
    assert [s.visible for s in shown.layout.shapes if s.type == "line"] == [True]
    assert any("3.91 GiB free" in a.text and a.visible for a in shown.layout.annotations)


def test_words_of_changes_do_not_lie_on_one_another():
    moved = [(1.0, {"n_negatives": 32}), (7.9, {"n_negatives": 48}), (8.0, {"n_negatives": 64})]
    changes = {"sampled": moved, "sce": [(8.5, {"mix_x": False})]}
    layout = figures.training_spec({}, {}, epochs=10, changes=changes)["layout"]
    words = [each["text"] for each in layout["annotations"] if "→" in each["text"]]
    assert len(words) == 1  # one block of lines for what stands near, none for what is long ago
    assert [re.sub("<[^>]+>", "", line) for line in words[0].split("<br>")] == ["negatives → 64", "Mix → off"]
    lines = [each for each in layout["shapes"] if each["x0"] in (1.0, 7.9, 8.0, 8.5)]
    assert len(lines) == 4 * 3


def test_a_panel_says_how_much_room_its_title_and_names_need(memory):
    for spec in (memory_spec(memory), figures.training_spec({}, {}), insight_spec(None, {})):
        layout = spec["layout"]
        titles = [each["text"] for each in layout["annotations"] if each["text"].startswith("<b>")]
        widths = layout["meta"]["widths"]
        assert len(widths) == len(titles)
        for title, width in zip(titles, widths):
            assert width > 6.2 * len(re.sub("<[^>]+>", "", title))  # bold letters of 12 pixels


def test_what_was_before_does_not_hold_the_axis(memory):
    before = memory.assign(peak=1000 * memory["peak"], loss_workspace=memory["loss_workspace"] / 1000)
    plain, shown = memory_figure(memory), memory_figure(memory, before=before)
    assert shown.layout.xaxis == plain.layout.xaxis
    (outlines,) = [trace for trace in shown.data if trace.name == "before" and trace.mode == "lines"]
    bars = (1 - ROOM[0]) * plain.layout.xaxis.range[1]
    assert np.nanmax(outlines.x) == pytest.approx(bars)  # it ends where the axis does
    assert shown.layout.xaxis2 == plain.layout.xaxis2
    near = memory.assign(peak=2 * memory["peak"], loss_workspace=memory["loss_workspace"] / [1, NEAR - 1, 1])
    low = 10 ** memory_figure(memory, before=near).layout.xaxis2.range[0]
    assert low < near["loss_workspace"].min() < 10 ** plain.layout.xaxis2.range[0]


def test_free_memory_far_beyond_is_not_drawn(memory):
    shown = memory_figure(memory, free=2**50)
    assert not any(s.visible for s in shown.layout.shapes)


def test_a_measured_peak_is_a_diamond(memory):
    shown = memory_figure(memory, measured={"sce": 70 * MIB})
    (diamonds,) = [t for t in shown.data if t.name == "measured peak"]
    assert np.isnan(diamonds.x[0])
    assert diamonds.x[2] == 70 * MIB


def test_specs_keep_their_traces_whatever_is_known(memory):
    plain, full = memory_spec(memory), memory_spec(memory, before=memory * 1, measured={"ce": 1e9}, free=1e9)
    assert [t["type"] for t in plain["data"]] == [t["type"] for t in full["data"]]
    assert len(plain["layout"]["shapes"]) == len(full["layout"]["shapes"])
    empty, some = figures.training_spec({}, {}), figures.training_spec({"ce": Snapshot().curves}, {})
    assert len(empty["data"]) == len(some["data"])


def test_nothing_known_yet_is_an_empty_figure_too():
    zeros = dict.fromkeys(MemoryUse.__dataclass_fields__, 0)
    memory_figure(pd.DataFrame([{"loss": loss, **zeros} for loss in LOOKS]))
    training_figure({}, {})


@pytest.mark.parametrize("largest", [1, 900, 5 * MIB, 1.3 * 2**30, 7 * 2**40])
def test_byte_axes_have_a_few_distinct_binary_ticks(largest):
    axis = style.bytes_axis(largest)
    assert axis["range"][1] >= largest
    assert 2 <= len(axis["tickvals"]) <= 8
    assert len(set(axis["ticktext"])) == len(axis["ticktext"])
    log = style.log_bytes_axis(largest, 5000 * largest)
    assert 2 <= len(log["tickvals"]) <= 8
    assert len(set(log["ticktext"])) == len(log["ticktext"])


@pytest.mark.parametrize(("value", "end"), [(0.41, 0.5), (9.99, 10), (10, 10), (1.01, 1.5), (0, 1), (float("nan"), 1)])
def test_nice_ceilings(value, end):
    assert nice_ceiling(value) == pytest.approx(end)


def test_the_wall_is_drawn_over_catalog_size_with_what_is_free():
    points = pd.DataFrame(
        {"loss": loss, "catalog_size": size, "peak": size * weight}
        for loss, weight in (("ce", 9000), ("sce", 300))
        for size in (1_000, 10_000, 100_000)
    )
    shown = memory_wall(points, free=2**29)
    assert [trace.name for trace in shown.data] == ["Cross-entropy", "SCE"]
    assert list(shown.data[0].y) == [9e6, 9e7, 9e8]
    assert list(shown.layout.xaxis.ticktext) == ["1,000", "10,000", "100,000"]
    assert shown.layout.shapes[0].y0 == 2**29
    low, high = shown.layout.yaxis.range
    assert 10**low < 3e5
    assert 10**high > 9e8
    assert len(memory_wall(points, free=2**50).layout.shapes) == 0


def test_training_curves_run_over_epochs_in_the_look_of_their_loss(histories):
    shown = training_figure(histories, MILLISECONDS, ceiling={"HR@10": 0.6, "NDCG@10": 0.3}, epochs=5)
    by_panel = {(t.xaxis, t.name): t for t in shown.data if t.type == "scatter" and t.mode != "text"}
    ce = by_panel["x", "Cross-entropy"]
    assert ce.x[-1] == 2.0
    assert ce.y[-1] == 5.0
    assert list(by_panel["x2", "SCE"].x) == [1, 2]
    assert list(by_panel["x3", "SCE"].y) == pytest.approx([0.05, 0.1])
    assert len(by_panel["x2", "Sampled softmax"].x) == 0
    for loss in LOOKS:
        for panel in ("x", "x2", "x3"):
            assert by_panel[panel, label(loss)].line.color == look(loss).color
            assert by_panel[panel, label(loss)].line.dash == look(loss).dash
    assert 5 < shown.layout.xaxis.range[1] < 5.5  # the last marker is whole
    assert shown.layout.yaxis2.range[1] > 0.6
    assert [s.y0 for s in shown.layout.shapes] == [0.6, 0.3]
    assert "<b>HR@10, at best 0.60</b>" in [a.text for a in shown.layout.annotations]


@pytest.mark.parametrize(("cov", "least", "most"), [(0.002, 0.05, 0.05), (0.3, 0.3, 0.6)])
def test_the_axis_of_cov_holds_what_is_drawn_and_has_ticks_that_differ(cov, least, most):
    """Its ticks are whole per cent: of a catalog hardly recommended they would all say 0 %."""
    curves = Curves(scored=np.ones(1), metrics={"COV@10": np.array([cov])})
    _, high = insight_spec(None, {"sce": curves})["layout"]["yaxis2"]["range"]
    assert least <= high <= most


def test_without_a_ceiling_no_line_is_drawn(histories):
    assert not any(s.visible for s in training_figure(histories, {}).layout.shapes)


def test_time_bars_stack_forward_and_backward_to_the_whole_step(histories):
    shown = training_figure(histories, MILLISECONDS)
    bars = {t.name: t for t in shown.data if t.type == "bar"}
    at, seconds = list(LOOKS).index("sce"), {"ce": 40, "sce": 15}
    assert list(np.sum([bar.y for bar in bars.values()], axis=0)) == [seconds.get(loss, 0) for loss in LOOKS]
    assert bars["loss backward"].y[0] == 20
    assert bars["encoder backward, Adam"].y[at] == 6
    assert bars["loss forward"].marker.pattern.shape == "/"
    assert bars["loss backward"].marker.color == tuple(look(loss).color for loss in LOOKS)
    words = tuple(f"<b>{seconds[loss]} ms</b>" if loss in seconds else "" for loss in LOOKS)
    assert shown.data[-1].text == words


def test_runs_are_numbered_only_where_a_loss_has_several():
    assert run_names(["ce", "sce", "sce"]) == ["Cross-entropy", "SCE 1", "SCE 2"]


@pytest.fixture
def runs(tmp_path, cycle_split):
    config = {"max_epochs": 2, "batch_size": 16, "hidden_size": 8, "n_blocks": 1}
    for number, loss in enumerate(("ce", "sampled", "ce")):
        list(record(Trainer(TrainingConfig(loss=loss, seed=number, **config), cycle_split), tmp_path / str(number)))
    return [Run(tmp_path / str(number)) for number in range(3)]


def test_recorded_runs_become_a_page(runs, tmp_path):
    table = compare_runs(runs)
    pages = comparison_page(table, [run.history for run in runs])
    names = [trace.name for trace in pages[2].data]
    assert names == ["Cross-entropy 1", "Sampled softmax", "Cross-entropy 2"] * 2
    last = runs[0].history.query("kind == 'evaluation'")["HR@10"].iloc[-1]
    assert pages[2].data[0].y[-1] == last
    ms = np.sum([bar.x for bar in pages[1].data if bar.type == "bar"], axis=0)
    assert ms == pytest.approx(table["ms"])
    path = tmp_path / "page.html"
    write_comparison_page(path, runs)
    page = path.read_text()
    assert page.count('class="plotly-graph-div"') == 4
    assert "cdn.plot.ly" not in page.split("<h1>")[1].split("<script")[0]
    assert "light-dark(" in page
    assert f"{table['NDCG@10'][0]:.4f}" in page
    assert not re.search(r'<script[^>]+src=|<link[^>]+href="http', page)  # it needs no network


def test_an_interrupted_run_is_drawn_without_what_is_unknown(runs):
    (runs[1].folder / "summary.json").unlink()
    pages = comparison_page(compare_runs(runs), [run.history for run in runs])
    assert len(pages) == 4
    assert len(pages[3].data[1].x) == 0


def test_a_page_of_nothing_is_refused(runs, tmp_path):
    with pytest.raises(ValueError, match="no runs to compare"):
        write_comparison_page(tmp_path / "page.html", [])
    with pytest.raises(ValueError, match="3 runs but 1 histories"):
        comparison_page(compare_runs(runs), [runs[0].history])


def test_metrics_over_seconds_have_the_seconds_of_training_as_their_axis():
    curves = Curves(
        np.arange(1, 9) / 4, np.ones(8), np.array([1.0, 2.0]), dict.fromkeys(METRICS, np.array([0.1, 0.2])),
        seconds=np.array([3.0, 7.0]),
    )  # fmt: skip
    spec = training_spec({"ce": curves}, {}, epochs=5, against="seconds")
    traces = [t for t in spec["data"] if t.get("name") == "Cross-entropy" and len(t["x"])]
    assert [list(t["x"][-2:]) for t in traces] == [[1.75, 2.0], [3.0, 7.0], [3.0, 7.0]]
    assert spec["layout"]["xaxis"]["range"] == [0, pytest.approx(1.03 * 5)]  # the last markers are whole
    for panel in "23":
        assert 7 < spec["layout"][f"xaxis{panel}"]["range"][1] < 7.5
        assert spec["layout"][f"xaxis{panel}"]["title"]["text"] == "seconds of training"


def test_seconds_of_a_history_count_steps_that_were_not_kept():
    rows = [{"kind": "step", "step": s, "epoch": 0, "loss": 1.0, "seconds_forward": 0.5} for s in range(1, 5)]
    rows.append({"kind": "evaluation", "step": 4, "epoch": 1, "HR@10": 0.3})
    assert list(Curves.of(pd.DataFrame(rows)).seconds) == [2.0]
    assert list(Curves.of(pd.DataFrame(rows[::2])).seconds) == [2.0]


def test_several_seeds_are_a_mean_and_a_band():
    def run(*values, pace=1.0):
        epochs = np.arange(1.0, 1 + len(values))
        return Curves(scored=epochs, metrics={"HR@10": np.array(values)}, seconds=pace * epochs)

    mean = Curves.mean([run(0.1, 0.2, 0.3), run(0.3, 0.6)])
    assert list(mean.metrics["HR@10"]) == pytest.approx([0.2, 0.4, 0.3])  # of those that are as far
    paced = Curves.mean([run(0.1, 0.2, 0.3), run(0.3, 0.6, pace=3.0)])
    assert list(paced.seconds) == [2.0, 4.0, 5.0]
    x, y = mean.band("HR@10")
    assert list(x) == [1, 2, 3, 3, 2, 1]
    assert list(y) == [0.3, 0.6, 0.3, 0.3, 0.2, 0.1]
    bands = [t for t in training_spec({"sce": mean}, {})["data"] if t.get("fill") and len(t["x"])]
    assert [t["xaxis"] for t in bands] == ["x2"]
    alone = run(0.1)
    assert Curves.mean([alone]) is alone
    assert not len(alone.band("HR@10")[0])


@pytest.mark.parametrize("per_second", [1, 10**3, 10**9])
def test_interactions_over_time_are_drawn_at_their_days_in_any_unit(per_second):
    times = np.array([1_714_521_600, 1_714_608_000]) * per_second
    bars = data_spec(np.ones(2, int), times, True)["data"][1]["x"]
    assert (bars[0][:10], bars[-1][:10]) == ("2024-05-01", "2024-05-01")
    assert bars[0] < bars[-1]

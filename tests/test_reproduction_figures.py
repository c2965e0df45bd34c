"""Figures of reproductions show the table's and the records' numbers, in the losses' looks."""

import numpy as np
import pandas as pd
import pytest

from sce_lab.figures import Curves, curves_figure, figure, live_spec, look, quality_memory_spec, results_figure
from sce_lab.figures.style import GREY

NAN = float("nan")


def row(model, published, loss, value, sd=NAN, workspace=NAN):
    return {
        "dataset": "amazon_beauty",
        "published": published,
        "model": model,
        "loss": loss,
        "NDCG@10": value,
        "NDCG@10_sd": sd,
        "loss_workspace": workspace,
    }


@pytest.fixture
def table():
    return pd.DataFrame(
        [
            row("theirs", True, NAN, 0.054),
            row("one", False, "sce", 0.059, sd=0.001, workspace=8 * 2**20),
            row("two", False, "ce", 0.055, workspace=128 * 2**20),
        ]
    )


def test_results_are_ordered_with_their_memory(table):
    shown = results_figure(table)
    published, ours, seeds, memory = shown.data
    assert list(shown.layout.yaxis.ticktext) == ["theirs, published", "two", "one"]  # the best on top
    assert (list(published.x), list(published.y)) == ([0.054], [0])
    assert (list(ours.x), list(ours.y)) == ([0.055, 0.059], [1, 2])
    assert list(ours.marker.color) == [look("ce").color, look("sce").color]
    assert list(published.marker.color) == [GREY]
    assert list(published.marker.symbol) == ["diamond-open"]
    assert (list(seeds.x), list(seeds.y)) == (list(ours.x), list(ours.y))
    assert list(seeds.error_x.array) == list(seeds.error_x.arrayminus) == [0.0, 0.001]
    assert seeds.error_x.visible
    assert not ours.error_x.visible  # no ranks were kept: seeds only
    assert not published.error_x.visible
    assert list(memory.x) == [128 * 2**20, 8 * 2**20]
    assert list(memory.y) == [1, 2]
    assert list(memory.text) == ["128 MiB", "8 MiB"]


def test_quality_against_memory_has_a_mark_for_what_is_trained_tested_and_measured(table):
    known = table.assign(peak_memory=[NAN, 40 * 2**20, 200 * 2**20])
    known.loc[1, ["NDCG@10_low", "NDCG@10_high"]] = 0.056, 0.061
    untested = row("three", False, "bce", NAN, workspace=2**20) | {"peak_memory": 2**25}
    shown = figure(quality_memory_spec(pd.concat([known, pd.DataFrame([untested])], ignore_index=True)))
    (line, sce, ce), (_, sce_held, ce_held) = shown.data[:3], shown.data[3:]
    assert (list(sce.x), list(sce.y)) == ([40 * 2**20], [0.059])
    assert (list(ce.x), list(ce.y)) == ([200 * 2**20], [0.055])
    assert (list(sce_held.x), list(ce_held.x)) == ([8 * 2**20], [128 * 2**20])
    assert sce.error_y.array[0] == pytest.approx(0.002)  # to the ends of the interval
    assert sce.error_y.arrayminus[0] == pytest.approx(0.003)
    assert ce.error_y.array[0] == 0
    assert (list(line.x), list(line.y)) == ([40 * 2**20], [0.059])  # cross-entropy is beaten in both
    assert sce.marker.line.color == look("sce").color
    assert "one: 40 MiB" in sce.customdata[0]
    by_seeds = known.assign(**{"NDCG@10_low": NAN, "NDCG@10_high": NAN})
    assert figure(quality_memory_spec(by_seeds)).data[1].error_y.array[0] == pytest.approx(0.001)
    assert "nothing is trained" in quality_memory_spec(known.iloc[:1])["layout"]["annotations"][-1]["text"]


def test_what_needs_no_training_is_drawn_like_what_others_published_and_intervals_are_its_bars(table):
    untrained = row("popularity", False, NAN, 0.02) | {"NDCG@10_low": 0.018, "NDCG@10_high": 0.023}
    shown = results_figure(pd.concat([table, pd.DataFrame([untrained])], ignore_index=True))
    others, _, _, memory = shown.data
    assert shown.layout.yaxis.ticktext[0] == "popularity"
    assert list(others.marker.color) == [GREY, GREY]
    assert list(others.error_x.array) == pytest.approx([0.003, 0.0])
    assert list(others.error_x.arrayminus) == pytest.approx([0.002, 0.0])
    assert others.error_x.visible
    assert len(memory.x) == 2


def test_the_interval_over_users_and_the_spread_over_seeds_are_two_bars(table):
    table["NDCG@10_low"], table["NDCG@10_high"] = [NAN, 0.055, NAN], [NAN, 0.062, NAN]
    _, users, seeds, _ = results_figure(table).data
    assert list(users.error_x.array) == pytest.approx([0, 0.003])
    assert list(users.error_x.arrayminus) == pytest.approx([0, 0.004])
    assert list(seeds.error_x.array) == [0.0, 0.001]
    assert users.error_x.thickness < seeds.error_x.thickness
    assert users.text[1] == (
        "one: NDCG@10 0.0590, 95 % interval over users 0.0550 to 0.0620, standard deviation over seeds 0.0010"
    )
    assert users.text[0] == "two: NDCG@10 0.0550"
    assert seeds.marker.opacity == 0


def test_published_results_alone_can_be_drawn(table):
    assert len(results_figure(table[table["published"]]).data[1].x) == 0


def test_one_data_set_at_a_time(table):
    with pytest.raises(ValueError, match="amazon_beauty, gowalla"):
        results_figure(pd.concat([table, table.assign(dataset="gowalla")]))
    with pytest.raises(ValueError, match="no rows"):
        results_figure(table.iloc[:0])


def record(loss, values, best):
    curve = {"epoch": list(range(1, 1 + len(values))), "NDCG@10": values}
    seed = {"curve": curve, "best_epoch": best, "validation": {"NDCG@10": values[best - 1]}}
    return {"config": {"loss": loss}, "seeds": [seed, None]}


def test_curves_have_their_best_epoch_marked():
    records = [record("sce", [0.1, 0.3, 0.2], 2), record("ce", [0.1, 0.2], 2), record("sce", [0.2], 1)]
    shown = curves_figure(records, ["A", "B", "C"])
    lines, dots = shown.data[::2], shown.data[1::2]
    assert [line.name for line in lines] == ["A", "B", "C"]
    assert list(lines[0].y) == [0.1, 0.3, 0.2]
    assert [(dot.x[0], dot.y[0]) for dot in dots] == [(2, 0.3), (2, 0.2), (1, 0.2)]
    assert [line.line.color for line in lines] == [look(loss).color for loss in ("sce", "ce", "sce")]
    assert [line.line.dash for line in lines] == ["solid", "solid", "dot"]  # two of one loss can be told apart
    assert tuple(shown.layout.xaxis.range) == (0, 3)
    assert not any(dot.showlegend for dot in dots)


def test_a_live_run_is_drawn_over_the_recorded_one():
    recorded = {"epoch": [1, 2, 3], "NDCG@10": [0.1, 0.2, 0.3]}
    curves = Curves(scored=np.array([1.0, 2.0]), metrics={"NDCG@10": np.array([0.15, 0.4])})
    spec = live_spec("sce", curves, recorded=recorded, epochs=22)
    before, now = spec["data"]
    assert (list(before["x"]), list(before["y"])) == (recorded["epoch"], recorded["NDCG@10"])
    assert (list(now["x"]), list(now["y"])) == ([1, 2], [0.15, 0.4])
    assert now["line"]["color"] == look("sce").color
    assert spec["layout"]["xaxis"]["range"] == [0, 22]
    assert spec["layout"]["yaxis"]["range"][1] >= 0.4
    assert spec["layout"]["showlegend"]
    empty = live_spec("sce", Curves(), epochs=22)
    assert not empty["layout"]["showlegend"]
    assert [len(trace["x"]) for trace in empty["data"]] == [0, 0]

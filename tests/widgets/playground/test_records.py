"""Runs are folders: they come back after a kernel restart, go and come again, and can be repeated in code."""

import base64
import dataclasses
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import filelock
import numpy as np
import pandas as pd
import pytest

from sce_lab.data import open_split
from sce_lab.figures import LOOKS
from sce_lab.runs import Ranks, Run, compare_runs, list_runs
from sce_lab.runs import record as recorded
from sce_lab.training import Trainer
from sce_lab.widgets import Playground
from sce_lab.widgets.playground.numbers import numbers
from sce_lab.widgets.playground.records import FILE, restore
from sce_lab.widgets.playground.repeat import as_code, command, python_call
from sce_lab.widgets.playground.settings import Settings

TINY = {"catalog_size": 200, "epochs": 2, "batch_size": 64, "n_buckets": 16, "bucket_size_x": 32, "bucket_size_y": 32}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs, made once: their folders, and what the page that made them said of them."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCE_LAB_RUNS", str(folder))
        made = Playground(**TINY, losses=("sampled", "sce"))
        assert made.start()
        made.wait(120)
        return folder, made.results()["runs"]


@pytest.fixture
def page(trained, runs_folder):
    """A page in a new kernel, so to speak, that finds the two."""
    shutil.copytree(trained[0], runs_folder)
    made = Playground(**TINY)
    yield made
    made.reset()


def without_clock(run):
    clock = ("seconds", "milliseconds", "measured_memory", "loss_first", "folder")
    return {k: v for k, v in run.items() if k not in clock}


def test_runs_come_back_in_a_new_kernel_as_they_were(trained, page, runs_folder):
    before, again = trained[1], page
    after = again.results()["runs"]
    assert [without_clock(run) for run in after] == [without_clock(run) for run in before]
    assert after[0]["measured_memory"]["peak"] == before[0]["measured_memory"]["peak"]
    lines = dict(zip(LOOKS, again.view.charts.training.widget.data))
    assert [len(lines[loss].x) for loss in ("sampled", "sce")] == [94, 94]
    again.controls["losses"].value = "ce"
    again.start()
    again.wait(60)
    assert [run["number"] for run in again.results()["runs"]] == [1, 2, 3]
    table = compare_runs(list_runs(runs_folder))  # what `sce-lab runs` shows
    assert sorted(table["loss"]) == ["ce", "sampled", "sce"]
    assert table["NDCG@10"].notna().all()
    assert not list(runs_folder.glob("*/checkpoint*"))  # no weights: a large catalog would fill the disk
    json.dumps(again.results(), allow_nan=False)


def test_a_run_that_the_kernel_did_not_live_to_end_is_there_as_far_as_it_came(page, runs_folder):
    first = Run(page.runs[0].folder)
    (first.folder / "summary.json").unlink()
    second = Run(page.runs[1].folder)
    (second.folder / "summary.json").unlink()
    (second.folder / "history.parquet").unlink()
    sampled, sce = restore()
    assert (sampled.snapshot.state, sampled.snapshot.step, sampled.metrics[1]) == ("interrupted", 94, False)
    assert sampled.metrics[0]["NDCG@10"] > 0
    assert sce.snapshot.state == "interrupted"
    assert "before its first evaluation" in str(sce.snapshot.error)
    opened = Playground(**TINY)
    said = opened.view.transport.status.value
    assert "Runs 1 and 2 (Sampled softmax, SCE) were interrupted after 2.0 of 2 epochs" in said
    assert "Start trains anew" in said
    assert "resume" not in said  # there are no weights to go on with
    assert "interrupted" in opened.view.compare.table.rows[0]["cells"]["settings"]["html"]


def test_a_training_whose_kernel_ends_is_interrupted_and_can_go_on_in_a_shell(runs_folder):
    page = Playground(**TINY | {"epochs": 3}, losses=("sce",))
    page.results()
    page.start(steps=60)
    until(lambda: page.session.live.state == "paused")
    page.session.live.leave()  # as at the end of a kernel
    page.wait(30)
    folder = page.runs[0].folder
    assert not (folder / "summary.json").exists()
    sentence = Playground().view.transport.status.value
    assert "Run 1 (SCE) was interrupted after 1.0 of 3 epochs" in sentence
    assert f"sce-lab train --resume {folder}" in sentence
    split, _ = open_split("synthetic", catalog_size=200, seed=0)
    events = list(recorded(Trainer(page.settings.config("sce"), split), folder, checkpoint=True))
    assert events[-1].epoch == 3
    (again,) = restore()
    assert (again.snapshot.state, again.number) == ("finished", 1)


def test_a_run_that_another_kernel_records_is_not_called_interrupted(page):
    (page.runs[1].folder / "summary.json").unlink()
    with filelock.FileLock(page.runs[1].folder / ".lock"):
        assert [each.snapshot.state for each in restore()] == ["finished", "running"]
        assert "interrupted" not in Playground(**TINY).view.transport.status.value
    assert [each.snapshot.state for each in restore()] == ["finished", "interrupted"]


def test_runs_keep_their_numbers(page):
    page.remove([1])
    assert [each.number for each in restore()] == [2]
    page.start()
    page.wait(60)
    assert [each.number for each in restore()] == [2, 3]
    content = json.loads((page.runs[0].folder / FILE).read_text())
    (page.runs[0].folder / FILE).write_text(json.dumps(content | {"number": 3}))  # two pages gave it at once
    assert sorted(each.number for each in restore()) == [3, 4]


@pytest.mark.parametrize("content", ["", "{", "{}", '{"shown": true, "settings": {"n_bucket": 3}}', "[]"])
def test_a_folder_that_cannot_be_read_is_passed_over(page, content):
    (page.runs[0].folder / FILE).write_text(content)
    assert [record.loss for record in restore()] == ["sce"]


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def one_of(folder):
    """The folder of the newer run of two, SCE's."""
    return next(path for path in folder.iterdir() if "sce" in path.name)


def in_json(name, **changes):
    """A damage: other values in one of a run's JSON files."""

    def damage(folder):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def in_history(change):
    """A damage: another history."""

    def damage(folder):
        path = folder / "history.parquet"
        change(pd.read_parquet(path)).to_parquet(path, index=False)

    return damage


DAMAGES = {
    "unknown loss": in_json(FILE, loss="bpr"),
    "a loss that is a number": in_json(FILE, loss=3),
    "an unknown setting": in_json(FILE, settings={"n_bucket": 3}),
    "settings of another kind": in_json(FILE, settings=[1]),
    "predictions of another kind": in_json(FILE, predicted_memory="much"),
    "a prediction that is no number": in_json(FILE, predicted_memory={"peak": "much"}),
    "a catalog of no number": in_json(FILE, catalog_size="many"),
    "no ceiling": in_json(FILE, ceiling=None),
    "a ceiling of no number": in_json(FILE, ceiling={"HR@10": "high"}),
    "bytes that are no text": lambda folder: (folder / FILE).write_bytes(b"\xff\xfe\x00"),
    "a page file that is a folder": lambda folder: [(folder / FILE).unlink(), (folder / FILE).mkdir()],
    "config without a configuration": lambda folder: (folder / "config.json").write_text("{}"),
    "config that is null": lambda folder: (folder / "config.json").write_text("null"),
    "config of another loss": in_json("config.json", config={"loss": "bpr"}),
    "config of unknown fields": in_json("config.json", config={"los": "sce"}),
    "a summary cut short": lambda folder: (folder / "summary.json").write_text('{"reason"'),
    "a summary that is a list": lambda folder: (folder / "summary.json").write_text("[]"),
    "a summary of other fields": in_json("summary.json", mood="good"),
    "times that are no numbers": in_json("summary.json", ms={"forward": "fast"}),
    "memory that is no number": in_json("summary.json", memory=dict.fromkeys(("parameters", "peak"), "x")),
    "metrics that are no numbers": in_json("summary.json", test={"HR@10": "good", "NDCG@10": 0.1}),
    "other metrics": in_json("summary.json", test={"MRR": 0.1}),
    "a history cut short": lambda folder: (folder / "history.parquet").write_bytes(b"PAR1"),
    "a history without kinds": in_history(lambda history: history.drop(columns="kind")),
    "a history without steps": in_history(lambda history: history.drop(columns="step")),
    "a history without losses": in_history(lambda history: history.drop(columns="loss")),
    "losses that are no numbers": in_history(lambda history: history.assign(loss="low")),
    "metrics of other names": in_history(lambda history: history.rename(columns={"HR@10": "hits@10"})),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_page_opens_whatever_stands_in_a_folder_and_says_which_it_passes_over(trained, runs_folder, damage):
    shutil.copytree(trained[0], runs_folder)
    folder = one_of(runs_folder)
    DAMAGES[damage](folder)
    page = Playground(**TINY)
    assert [run["loss"] for run in page.results()["runs"]][:1] == ["sampled"]
    shown = [record.folder for record in page.runs]
    said = html.unescape(page.view.compare._said.value)
    assert (folder in shown) != (folder.name in said)
    if damage == "unknown loss":
        assert f"{folder.name} cannot be read (ValueError: losses are {', '.join(LOOKS)}, got 'bpr')" in said
    page.reset()


def test_only_the_newest_are_read_back(page):
    assert [record.loss for record in restore(limit=1)] == ["sce"]


def test_removed_runs_stay_away_until_undo_brings_them_back(page):
    folders = [record.folder for record in page.runs]
    page.remove([1])
    assert [record.number for record in page.runs] == [2]
    assert [record.loss for record in restore()] == ["sce"]
    page.reset()
    assert page.runs == []
    assert restore() == []
    assert all(folder.exists() for folder in folders)
    page.undo()
    assert [record.number for record in page.runs] == [2]
    page.undo()
    assert [record.number for record in page.runs] == [1, 2]
    assert len(page.view.compare.table.rows) == 2
    assert [record.loss for record in restore()] == ["sampled", "sce"]


def test_undo_takes_gestures_and_states_back_one_by_one():
    page = Playground(**TINY)
    first = page.settings
    for value in (24, 32, 48):
        page.controls["n_buckets"].value = value  # one gesture
    page.controls["bucket_size_y"].value = 64
    page.apply({"catalog_size": 500, "losses": ["ce"]})
    page.undo()
    assert (page.settings.catalog_size, page.settings.losses) == (200, ("sce",))
    page.undo()
    assert (page.settings.n_buckets, page.settings.bucket_size_y) == (48, 32)
    page.undo()
    assert page.settings == first
    page.undo()  # nothing left
    assert page.settings == first
    assert page.view.transport.buttons["undo"].disabled


def test_a_drag_is_one_gesture_however_long_it_rests(monkeypatch):
    page, now = Playground(**TINY), [100.0]
    monkeypatch.setattr("sce_lab.widgets.playground.dials.time", SimpleNamespace(monotonic=lambda: now[0]))
    first, slider = page.settings, page.controls["n_buckets"]

    def drag(*labels):
        slider.set_state({"grip": slider.grip + 1})
        for label in labels:
            now[0] += 10
            slider.set_state({"label": label})
        slider.set_state({"grip": slider.grip + 1})

    drag("24", "32", "48")
    now[0] -= 10 - 0.1
    drag("64", "96")  # another drag, however soon
    page.undo()
    assert page.settings.n_buckets == 48
    page.undo()
    assert page.settings == first


def test_runs_that_cannot_be_kept_are_trained_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("SCE_LAB_RUNS", str(tmp_path / "a file"))
    page = Playground(**TINY)
    assert page.start()
    page.wait(60)
    assert "cannot be kept" in page.view.transport.status.value
    assert page.results()["runs"][0]["state"] == "finished"
    page.reset()


def test_two_runs_picked_are_laid_over_one_another(page):
    compare = page.view.compare
    assert "Pick two runs" in compare._difference.value
    compare.table.selected = [2, 1]
    assert [trace.name for trace in compare.overlay.widget.data[:2]] == ["run 2", "run 1"]
    assert len(compare.overlay.widget.data[0].x) == 94
    two, one = (record.metrics[0]["NDCG@10"] for record in (page.runs[1], page.runs[0]))
    assert f"{two / one:.3g} ×" in compare._difference.value
    assert '<td class="sce-left">run 2 / run 1</td>' in compare._difference.value  # which by which
    page.remove([1])
    assert compare.table.selected == [2]


def test_of_two_picked_runs_it_is_said_whether_they_are_told_apart(page):
    """The same users, with the same ranks and with clearly worse ones."""
    compare = page.view.compare
    ranks = [record.folder / "ranks.npz" for record in page.runs]
    known = Ranks.read(ranks[0])
    for change, sentence in (
        (known.ranks, "In NDCG@10 the two are not told apart: +0.000, 95 % interval over 3,000 test users [+0.000"),
        (known.ranks + 5, "In NDCG@10 run 1 is ahead of run 2: +0."),
    ):
        Ranks(change.astype("int32"), known.repeats).write(ranks[1])
        compare.table.selected = []
        compare.table.selected = [1, 2]
        assert sentence in compare._difference.value
    ranks[1].write_bytes(b"nonsense")
    compare.table.selected = []
    compare.table.selected = [1, 2]
    assert "ranks.npz holds no ranks, or is damaged" in compare._difference.value
    ranks[1].unlink()
    compare.table.selected = [2]
    compare.table.selected = [1, 2]
    assert "told apart" not in compare._difference.value


def test_the_pareto_chart_holds_every_run_and_its_frontier(page):
    data = page.view.compare.pareto.widget.data
    frontier, points = data[0], {trace.name: trace for trace in data[1 : 1 + len(LOOKS)]}
    for record, name in zip(page.runs, ("Sampled softmax", "SCE")):
        assert points[name].y[0] == record.metrics[0]["NDCG@10"]
        assert points[name].x[0] == record.snapshot.memory.peak
    assert max(frontier.y) == max(record.metrics[0]["NDCG@10"] for record in page.runs)


def test_the_csv_holds_what_the_table_shows(page):
    link = page.view.compare._link.value
    content = re.search(r'href="data:text/csv;base64,([^"]+)"', link)[1]
    frame = pd.read_csv(io.BytesIO(base64.b64decode(content)))
    assert list(frame["loss"]) == ["sampled", "sce"]
    assert list(frame["peak_bytes"]) == [record.snapshot.memory.peak for record in page.runs]
    assert frame["NDCG@10"][1] == pytest.approx(page.runs[1].metrics[0]["NDCG@10"], abs=1e-6)
    assert frame["run"].tolist() == [1, 2]
    assert frame["mix_x"].dtype == bool
    assert 'download="sce-lab-runs.csv"' in link


def test_the_page_is_written_beside_the_runs(page, runs_folder):
    assert page.view.compare.write_page() == runs_folder / "playground.html"
    written = (runs_folder / "playground.html").read_text()
    assert "plotly-graph-div" in written
    cells = re.findall("<td>(.*?)</td>", written.split("</table>")[0])
    row = len(cells) // 2
    assert [cells[0], cells[row]] == ["1. Sampled softmax", "2. SCE"]
    assert cells[row + 1].startswith("Synthetic, C = 200, batch 64, 16 buckets of 32 × 32, Mix")
    page.reset()
    assert page.view.compare.write_page() is None
    assert "no runs to compare" in page.view.compare._said.value


def test_the_code_of_a_run_repeats_it(page, tmp_path):
    settings = Settings(
        **TINY | {"hidden_size": 32, "seed": 3, "epochs": 1}, losses=("sampled", "sce"), sampling="popularity"
    )
    page.apply(settings)
    page.start()
    page.wait(120)
    for record in page.runs[2:]:
        expected = Run(record.folder).history.query("kind == 'step'")["loss"].to_numpy()
        words = command(settings, record.loss).split()
        assert words[:2] == ["sce-lab", "train"]
        environment = os.environ | {"SCE_LAB_RUNS": str(tmp_path / record.loss), "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [sys.executable, "-m", "sce_lab.cli", *words[1:]], check=True, env=environment, capture_output=True
        )
        (run,) = list_runs(tmp_path / record.loss)
        np.testing.assert_allclose(run.history.query("kind == 'step'")["loss"], expected)
        printed = []
        code = python_call(settings, record.loss).replace("print(", "printed.append((").replace('.4f}")', '.4f}"))')
        exec(code, {"printed": printed})
        scores = Run(record.folder).history.query("kind == 'evaluation'")["NDCG@10"]
        assert [score for _, score in printed] == [f"{value:.4f}" for value in scores]
        assert command(settings, record.loss) in as_code(record)


def test_a_long_history_on_disk_is_bounded(tmp_path, cycle_split):
    from sce_lab.training import Trainer, TrainingConfig

    config = TrainingConfig(loss="ce", max_epochs=40, patience=100, batch_size=8, hidden_size=8, n_blocks=1)
    events = list(recorded(Trainer(config, cycle_split), tmp_path / "run", checkpoint=False, max_rows=50))
    steps = [event.loss for event in events if hasattr(event, "n_positions")]
    history = Run(tmp_path / "run").history
    kept = history[history["kind"] == "step"]
    assert len(steps) > 200
    assert len(kept) < 100
    assert kept["step"].is_monotonic_increasing
    assert kept["step"].max() > 0.9 * len(steps)
    assert (history["kind"] == "evaluation").sum() == 40
    assert pd.notna(history["loss"][0])


@pytest.fixture
def on_other_data(page):
    """The page, with a third run that learned from another world and did better."""
    better = dataclasses.replace(page.runs[0], number=3, settings=Settings(**TINY | {"catalog_size": 500}))
    better.catalog_size, finished = 500, better.snapshot.finished
    better.snapshot = dataclasses.replace(
        better.snapshot, finished=dataclasses.replace(finished, test={**finished.test, "NDCG@10": 0.9})
    )
    page.session.runs.append(better)
    page.view.compare.show(page.runs)
    return page


def drawn_in_the_frontier(page):
    traces = [trace for trace in page.view.compare.pareto.widget.data if trace.mode == "markers+text"]
    return sorted({int(text) for trace in traces for text in trace.text})


def test_runs_on_different_data_do_not_share_a_frontier(on_other_data):
    page = on_other_data
    assert drawn_in_the_frontier(page) == [3]  # the data of the newest
    assert "Runs on Synthetic, 500 items. 2 runs on other data are not drawn" in page.view.compare._which.value
    page.view.compare.table.selected = [1]
    assert drawn_in_the_frontier(page) == [1, 2]
    assert "200 items. 1 run on other data is not drawn" in page.view.compare._which.value
    page.remove([3])
    assert page.view.compare._which.value == ""


def test_quality_on_different_data_is_not_compared(on_other_data):
    compare = on_other_data.view.compare
    compare.table.selected = [1, 2]
    alike = compare._difference.value
    assert alike.count("×</td>") > 4
    assert "different data" not in alike
    compare.table.selected = [1, 3]
    assert compare._difference.value.count("×</td>") == alike.count("×</td>") - 3  # HR, NDCG and COV
    assert "their quality cannot be compared" in compare._difference.value


def test_the_curves_in_a_few_lines_are_of_the_same_data(on_other_data):
    table = numbers(on_other_data.assessment, on_other_data.runs)
    curves = table.split("on these data")[1].split("All runs")[0]
    assert "3. Sampled softmax" in curves
    assert "SCE" not in curves

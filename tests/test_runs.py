"""A run folder holds everything, survives a killed process, and compares with others."""

import dataclasses
import json

import pandas as pd
import pytest

from sce_lab.memory import measuring
from sce_lab.runs import Run, compare_runs, for_people, list_runs, new_run_folder, record, summarize_history
from sce_lab.training import Evaluated, StepDone, Trainer, TrainingConfig

SMALL = TrainingConfig(hidden_size=16, batch_size=16, max_length=8, max_epochs=3, learning_rate=1e-2)


def test_a_run_can_be_read_back(cycle_split, tmp_path):
    trainer = Trainer(SMALL, cycle_split, step=measuring(every=4))
    events = list(record(trainer, tmp_path / "a", {"source": "cycle"}))
    run = Run(tmp_path / "a")
    assert run.config == SMALL
    assert run.settings["source"] == {"source": "cycle"}
    assert run.settings["catalog_size"] == 12
    assert run.environment["versions"]["torch"]
    history = run.history
    steps, evaluations = history[history["kind"] == "step"], history[history["kind"] == "evaluation"]
    assert steps["loss"].tolist() == [e.loss for e in events if isinstance(e, StepDone)]
    assert evaluations["NDCG@10"].tolist() == [e.metrics["NDCG@10"] for e in events if isinstance(e, Evaluated)]
    assert steps["memory_peak"].notna().sum() == 3
    assert run.summary["test"] == events[-1].test
    assert run.summary["reason"] == "epochs"
    assert run.summary["memory"]["peak"] == steps["memory_peak"].max()
    assert not list(tmp_path.rglob("*.partial"))


def test_a_killed_run_continues_to_the_same_end(cycle_split, tmp_path):
    whole = Run(tmp_path / "whole")
    list(record(Trainer(SMALL, cycle_split), whole.folder))
    killed = Run(tmp_path / "killed")
    for event in record(Trainer(SMALL, cycle_split), killed.folder):
        if isinstance(event, StepDone) and event.step == 6:
            break  # what a killed kernel leaves behind
    assert killed.summary == {}
    assert killed.history["step"].max() == 4
    list(record(Trainer(SMALL, cycle_split), killed.folder))
    assert killed.summary["test"] == whole.summary["test"]
    columns = ["kind", "step", "epoch", "loss", "NDCG@10"]
    pd.testing.assert_frame_equal(killed.history[columns], whole.history[columns])


def test_a_stopped_run_keeps_the_steps_since_the_last_evaluation(cycle_split, tmp_path):
    trainer = Trainer(SMALL, cycle_split, stop=lambda: trainer.step >= 6)
    list(record(trainer, tmp_path))
    assert Run(tmp_path).summary["reason"] == "stopped"
    assert Run(tmp_path).history["step"].max() == 6
    resumed = list(record(Trainer(SMALL, cycle_split), tmp_path))
    assert next(e.step for e in resumed if isinstance(e, StepDone)) == 7
    assert Run(tmp_path).summary["reason"] == "epochs"


def test_resuming_with_other_settings_is_refused_and_loses_nothing(cycle_split, tmp_path):
    list(record(Trainer(SMALL, cycle_split), tmp_path))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="batch_size=16, not 8"):
        list(record(Trainer(dataclasses.replace(SMALL, batch_size=8), cycle_split), tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_times_leave_out_the_first_and_the_measured_steps():
    history = pd.DataFrame(
        {
            "kind": ["step"] * 4 + ["evaluation"],
            "seconds_forward": [9.0, 0.002, 7.0, 0.004, None],
            "memory_peak": [None, None, 50, None, None],
        }
    )
    assert summarize_history(history) == {"ms": {"forward": pytest.approx(3.0)}, "memory": {"peak": 50}}


def test_runs_are_listed_by_time_and_compared(cycle_split, tmp_path, monkeypatch):
    monkeypatch.setenv("SCE_LAB_RUNS", str(tmp_path))
    assert list_runs() == []
    for loss in ("ce", "sce"):
        folder = new_run_folder(label=loss)
        list(record(Trainer(dataclasses.replace(SMALL, loss=loss), cycle_split, step=measuring()), folder))
    interrupted = tmp_path / "zzz"
    next(record(Trainer(SMALL, cycle_split), interrupted))
    runs = list_runs()
    assert runs[-1].folder == interrupted
    table = compare_runs(runs)
    assert set(table["loss"]) == {"ce", "sce"}
    assert table["status"].tolist()[-1] == "interrupted"
    row = table[table["loss"] == "ce"].iloc[0]
    assert row["NDCG@10"] == json.loads((tmp_path / row["run"] / "summary.json").read_text())["test"]["NDCG@10"]
    assert row["ms"] > row["forward_ms"] > 0
    assert row["peak_memory"] > row["loss_workspace"] > 0
    people = for_people(table)
    assert set(people["loss"]) == {"Cross-entropy", "SCE"}
    assert people["peak memory"].str.match(r"[\d.]+ KiB$").tolist() == [True, True, False]
    assert people["NDCG@10"].tolist()[-1] == ""


def test_a_run_that_is_stopped_before_its_first_step_is_recorded_too(tmp_path, cycle_split):
    trainer = Trainer(TrainingConfig(loss="ce", hidden_size=8), cycle_split, stop=lambda: True)
    list(record(trainer, tmp_path / "run", checkpoint=False))
    run = Run(tmp_path / "run")
    assert run.summary["reason"] == "stopped"
    assert run.history.empty
    assert compare_runs([run])["status"][0] == "stopped"
    assert not run.checkpoint.exists()

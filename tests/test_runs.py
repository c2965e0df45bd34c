"""A run folder holds everything, survives a killed process, and compares with others."""

import dataclasses
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sce_lab.memory import measuring
from sce_lab.runs import (
    Ranks,
    Run,
    compare_runs,
    differences,
    for_people,
    list_runs,
    new_run_folder,
    record,
    summarize_history,
)
from sce_lab.runs.history import thinned
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


@pytest.mark.parametrize(
    ("of_other", "name", "how"),
    [
        ("checkpoint", "checkpoint.safetensors", "under torchrun with --shard-items"),
        ("checkpoint.safetensors", "checkpoint", "without --shard-items"),
    ],
)
def test_a_run_that_went_on_in_the_other_way_is_kept(cycle_split, tmp_path, of_other, name, how):
    list(record(Trainer(SMALL, cycle_split), tmp_path))
    (tmp_path / "checkpoint.safetensors").rename(tmp_path / of_other)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    trainer = Trainer(SMALL, cycle_split)
    trainer.checkpoint_name = name
    with pytest.raises(ValueError, match=f"has the checkpoint '{of_other}', of a run that goes on {how}"):
        list(record(trainer, tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_two_at_once_do_not_write_into_one_folder(cycle_split, tmp_path):
    first = record(Trainer(SMALL, cycle_split), tmp_path)
    next(first)
    with pytest.raises(ValueError, match="is being recorded by another process or cell"):
        next(record(Trainer(SMALL, cycle_split), tmp_path))
    first.close()  # dropped: the folder is free
    list(record(Trainer(SMALL, cycle_split), tmp_path))


def test_the_lock_of_a_killed_process_blocks_nobody(cycle_split, tmp_path):
    program = """if True:
        import sys, time, filelock
        lock = filelock.FileLock(sys.argv[1])
        lock.acquire()
        print("held", flush=True)
        time.sleep(600)
    """
    command = [sys.executable, "-c", program, str(tmp_path / ".lock")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="another process"):
            next(record(Trainer(SMALL, cycle_split), tmp_path))
    finally:
        process.kill()
        process.communicate()
    list(record(Trainer(SMALL, cycle_split), tmp_path))
    assert Run(tmp_path).summary["reason"] == "epochs"


def test_all_files_of_a_run_have_one_mode(cycle_split, tmp_path):
    before = os.umask(0o027)
    try:
        list(record(Trainer(SMALL, cycle_split), tmp_path / "run"))
    finally:
        os.umask(before)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (tmp_path / "run").iterdir()}
    assert set(modes) >= {
        "config.json",
        "environment.json",
        "history.parquet",
        "checkpoint.safetensors",
        "summary.json",
    }
    assert set(modes.values()) == {"0o640"}


@pytest.mark.parametrize("name", ["history.parquet", "checkpoint.safetensors"])
def test_a_full_disk_ends_a_run_that_can_be_continued(cycle_split, tmp_path, name, monkeypatch):
    whole = Run(tmp_path / "whole")
    list(record(Trainer(SMALL, cycle_split), whole.folder))
    run = Run(tmp_path / "full")
    events = record(Trainer(SMALL, cycle_split), run.folder)
    while not (isinstance(event := next(events), Evaluated) and event.epoch == 1):
        pass
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (run.folder / name).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))  # as if there were no space
    try:
        with pytest.raises(OSError, match=r"could not be written .*; what was there before is still there"):
            list(events)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(run.folder.glob("*.partial"))
    list(record(Trainer(SMALL, cycle_split), run.folder))
    assert run.summary["test"] == whole.summary["test"]
    assert run.history["loss"].dropna().tolist() == whole.history["loss"].dropna().tolist()


def test_a_resumed_run_that_has_not_ended_has_no_summary_of_an_end(cycle_split, tmp_path):
    list(record(Trainer(SMALL, cycle_split), tmp_path))
    events = record(Trainer(dataclasses.replace(SMALL, max_epochs=5), cycle_split), tmp_path)
    while not isinstance(next(events), StepDone):
        pass
    events.close()
    assert Run(tmp_path).summary == {}


def test_a_run_knows_its_data(cycle_split, tmp_path):
    list(record(Trainer(SMALL, cycle_split), tmp_path))
    row = compare_runs([Run(tmp_path)]).iloc[0]
    assert row["fingerprint"] == cycle_split.fingerprint
    assert row["test_users"] == len(cycle_split.test)


@pytest.mark.parametrize("label", ["../escaped", "a/b", "", "a b", "a\0b"])
def test_a_label_is_part_of_a_name(tmp_path, label):
    with pytest.raises(ValueError, match="label must be letters"):
        new_run_folder(tmp_path / "runs", label)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_runs_that_was_named_is_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nope"):
        list_runs(tmp_path / "nope")


def test_a_config_of_somebody_else_is_not_written_over(cycle_split, tmp_path):
    (tmp_path / "config.json").write_text('{"theme": "dark"}')
    with pytest.raises(ValueError, match=r"config.json is damaged or not of a run: it has no 'dataset'"):
        list(record(Trainer(SMALL, cycle_split), tmp_path))
    assert (tmp_path / "config.json").read_text() == '{"theme": "dark"}'


def test_a_change_to_a_word_is_in_the_history(cycle_split, tmp_path):
    trainer = Trainer(dataclasses.replace(SMALL, loss="sampled"), cycle_split)
    for event in record(trainer, tmp_path):
        if isinstance(event, StepDone) and event.step == 2:
            trainer.change(sampling="popularity", n_negatives=4)
    (change,) = Run(tmp_path).history.query("kind == 'change'").to_dict("records")
    assert (change["step"], change["changed_sampling"], change["changed_n_negatives"]) == (2, "popularity", 4.0)


def judged(folder, split, ranks, repeats=None, seen="exclude", loss="sce"):
    """A run folder that says so, without training."""
    config = TrainingConfig(seen=seen, loss=loss)
    settings = {
        "dataset": split,
        "source": {"source": split},
        "fingerprint": split,
        "config": dataclasses.asdict(config),
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings))
    ranks = np.asarray(ranks, dtype=np.int32)[None]
    Ranks(ranks, np.zeros(ranks.shape[1], bool) if repeats is None else repeats).write(folder / "ranks.npz")
    return Run(folder)


def test_a_bounded_history_keeps_the_largest_step_when_it_was_read_again(tmp_path):
    rows = [{"kind": "step", "step": i} | ({"memory_peak": float(i)} if i % 4 == 1 else {}) for i in range(8)]
    pd.DataFrame(rows).to_parquet(tmp_path / "h.parquet")
    again = pd.read_parquet(tmp_path / "h.parquet").to_dict("records")  # NaN where nothing was measured
    assert [row["step"] for row in thinned(again)] == [row["step"] for row in thinned(rows)] == [0, 2, 4, 5, 6]


def test_a_warning_of_a_run_points_at_whoever_goes_on_with_it(cycle_split, tmp_path):
    list(record(Trainer(SMALL, cycle_split), tmp_path / "run"))
    (tmp_path / "run" / "history.parquet").unlink()
    with pytest.warns(UserWarning, match="are not in its history") as caught:
        list(record(Trainer(SMALL, cycle_split), tmp_path / "run"))
    assert [Path(warning.filename).name for warning in caught] == ["test_runs.py"]


def test_ranks_are_kept_and_are_those_of_the_metrics(cycle_split, tmp_path):
    run = Run(tmp_path / "run")
    trainer = Trainer(SMALL, cycle_split)
    *_, finished = record(trainer, run.folder)
    assert np.array_equal(run.ranks.ranks[0], finished.ranking.ranks)
    for name in ("HR@5", "NDCG@10", "MRR@20"):
        assert run.ranks.gains(name).mean() == pytest.approx(finished.test[name])
    row = compare_runs([run]).iloc[0]
    assert row["HR@10_low"] <= row["HR@10"] <= row["HR@10_high"]
    assert (row["seen"], row["HR@10"]) == ("exclude", finished.test["HR@10"])
    assert "ranking" not in run.summary
    unseen = Run(tmp_path / "never")
    list(record(Trainer(SMALL, cycle_split, when_to_test="never"), unseen.folder))
    assert (unseen.ranks, unseen.summary["test"]) == (None, {})
    assert not (unseen.folder / "ranks.npz").exists()


def test_ranks_of_many_users_are_small(tmp_path):
    rng = np.random.default_rng(0)
    ranks = np.minimum(rng.zipf(1.2, 22_000), 12_000)
    assert (judged(tmp_path / "a", "x", ranks).folder / "ranks.npz").stat().st_size < 50_000


def test_damaged_ranks_are_named(tmp_path):
    run = judged(tmp_path / "a", "x", [1, 2, 3])
    for content in (b"", b"nonsense", (run.folder / "ranks.npz").read_bytes()[:-30]):
        (run.folder / "ranks.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"ranks\.npz holds no ranks, or is damaged"):
            _ = run.ranks
    np.savez(run.folder / "ranks.npz", ranks=np.zeros((1, 3), np.int32), repeats=np.zeros(3, bool))
    with pytest.raises(ValueError, match=r"ranks\.npz is damaged"):
        _ = run.ranks


def test_differences_are_of_the_same_users_and_say_what_may_be_chance(tmp_path):
    rng = np.random.default_rng(0)
    hard = rng.integers(1, 40, 400)
    good = judged(tmp_path / "good", "x", np.maximum(1, hard - 3), loss="ce")
    same = judged(tmp_path / "same", "x", np.maximum(1, hard - 3 + rng.integers(-1, 2, 400)), loss="sce")
    bad = judged(tmp_path / "bad", "x", hard, loss="bce")
    other = judged(tmp_path / "other", "y", hard)
    kept = judged(tmp_path / "kept", "x", hard, seen="keep")
    found = {(d.better.name, d.worse.name): d.interval for d in differences([bad, good, same, other, kept])}
    assert set(found) in (
        {("good", "bad"), ("same", "bad"), ("good", "same")},
        {("good", "bad"), ("same", "bad"), ("same", "good")},
    )
    assert found["good", "bad"].told_apart
    assert found["same", "bad"].told_apart
    assert not next(i for pair, i in found.items() if "bad" not in pair).told_apart
    assert all(i.mean >= 0 and i.low <= i.mean <= i.high for i in found.values())
    assert differences([bad]) == []

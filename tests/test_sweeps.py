"""Sweeps: what is crossed, what is kept, and that nothing is trained twice."""

import itertools

import numpy as np
import pandas as pd
import pytest

from sce_lab.memory import DoesNotFitError, check_fits
from sce_lab.runs import Run, curve_of
from sce_lab.sweeps import (
    BEGUN,
    DONE,
    WAITING,
    Sweep,
    Trial,
    bucket_grid,
    grid,
    only,
    reached,
    told_apart,
    vary,
)
from sce_lab.training import Evaluated, StepDone, TrainingConfig, training_step

WORLD = {"source": "synthetic", "catalog_size": 120}
TINY = TrainingConfig(loss="sampled", hidden_size=8, n_blocks=1, max_length=8, batch_size=512, max_epochs=2)


def test_a_grid_crosses_fields_settings_of_the_loss_and_the_catalog():
    trials = grid(TINY, WORLD, n_negatives=[16, 64], seed=range(2), catalog_size=[120, 150])
    assert len(trials) == 8
    found = {(t.config.loss_settings["n_negatives"], t.config.seed, t.source["catalog_size"]) for t in trials}
    assert found == set(itertools.product((16, 64), (0, 1), (120, 150)))
    table = Sweep(trials).table()
    assert table[["catalog_size", "seed", "n_negatives"]].drop_duplicates().shape == (8, 3)
    assert (table["hidden_size"] == 8).all()
    with pytest.raises(ValueError, match="n_negative"):
        vary(TINY, n_negative=3)


def test_buckets_share_a_budget():
    config = TrainingConfig(loss="sce")
    trials = bucket_grid(config, 4096, [4, 16, 64], [16, 64], WORLD, most=64)
    sizes = [t.config.loss_settings for t in trials]
    assert all(s["n_buckets"] * s["bucket_size_x"] * s["bucket_size_y"] == 4096 for s in sizes)
    assert [(s["n_buckets"], s["bucket_size_y"]) for s in sizes] == [
        (4, 16),
        (4, 64),
        (16, 16),
        (16, 64),
        (64, 16),
        (64, 64),
    ]
    fewer = bucket_grid(config, 4096, [4, 16, 64], [16, 64], WORLD, most=16)
    assert all(t.config.loss_settings["bucket_size_x"] <= 16 for t in fewer)
    assert len(fewer) == 5  # 4 buckets of 16 items would be 64 positions each


def test_a_trial_is_named_by_what_decides_it():
    trial = Trial(TINY, WORLD)
    assert trial.name == Trial(vary(TINY, seed=0), dict(WORLD)).name
    others = [Trial(vary(TINY, seed=1), WORLD), Trial(TINY, WORLD | {"catalog_size": 130}), Trial(TINY, WORLD, "other")]
    assert len({trial.name, *(other.name for other in others)}) == 4
    assert Trial(vary(TINY, steps_per_epoch=2), dict(WORLD)).name != trial.name
    assert Trial(TrainingConfig()).name == "sce-af9c5b72fc81"  # as before that setting was there: folders are found
    assert len(Sweep([trial, trial]).trials) == 1
    with pytest.raises(ValueError, match="at least one trial"):
        Sweep([])


def test_what_is_done_is_not_done_again(tmp_path):
    trials = grid(TINY, WORLD, n_negatives=[8, 32])
    sweep = Sweep(trials, tmp_path)
    assert [sweep.state(t) for t in trials] == [WAITING, WAITING]
    assert sweep.table()["NDCG@10"].isna().all()
    events = [event for _, event in sweep.events()]
    assert sum(isinstance(event, Evaluated) for event in events) == 4
    assert sweep.left == []
    assert list(Sweep(trials, tmp_path).events()) == []
    assert not any(path.name == "checkpoint.safetensors" for path in tmp_path.rglob("*"))
    more = Sweep(grid(TINY, WORLD, n_negatives=[8, 32, 64]), tmp_path)
    assert {trial.config.loss_settings["n_negatives"] for trial, _ in more.events()} == {64}
    assert all(run.summary["test"] == {} for run in map(sweep.run, trials))  # nobody looks at the test
    table = more.table()
    assert table["state"].tolist() == [DONE] * 3
    assert (table["NDCG@10"] > 0).all()
    assert (table["seconds"] > 0).all()
    assert table["n_negatives"].tolist() == [8, 32, 64]


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_one_that_was_interrupted_goes_on_and_ends_as_if_it_had_not_been(tmp_path, how):
    config = vary(TINY, batch_size=256, max_epochs=3)
    whole, broken = (
        Sweep([Trial(config, WORLD)], tmp_path / "whole"),
        Sweep([Trial(config, WORLD)], tmp_path / "broken"),
    )
    list(whole.events())
    evaluated = []
    events = broken.events(stop=lambda: how == "stopped" and len(evaluated) == 1)
    for _, event in events:
        evaluated += [event] if isinstance(event, Evaluated) else []
        if how == "killed" and len(evaluated) == 1 and isinstance(event, StepDone):
            break
    events.close()
    assert broken.state(broken.trials[0]) == BEGUN
    steps = [
        event.step for _, event in Sweep(broken.trials, tmp_path / "broken").events() if isinstance(event, StepDone)
    ]
    assert steps[0] == evaluated[0].step + 1  # from the end of the first epoch on
    columns = ["epochs", "HR@10", "NDCG@10", "COV@10"]
    pd.testing.assert_frame_equal(whole.table()[columns], broken.table()[columns])


def test_one_that_was_stopped_before_its_first_evaluation_is_begun_and_no_more(tmp_path):
    sweep, seen = Sweep([Trial(TINY, WORLD)], tmp_path), []
    for _, event in sweep.events(stop=lambda: bool(seen)):
        if isinstance(event, StepDone):
            seen.append(event)
    assert sweep.state(sweep.trials[0]) == BEGUN
    assert sweep.table()["NDCG@10"].isna().all()
    assert sweep.curves().empty


def test_only_what_is_new_is_read(tmp_path, monkeypatch):
    sweep = Sweep(grid(TINY, WORLD, n_negatives=[16, 64]), tmp_path)
    assert sweep.curves().empty
    for _ in sweep.events():
        pass
    curves, table, usual, read = sweep.curves(), sweep.table(), pd.read_parquet, []
    assert len(curves) == 4
    monkeypatch.setattr(pd, "read_parquet", lambda path: read.append(path) or usual(path))
    pd.testing.assert_frame_equal(sweep.curves(), curves)
    pd.testing.assert_frame_equal(sweep.table(), table)
    assert read == []
    written = sweep.run(sweep.trials[1]).folder / "history.parquet"
    history = usual(written)
    history.query("epoch < 2").to_parquet(written)
    assert len(sweep.curves()) == 3
    assert read == [written]


def test_a_file_that_has_changed_is_other_data(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("user,item,timestamp\n1,2,3\n")
    trial = Trial(TINY, {"source": str(file)})
    before = trial.name
    file.write_text("user,item,timestamp\n1,2,3\n1,3,4\n")
    assert trial.name != before


def test_two_pages_do_not_train_one_trial(tmp_path):
    sweep = Sweep([Trial(TINY, WORLD)], tmp_path)
    events = sweep.events()
    next(event for _, event in events if isinstance(event, StepDone))
    with pytest.raises(ValueError, match="is being recorded by another process or cell"):
        list(Sweep(sweep.trials, tmp_path).events())
    events.close()


def test_a_variant_trains_with_its_own_step(tmp_path):
    called = []

    def step(*arguments):
        called.append(1)
        return training_step(*arguments)

    plain, variant = Trial(TINY, WORLD), Trial(TINY, WORLD, "counted", step)
    list(Sweep([plain, variant], tmp_path).events())
    assert called
    table = Sweep([plain, variant], tmp_path).table()
    assert table["variant"].tolist() == ["", "counted"]
    assert table["NDCG@10"].nunique() == 1  # the same step, after all


def history():
    rows = []
    for step in range(1, 9):
        watched = step in (2, 5)
        rows.append(
            {"step": step, "epoch": (step - 1) // 4, "kind": "step", "seconds_forward": 9.0 if watched else 1.0}
        )
        rows[-1] |= {"memory_peak": 7.0 if step == 2 else np.nan, "coverage": 0.5 if step == 5 else np.nan}
        if step % 4 == 0:
            rows.append({"step": step, "epoch": step // 4, "kind": "evaluation", "HR@10": step / 10, "NDCG@10": 0.1})
    return pd.DataFrame(rows)


def test_seconds_are_those_of_training_without_what_was_measured():
    curve = curve_of(history())
    assert curve["epoch"].tolist() == [1, 2]
    assert curve["seconds"].tolist() == [4.0, 8.0]
    assert curve["HR@10"].tolist() == [0.4, 0.8]


def test_what_is_reached_after_some_seconds():
    assert "loss" in Sweep([Trial(TINY, WORLD)], "nowhere").curves()
    curves = pd.DataFrame({"loss": ["a", "a", "b"], "seconds": [1.0, 3.0, 4.0], "HR@10": [0.1, 0.3, 0.8]})
    assert reached(curves, 2.0, "HR@10").to_dict() == pytest.approx({"a": 0.2, "b": 0.4})
    assert only(curves, loss="a", seconds=3.0)["HR@10"].tolist() == [0.3]


def test_cells_that_differ_by_less_than_their_seeds_are_not_told_apart():
    rng = np.random.default_rng(0)
    rows = [
        (cell, 0.1 * far * cell + 0.01 * rng.standard_normal()) for cell in range(40) for _ in range(3) for far in [0]
    ]
    table = pd.DataFrame(rows, columns=["cell", "NDCG@10"])
    apart = told_apart(table, "NDCG@10", ["cell"])
    assert apart == pytest.approx(2 * 0.01 * (2 / 3) ** 0.5, rel=0.2)
    means = table.groupby("cell")["NDCG@10"].mean().to_numpy()
    pairs = np.abs(means[:, None] - means)[np.triu_indices(40, 1)]
    assert (pairs > apart).mean() < 0.1
    assert np.isnan(told_apart(table.groupby("cell", as_index=False).first(), "NDCG@10", ["cell"]))


def test_the_folder_of_a_trial_is_a_run_like_any_other(tmp_path):
    sweep = Sweep([Trial(vary(TINY, max_epochs=1), WORLD)], tmp_path)
    list(sweep.events())
    (folder,) = tmp_path.iterdir()
    assert Run(folder).config == sweep.trials[0].config
    assert Run(folder).settings["source"] == WORLD


def test_a_trial_on_changed_data_is_another_whatever_the_path_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "clicks").mkdir()
    rows = pd.DataFrame({"user": [1], "item": [2]})
    rows.to_parquet(tmp_path / "clicks" / "a.parquet")
    rows.to_csv(tmp_path / "clicks.csv")
    sources = [str(tmp_path / "clicks"), str(tmp_path / "clicks.csv"), "~/clicks", "~/clicks.csv"]
    names = lambda: [Trial(TINY, {"source": source}).name for source in sources]  # noqa: E731
    before = names()
    assert names() == before
    rows.to_parquet(tmp_path / "clicks" / "b.parquet")
    with (tmp_path / "clicks.csv").open("a") as file:
        file.write("1,3\n")
    assert not set(names()) & set(before)


def test_a_trial_that_does_not_fit_is_said_when_the_others_are_trained(tmp_path, monkeypatch):
    def check(config, *rest, **named):
        if config.seed == 0:
            raise DoesNotFitError("seed 0 is too large")
        return check_fits(config, *rest, **named)

    monkeypatch.setattr("sce_lab.sweeps.check_fits", check)
    sweep = Sweep(grid(TINY, WORLD, seed=range(2)), tmp_path)
    with pytest.raises(DoesNotFitError, match="seed 0 is too large"):
        list(sweep.events())
    assert [sweep.state(trial) for trial in sweep.trials] == [WAITING, DONE]


def test_a_trial_that_diverges_is_said_when_the_others_are_trained(tmp_path):
    sweep = Sweep(grid(TINY, WORLD, learning_rate=[1e30, 1e-3]), tmp_path)
    with pytest.raises(FloatingPointError, match=r"try a learning_rate below 1e\+30"):
        list(sweep.events())
    assert [sweep.state(trial) for trial in sweep.trials] == [BEGUN, DONE]

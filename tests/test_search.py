"""The search: every loss has the same trials and budget, the test stays closed, and what is frozen can be trained."""

import dataclasses
import json

import pytest

from sce_lab.data import DATASETS
from sce_lab.losses import LOSSES
from sce_lab.metrics import rank_items
from sce_lab.reproduce import SEARCHES, Search, find_recipe, find_search, read_records, read_searches, search
from sce_lab.runs import record
from sce_lab.training import Trainer, TrainingConfig

PLAN = Search(
    "amazon_beauty",
    TrainingConfig(hidden_size=8, batch_size=16, max_length=8, max_epochs=7, patience=3),
    {"cce": {}, "sampled": {"n_negatives": 4}},
    {"learning_rate": (1e-4, 1e-3, 1e-2), "dropout": (0.1,)},
    rungs=((3, 1), (2, 3), (1, 4)),
)


@pytest.fixture
def folders(tmp_path):
    return {"runs": tmp_path / "runs", "results": tmp_path / "results"}


def trains(split, steps, stop_after=None):
    """A ``train_run`` that notes ``(learning rate, step)`` and may be stopped after so many steps in all."""

    def train_run(config, folder):
        stop = lambda: stop_after is not None and len(steps) >= stop_after  # noqa: E731
        for event in record(Trainer(config, split, stop=stop, when_to_test="never"), folder):
            if type(event).__name__ == "StepDone":
                steps.append((config.learning_rate, event.step))

    return train_run


def searched(split, folders, plan=PLAN, loss="cce", steps=None, stop_after=None):
    train_run = trains(split, [] if steps is None else steps, stop_after)
    return list(search(plan, loss, split, train_run, repeat="sce-lab search amazon_beauty --loss cce", **folders))


def test_the_best_go_on_from_where_they_were_and_the_best_of_them_is_frozen(cycle_split, folders):
    steps = []
    records = searched(cycle_split, folders, steps=steps)
    assert len(records) == 3 + 2 + 1
    assert not any("recipe" in record for record in records[:-1])
    found = records[-1]
    assert read_searches(folders["results"]) == [json.loads(json.dumps(found))]
    reached = {trial["settings"]["learning_rate"]: trial["epochs"] for trial in found["trials"]}
    assert reached == {1e-4: 1, 1e-3: 3, 1e-2: 4}  # a circle is learnt the sooner, the higher the rate
    per_epoch = 4
    assert len(steps) == len(set(steps)) == PLAN.budget * per_epoch == (3 + 2 * 2 + 1) * per_epoch
    assert found["chosen"] == {"learning_rate": 1e-2, "dropout": 0.1}
    for trial in found["trials"]:
        curve = trial["curve"]
        assert curve["epoch"] == list(range(1, trial["epochs"] + 1))
        assert max(curve["NDCG@10"]) == pytest.approx(trial["validation NDCG@10"], abs=1e-5)
        assert curve["NDCG@10"][trial["best_epoch"] - 1] == max(curve["NDCG@10"])
    assert (found["seed"], found["budget"], found["space"]) == (1000, 8, PLAN.space)


def test_what_was_interrupted_ends_as_if_it_had_not_been(cycle_split, folders, tmp_path):
    whole = searched(cycle_split, {name: tmp_path / "whole" / name for name in folders})[-1]
    for stop_after in (2, 9, 15):  # in the first epoch, between two trials, in the second rung
        assert "recipe" not in (searched(cycle_split, folders, stop_after=stop_after) or [{}])[-1]
    steps = []
    again = searched(cycle_split, folders, steps=steps)[-1]
    assert len(steps) < PLAN.budget * 4
    same = ("trials", "chosen", "recipe")
    assert {name: again[name] for name in same} == {name: whole[name] for name in same}
    assert searched(cycle_split, folders, steps=(more := []))[-1]["recipe"] == whole["recipe"]
    assert more == []


def test_what_a_search_found_is_kept_where_its_runs_are_gone(cycle_split, folders, tmp_path):
    whole = searched(cycle_split, folders)[-1]
    elsewhere = folders | {"runs": tmp_path / "elsewhere"}
    assert len(searched(cycle_split, elsewhere, stop_after=9)) == 2
    assert read_searches(folders["results"]) == [json.loads(json.dumps(whole))]
    again = searched(cycle_split, elsewhere)[-1]
    assert read_searches(folders["results"]) == [json.loads(json.dumps(again))]


def test_no_search_looks_at_the_test(cycle_split, folders, monkeypatch):
    def ranked(outputs, table, holdout, **settings):
        assert holdout is not cycle_split.test
        return rank_items(outputs, table, holdout, **settings)

    monkeypatch.setattr("sce_lab.training.evaluation.rank_items", ranked)
    assert "test" not in json.dumps(searched(cycle_split, folders)[-1]["trials"])


def test_the_frozen_recipe_is_what_is_trained_under_its_name(cycle_split, folders):
    with pytest.raises(ValueError, match=r"no recipe 'cce-searched' yet: sce-lab search amazon_beauty --loss cce"):
        find_recipe("amazon_beauty", "cce-searched", folders["results"])
    searched(cycle_split, folders)
    recipe = find_recipe("amazon_beauty", "cce-searched", folders["results"])
    assert recipe == PLAN.recipe("cce", {"learning_rate": 1e-2, "dropout": 0.1})
    assert recipe.config == dataclasses.replace(PLAN.config, loss="cce", learning_rate=1e-2, dropout=0.1)
    assert (recipe.config.max_epochs, recipe.config.patience) == (7, 3)
    assert "the best on validation of 3 trials" in recipe.note
    assert read_records(folders["results"]) == []  # a search is no record of a recipe


def test_a_folder_of_another_search_is_not_overwritten(cycle_split, folders):
    searched(cycle_split, folders)
    other = dataclasses.replace(PLAN, config=dataclasses.replace(PLAN.config, hidden_size=4))
    with pytest.raises(ValueError, match=r"holds a run with hidden_size=8, but the recipe says 4"):
        searched(cycle_split, folders, plan=other)


def test_searches_that_are_not_there_are_answered_with_those_that_are():
    with pytest.raises(ValueError, match="no search for 'behance'; there are searches for amazon_beauty"):
        find_search("behance", "sce")
    with pytest.raises(ValueError, match=r"the search of amazon_beauty has sce, .*, got 'ce'"):
        find_search("amazon_beauty", "ce")
    with pytest.raises(ValueError, match=r"the search of amazon_beauty has sce, .*, got 'ce'"):
        find_recipe("amazon_beauty", "ce-searched")


@pytest.mark.parametrize("plan", SEARCHES.values(), ids=list(SEARCHES))
def test_searches_are_complete_and_equal(plan):
    assert plan.dataset in DATASETS
    assert set(plan.losses) <= set(LOSSES)
    assert plan.rungs[0][0] == len(plan.grid)
    assert all(epochs % plan.config.evaluate_every == 0 for _, epochs in plan.rungs)
    assert [trials for trials, _ in plan.rungs] == sorted((trials for trials, _ in plan.rungs), reverse=True)
    for loss in plan.losses:
        for settings in plan.grid:
            trial = plan.trial(loss, settings, plan.rungs[0][1])
            assert trial.config.patience >= trial.config.max_epochs == plan.rungs[0][1]
            assert set(settings) == set(plan.space)


def test_the_command_searches_and_what_it_chose_is_trained_under_its_name(sce_lab, tmp_path, monkeypatch):
    monkeypatch.setenv("SCE_LAB_RUNS", str(tmp_path / "runs"))
    config = TrainingConfig(hidden_size=8, n_blocks=1, batch_size=1024, max_length=8, max_epochs=1)
    plan = Search("synthetic", config, {"sampled": {"n_negatives": 4}}, {"dropout": (0.1, 0.2)}, rungs=((2, 1),))
    monkeypatch.setitem(SEARCHES, "synthetic", plan)
    records = tmp_path / "records"
    status, out, _ = sce_lab("search", "synthetic", "--results", str(records))
    assert status == 0
    assert "sampled: 2 of 2 trials, best NDCG@10 0." in " ".join(out.split())
    (found,) = read_searches(records)
    assert found["repeat"] == "sce-lab search synthetic --loss sampled --device cpu"
    assert found["recipe"]["note"] in " ".join(out.split())
    words = ("synthetic", "--loss", "sampled-searched", "--results", str(records))
    assert sce_lab("reproduce", *words)[0] == 0
    (trained,) = read_records(records)
    assert (trained["recipe"], trained["config"]["dropout"]) == ("sampled-searched", found["chosen"]["dropout"])
    assert trained["repeat"] == "sce-lab reproduce synthetic --loss sampled-searched --device cpu"
    assert [seed["seed"] for seed in trained["seeds"]] == [0] != [found["seed"]]
    assert sce_lab("open-test", *words)[0] == 0
    status, _, err = sce_lab("search", "synthetic", "--loss", "sce", "--results", str(records))
    assert status == 2
    assert "the search of synthetic has sampled, got 'sce'" in " ".join(err.split())


def test_recorded_searches_are_those_that_are_declared_and_chose_their_best():
    for found in read_searches():
        plan = find_search(found["dataset"], found["loss"])
        declared = json.loads(json.dumps({"space": plan.space, "budget": plan.budget, "seed": plan.seed}))
        assert {name: found[name] for name in declared} == declared
        assert [trial["settings"] for trial in found["trials"]] == plan.grid
        last = [trial for trial in found["trials"] if trial["epochs"] == plan.rungs[-1][1]]
        assert len(last) == plan.rungs[-1][0]
        assert found["chosen"] == max(last, key=lambda trial: trial["validation NDCG@10"])["settings"]
        recipe = find_recipe(found["dataset"], f"{found['loss']}-searched")
        assert recipe.config == plan.recipe(found["loss"], found["chosen"]).config

"""Recipes, records and tables: what is asked is what is trained, and what is shown is what was recorded."""

import dataclasses
import json
import math
import re
import statistics
import warnings
from datetime import datetime

import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from sce_lab.data import DATASETS
from sce_lab.losses import LOSSES, make_loss
from sce_lab.memory import measuring
from sce_lab.metrics import rank_items
from sce_lab.reproduce import (
    PUBLISHED,
    RECIPES,
    Evidence,
    Recipe,
    find_recipe,
    for_readers,
    format_setting,
    glance_markdown,
    heading,
    judge_baselines,
    model_name,
    open_test,
    own_results,
    parse_setting,
    read_baselines,
    read_records,
    reproduce,
    results_folder,
    results_markdown,
    results_table,
    run_folder,
    update_file,
    withdrawn,
    write_baselines,
)
from sce_lab.reproduce.comparing import compare_records
from sce_lab.reproduce.records import best_model
from sce_lab.reproduce.writing import updated, with_results
from sce_lab.runs import Ranks, Run, record
from sce_lab.training import Trainer, TrainingConfig, evaluate, evaluate_together

TINY = Recipe(
    "amazon_beauty",
    "sce",
    TrainingConfig(hidden_size=8, batch_size=16, max_length=8, max_epochs=2, learning_rate=1e-2),
    "tiny",
)


@pytest.fixture
def folders(tmp_path):
    return {"runs": tmp_path / "runs", "results": tmp_path / "results"}


def trains(split, configs=None, stop_after=None):
    """A ``train_run`` that notes what it is given and may be stopped after so many steps in all."""
    steps = []

    def train_run(config, folder):
        if configs is not None:
            configs.append(config)
        trainer = Trainer(
            config,
            split,
            step=measuring(every=2),
            stop=lambda: stop_after is not None and len(steps) >= stop_after,
            when_to_test="never",
        )
        for event in record(trainer, folder):
            steps.append(event)

    return train_run


def made(split, folders, recipe=TINY, seeds=(0, 1), **options):
    command = {"repeat": "sce-lab reproduce amazon_beauty --seeds 2"}
    return list(reproduce(recipe, split, seeds, trains(split, **options), **command, **folders))


# ------------------------------------------------------------------------------------------------------------ recipes


@pytest.mark.parametrize("recipe", [r for recipes in RECIPES.values() for r in recipes.values()], ids=str)
def test_recipes_are_complete_and_can_be_trained(recipe):
    assert recipe.dataset in DATASETS
    assert find_recipe(recipe.dataset, recipe.name) is recipe
    assert recipe.note
    make_loss(recipe.config.loss, **recipe.config.loss_settings)
    assert recipe.config.device == "cpu"
    if recipe.reduced:
        smaller = recipe.for_cpu()
        assert smaller.config != recipe.config
        make_loss(smaller.config.loss, **smaller.config.loss_settings)


@pytest.mark.parametrize(
    ("dataset", "batch", "buckets", "size_y", "mix", "dropout"),
    [
        ("amazon_beauty", 1024, 202, 256, False, 0.6),
        ("gowalla", 2048, 882, 256, False, 0.3),
        ("behance", 256, 261, 64, True, 0.3),
        ("beeradvocate", 512, 615, 256, True, 0.3),
    ],
)
def test_the_papers_settings(dataset, batch, buckets, size_y, mix, dropout):
    config = RECIPES[dataset]["sce"].config
    assert (config.batch_size, config.dropout) == (batch, dropout)
    assert config.loss_settings == {
        "n_buckets": buckets,
        "bucket_size_x": buckets,
        "bucket_size_y": size_y,
        "mix_x": mix,
    }
    assert (config.hidden_size, config.n_blocks, config.n_heads, config.learning_rate) == (64, 2, 1, 1e-3)
    assert config.betas == (0.9, 0.98)


def test_losses_are_compared_under_the_same_settings():
    for dataset in ("gowalla_nyc", "gowalla_sepgcn", "epinions"):
        others = {("epinions", "ce"), (dataset, "race")}  # too large for them; another model
        names = [name for name in RECIPES[dataset] if (dataset, name) not in others]
        configs = [RECIPES[dataset][name].config for name in names]
        assert {config.loss for config in configs} <= set(LOSSES)
        assert len({config.loss for config in configs}) == len(configs) >= 3
        assert len({str(dataclasses.replace(c, loss="ce", loss_settings={})) for c in configs}) == 1


@pytest.mark.parametrize("dataset", ["gowalla_nyc", "gowalla_sepgcn"])
def test_the_races_model_is_carried_over_untuned(dataset):
    carried, plain, race = (
        RECIPES[d][name].config for d, name in ((dataset, "race"), (dataset, "ce"), ("amazon_beauty", "race"))
    )
    of_data = {"batch_size", "max_epochs", "patience", "max_length", "evaluate_every"}
    for field in dataclasses.fields(carried):
        if field.name != "loss_settings":  # buckets follow the batch
            assert getattr(carried, field.name) == getattr(plain if field.name in of_data else race, field.name)
    assert carried.loss_settings == {"mix_x": False}


def test_reducing_says_what_was_reduced():
    reduced = RECIPES["gowalla"]["sce"].for_cpu()
    assert reduced.name == "sce-reduced"
    assert "batch_size 128 instead of 2048" in reduced.note
    assert "n_buckets 144 instead of 882" in reduced.note
    assert reduced.config.loss_settings["n_buckets"] == 144
    assert reduced.config.max_length == 50
    with pytest.raises(ValueError, match="amazon_beauty quick has no reduced settings"):
        RECIPES["amazon_beauty"]["quick"].for_cpu()


def test_a_trial_is_named_after_what_was_changed():
    trial = TINY.with_settings({"dropout": 0.5, "n_buckets": 7})
    assert trial.name == "sce+dropout=0.5,n_buckets=7"
    assert (trial.config.dropout, trial.config.loss_settings) == (0.5, {"n_buckets": 7})
    assert TINY.with_settings({}) is TINY
    with pytest.raises(ValueError, match=r"no setting 'calibration'; the run takes averaging, .*, and the loss sce"):
        TINY.with_settings({"calibration": 0.5})
    with pytest.raises(ValueError, match="no setting 'seed'"):
        TINY.with_settings({"seed": 5})


@pytest.mark.parametrize(
    ("setting", "kind"),
    [
        ("dropout=abc", "float"),
        ("dropout=true", "float"),
        ("batch_size=0.5", "int"),
        ("sparse_gradients=1", "bool"),
        ("mix_x=no", "bool"),
        ("n_buckets=many", r"int \| None"),
        ("betas=0.9", r"tuple\[float, float\]"),
        ("betas=[0.9]", r"tuple\[float, float\]"),
    ],
)
def test_a_value_of_another_kind_is_refused(setting, kind):
    name, value = parse_setting(setting)
    with pytest.raises(ValueError, match=f"^{name} takes {kind}, .* got {re.escape(repr(value))}$"):
        find_recipe("amazon_beauty", "sce").with_settings({name: value})


def test_values_of_the_right_kind_are_taken():
    changes = {"betas": [0.9, 0.99], "learning_rate": 1, "n_buckets": None, "mix_x": True, "dtype": "bfloat16"}
    config = find_recipe("amazon_beauty", "sce").with_settings(changes).config
    assert (config.betas, config.learning_rate, config.dtype) == ((0.9, 0.99), 1, "bfloat16")
    assert config.loss_settings["n_buckets"] is None
    assert config.loss_settings["mix_x"] is True


def test_settings_from_a_shell():
    assert parse_setting("dropout=0.5") == ("dropout", 0.5)
    assert parse_setting("mix_x=true") == ("mix_x", True)
    assert parse_setting("sampling=uniform") == ("sampling", "uniform")
    for text in ("dropout=0.5", "mix_x=true", "sampling=uniform", "bucket_size_x=null"):
        assert format_setting(*parse_setting(text)) == text
    for wrong in ("dropout", "=3", "dropout="):
        with pytest.raises(ValueError, match=f"name=value.*{wrong!r}"):
            parse_setting(wrong)


def test_unknown_recipes_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="no recipe for 'movielens'; there are recipes for amazon_beauty, "):
        find_recipe("movielens", "sce")
    with pytest.raises(ValueError, match="gowalla has no recipe 'ce'; it has sce"):
        find_recipe("gowalla", "ce")


# ------------------------------------------------------------------------------------------------------------ records


def test_a_record_says_what_came_out_and_how_to_repeat_it(cycle_split, folders):
    first, both = made(cycle_split, folders)
    assert [seed["seed"] for seed in first["seeds"]] == [0]
    assert [seed["seed"] for seed in both["seeds"]] == [0, 1]
    assert first["sd"] == {}
    values = [seed["validation"]["NDCG@10"] for seed in both["seeds"]]
    assert both["mean"]["validation NDCG@10"] == pytest.approx(sum(values) / 2)
    assert both["sd"]["validation NDCG@10"] == pytest.approx(statistics.stdev(values))
    assert both["config"]["seen"] == "exclude"
    assert both["repeat"] == "sce-lab reproduce amazon_beauty --seeds 2"
    assert "seed" not in both["config"]
    assert TrainingConfig(**both["config"]) == TINY.config
    assert both["split"] == cycle_split.summary()
    assert {"processor", "threads", "memory", "versions"} <= both["environment"].keys()
    for seed in both["seeds"]:
        assert seed["epoch"] == 2
        assert seed["seconds"] > 0
        assert seed["curve"]["epoch"] == [1, 2]
        best = seed["validation"]["NDCG@10"]
        assert seed["curve"]["NDCG@10"][seed["best_epoch"] - 1] == pytest.approx(best, abs=1e-5)
    assert read_records(folders["results"]) == [json.loads(json.dumps(both))]
    assert [path.name for path in folders["results"].iterdir()] == ["amazon_beauty-sce.json"]


def test_a_record_of_several_seeds_says_what_their_best_models_reach_together(cycle_split, folders):
    first, both = made(cycle_split, folders)
    assert first["together"] == {}
    models = models_of(cycle_split)
    assert both["together"] == {"validation": evaluate_together(models, cycle_split.validation)}


def models_of(split, seeds=(0, 1)):
    models = []
    for seed in seeds:
        *_, _ = (trainer := Trainer(dataclasses.replace(TINY.config, seed=seed), split)).events()
        models.append(trainer.best_model())
    return models


def test_runs_whose_weights_were_thrown_away_still_make_a_record(cycle_split, folders):
    before = made(cycle_split, folders)[-1]
    (run_folder(TINY, 0, folders["runs"]) / "checkpoint.safetensors").unlink()
    after = made(cycle_split, folders)[-1]
    assert before["together"]
    assert after == before | {"together": {}}


def test_the_same_seeds_give_the_same_table_again(cycle_split, folders, tmp_path):
    once = made(cycle_split, folders)[-1]
    again = made(cycle_split, {"runs": tmp_path / "other", "results": tmp_path / "results"})[-1]
    assert [seed["validation"] for seed in once["seeds"]] == [seed["validation"] for seed in again["seeds"]]
    assert once["seeds"][0]["validation"] != once["seeds"][1]["validation"]


def test_what_has_ended_is_not_trained_again(cycle_split, folders):
    configs = []
    made(cycle_split, folders, configs=configs, seeds=(0,))
    assert [config.seed for config in configs] == [0]
    more = made(cycle_split, folders, configs=configs)
    assert [config.seed for config in configs] == [0, 1]
    assert len(more[-1]["seeds"]) == 2


def test_a_stopped_run_makes_no_record_and_goes_on_later(cycle_split, folders):
    whole = made(cycle_split, {name: path / "whole" for name, path in folders.items()}, seeds=(0,))[-1]
    assert made(cycle_split, folders, stop_after=5) == []
    assert read_records(folders["results"]) == []
    assert run_folder(TINY, 0, folders["runs"]).exists()
    rest = made(cycle_split, folders, seeds=(0,))[-1]
    assert rest["seeds"][0]["validation"] == whole["seeds"][0]["validation"]


def test_a_folder_of_other_settings_is_not_overwritten(cycle_split, folders):
    made(cycle_split, folders, seeds=(0,))
    other = dataclasses.replace(TINY, config=dataclasses.replace(TINY.config, dropout=0.5))
    with pytest.raises(ValueError, match=r"holds a run with dropout=0\.3, but the recipe says 0\.5.*--out"):
        made(cycle_split, folders, recipe=other)


def test_a_folder_of_other_data_is_not_taken_for_these(cycle_split, folders):
    made(cycle_split, folders, seeds=(0,))
    config = run_folder(TINY, 0, folders["runs"]) / "config.json"
    config.write_text(config.read_text().replace(cycle_split.fingerprint, "0" * len(cycle_split.fingerprint)))
    with pytest.raises(ValueError, match=rf"other data \(fingerprint 0+, here {cycle_split.fingerprint}\).*--out"):
        made(cycle_split, folders, seeds=(0,))


def test_a_record_never_says_less_than_before(cycle_split, folders):
    (before,) = made(cycle_split, folders)[1:]
    with pytest.raises(ValueError, match="2 seeds of amazon_beauty sce are recorded, and 1 would take their place"):
        made(cycle_split, folders, seeds=(0,))
    told = {"repeat": "again"} | folders
    events = reproduce(TINY, cycle_split, (0, 1), trains(cycle_split), **told)
    assert len(next(events)["seeds"]) == 1
    assert read_records(folders["results"]) == [json.loads(json.dumps(before))], "killed here, nothing is lost"
    next(events)
    assert read_records(folders["results"])[0]["repeat"] == "again"


def test_a_record_says_on_which_device_its_runs_were(cycle_split, folders):
    made(cycle_split, folders, seeds=(0,))
    elsewhere = dataclasses.replace(TINY, config=dataclasses.replace(TINY.config, device="cuda"))
    assert made(cycle_split, folders, recipe=elsewhere, seeds=(0,))[-1]["config"]["device"] == "cpu"


def test_where_records_are(monkeypatch, tmp_path):
    monkeypatch.setenv("SCE_LAB_RESULTS", str(tmp_path))
    assert results_folder() == tmp_path
    assert results_folder("tournament") == tmp_path / "tournament"
    assert results_folder("tournament", tmp_path / "x") == own_results(tmp_path / "x", "tournament")
    assert results_folder("tournament", tmp_path / "x") == tmp_path / "x" / "tournament"
    monkeypatch.delenv("SCE_LAB_RESULTS")
    assert results_folder().parts[-3:] == ("benchmarks", "results", "reproduce")
    for kind in ("tournament", "variants", "fidelity", "speedrun"):
        assert results_folder(kind).parts[-3:] == ("benchmarks", "results", kind)
        assert results_folder(kind, results_folder()) == results_folder(kind)  # the default, named


@pytest.mark.parametrize(
    ("name", "lacking"), [("environment", "processor"), ("environment", "time"), ("summary", "ms")]
)
def test_a_run_that_lacks_what_a_record_needs_is_named(cycle_split, folders, name, lacking):
    made(cycle_split, folders)
    path = run_folder(TINY, 1, folders["runs"]) / f"{name}.json"
    content = json.loads(path.read_text())
    del content[lacking]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"{name}.json does not say {lacking}, which a record needs"):
        made(cycle_split, folders)
    path.unlink()
    if name == "environment":
        with pytest.raises(ValueError, match=r"environment.json does not say"):
            made(cycle_split, folders)


# --------------------------------------------------------------------------------------------------------- the test set


@pytest.mark.parametrize("recipe", [TINY, TINY.with_settings({"dropout": 0.5})], ids=lambda recipe: recipe.name)
def test_training_does_not_look_at_the_test(cycle_split, folders, recipe, monkeypatch):
    def ranked(outputs, table, holdout, **settings):
        assert holdout is not cycle_split.test
        return rank_items(outputs, table, holdout, **settings)

    monkeypatch.setattr("sce_lab.training.evaluation.rank_items", ranked)
    record = made(cycle_split, folders, recipe=recipe)[-1]
    assert not any("test" in seed for seed in record["seeds"])
    assert set(record["mean"]) == {"validation NDCG@10", "seconds"}
    for seed in (0, 1):
        run = Run(run_folder(recipe, seed, folders["runs"]))
        assert run.summary["test"] == {}
        assert run.ranks is None


def test_what_a_model_reaches_without_its_counts_is_recorded_beside(cycle_split, folders):
    counted = dataclasses.replace(TINY, config=dataclasses.replace(TINY.config, followers=1.0))
    made(cycle_split, folders, recipe=counted)
    record = open_test(counted, cycle_split, **folders)
    apart = record["other_rules"]["without counts"]["seeds"]
    for seed in (0, 1):
        model = best_model(Run(run_folder(counted, seed, folders["runs"])), cycle_split)
        assert record["seeds"][seed]["test"] == evaluate(model, cycle_split.test)
        model.followers = None
        assert apart[seed]["test"] == evaluate(model, cycle_split.test) != record["seeds"][seed]["test"]
    names = [name for name in results_table([record])["model"] if "counts" in name]
    assert names == [f"SASRec + counts, SCE{end}" for end in ("", ", 2 runs added up", ", counts left out")]


def test_opening_the_test_records_what_came_out_when_and_for_whom(cycle_split, folders):
    before = made(cycle_split, folders)[-1]
    after = open_test(TINY, cycle_split, **folders)
    models = models_of(cycle_split)
    for seed, model in zip(after["seeds"], models):
        assert seed["test"] == evaluate(model, cycle_split.test)
    assert after["together"]["test"] == evaluate_together(models, cycle_split.test)
    for name in ("HR@10", "NDCG@10", "COV@1"):
        values = [seed["test"][name] for seed in after["seeds"]]
        assert after["mean"][name] == pytest.approx(sum(values) / 2)
        assert after["sd"][name] == pytest.approx(statistics.stdev(values))
    assert after["mean"]["validation NDCG@10"] == before["mean"]["validation NDCG@10"]
    ranks = Ranks.read(folders["results"] / "amazon_beauty-sce.npz")
    assert ranks.ranks.shape == (2, 60)
    assert ranks.gains("NDCG@10").mean() == pytest.approx(after["mean"]["NDCG@10"])
    low, high = after["interval"]["NDCG@10"]
    assert low < after["mean"]["NDCG@10"] < high
    assert datetime.fromisoformat(after["tested_at"]).tzinfo
    assert read_records(folders["results"]) == [json.loads(json.dumps(after))]


def test_the_test_is_opened_once(cycle_split, folders):
    made(cycle_split, folders, seeds=(0,))
    opened = open_test(TINY, cycle_split, **folders)
    when = re.escape(opened["tested_at"])
    with pytest.raises(ValueError, match=rf"was opened before \({when}\)"):
        open_test(TINY, cycle_split, **folders)
    with pytest.raises(ValueError, match=rf"was opened at {when}, so its record is closed.*--results"):
        made(cycle_split, folders, seeds=(0, 1))
    assert read_records(folders["results"]) == [json.loads(json.dumps(opened))]
    # A first record knows no time: its trainings all ended with the test. It is closed, too, unless it is withdrawn.
    (path,) = folders["results"].glob("*.json")
    first = {name: value for name, value in opened.items() if name != "tested_at"}
    path.write_text(json.dumps(first))
    with pytest.raises(ValueError, match="has been looked at, so its record is closed"):
        made(cycle_split, folders, seeds=(0, 1))
    path.write_text(json.dumps(first | {"withdrawn": "another rule"}))
    made(cycle_split, folders, seeds=(0,))
    assert not path.with_suffix(".npz").exists(), "it is of what was withdrawn"


def test_opening_the_test_of_older_runs_says_nothing_of_going_on(cycle_split, folders):
    made(cycle_split, folders, seeds=(0,))
    path = run_folder(TINY, 0, folders["runs"]) / "checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        tensors, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(tensors, path, metadata | {"draws": ""})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_test(TINY, cycle_split, **folders)


def test_what_cannot_be_tested_is_refused(cycle_split, folders):
    with pytest.raises(ValueError, match=r"no record .*: train with sce-lab reproduce amazon_beauty --loss sce first"):
        open_test(TINY, cycle_split, **folders)
    trial = TINY.with_settings({"dropout": 0.5})
    made(cycle_split, folders, recipe=trial, seeds=(0,))
    with pytest.raises(ValueError, match=r"sce\+dropout=0\.5 is a trial, and trials have no test"):
        open_test(trial, cycle_split, **folders)
    record = made(cycle_split, folders, seeds=(0,))[-1]
    (run_folder(TINY, 0, folders["runs"]) / "checkpoint.safetensors").unlink()
    with pytest.raises(ValueError, match="seed 0 cannot be tested"):
        open_test(TINY, cycle_split, **folders)
    first = folders["results"] / "amazon_beauty-sce.json"
    record["seeds"][0]["test"] = {}  # as the first records have one
    first.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"opened before \(the end of each training\)"):
        open_test(TINY, cycle_split, **folders)


# ------------------------------------------------------------------------------------------------------------- tables


@pytest.fixture
def records(cycle_split, folders):
    made(cycle_split, folders)
    open_test(TINY, cycle_split, **folders)
    for dropout in (0.0, 0.7):
        made(cycle_split, folders, recipe=TINY.with_settings({"dropout": dropout}), seeds=(0,))
    made(cycle_split, folders, recipe=dataclasses.replace(TINY, name="quick"), seeds=(0,))
    return read_records(folders["results"])


def test_the_table_has_published_rows_then_ours_then_trials(records):
    table = results_table(records)
    beauty = table[table["dataset"] == "amazon_beauty"]
    published = [p.model for p in PUBLISHED if p.dataset == "amazon_beauty"]
    ours = ["SASRec, SCE", "SASRec, SCE, 2 runs added up", "SASRec, SCE (quick)"]
    trials = ["SASRec, SCE (dropout=0.0)", "SASRec, SCE (dropout=0.7)"]
    assert beauty["model"].tolist() == published + ours + trials
    assert beauty["published"].tolist() == [True] * len(published) + [False] * 5
    assert beauty["trial"].tolist() == [False] * (len(published) + 3) + [True] * 2
    row = beauty.set_index("model").loc["SASRec, SCE"]
    (tiny,) = [r for r in records if r["recipe"] == "sce"]
    assert (row["NDCG@10"], row["NDCG@10_sd"], row["seeds"]) == (tiny["mean"]["NDCG@10"], tiny["sd"]["NDCG@10"], 2)
    assert row["peak_memory"] == max(seed["memory"]["peak"] for seed in tiny["seeds"])
    assert row["source"] == tiny["repeat"]
    together = beauty.set_index("model").loc["SASRec, SCE, 2 runs added up"]
    assert together["NDCG@10"] == tiny["together"]["test"]["NDCG@10"]
    assert together["validation"] == tiny["together"]["validation"]["NDCG@10"]
    assert together["seconds"] == pytest.approx(sum(seed["seconds"] for seed in tiny["seeds"]))
    assert (together["seeds"], together["peak_memory"]) == (2, row["peak_memory"])
    quick = beauty.set_index("model").loc["SASRec, SCE (quick)"]
    assert math.isnan(quick["NDCG@10_sd"])
    assert math.isnan(together["NDCG@10_sd"])
    assert math.isnan(beauty["COV@10"].iloc[0])


def test_a_row_names_the_encoder_the_loss_and_what_is_special(records):
    record = next(r for r in records if r["recipe"] == "quick")
    assert model_name(record) == "SASRec, SCE (quick)"
    gated = record | {"config": record["config"] | {"encoder": "sasrec_gated", "low_pass": 0.8}}
    assert model_name(gated) == "SASRec, gated + running mean, SCE (quick)"
    record["config"]["low_pass"] = 0.5
    assert model_name(record | {"recipe": "best+dropout=0.1"}) == "SASRec + running mean, SCE (best, dropout=0.1)"
    cce = {"config": {"loss": "cce"}}
    for name in ("ce", "cce"):
        assert model_name(cce | {"recipe": name}) == f"SASRec, {LOSSES['cce'].label}"
    assert model_name(cce | {"recipe": "cce-searched"}).endswith("(searched)")
    del record["config"]["low_pass"]  # records from before there was such a thing
    assert model_name(record) == "SASRec, SCE (quick)"


def test_readers_get_units_and_blanks(records):
    shown = for_readers(results_table(records))
    assert shown.dtypes.nunique() == 1
    first, ours = shown.iloc[0], shown[shown["model"] == "SASRec, SCE"].iloc[0]
    assert first["model"] == "SASRec-SCE, published"
    assert (first["NDCG@10"], first["COV@10"], first["seeds"], first["peak memory"]) == ("0.0544", "", "", "")
    assert re.fullmatch(r"0\.\d{4} \[0\.\d{4}, 0\.\d{4}\]", ours["NDCG@10"])
    assert " ± " in ours["COV@10"]
    assert ours["peak memory"].endswith("B")
    assert ours["epochs (best)"].startswith("2 (")


def searched_too(record):
    return record | {"recipe": f"{record['config']['loss']}-searched"}


def test_unequal_search_is_said_until_every_loss_was_searched(records):
    ours = [record for record in records if "+" not in record["recipe"] and "test" in record["seeds"][0]]
    (one,) = {record["config"]["loss"]: record for record in ours}.values()
    other = one | {"recipe": "bce", "config": one["config"] | {"loss": "bce", "loss_settings": {}}}
    tried = [one | {"recipe": f"{one['recipe']}+dropout=0.{n}"} for n in (1, 2)]
    trials = sum("+" in record["recipe"] for record in records) + len(tried)
    everything = [*records, *tried, other]
    said = f"of trials with other settings {LOSSES['sce'].label} {trials}, {LOSSES['bce'].label} 0 are recorded"
    assert said in glance_markdown(Evidence(everything))
    assert said in glance_markdown(Evidence([*everything, searched_too(one)]))  # not yet of both
    alike = [*everything, searched_too(one), searched_too(other)]
    assert "not searched alike" not in glance_markdown(Evidence(alike))


def test_trials_are_listed_by_validation(records):
    text = results_markdown(Evidence(records))
    assert text.startswith("**Amazon Beauty")
    assert "Behance" not in text  # nothing of ours stands beside its published row
    trials = text.split("what was tried")[1]
    values = [float(line.split("|")[2]) for line in trials.splitlines() if line.startswith("| SASRec")]
    assert values == sorted(values, reverse=True)
    assert len(values) == 5
    main = text.split("what was tried")[0]
    assert "dropout" not in main
    assert len({line.count("|") for line in main.splitlines() if line.startswith("|")}) == 1
    assert results_markdown(Evidence([])) == glance_markdown(Evidence([])) == "Nothing has been recorded yet."


MARKED = "# Title\n\n<!-- results -->\nold\n<!-- end of results -->\n\nafter\n"


def test_files_are_updated_between_their_marks_only(records, tmp_path):
    readme, notebook = tmp_path / "README.md", tmp_path / "n.ipynb"
    readme.write_text(MARKED)
    cells = [{"cell_type": "markdown", "source": MARKED.splitlines(keepends=True)}, {"source": ["other\n"]}]
    notebook.write_text(json.dumps({"cells": cells, "metadata": {"é": 1}}, indent=1, ensure_ascii=False) + "\n")
    for path in (readme, notebook):
        assert update_file(path, Evidence(records))
        assert not update_file(path, Evidence(records))
    expected = MARKED.replace("old", results_markdown(Evidence(records)))
    assert readme.read_text() == expected
    now = json.loads(notebook.read_text())
    assert "".join(now["cells"][0]["source"]) == expected
    assert now["cells"][1] == cells[1]
    assert "é" in notebook.read_text()
    readme.write_text("# nothing here\n")
    with pytest.raises(ValueError, match="put <!-- results -->"):
        update_file(readme, Evidence(records))
    with pytest.raises(ValueError, match="put <!-- results -->"):
        with_results("", Evidence(records))
    prose = "<!-- races -->\nmine\n" + MARKED
    with pytest.raises(ValueError, match="2 places for results begin, and 1 end: put <!-- end of results --> behind"):
        with_results(prose, Evidence(records))
    assert "mine" in with_results(prose.replace("mine", "<!-- end of results -->\nmine"), Evidence(records))


# ------------------------------------------------------------------------------------------- what is in the repository

RECORDED = read_records()
BASELINES_RECORDED = {known["dataset"]: known for known in read_baselines()}


HOUSE = results_folder().parents[2]


@pytest.mark.parametrize("name", ["README.md", "docs/results.md", "notebooks/06_paper.ipynb"])
def test_files_say_what_the_records_say(name):
    path = HOUSE / name
    assert path.read_text(encoding="utf-8") == updated(path, Evidence.read()), "call: sce-lab results --write " + name


@pytest.mark.parametrize("known", RECORDED, ids=[f"{r['dataset']}-{r['recipe']}" for r in RECORDED])
def test_records_are_whole_and_follow_from_their_seeds(known):
    assert find_recipe(known["dataset"], known["recipe"].split("+")[0].removesuffix("-reduced"))
    for metric, mean in known["mean"].items():
        values = [
            seed["seconds"] if metric == "seconds" else
            seed["validation"]["NDCG@10"] if metric.startswith("validation") else seed["test"][metric]
            for seed in known["seeds"]
        ]  # fmt: skip
        assert mean == pytest.approx(statistics.fmean(values))
        if len(values) > 1:
            assert known["sd"][metric] == pytest.approx(statistics.stdev(values))
    assert [seed["seed"] for seed in known["seeds"]] == list(range(len(known["seeds"])))
    for seed in known["seeds"]:
        assert seed["reason"] in ("epochs", "patience")
        best = pd.Series(seed["curve"]["NDCG@10"], seed["curve"]["epoch"]).idxmax()
        assert best == seed["best_epoch"] or len(set(seed["curve"]["NDCG@10"])) < len(seed["curve"]["NDCG@10"])
    assert known["repeat"].startswith(f"sce-lab reproduce {known['dataset']} ")


@pytest.mark.parametrize(
    "known",
    [r for r in RECORDED if "withdrawn" not in r and "-reduced" not in r["recipe"]],
    ids=lambda r: f"{r['dataset']}-{r['recipe']}",
)
def test_records_were_made_with_the_recipe_that_is_there_and_the_changes_in_their_name(known):
    config = TrainingConfig(**known["config"])  # what a record does not name had its default
    name, _, changes = known["recipe"].partition("+")
    recipe = find_recipe(known["dataset"], name)
    settings = dict(parse_setting(change) for change in changes.split(",")) if changes else {}
    assert dataclasses.replace(config, device="cpu") == recipe.with_settings(settings).config
    for setting in settings:
        assert f"--set {setting}=" in known["repeat"]


@pytest.mark.parametrize("known", RECORDED, ids=[f"{r['dataset']}-{r['recipe']}" for r in RECORDED])
def test_what_an_older_rule_judged_is_shown_only_where_the_rule_changes_nothing(known):
    """A record without ``seen`` is of the rule that left seen items out but not the target."""
    if "seen" not in known["config"] and "withdrawn" not in known:
        assert BASELINES_RECORDED[known["dataset"]]["split"]["test targets that repeat"] == 0
    if "withdrawn" in known:
        assert "of the targets repeat" in known["withdrawn"]


def test_baselines_are_recorded_beside_records():
    assert set(BASELINES_RECORDED) >= {known["dataset"] for known in RECORDED if "withdrawn" not in known}
    for known in BASELINES_RECORDED.values():
        rules = {row["seen"] for row in known["rows"]}
        share = known["split"]["test targets that repeat"]
        assert rules == ({"exclude", "keep"} if share else {"exclude"})
        for row in known["rows"]:
            assert row["test"]["repeats"] == pytest.approx(share)
            for name, (low, high) in row["interval"].items():
                assert low < row["test"][name] < high
            if row["seen"] == "exclude" and share:
                assert row["apart"]["repeats"]["HR@50"] == 0
                parts = row["apart"]["new"]["HR@10"] * (1 - share)
                assert row["test"]["HR@10"] == pytest.approx(parts)


def test_withdrawn_records_are_not_in_the_table_and_it_says_so(records):
    reason = "because of a reason."
    next(r for r in records if r["recipe"] == "quick")["withdrawn"] = reason
    table = results_table(records)
    assert "SASRec, SCE (quick)" not in set(table["model"])
    assert "SASRec, SCE" in set(table["model"])
    sentence = f"1 record of a trained model is not shown: {reason}"
    assert withdrawn(records) == [f"{DATASETS['amazon_beauty'].title}: {sentence}"]
    assert results_markdown(Evidence(records)).endswith(sentence)


def test_baselines_stand_in_the_table_between_published_rows_and_ours(records, cycle_split, folders):
    judged = judge_baselines("amazon_beauty", cycle_split, repeat="sce-lab baselines amazon_beauty --record")
    assert write_baselines(judged, folders["results"]).name == "amazon_beauty.json"
    assert read_baselines(folders["results"]) == [json.loads(json.dumps(judged))]
    assert len(read_records(folders["results"])) == len(records)  # a record of baselines is not one of a recipe
    table = results_table(records, [judged])
    beauty = table[table["dataset"] == "amazon_beauty"]
    kinds = ["published" if p else "baseline" if b else "ours" for p, b in zip(beauty["published"], beauty["baseline"])]
    assert kinds == ["published"] * kinds.count("published") + ["baseline"] * 3 + ["ours"] * 5
    last = beauty[beauty["model"] == "What follows the last item, untrained"].iloc[0]
    assert last["HR@10"] == 1  # who walks around a circle is easily followed
    assert "no target repeats" in heading("amazon_beauty", [judged])
    assert "untrained" not in results_markdown(Evidence(records, [judged])).split("what was tried")[1]


def test_a_rule_other_than_the_usual_stands_in_the_name(records):
    record = next(r for r in records if r["recipe"] == "quick")
    record["config"]["seen"] = "keep"
    assert model_name(record) == "SASRec, SCE (quick, seen items compete like all others)"


def test_every_published_row_says_where_it_stands():
    for row in PUBLISHED:
        assert row.source
        assert row.file
        assert re.fullmatch(r"[0-9a-f]{40}|not recorded", row.commit)
        assert set(row.metrics) <= {f"{name}@{k}" for name in ("HR", "NDCG", "COV") for k in (1, 5, 10)}
        assert all(0 < value < 1 for value in row.metrics.values())
    assert len({(row.dataset, row.model) for row in PUBLISHED}) == len(PUBLISHED)


def prose(name):
    """What a person wrote into a file: no tables, no sentences that are generated."""
    text = (HOUSE / name).read_text(encoding="utf-8")
    if name.endswith(".ipynb"):
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    text = re.sub(
        r"<!-- (?:results|tournament|variants|fidelity|counts).*?<!-- end of results -->", "", text, flags=re.DOTALL
    )
    return " ".join(text.split())


def test_sentences_about_results_follow_from_the_records():
    text = prose("docs/results.md")
    mean = {r["recipe"]: r["mean"] for r in RECORDED if r["dataset"] == "amazon_beauty"}
    wide = "averaging=0.998,hidden_size=128,dropout=0.7,max_epochs="
    names = ("sce+max_epochs=100", f"sce+{wide}250", f"sce+item_dropout=0.2,{wide}150", "best")
    first, wider, dropped, best = (f"{mean[name]['NDCG@10']:.4f}"[1:] for name in names)
    assert f"from {first} to {wider} by width" in text
    assert f"to {dropped} by the items left out, and to {best} by the running mean" in text
    (kerec,) = (row.metrics["NDCG@10"] for row in PUBLISHED if row.model == "KERec")
    assert f"{best} and {kerec:.4f} differ".replace(" 0.", " .") in text
    sce = next(r for r in RECORDED if (r["dataset"], r["recipe"]) == ("amazon_beauty", "sce+max_epochs=100"))
    epochs = [str(seed["best_epoch"]) for seed in sce["seeds"]]
    for name in ("docs/results.md", "notebooks/06_paper.ipynb"):
        assert f"best in epochs {', '.join(epochs[:-1])} and {epochs[-1]}" in prose(name)
    longer = next(r for r in RECORDED if (r["dataset"], r["recipe"]) == ("amazon_beauty", "sce"))
    epochs = [str(seed["best_epoch"]) for seed in longer["seeds"]]
    for name in ("docs/results.md", "notebooks/06_paper.ipynb"):
        assert f"best in epochs {', '.join(epochs[:-1])} and {epochs[-1]}" in prose(name)
    low, high = (f"{end:.4f}"[1:] for end in longer["interval"]["NDCG@10"])
    came_to = f"{longer['mean']['NDCG@10']:.4f}"[1:]
    assert f"was {first} and is {came_to} [{low}, {high}]" in text
    theirs = mean["as-published"]["NDCG@10"]
    assert f"{longer['mean']['NDCG@10'] - theirs:.4f} of NDCG@10".removeprefix("0") in prose("notebooks/06_paper.ipynb")
    kept = [
        next(row["test"]["HR@10"] for row in BASELINES_RECORDED[name]["rows"] if row["baseline"] == "repeat")
        for name in ("gowalla_nyc", "gowalla_sepgcn")
    ]
    assert "that baseline has {} and {}".format(*(f"{value:.3f}"[1:] for value in kept)) in text
    rows = BASELINES_RECORDED["amazon_beauty"]["rows"]
    follows = next(row["test"]["NDCG@10"] for row in rows if row["baseline"] == "transitions")
    assert f"has an NDCG@10 of {follows:.4f}".replace("0.", ".") in text
    assert mean["sampled"]["NDCG@10"] < follows
    assert mean["bce"]["NDCG@10"] < follows
    older = []
    for name in ("gowalla_nyc", "gowalla_sepgcn"):  # under the older rule a repeat is the only seen candidate: first
        split = BASELINES_RECORDED[name]["split"]
        row = next(
            r for r in BASELINES_RECORDED[name]["rows"] if (r["baseline"], r["seen"]) == ("popularity", "exclude")
        )
        older.append(split["test targets that repeat"] + row["test"]["HR@10"])
    assert "has an HR@10 of {} and {}".format(*(f"{value:.3f}"[1:] for value in older)) in text


def test_the_best_model_is_said_to_be_what_its_records_say():
    text, folder = prose("docs/results.md"), HOUSE / "benchmarks" / "results" / "tournament"
    known = {r["config"]["loss"]: r for r in read_records(folder) if r["dataset"] == "amazon_beauty_wide"}
    best, sce, exact = (known[loss] for loss in ("ce_minus", "sce", "cce"))

    def digits(value):
        return f"{value:.4f}"[1:]

    def ndcg(record, name="NDCG@10"):
        return digits(record["mean"][name])

    low, high = (digits(end) for end in best["interval"]["NDCG@10"])
    assert f"with an NDCG@10 of {ndcg(best)} [{low}, {high}], and SCE's {ndcg(sce)} is clearly behind it" in text
    behind = compare_records(best, sce, folder=folder)
    assert behind.low > 0
    assert f"if by {digits(behind.mean)}, and level with cross-entropy's {ndcg(exact)}" in text
    first, second, third = (ndcg(record, "validation NDCG@10") for record in (sce, best, exact))
    assert f"({first}, where CE- and cross-entropy have {second})" in text
    assert second == third < first
    alone = {
        loss: statistics.fmean(seed["test"]["NDCG@10"] for seed in record["other_rules"]["without counts"]["seeds"])
        for loss, record in known.items()
    }
    three = (digits(alone[loss]) for loss in ("sce", "cce", "ce_minus"))
    assert "have {} (SCE), {} (cross-entropy) and {} (CE-)".format(*three) in text
    narrow = {r["recipe"]: r["mean"]["NDCG@10"] for r in read_records(folder) if r["dataset"] == "amazon_beauty"}
    for words, loss, name in (("SCE goes", "sce", "sce-time"), ("cross-entropy", "cce", "cce-both")):
        assert f"{words} from {digits(narrow[name])} to {digits(alone[loss])}" in text
    assert f"CE- from {digits(narrow['ce_minus-both'])} to {digits(alone['ce_minus'])}" in text
    gains = sorted(record["mean"]["NDCG@10"] - alone[loss] for loss, record in known.items())
    assert f"{digits(gains[0])} to {digits(gains[-1])} on the test" in text
    cpu = [f"{statistics.fmean(seed['cpu_seconds'] for seed in record['seeds']):.0f}" for record in (sce, best, exact)]
    assert "SCE computed for {} seconds, CE- for {} and cross-entropy for {}".format(*cpu) in text
    (kerec,) = (row.metrics["NDCG@10"] for row in PUBLISHED if row.model == "KERec")
    assert all(r["interval"]["NDCG@10"][0] < kerec < r["mean"]["NDCG@10"] for r in known.values()), "no certain lead"
    others = [r["mean"]["NDCG@10"] for r in RECORDED if r["dataset"] == "amazon_beauty" and "withdrawn" not in r]
    others += [
        row.metrics["NDCG@10"] for row in PUBLISHED if row.dataset == "amazon_beauty" and "NDCG@10" in row.metrics
    ]
    assert max(others) < best["mean"]["NDCG@10"]


SCORES = ("HR@10", "NDCG@10")


def recorded_scores():
    """Every score that is known: of records, baselines and published rows, with the ends of intervals.

    No other metrics, and no single seeds: the more there are, the more wrong numbers are among them.
    """
    for known in [*RECORDED, *read_records(HOUSE / "benchmarks" / "results" / "tournament")]:
        yield from (value for name, value in known["mean"].items() if name.endswith(SCORES))
        yield from (end for ends in known.get("interval", {}).values() for end in ends)
        yield from (part["NDCG@10"] for part in known.get("together", {}).values())
        for rule in known.get("other_rules", {}).values():
            yield from (statistics.fmean(seed["test"][name] for seed in rule["seeds"]) for name in SCORES)
    for path in (HOUSE / "benchmarks" / "results" / "counts").glob("*.json"):
        yield from (value for row in json.loads(path.read_text(encoding="utf-8"))["rows"] for value in row["mean"])
    for known in BASELINES_RECORDED.values():
        for row in known["rows"]:
            yield from (row["test"][name] for name in SCORES)
            yield from (end for ends in row["interval"].values() for end in ends)
    for row in PUBLISHED:
        yield from (value for name, value in row.metrics.items() if name in SCORES)
    compared = json.loads((HOUSE / "benchmarks" / "results" / "compare-amazon_beauty.json").read_text(encoding="utf-8"))
    yield from (value for run in compared["runs"] for value in run["summary"]["test"].values() if value < 1)


#: Numbers in prose that look like scores and are something else: what they are.
NOT_RECORDED = {
    ".463": "what repeats and popularity have under the older rule: tested above",
    ".488": "likewise",
    ".0026": "half an interval over 22,363 users of an NDCG@10 of .06",
    ".004": "likewise, of an HR@10 of .10, and what one of 268 users counts",
    ".0001": "the difference of SCE and cross-entropy in the README's table",
    ".0008": "the difference of two rows: tested above",
    ".0014": "what the last fifth of a training brought on validation: a difference in a record's curve",
    ".0011": "the difference of two rows: tested above",
    ".088": "standard deviation of initial weights",
    ".125": "likewise",
    ".102": "likewise",
    ".087": "likewise",
    ".132": "likewise",
}


@pytest.mark.parametrize("name", ["README.md", "docs/results.md", "notebooks/06_paper.ipynb"])
def test_every_score_in_prose_is_one_that_was_recorded(name):
    scores = list(recorded_scores())
    for digits in re.findall(r"(?<![\w.,])0?(\.\d{3,4})(?![\d%])", prose(name)):
        decimals = len(digits) - 1
        assert digits in NOT_RECORDED or any(f"{value:.{decimals}f}" == "0" + digits for value in scores), digits

"""Records beside one another: paired on the same users, by both rules where targets repeat, and told in sentences."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from sce_lab.data import Holdout, Sequences, Split
from sce_lab.metrics import Interval, difference
from sce_lab.reproduce import (
    PUBLISHED,
    Evidence,
    Recipe,
    compare_records,
    for_readers,
    glance_markdown,
    in_words,
    judge_baselines,
    open_test,
    records_called,
    reproduce,
    results_markdown,
    write_baselines,
)
from sce_lab.reproduce.findings import _not_above
from sce_lab.reproduce.opening import WITHOUT_COUNTS
from sce_lab.runs import Ranks, record
from sce_lab.training import Trainer, TrainingConfig, evaluate

CONFIG = TrainingConfig(hidden_size=8, batch_size=16, max_length=8, max_epochs=3, learning_rate=1e-2)
RECIPES = [
    Recipe("amazon_beauty", "sce", CONFIG, "tiny"),
    Recipe("amazon_beauty", "bce", dataclasses.replace(CONFIG, loss="bce", learning_rate=1e-5, seen="exclude"), "poor"),
]


@pytest.fixture(scope="module")
def split():
    """Walkers around a circle of 12 items; a third have been around once and come to where they were."""
    rng = np.random.default_rng(0)
    walks = [(rng.integers(12) + np.arange(rng.choice([6, 8, 16]))) % 12 for _ in range(60)]
    return Split(
        train=Sequences.from_lists([w[:-2] for w in walks]),
        validation=Holdout(Sequences.from_lists([w[:-2] for w in walks]), np.array([w[-2] for w in walks])),
        test=Holdout(Sequences.from_lists([w[:-1] for w in walks]), np.array([w[-1] for w in walks])),
        catalog_size=12,
        item_labels=np.arange(12),
        name="cycle",
    )


@pytest.fixture(scope="module")
def folder(split, tmp_path_factory):
    """Both recipes, two seeds each, tested; baselines beside them."""
    where = {name: tmp_path_factory.mktemp(name) for name in ("runs", "results")}

    def train_run(config, run_folder):
        for _ in record(Trainer(config, split, when_to_test="never"), run_folder):
            pass

    for recipe in RECIPES:
        list(reproduce(recipe, split, (0, 1), train_run, repeat=f"sce-lab reproduce {recipe.name}", **where))
        open_test(recipe, split, **where)
    write_baselines(judge_baselines("amazon_beauty", split, repeat="sce-lab baselines"), where["results"])
    return where["results"]


@pytest.fixture
def evidence(folder):
    return Evidence.read(folder)


def test_a_paired_difference_is_that_of_the_kept_ranks(folder):
    sce, bce = records_called(("amazon_beauty-sce", "amazon_beauty-bce"), folder)
    ours, theirs = (Ranks.read(folder / f"amazon_beauty-{name}.npz").gains("HR@10") for name in ("sce", "bce"))
    found = compare_records(sce, bce, "HR@10", folder)
    assert found == difference(ours, theirs)
    assert (found.n_users, found.n_seeds) == (60, 2)
    assert found.mean == pytest.approx(sce["mean"]["HR@10"] - bce["mean"]["HR@10"])


def test_records_that_answer_different_questions_are_not_compared(folder):
    sce, bce = records_called(("amazon_beauty-sce", "amazon_beauty-bce"), folder)
    with pytest.raises(ValueError, match="sce and bce are of different data"):
        compare_records(sce, bce | {"fingerprint": "0" * 32}, folder=folder)
    with pytest.raises(ValueError, match="different rules about seen items"):
        compare_records(sce, bce | {"config": bce["config"] | {"seen": "keep"}}, folder=folder)
    with pytest.raises(ValueError, match=r"of amazon_beauty quick no ranks were kept"):
        compare_records(sce, bce | {"recipe": "quick"}, folder=folder)
    with pytest.raises(ValueError, match=r"no record 'sce'; ranks were kept of .*amazon_beauty-sce"):
        records_called(("sce", "bce"), folder)


@pytest.mark.parametrize(
    ("mean", "low", "high", "sentence"),
    [
        (0.004, 0.001, 0.007, "A is ahead of B in NDCG@10: +0.0040 [+0.0010, +0.0070]."),
        (-0.004, -0.007, -0.001, "A is behind B in NDCG@10: -0.0040 [-0.0070, -0.0010]."),
        (-0.001, -0.002, -2.4e-5, "A is behind B in NDCG@10: -0.0010 [-0.0020, -0.00002]."),
        (0.001, -0.003, 0.005, "A is level with B in NDCG@10: +0.0010 [-0.0030, +0.0050]."),
        (0.001, -0.004, 0.006, "A and B are not told apart in NDCG@10: +0.0010 [-0.0040, +0.0060]."),
    ],
)
def test_a_difference_in_words(mean, low, high, sentence):
    assert in_words("A", "B", Interval(mean, low, high, 100, 2), reached=0.1) == sentence


def test_where_targets_repeat_every_model_is_judged_by_both_rules_at_once(folder, split, evidence):
    (sce,) = (known for known in evidence.records if known["recipe"] == "sce")
    assert list(sce["other_rules"]) == ["keep"]
    assert sce["fingerprint"] == split.fingerprint
    for seed, kept in zip(sce["seeds"], sce["other_rules"]["keep"]["seeds"]):
        assert seed["apart"]["repeats"]["HR@50"] == 0
        assert kept["apart"]["repeats"]["HR@50"] == 1
        assert kept["test"]["repeats"] == seed["test"]["repeats"] > 0.2
    rows = evidence.table.query("loss == 'sce' and not together").set_index("seen")
    assert rows.loc["keep", "model"] == "SASRec, SCE, seen items kept"
    for rule, seeds in (("exclude", sce["seeds"]), ("keep", sce["other_rules"]["keep"]["seeds"])):
        for name, of in (("HR@10", "test"), ("HR@10_new", "new"), ("HR@10_repeats", "repeats")):
            values = [(seed["test"] if of == "test" else seed["apart"][of])["HR@10"] for seed in seeds]
            assert rows.loc[rule, name] == pytest.approx(sum(values) / 2)
        assert rows.loc[rule, "HR@10_low"] < rows.loc[rule, "HR@10"] <= rows.loc[rule, "HR@10_high"]
    shown = for_readers(evidence.table)
    assert {"HR@10, new", "HR@10, repeats"} <= set(shown)
    repeat = shown[shown["model"].str.startswith("Seen before")]
    assert len(repeat) == 1


def test_the_other_rule_is_that_of_the_same_models(folder, split, evidence, tmp_path):
    """One seed trained again: the best epoch's model, judged by hand."""
    *_, _ = (trainer := Trainer(CONFIG, split)).events()
    (sce,) = (known for known in evidence.records if known["recipe"] == "sce")
    kept = sce["other_rules"]["keep"]["seeds"][0]["test"]
    assert kept == evaluate(trainer.best_model(), split.test, seen="keep")


def test_minutes_of_the_processor_stand_in_brackets_where_they_say_something(evidence):
    sce = json.loads(json.dumps(evidence.records[0]))
    assert all(seed["cpu_seconds"] > 0 for seed in sce["seeds"])
    for seed, cpu in zip(sce["seeds"], (60, 180)):
        seed["cpu_seconds"] = cpu
    sce["mean"]["seconds"] = 300.0

    def minutes(record):
        shown = for_readers(Evidence([record]).table)
        return shown.set_index("model")["minutes"]["SASRec, SCE"]

    for seed in sce["seeds"]:
        seed["threads"] = 1
    assert minutes(sce) == "5.0 (CPU 2.0)"
    sce["seeds"][0]["threads"] = 2
    assert minutes(sce) == "5.0"  # it would be that of one thread of two
    for seed in sce["seeds"]:
        del seed["threads"]  # an older record
    assert minutes(sce | {"environment": {"threads": 1}}) == "5.0 (CPU 2.0)"
    assert minutes(sce | {"environment": {"threads": 2}}) == "5.0"
    del sce["seeds"][1]["cpu_seconds"]  # a record from before it was counted
    assert minutes(sce | {"environment": {"threads": 1}}) == "5.0"


def test_findings_compare_the_best_on_validation_with_every_other(folder, evidence):
    said = evidence.findings("amazon_beauty")
    sce, bce = records_called(("amazon_beauty-sce", "amazon_beauty-bce"), folder)
    found = compare_records(sce, bce, folder=folder)
    assert in_words("SASRec, SCE", "SASRec, BCE", found, bce["mean"]["NDCG@10"]) in said
    low, high = sce["interval"]["NDCG@10"]
    (beside,) = (sentence for sentence in said if "; of the published rows, " in sentence)
    assert beside.startswith(f"SASRec, SCE has NDCG@10 {sce['mean']['NDCG@10']:.4f} [{low:.4f}, {high:.4f}]; of ")
    groups = {"below it": [], "inside, so not told apart": [], "above it": []}
    for row in PUBLISHED:
        if row.dataset == "amazon_beauty":
            value = row.metrics["NDCG@10"]
            where = "below it" if value < low else "above it" if value > high else "inside, so not told apart"
            groups[where].append(f"{row.model} ({value:.4f})")
    for where, models in groups.items():
        assert (f" {where}" in beside) == bool(models)
        assert all(model in beside for model in models)
    poor = [sentence for sentence in said if sentence.startswith("Not clearly above")]
    assert len(poor) == 2  # one for each rule
    assert all("SASRec, BCE" in sentence for sentence in poor)
    assert all(f"- {sentence}" in results_markdown(evidence) for sentence in said)
    glance = glance_markdown(evidence)
    assert f"- {said[0]}" in glance  # the comparison; but nothing of published rows that stand elsewhere
    best = max(PUBLISHED, key=lambda row: (row.dataset == "amazon_beauty") * row.metrics.get("NDCG@10", 0))
    (beside,) = (line for line in glance.splitlines() if "; of the published rows, " in line)
    assert beside.count("(0.") == 2
    assert best.model in beside


def test_what_is_above_the_untrained_is_said_with_intervals_and_of_models_without_counts_too(evidence):
    table = evidence.table[evidence.table["dataset"] == "amazon_beauty"].copy()
    trained = table["loss"].notna() & table["seen"].isin(["exclude", ""]) & ~table["together"]
    ends = ["NDCG@10_low", "NDCG@10_high"]
    table.loc[trained, ["NDCG@10", *ends]] = 0.99

    def said(rows):
        (sentence,) = (s for s in _not_above(rows[rows["seen"] != "keep"], "NDCG@10"))
        return sentence

    assert said(table).startswith("All trained models of this table are above ")
    weak = table[trained].iloc[[0]].assign(model="weak", **{"NDCG@10": 0.0})
    assert said(pd.concat([table, weak.assign(**dict.fromkeys(ends, 0.0))])).endswith(": weak 0.0000 [0.0000, 0.0000].")
    assert ": weak 0.0000." in said(pd.concat([table, weak.assign(**dict.fromkeys(ends, float("nan")))]))
    counts = weak.assign(seen=WITHOUT_COUNTS, **dict.fromkeys(ends, 0.0))
    assert said(pd.concat([table, counts])).startswith("Not clearly above ")
    one = table.index[trained][:1]
    table.loc[one, ends] = float("nan")
    assert said(table).startswith("All trained models of this table with an interval are above ")
    assert said(table).endswith("Of 1 row without an interval it is not known.")
    table.loc[trained, ends] = float("nan")
    assert said(table).startswith("No trained model of this table has an interval to be told apart from ")


def test_a_search_is_told_with_its_space_and_what_it_chose(evidence):
    searched = {
        "dataset": "amazon_beauty", "loss": "sce", "space": {"dropout": [0.1, 0.2]}, "budget": 30,
        "rungs": [{"trials": 2, "epochs": 10}], "chosen": {"dropout": 0.2}, "recipe": {},
    }  # fmt: skip
    told = dataclasses.replace(evidence, searches=[searched, searched | {"loss": "bce", "dataset": "gowalla"}])
    (sentence,) = (s for s in told.findings("amazon_beauty") if "same search" in s)
    assert "2 trials and 30 epochs for each loss (dropout 0.1 or 0.2)" in sentence
    assert sentence.endswith("It chose: sce dropout 0.2.")


def test_at_a_glance_each_loss_has_one_row_that_of_the_common_search_if_there_is_one(evidence):
    records = [known for known in evidence.records if known["recipe"] in ("sce", "bce")]
    sce = next(known for known in records if known["recipe"] == "sce")
    worse = json.loads(json.dumps(sce))
    worse["mean"]["validation NDCG@10"] /= 2
    both = dataclasses.replace(evidence, records=[*records, worse | {"recipe": "sce-searched"}])
    lines = [line.split(" |")[0] for line in glance_markdown(both).splitlines() if line.startswith("| SASRec, ")]
    ours = [line for line in lines if "published" not in line]
    assert ours == ["| SASRec, SCE", "| SASRec, SCE (searched)", "| SASRec, BCE"]  # the best of all stays
    assert "**Amazon Beauty" in glance_markdown(both)


def test_the_command_compares_two_records(sce_lab, folder):
    status, out, _ = sce_lab("results", "--compare", "amazon_beauty-sce", "amazon_beauty-bce", "--folder", str(folder))
    assert status == 0
    sce, bce = records_called(("amazon_beauty-sce", "amazon_beauty-bce"), folder)
    for metric in ("HR@10", "NDCG@10"):
        found = compare_records(sce, bce, metric, folder)
        assert in_words("SASRec, SCE", "SASRec, BCE", found, bce["mean"][metric], metric) in out
    assert "The mean over 60 users" in out
    status, _, err = sce_lab("results", "--compare", "amazon_beauty-sce", "nothing", "--folder", str(folder))
    assert status == 2
    assert "there is no record 'nothing'" in err

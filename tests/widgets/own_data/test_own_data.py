"""From a file to a model: columns, what the data are, settings that follow, results with intervals, and a way home."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sce_lab.data import open_split
from sce_lab.memory import predict_memory, typical_length
from sce_lab.recommending import Recommender
from sce_lab.timing import with_catalog
from sce_lab.widgets import BringFile, Look, Plan, TakeHome, Training
from sce_lab.widgets.own_data.file import example_file, files_near, names_of
from sce_lab.widgets.own_data.plan import suggested

SMALL = {"hidden_size": 8, "n_blocks": 1, "batch_size": 128}


@pytest.fixture
def file(tmp_path):
    return example_file(tmp_path, n_users=150)


@pytest.fixture
def brought(file):
    made = BringFile(file, folder=file.parent)
    made.settle()
    return made


def test_what_the_columns_of_a_file_are_called(tmp_path):
    (tmp_path / "a.tsv").write_text('\ufeff"user"\titem\twhen, exactly\n1\t2\t3\n')
    assert names_of(tmp_path / "a.tsv") == ["user", "item", "when, exactly"]
    pd.DataFrame({"u": [1], "i": [2]}).to_parquet(tmp_path / "b.parquet")
    assert names_of(tmp_path / "b.parquet") == ["u", "i"]
    (tmp_path / "d.jsonl").write_text('{"u": 1, "what": 2}\n')
    assert names_of(tmp_path / "d.jsonl") == ["u", "what"]
    (tmp_path / "c.csv").touch()
    with pytest.raises(ValueError, match=r"c\.csv is empty"):
        names_of(tmp_path / "c.csv")


def test_files_that_lie_near(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("a.csv.gz", "data/b.parquet", "c.png"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCE_LAB_DATA", str(tmp_path / "data"))
    assert [path.name for path in files_near()] == ["a.csv.gz", "b.parquet", "b.parquet"]


def test_a_file_is_read_and_said_to_be_what_it_is(brought):
    data = brought.data
    assert brought.problem == ""
    assert dict(data.columns) == {"user": "customer_id", "item": "product_id", "timestamp": "date"}
    assert data.facts["users"] == data.facts["tested"].split()[0] == "150"
    assert data.dated
    assert 0 < data.baselines["popularity"]["HR@10"] < data.baselines["transitions"]["HR@10"] < 1
    assert data.counts.sum() == data.summary["value"]["interactions"]
    assert "customer_id</b> says who" in brought._said.seen.value
    assert "days" in brought._facts.value
    split, _ = open_split(**data.source)
    assert split.fingerprint == data.split.fingerprint


def test_other_columns_and_another_split_are_other_data(brought):
    before = brought.data
    brought.roles["timestamp"].value = ""
    brought.settle()
    assert not brought.data.dated
    assert "the rows stand in order" in str(brought.roles["timestamp"].options)
    brought.roles["timestamp"].value = "date"
    brought.rule.value = "temporal"
    brought.settle()
    assert brought.data.split.fingerprint != before.split.fingerprint
    assert open_split(**brought.data.source)[0].fingerprint == brought.data.split.fingerprint


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("who,what\n1,2\n", "no column with a usual name for the user"),
        ("user,item,ts\n1,2,noon\n1,3,4\n", "cannot be read"),
        ("", "is empty"),
    ],
)
def test_what_is_wrong_is_a_sentence_and_nothing_is_left_of_other_data(brought, tmp_path, content, said):
    (tmp_path / "bad.csv").write_text(content)
    brought.open(tmp_path / "bad.csv")
    brought.settle()
    assert brought.data is None
    assert said in brought.problem
    assert "sce-problem" in brought._said.seen.value
    brought.open(tmp_path / "nowhere.csv")
    assert "there is no file" in brought.problem
    brought.open(tmp_path / "purchases.csv", user="customer")
    assert "no column 'customer', it has 'customer_id'" in brought.problem


def test_a_person_says_which_column_is_which_where_their_names_do_not(brought, tmp_path):
    rows = [f"{u},{(u + i) % 9},{i}" for u in range(30) for i in range(5)]
    (tmp_path / "odd.csv").write_text("\n".join(["wer,was,wann", *rows]))
    brought.open(tmp_path / "odd.csv")
    assert brought.data is None
    for role, name in (("user", "wer"), ("item", "was")):
        brought.roles[role].value = name
        assert brought.problem
    brought.roles["timestamp"].value = "wann"
    brought.settle()
    assert brought.problem == ""
    assert len(brought.data.split.test) == 30


def test_a_file_from_the_readers_machine(brought, tmp_path):
    content = (tmp_path / "purchases.csv").read_bytes()
    sent = {"name": "../mine.csv", "type": "", "size": len(content), "content": memoryview(content)}
    brought.upload.value = (sent | {"last_modified": datetime(2025, 1, 1, tzinfo=UTC)},)
    brought.settle()
    assert brought.data.name == "mine.csv"
    assert len(brought.data.split.test) == 150


def test_settings_follow_from_the_numbers(brought):
    split = brought.data.split
    sce, sampled, ce = suggested(split, ["sce", "sampled", "ce"], 2**34)
    length = typical_length(sce, split)
    n_positions = sce.batch_size * length
    assert sce.loss_settings["n_buckets"] == int(2 * np.sqrt(n_positions))
    assert np.quantile(split.train.lengths - 1, 0.9) <= sce.max_length <= 50
    assert ce.loss_settings == {}
    assert sampled.loss_settings == {"n_negatives": split.catalog_size // 4}
    assert ce.dropout == (0.5 if len(split.train.items) < 20 * split.catalog_size else 0.3)
    wide = with_catalog(split, 5_000)
    [large] = suggested(wide, ["sce"], 2**34)
    needed = predict_memory(large, 5_000, length=typical_length(large, wide)).needed
    [small] = suggested(wide, ["sce"], needed - 1)
    assert small.loss_settings["bucket_size_y"] < large.loss_settings["bucket_size_y"] == 4096
    assert large.dropout == 0.5


def test_from_the_plan_to_what_can_be_told_apart_and_home(brought, tmp_path, monkeypatch):
    monkeypatch.setattr("sce_lab.timing.PROBE", 0.0)
    plan = Plan(brought, losses=("cce", "sce"), epochs=1, seeds=2, changes=SMALL)
    plan.settle()
    assert set(plan.durations) == {"cce", "sce"}
    assert "4 trainings with batches of 128 users" in plan._said.seen.value
    training = Training(plan)
    look, home = Look(training), TakeHome(training, str(tmp_path / "model"))
    assert look.results()["recommended"] == []
    assert home.export() is None
    assert "There is no trained model yet" in home._said.value
    assert training.start()
    training.wait(120)
    results = training.results()
    json.dumps(results, allow_nan=False)
    assert (results["state"], results["left"]) == ("finished", 0)
    assert {row["loss"] for row in results["intervals"]} == {"cce", "sce"}
    for row in results["intervals"]:
        assert row["low"] <= row["mean"] <= row["high"]
        assert np.mean(row["seeds"]) == pytest.approx(row["mean"])
    told = results["told"]
    assert len(told) == 3  # two losses, and each beside popularity
    for each in told:
        assert each["mean"] >= 0
        assert each["told_apart"] == (not each["low"] <= 0 <= each["high"])
        word = "is ahead of" if each["told_apart"] else "are not told apart"
        assert f"{each['ahead']} {'' if each['told_apart'] else 'and ' + each['behind'] + ' '}{word}" in (
            training._read.value.replace("&#x27;", "'")
        )
    assert training.best.config.loss == results["best"]

    shown = look.results()
    split = brought.data.split
    assert shown["history"] == list(split.item_labels[split.test.histories[0]])
    assert len(set(shown["recommended"])) == 10
    assert not set(shown["recommended"]) & set(shown["history"])
    look.user.value = 7
    assert look.results()["target"] == split.item_labels[split.test.targets[6]]
    assert look.results()["target"] in look._user_said.value
    look.item.value = "P0001"
    assert len(look.results()["neighbours"]) == 10
    look.item.value = "nothing like it"
    assert "unknown to this model" in look._item_said.value

    path = home.export()
    taken = Recommender.load(path)
    assert list(taken.recommend(shown["history"], 10)["item"]) == shown["recommended"]
    assert "Recommender.load(" in home._code.value

    again = Training(Plan(brought, losses=("cce", "sce"), epochs=1, seeds=2, changes=SMALL))
    assert not again.start()  # all is there already
    assert again.results()["intervals"] == results["intervals"]


def test_a_sum_of_over_ten_minutes_is_said(brought, monkeypatch):
    monkeypatch.setattr("sce_lab.timing.LONG", 1e-9)
    monkeypatch.setattr("sce_lab.timing.PROBE", 0.0)
    plan = Plan(brought, losses=("sce",), epochs=2, seeds=1, changes=SMALL)
    plan.settle()
    assert "sce-warning" in plan._said.seen.value
    for toggle in plan.losses.values():
        toggle.value = False
    assert "Choose at least one loss" in plan._said.seen.value
    assert plan.trials == []


def test_numbers_are_found_as_numbers():
    look = Look.__new__(Look)
    look.recommender = SimpleNamespace(item_labels=np.arange(3))
    assert look._label(" 2 ") == 2
    look.recommender.item_labels = np.array(["2", "x"], dtype=object)
    assert look._label("2 ") == "2"

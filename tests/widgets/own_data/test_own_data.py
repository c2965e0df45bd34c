"""From a file to a model: columns, what the data are, settings that follow, results with intervals, and a way home."""

import gzip
import json
import os
import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from sce_lab.data import open_split
from sce_lab.memory import DoesNotFitError, check_fits, predict_memory, typical_length
from sce_lab.recommending import Recommender
from sce_lab.timing import with_catalog
from sce_lab.widgets import BringFile, Look, Plan, TakeHome, Training
from sce_lab.widgets.own_data.file import bring, example_file, files_near
from sce_lab.widgets.own_data.suggesting import suggested

SMALL = {"hidden_size": 8, "n_blocks": 1, "batch_size": 128}


@pytest.fixture
def file(tmp_path):
    (tmp_path / "purchases.csv").write_bytes(example_file(n_users=150).read_bytes())
    return tmp_path / "purchases.csv"


@pytest.fixture
def brought(file):
    made = BringFile(file, folder=file.parent)
    made.settle()
    return made


def test_the_example_takes_no_file_away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCE_LAB_RUNS", "runs")
    (tmp_path / "purchases.csv").write_text("a year's work")
    path = example_file(n_users=20)
    assert (tmp_path / "purchases.csv").read_text() == "a year's work"
    assert (tmp_path / "runs") in path.absolute().parents
    path.write_text("changed by hand")
    assert example_file(n_users=20).read_text() == "changed by hand"


def test_files_that_lie_near(tmp_path, monkeypatch):
    for folder in ("data", ".hidden", "runs/own_data"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a.csv.gz", "data/b.parquet", "c.png", ".hidden/d.csv", "config.json", "runs/own_data/e.csv"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCE_LAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SCE_LAB_RUNS", "runs")
    assert [path.name for path in files_near()] == ["a.csv.gz", "b.parquet", "b.parquet"]


def test_no_more_is_walked_than_is_listed(tmp_path, monkeypatch):
    monkeypatch.delenv("SCE_LAB_DATA", raising=False)
    monkeypatch.setattr("sce_lab.widgets.own_data.file.NEAR", 3)
    for n in range(9):
        (tmp_path / str(n)).mkdir()
        (tmp_path / str(n) / "a.csv").touch()
    seen, scandir = [], os.scandir
    monkeypatch.setattr("os.scandir", lambda folder: seen.append(folder) or scandir(folder))
    assert len(files_near(tmp_path)) == 3
    assert len(seen) < 9


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


def other_file(folder):
    """Another file than the example."""
    rows = [f"{u},{(3 * u + i) % 40},{i}" for u in range(60) for i in range(9)]
    (folder / "walks.csv").write_text("\n".join(["user,item,ts", *rows]))
    return folder / "walks.csv"


def test_columns_without_names_are_offered_by_their_numbers(tmp_path):
    rows = [f"{u % 30},{u},{5 + u}" for u in range(200)]
    (tmp_path / "bare.csv").write_text("\n".join(["2,1,5", *rows]))
    made = BringFile(tmp_path / "bare.csv", folder=tmp_path)
    assert made.problem
    assert [value for _, value in made.roles["user"].options if value] == ["1", "2", "3"]
    for role, number in (("user", "1"), ("item", "2"), ("timestamp", "3")):
        made.roles[role].value = number
    made.settle()
    assert made.problem == ""
    assert made.data.facts["users"] == "30"


@pytest.mark.parametrize("damaged", ["cut", "no blocks"])
def test_a_damaged_file_is_a_sentence(brought, tmp_path, damaged):
    whole = gzip.compress((tmp_path / "purchases.csv").read_bytes())
    content = whole[: len(whole) // 2] if damaged == "cut" else whole[:10] + b"\xff" * 40
    (tmp_path / "cut.csv.gz").write_bytes(content)
    brought.open(tmp_path / "cut.csv.gz")
    brought.settle()
    assert brought.data is None
    assert "cut.csv.gz ends early or is damaged" in brought.problem


def test_whatever_goes_wrong_ends_the_reading(brought, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("sce_lab.widgets.own_data.bring.bring", fail)
    brought.rule.value = "temporal"
    brought.settle()
    assert brought.problem == "MemoryError"
    assert "Reading" not in brought._said.seen.value


def test_what_is_read_too_late_is_dropped(brought, tmp_path, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def slow(*asked):
        begun.set()
        assert go_on.wait(30)
        return bring(*asked)

    monkeypatch.setattr("sce_lab.widgets.own_data.bring.bring", slow)
    brought.open(other_file(tmp_path))
    assert begun.wait(30)
    brought.open(tmp_path / "nowhere.csv")
    go_on.set()
    brought.settle()
    assert brought.data is None
    assert "there is no file" in brought.problem


def test_dates_as_they_are_written_and_repeats_that_are_dropped(tmp_path):
    rows = [f"{u},{(u + i // 2) % 20},{1 + i:02d}/03/2024" for u in range(30) for i in range(12)]
    (tmp_path / "dates.csv").write_text("\n".join(["user,item,date", *rows]))
    made = BringFile(tmp_path / "dates.csv", folder=tmp_path)
    made.settle()
    assert "cannot be read" in made.problem
    made.date_format.value = "%d/%m/%Y"
    made.settle()
    assert made.problem == ""
    assert made.data.dated
    assert made.data.facts["interactions"].startswith("360;")
    made.drop_repeats.value = True
    made.settle()
    assert made.data.facts["interactions"].startswith("180;")
    assert open_split(**made.data.source)[0].fingerprint == made.data.split.fingerprint


def test_two_files_of_one_name_are_kept_side_by_side(brought, tmp_path, monkeypatch):
    def send(content):
        sent = {"name": "mine.csv", "type": "", "size": len(content), "content": memoryview(content)}
        brought.upload.value = (sent | {"last_modified": datetime(2025, 1, 1, tzinfo=UTC)},)
        brought.settle()
        return brought.data

    first = (tmp_path / "purchases.csv").read_bytes()
    one, two = send(first), send(other_file(tmp_path).read_bytes())
    assert one.name == two.name == "mine.csv"
    assert one.path.read_bytes() == first
    written = one.path.stat().st_mtime_ns
    assert send(first).path.stat().st_mtime_ns == written  # another time would be another file
    (tmp_path / "no_folder").touch()
    monkeypatch.setenv("SCE_LAB_RUNS", str(tmp_path / "no_folder"))
    assert send(b"user,item\n1,2\n1,3\n") is None
    assert "sce-problem" in brought._said.seen.value


@pytest.fixture
def planned(brought, monkeypatch):
    monkeypatch.setattr("sce_lab.timing.PROBE", 0.0)
    made = Plan(brought, losses=("cce",), epochs=1, seeds=1, changes=SMALL)
    made.settle()
    return made


def test_without_data_there_is_nothing_to_train_or_to_look_at(brought, planned, tmp_path):
    training = Training(planned)
    look, home = Look(training), TakeHome(training, str(tmp_path / "model"))
    assert training.start()
    training.wait(120)
    assert look.results()["recommended"]
    assert home._code.value
    brought.open(tmp_path / "nowhere.csv")
    assert planned.trials == []
    assert training.board is None
    assert not training.start()
    assert look.results()["recommended"] == []
    look.another.click()
    look.user.value = 1
    assert (look._user_said.value, look._item_said.value, home._code.value) == ("", "", "")
    brought.open(other_file(tmp_path))
    brought.settle()
    assert look.results()["recommended"] == []


def test_what_changes_while_it_trains_waits_for_the_end(brought, planned, tmp_path, monkeypatch):
    training = Training(planned)
    look = Look(training)
    board, held, go_on = training.board, threading.Event(), threading.Event()
    events = board.sweep.events

    def slow(stop):
        for each in events(stop):
            yield each
            held.set()
            assert go_on.wait(60)

    monkeypatch.setattr(board.sweep, "events", slow)
    assert training.start()
    assert held.wait(60)
    with monkeypatch.context() as patched:
        patched.setattr("sce_lab.widgets.own_data.plan.predict_time", lambda *_: pytest.fail("beside a training"))
        brought.open(other_file(tmp_path))
        brought.settle()
        planned.seeds.value = 2
        planned.settle()
    assert planned.durations == {}
    assert training.own.name == "purchases.csv"
    assert len(training.board.sweep.trials) == 1
    go_on.set()
    board.wait(120)
    assert board.live.state == "finished"
    assert board.sweep.left == []
    assert training.own.name == "walks.csv"  # now it is the turn of what was brought
    assert len(training.board.sweep.trials) == 2
    assert look.results()["recommended"] == []
    planned.settle()
    assert set(planned.durations) == {"cce"}
    assert training.start()
    training.wait(120)
    assert len(training.done["cce"]) == 2
    assert look.results()["target"] in set(map(str, brought.data.split.item_labels))


def test_a_file_that_was_written_to_is_read_again_before_it_is_trained_on(brought, planned, file):
    training = Training(planned)
    before = brought.data
    with file.open("a") as more:
        more.write("C99999,P0001,2024-01-01T00:00:00Z\nC99999,P0002,2024-01-02T00:00:00Z\nC99999,P0003,2024-01-03\n")
    assert not training.start()
    brought.settle()
    assert training.own is brought.data is not before
    assert len(training.own.split.test) == 151
    assert training.start()
    training.wait(120)
    assert training.told()


def test_a_loss_that_does_not_fit_is_left_out(brought, monkeypatch):
    monkeypatch.setattr("sce_lab.timing.PROBE", 0.0)

    def check(config, *rest, **named):
        if config.loss == "ce":
            raise DoesNotFitError("ce needs too much")
        return check_fits(config, *rest, **named)

    monkeypatch.setattr("sce_lab.widgets.own_data.plan.check_fits", check)
    plan = Plan(brought, losses=("ce", "cce"), epochs=1, seeds=1, changes=SMALL)
    plan.settle()
    assert [trial.config.loss for trial in plan.trials] == ["cce"]
    assert "1 training with" in plan._said.seen.value
    assert "e needs too much: left out" in plan._said.seen.value
    assert "left out" in plan._table.value
    plan.losses["cce"].value = False
    assert plan.trials == []
    assert "Nothing of it fits here" in plan._said.seen.value

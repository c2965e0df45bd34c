"""The command line: what it prints, what it keeps when interrupted, and what it says to bad input."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from sce_lab.cli.running import resume_hint
from sce_lab.data import Holdout, Sequences
from sce_lab.losses import LOSSES
from sce_lab.memory import count_work, format_bytes, format_count, predict_memory
from sce_lab.reproduce import RECIPES, Recipe
from sce_lab.reproduce.refereed import read_fidelity
from sce_lab.reproduce.studies import fidelity_markdown
from sce_lab.runs import Run, list_runs
from sce_lab.training import TrainingConfig

TINY = ("--catalog-size", "200", "--batch-size", "1024", "--bucket-size-y", "16", "--n-negatives", "16")


@pytest.fixture(autouse=True)
def _own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SCE_LAB_RUNS", str(tmp_path / "runs"))


def test_compare_prints_one_table_and_records_the_runs(sce_lab, tmp_path):
    status, out, _ = sce_lab("compare", "--epochs", "1", "--html", str(tmp_path / "page.html"), *TINY)
    assert status == 0
    assert re.search(r"3,000 test users, 200 items", out)
    rows = {line.split("  ")[0]: line for line in out.splitlines() if "MiB" in line}
    assert list(rows) == ["Cross-entropy", "Cross-entropy, logits never held", "Sampled softmax", "SCE"]
    for run in list_runs():
        assert run.summary["reason"] == "epochs"
        assert f"{run.summary['test']['NDCG@10']:.4f}" in out
    page = (tmp_path / "page.html").read_text()
    assert "plotly" in page
    assert "Sampled softmax" in page
    status, out, _ = sce_lab("runs")
    assert status == 0
    assert all(run.name in out for run in list_runs())


def test_it_says_how_long_it_will_take_before_it_trains(sce_lab, monkeypatch):
    monkeypatch.setattr("sce_lab.timing.LONG", 1e-6)
    status, out, err = sce_lab("train", "--epochs", "2", *TINY)
    assert status == 0
    assert re.search(r"Expected: (at least )?\S+ µ?m?s a step, \S+ m?s a run( at most)?\.", out)
    assert "note: that is" in err
    assert "Ctrl-C stops after a step and keeps what was trained" in err
    [run] = list_runs()
    monkeypatch.setattr("sce_lab.timing.predict_time", lambda config, split, epochs_done: pytest.fail(str(epochs_done)))
    with pytest.raises(pytest.fail.Exception, match="2"):  # two of the three are done
        sce_lab("train", "--resume", str(run.folder), "--epochs", "3")


def test_fidelity_shows_each_moment_and_writes_what_it_found(sce_lab, tmp_path):
    files = ["--csv", str(tmp_path / "f.csv"), "--html", str(tmp_path / "f.html")]
    files += ["--record", str(tmp_path / "f.json")]
    short = ["--epochs", "0,1", "--draws", "2", "--positions", "60", "--losses", "cce,sce,sampled"]
    status, out, _ = sce_lab("fidelity", *short, *files)
    assert status == 0
    assert "after 0 epochs of cce" in out
    assert "after 1 epochs of cce" in out
    assert re.search(r"Cross-entropy, logits never held +0\.000 ± 0\.000", out)
    assert len((tmp_path / "f.csv").read_text().splitlines()) == 1 + 2 * 2 * (1 + 4 + 5)
    assert "after 1 epochs" in (tmp_path / "f.html").read_text()
    table = read_fidelity(tmp_path / "f.json")
    kept = pd.read_csv(tmp_path / "f.csv")
    pd.testing.assert_frame_equal(table[kept.columns], kept, check_dtype=False, rtol=1e-6)
    assert set(table["trained"]) == {"cce"}
    record = json.loads((tmp_path / "f.json").read_text())
    for said in ("--epochs 0,1", "--draws 2", "--positions 60", "--losses cce,sce,sampled", "--train-with cce"):
        assert said in record["repeat"]
    assert "f.json" not in record["repeat"]
    assert record["environment"]["versions"]["torch"]
    text = fidelity_markdown([table])
    (line,) = [line for line in text.splitlines() if line.startswith("| SCE, 256")]
    last = table[(table["loss"] == "SCE, 256") & (table["of"] == "items")].iloc[-1]
    assert f"{last['error']:.2f} ({last['bias']:.2f}, {last['spread']:.2f})" in line
    assert "the random draw whose error is nearest" in text
    without = fidelity_markdown([table[table["kind"] != "sampled"]])
    assert "whose error is nearest" not in without
    assert line in without


def test_the_command_that_repeats_fidelity_says_all_that_was_asked_for(sce_lab, tmp_path):
    path = tmp_path / "my clicks.csv"
    path.write_text("who,what,when\n" + "".join(f"u{n % 5},i{n % 7},{n:02d}/05/2024\n" for n in range(1, 31)))
    asked = ["--dataset", str(path), "--user", "who", "--item", "what", "--time", "when", "--date-format", "%d/%m/%Y"]
    asked += ["--drop-repeats", "--split", "leave_one_out", "--epochs", "0", "--draws", "2", "--losses", "sce"]
    status, _, err = sce_lab("fidelity", *asked, "--record", str(tmp_path / "f.json"))
    assert status == 0, err
    words = shlex.split(json.loads((tmp_path / "f.json").read_text())["repeat"])
    assert words[:2] == ["sce-lab", "fidelity"]
    assert set(asked) <= set(words)
    assert "--record" not in words
    assert sce_lab(*words[1:], "--record", str(tmp_path / "again.json"))[0] == 0
    fingerprints = [json.loads((tmp_path / name).read_text())["fingerprint"] for name in ("f.json", "again.json")]
    assert fingerprints[0] == fingerprints[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--epochs", "1,x"], "--epochs takes whole numbers from 0 on, separated by commas, such as 0,5,15, got '1,x'"),
        (["--epochs", "-1"], "got '-1'"),
        (["--losses", "best"], "there is no loss 'best'; known are 'ce'"),
    ],
)
def test_fidelity_says_what_is_wrong(sce_lab, arguments, sentence):
    status, _, err = sce_lab("fidelity", *arguments)
    assert status == 2
    assert sentence in err


def test_an_interrupted_training_is_kept_and_can_be_continued(sce_lab, tmp_path):
    command = [sys.executable, "-m", "sce_lab.cli", "train", "--epochs", "2000", "--patience", "2000", *TINY]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + 120
    while not any(run.checkpoint.exists() for run in list_runs()):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    (run,) = list_runs()
    assert f"sce-lab train --resume {run.folder}" in re.sub(r"\n", "", out)
    assert run.summary["reason"] == "stopped"
    assert run.summary["test"]["NDCG@10"] > 0
    settings = (run.folder / "config.json").read_text()
    done = run.summary["step"]
    more = settings.replace('"max_epochs": 2000', f'"max_epochs": {run.summary["epoch"] + 1}')
    (run.folder / "config.json").write_text(more)
    assert sce_lab("train", "--resume", str(run.folder))[0] == 0
    assert Run(run.folder).summary["reason"] == "epochs"
    assert Run(run.folder).summary["step"] > done


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["compare", "--losses", "ce,bpr"],
            r"--losses takes ce, cce, ce_minus, sampled, rece, sce, bce, .* got 'ce,bpr'",
        ),
        (["compare", "--dataset", "beauty"], "unknown data set 'beauty': use synthetic, amazon_beauty"),
        (["compare", "--dataset", "no.csv"], "no.csv"),
        (["train", "--loss", "sce", "--n-buckets", "0"], "n_buckets .*0"),
        (["train", "--loss", "bpr"], "loss must be one of ce, cce, ce_minus, sampled, rece, sce, bce, got 'bpr'"),
        (
            ["train", "--catalog-size", "30000000", "--loss", "ce"],
            r"ce over 30,000,000 items needs .* is free",
        ),
        (["train", "--resume", "nowhere"], "nowhere is no run folder"),
        (["train", "--timeout", "60"], "--timeout is how long processes wait for each other"),
        (["train", "--dataset", "amazon_beauty", "--catalog-size", "5"], "catalog_size applies to synthetic"),
        (["train", "--device", "cuda:99"], "no device 'cuda:99' to train on here; use cpu"),
        (["train", "--device", "tpu9"], "device must be cpu, cuda, .* got 'tpu9'"),
        (["compare", "--device", "gpu"], "device must be cpu, cuda, .* got 'gpu'"),
        (["compare", "--device", ""], "device must be cpu, cuda, .* got ''"),
        (["train", "--device", "meta"], "no device 'meta' to train on here"),
        (["reproduce", "amazon_beauty", "--device", "meta"], "no device 'meta' to train on here"),
        (["train", "--batch-size", "1000000000000"], "batch_size must be at most 10,000,000, got 1,000,000,000,000"),
        (["memory", "--hidden-size", "100000000"], "hidden_size must be at most 65,536, got 100,000,000"),
        (["memory", "--hidden-size", "65536", "--batch-size", "10000000", "10000000000"], "too large|at most"),
        (["memory", "1000000000000000000"], "'1000000000000000000' is no whole number .* such as 1000000 or 1e6"),
        (["memory", "1.5"], "'1.5' is no whole number"),
        (["memory", "nan"], "'nan' is no whole number"),
        (["compare", "--html", "/nope/page.html"], "--html /nope/page.html cannot be written: .* no folder /nope"),
        (["compare", "--html", "/"], "--html takes the name of a file, and / is a folder"),
        (["reproduce", "synthetic", "--watch", "/nope/page.html"], "--watch /nope/page.html cannot be written"),
        (["runs", "/nope"], "there is no folder /nope"),
        (["train", "--dataset", "m[final].csv"], r"m\[final\]\.csv"),
        (["train", "--dataset", "[/red]user.csv"], r"\[/red\]user\.csv"),
        (["compare", "--losses", "[bold]"], r"got '\[bold\]'"),
        (["data", ":smile:.csv"], ":smile:.csv"),
    ],
)
def test_bad_input_gets_one_sentence_and_no_run(sce_lab, arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.setattr("sce_lab.memory.guard.free_memory", lambda device: 2**34)
    if "30000000" in arguments:  # the data of 30 million items are not what is tried here
        split = type("Split", (), {"catalog_size": 30_000_000, "train": Sequences.from_lists([[1, 2]])})
        split.test = Holdout(Sequences.from_lists([[1, 2]]), [3])
        monkeypatch.setattr("sce_lab.cli.training.open_data", lambda source: split)
    status, _, err = sce_lab(*arguments)
    assert status == 2
    message = " ".join(err.split())
    assert re.search(sentence, message)
    assert "Traceback" not in message
    assert list_runs() == []


@pytest.fixture
def tiny_recipe(monkeypatch):
    """A recipe on synthetic data that takes seconds, with a reduced setting."""
    config = TrainingConfig(hidden_size=8, n_blocks=1, batch_size=1024, max_length=8, max_epochs=2)
    recipe = Recipe("synthetic", "sce", config, "tiny", reduced={"max_epochs": 1})
    monkeypatch.setitem(RECIPES, "synthetic", {"sce": recipe})


def test_reproduce_records_what_came_out_and_does_not_train_twice(sce_lab, tiny_recipe, tmp_path):
    words = ("reproduce", "synthetic", "--reduced", "--set", "dropout=0.1", "--results", str(tmp_path / "records"))
    status, out, _ = sce_lab(*words, "--seeds", "2", "--watch", str(tmp_path / "page.html"))
    assert status == 0
    (path,) = (tmp_path / "records").iterdir()
    assert path.name == "synthetic-sce-reduced+dropout=0.1.json"
    record = json.loads(path.read_text())
    assert (
        record["repeat"] == "sce-lab reproduce synthetic --loss sce --reduced --seeds 2 --set dropout=0.1 --device cpu"
    )
    assert (record["config"]["max_epochs"], record["config"]["dropout"]) == (1, 0.1)
    assert "max_epochs 1 instead of 2" in record["note"]
    assert [seed["seed"] for seed in record["seeds"]] == [0, 1]
    assert all(seed["memory"]["peak"] > 0 for seed in record["seeds"])
    assert f"2 of 2 seeds: NDCG@10 {record['mean']['validation NDCG@10']:.4f} on validation" in " ".join(out.split())
    assert "test" not in record["seeds"][0]
    page = (tmp_path / "page.html").read_text()
    last = record["seeds"][1]["validation"]["NDCG@10"]
    assert "Seed 1, epoch 1 of at most 1. HR@10" in page
    assert f"NDCG@10 {last:.4f} on validation" in page
    assert 'http-equiv="refresh"' in page
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("summary.json")}
    assert len(times) == 2
    assert sce_lab(*words, "--seeds", "2")[0] == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("summary.json")} == times


def test_the_test_is_opened_by_a_command_of_its_own_and_once(sce_lab, tiny_recipe, tmp_path):
    where = ("--reduced", "--results", str(tmp_path / "records"))
    assert sce_lab("reproduce", "synthetic", *where)[0] == 0
    status, out, _ = sce_lab("open-test", "synthetic", *where)
    record = json.loads((tmp_path / "records" / "synthetic-sce-reduced.json").read_text())
    assert status == 0
    low, high = record["interval"]["HR@10"]
    assert f"1 seeds: HR@10 {record['mean']['HR@10']:.4f} [{low:.4f}, {high:.4f}]" in " ".join(out.split())
    assert "a target among them is a miss" in out
    status, _, err = sce_lab("open-test", "synthetic", *where)
    assert status == 2
    assert f"opened before ({record['tested_at']})" in " ".join(err.split())


def test_all_recipes_are_those_that_may_still_be_trained(sce_lab, tiny_recipe, tmp_path):
    where = ("--reduced", "--results", str(tmp_path / "records"))
    assert sce_lab("reproduce", "synthetic", *where)[0] == 0
    assert sce_lab("open-test", "synthetic", *where)[0] == 0
    before = (tmp_path / "records" / "synthetic-sce-reduced.json").read_bytes()
    status, out, err = sce_lab("reproduce", "synthetic", "--loss", "all", *where)
    assert (status, out) == (0, "")
    assert "the tests of sce-reduced were looked at, so their records are closed and passed over" in err
    assert (tmp_path / "records" / "synthetic-sce-reduced.json").read_bytes() == before
    status, _, err = sce_lab("reproduce", "synthetic", "--loss", "sce", *where)
    assert status == 2
    assert "so its record is closed" in err


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("train --loss ce --n-buckets 5", "--n-buckets: changes nothing of ce; it has no such settings"),
        (
            "train --loss sce --mix --n-negatives 5 --sampling popularity",
            "--n-negatives, --sampling: changes nothing of sce; with sce go --bucket-size-x, --bucket-size-y, --mix",
        ),
        ("compare --losses ce,sampled --mix", "--mix: changes nothing of ce, sampled; with ce, sampled go --n-neg"),
    ],
)
def test_an_option_that_changes_nothing_is_named(sce_lab, command, sentence):
    status, _, err = sce_lab(*command.split(), "--epochs", "1", *TINY[:4])
    assert status == 0
    assert sentence in " ".join(err.split())


def test_a_seed_of_synthetic_data_is_refused_where_there_are_none(sce_lab):
    status, _, err = sce_lab("train", "--dataset", "amazon_beauty", "--data-seed", "3")
    assert status == 2
    assert "--data-seed decides the synthetic data, and amazon_beauty is what it is: leave it out" in err


def test_a_loss_that_is_named_twice_is_trained_once(sce_lab, tmp_path):
    status, out, _ = sce_lab("compare", "--losses", "ce, ce", "--epochs", "1", "--out", str(tmp_path), *TINY)
    assert status == 0
    assert len(list(tmp_path.iterdir())) == 1
    assert "told apart" not in out


def test_runs_cannot_go_into_a_file(sce_lab, tmp_path):
    (tmp_path / "file").touch()
    status, _, err = sce_lab("train", "--loss", "ce", "--epochs", "1", "--out", str(tmp_path / "file"), *TINY)
    assert status == 2
    assert f"{tmp_path / 'file'} is a file: name a folder for the runs" in err


def test_a_command_that_is_said_can_be_pasted():
    assert resume_hint(Path("my runs") / "a") == "Continue it with: sce-lab train --resume 'my runs/a'"


def test_settings_of_sce_that_would_fit_are_those_of_the_model_that_was_asked_about(sce_lab, monkeypatch):
    asked = []
    monkeypatch.setattr("sce_lab.memory.suggest_sce", lambda free, config, catalog_size: asked.append(config))
    status, out, _ = sce_lab("memory", "1000", "--hidden-size", "16", "--batch-size", "8", "--sparse")
    assert status == 0
    assert "give no settings of SCE" in out
    assert (asked[0].loss, asked[0].hidden_size, asked[0].sparse_gradients) == ("sce", 16, True)


def test_baselines_are_shown_and_kept(sce_lab, tmp_path):
    data = tmp_path / "visits.csv"
    rows = [f"{u},{(u + 3 * t) % 7},{t}" for u in range(40) for t in range(9)]
    data.write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    status, out, _ = sce_lab("baselines", str(data))
    assert status == 0
    assert "100.0% of the targets repeat" in out
    labels = ["Popularity", "What follows the last item", "What follows the last three items"]
    labels += ["Seen before, then popularity"]
    assert [line.split("  ")[0] for line in out.splitlines() if "keep" in line] == labels
    status, out, _ = sce_lab("baselines", "synthetic", "--seen", "keep", "--record", "--folder", str(tmp_path / "r"))
    assert status == 0
    assert json.loads((tmp_path / "r" / "baselines" / "synthetic.json").read_text())["rows"][0]["seen"] == "keep"
    assert sce_lab("baselines", "synthetic", "--seen", "all")[0] == 2


@pytest.mark.parametrize(("seen", "repeats"), [("exclude", r"0\.0000"), ("keep", r"0\.\d{4}|1\.0000")])
def test_new_targets_and_repeats_are_told_apart(sce_lab, tmp_path, seen, repeats):
    data = tmp_path / "visits.csv"
    rows = [
        f"{u},{(u + t) % (5 + u % 2 * 50)},{t}" for u in range(40) for t in range(9)
    ]  # every other user goes around
    data.write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    words = ("--dataset", str(data), "--epochs", "1", "--loss", "ce", "--seen", seen, *TINY[2:4])
    status, out, _ = sce_lab("train", *words)
    assert status == 0
    assert "(20 of 40 targets repeat)" in out
    assert re.search(rf"HR@10 of new targets and of repeats: Cross-entropy [01]\.\d{{4}} and ({repeats})\.", out)


def test_compare_says_what_may_be_chance(sce_lab):
    status, out, _ = sce_lab("compare", "--losses", "ce,cce", "--epochs", "1", "--seen", "keep", *TINY)
    assert status == 0
    assert re.search(r"Not told apart in NDCG@10: .*Cross-entropy.* and .*Cross-entropy.*95 %", out)
    assert "seen items compete like all others" in out
    assert re.search(r"0\.\d{4} \[0\.\d{4}, 0\.\d{4}\]", out)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["movielens"], "no recipe for 'movielens'; there are recipes for amazon_beauty, "),
        (["movielens", "--loss", "all"], "no recipe for 'movielens'; there are recipes for amazon_beauty, "),
        (
            ["amazon_beauty", "--loss", "ce,bpr"],
            "has no recipe 'bpr'; it has sce, as-published, quick, race, best, ce, ce-best, sampled, sampled-own",
        ),
        (["amazon_beauty", "--set", "dropot=1"], "no setting 'dropot'"),
        (["amazon_beauty", "--reduced"], "amazon_beauty sce has no reduced settings"),
        (
            ["gowalla"],
            r"gowalla .* \(--device cuda\); on a CPU --reduced trains it smaller \(batch_size 128",
        ),
        (["beeradvocate", "--reduced"], r"Put the file beeradvocate/beer_reviews\.csv into a folder .*SCE_LAB_DATA"),
    ],
)
def test_reproduce_says_what_is_wrong(sce_lab, arguments, sentence, monkeypatch, tmp_path):
    monkeypatch.setenv("SCE_LAB_DATA", str(tmp_path))
    status, _, err = sce_lab("reproduce", *arguments, "--results", str(tmp_path / "records"))
    assert status == 2
    assert re.search(sentence, " ".join(err.split()))
    assert not (tmp_path / "records").exists()


def test_results_shows_and_writes(sce_lab, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results -->\n<!-- end of results -->\n")
    (tmp_path / "none").mkdir()
    words = ("results", "--write", str(readme), "--folder", str(tmp_path / "none"))
    status, out, _ = sce_lab(*words)
    assert status == 0
    assert re.search(r"SASRec-SCE, published\s+0\.0935\s+0\.0544", out)
    assert "README.md is written" in " ".join(out.split())
    assert "Nothing has been recorded yet." in readme.read_text()
    assert "says so already" in " ".join(sce_lab(*words)[1].split())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("results", "--results", "no/such"), "--results no/such is no folder, so there are no records in it"),
        (
            ("results", "--write", "no.md"),
            "marks of a file that is there, and there is no file no.md",
        ),
        (("reproduce", "amazon_beauty", "--quick", "--loss", "best"), "--quick is the recipe race, so it does not go"),
        (("speedrun", "amazon_beauty", "--ahead", "--record"), "is no race: leave out --record"),
    ],
    ids=" ".join,
)
def test_what_commands_about_the_paper_refuse(sce_lab, words, sentence):
    status, out, err = sce_lab(*words)
    assert (status, out) == (2, "")
    assert sentence in " ".join(err.split())


def test_help_teaches(sce_lab):
    for command in ("reproduce", "search", "results", "compare", "train", "runs", "data"):
        status, out, _ = sce_lab(command, "--help")
        assert status == 0
        assert len(out.split()) > 20
    assert "sce-lab compare --dataset amazon_beauty" in " ".join(sce_lab("compare", "--help")[1].split())


def test_data_lists_and_summarises(sce_lab, tmp_path):
    assert "amazon_beauty" in sce_lab("data")[1]
    path = tmp_path / "mine.csv"
    path.write_text("user,item,timestamp\n" + "".join(f"{u},{i},{i}\n" for u in range(4) for i in range(5)))
    out = sce_lab("data", str(path))[1]
    assert re.search(r"users\s+4\b", out)
    assert re.search(r"interactions\s+20\b", out)


def test_a_catalog_can_be_written_as_people_write_it(sce_lab):
    tables = [sce_lab("memory", size, "--batch-size", "8", "--max-length", "8") for size in ("2e3", "2,000", "2_000")]
    assert [status for status, _, _ in tables] == [0, 0, 0]
    assert all("2,000 items, one step" in out for _, out, _ in tables)


def test_work_stands_beside_memory(sce_lab):
    out = sce_lab("memory", "1e6", "--batch-size", "8", "--max-length", "10")[1]
    config = TrainingConfig(loss="cce", batch_size=8, max_length=10)
    rows = [line for line in out.splitlines() if line.startswith(LOSSES["cce"].label)]
    assert format_bytes(predict_memory(config, 10**6).loss_workspace) in rows[0]
    assert re.search(rf"\s{format_count(count_work(config, 10**6).flops)}\s+≥ [\d.]+ (ms|s|min)$", rows[1].rstrip())
    assert "time here (estimate)" in out


def test_names_with_brackets_are_printed_as_they_are(sce_lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{u},[/red]{i},{i}\n" for u in range(200) for i in range(5))
    (tmp_path / "m[final].csv").write_text("user,item,timestamp\n" + rows)
    status, out, err = sce_lab("train", "--dataset", "m[final].csv", "--epochs", "1", "--out", "[bold]", *TINY[2:4])
    assert status == 0, err
    assert "m[final].csv: 200 test users, 5 items" in out
    assert "Recorded in [bold]/" in out
    assert "m[final].csv" in sce_lab("runs", "[bold]")[1]
    assert "m[final].csv" in sce_lab("data", "m[final].csv")[1]


def test_few_test_users_are_counted_and_said(sce_lab, tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("user,item,timestamp\n" + "".join(f"0,{i},{i}\n" for i in range(9)))
    status, out, err = sce_lab("train", "--dataset", str(path), "--epochs", "1")
    assert status == 0
    assert "one.csv: 1 test users, 9 items" in out
    assert re.search("^note: only 1 user is tested", err, re.MULTILINE)


IMPORTS = """if True:
    import sys
    sys.argv = ["sce-lab", *sys.argv[1:]]
    from sce_lab.cli import main
    try:
        main()
    finally:
        print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["train", "--help"], ["reproduce", "--help"], ["train", "--oops"]]
)
def test_help_does_not_wait_for_torch(arguments):
    done = subprocess.run([sys.executable, "-c", IMPORTS, *arguments], capture_output=True, text=True)
    modules = set(done.stderr.splitlines()[-1].split())
    assert "sce_lab.cli.training" in modules
    assert modules & {"torch", "numpy", "pandas", "pyarrow"} == set()


def test_what_help_lists_is_what_there_is(sce_lab):
    for command in ("train", "compare"):
        words = re.sub(r"[│\s]+", " ", sce_lab(command, "--help")[1])
        assert ", ".join(LOSSES) in words


@pytest.mark.parametrize("at", ["typer", "torch", "sce_lab.training", "pandas"])
def test_ctrl_c_during_imports_is_no_traceback(at, tmp_path):
    """Ctrl-C arrives while the module ``at`` is imported."""
    program = f"""if True:
        import os, signal, sys

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it runs in the background ignore it

        class Interrupted:
            def find_spec(self, name, path=None, target=None):
                if name == {at!r}:
                    signal.raise_signal(signal.SIGINT)

        sys.meta_path.insert(0, Interrupted())
        sys.argv = ["sce-lab", "train", "--epochs", "1"]
        from sce_lab.cli import main
        main()
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_threads_that_wait_do_not_spin():
    program = "import os, sys; sys.argv = ['sce-lab', 'runs', '/nope']; from sce_lab.cli import main\n"
    program += "try: main()\nexcept SystemExit: print(os.environ['OMP_WAIT_POLICY'], os.environ['KMP_BLOCKTIME'])"
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.stdout.split() == ["passive", "0"]

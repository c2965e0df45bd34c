"""Every kind of damaged run folder: ``--resume`` goes on rightly or says in one sentence why not, and no folder hides
the others from ``sce-lab runs``."""

import json
import re
import shutil

import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from sce_lab.data import open_split
from sce_lab.runs import Run, compare_runs, for_people, list_runs, record
from sce_lab.training import StepDone, Trainer, TrainingConfig

SOURCE = {"source": "synthetic", "catalog_size": 100, "seed": 0}
BUCKETS = {"n_buckets": 4, "bucket_size_x": 64, "bucket_size_y": 16}
CONFIG = TrainingConfig(hidden_size=8, n_blocks=1, batch_size=2048, max_length=8, max_epochs=3, loss_settings=BUCKETS)


@pytest.fixture(scope="module")
def split():
    return open_split(**SOURCE)[0]


@pytest.fixture(scope="module")
def folders(split, tmp_path_factory):
    """A run that ended, and the same one killed in its second epoch."""
    root = tmp_path_factory.mktemp("whole")
    list(record(Trainer(CONFIG, split), root / "ended", SOURCE))
    for event in record(Trainer(CONFIG, split), root / "killed", SOURCE):
        if isinstance(event, StepDone) and event.step == 3:
            break
    return root


def edited(name, change):
    """Damage: JSON file ``name``, changed."""

    def damage(folder):
        path = folder / name
        content = json.loads(path.read_text())
        path.write_text(json.dumps(change(content)))

    return damage


def config(**changes):
    return edited("config.json", lambda content: content | {"config": content["config"] | changes})


def setting(**changes):
    return edited("config.json", lambda content: content | changes)


def lacking(name, entry):
    return edited(name, lambda content: {k: v for k, v in content.items() if k != entry})


def content(name, text):
    return lambda folder: (folder / name).write_bytes(text)


def truncated(name, share):
    def damage(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])

    return damage


def removed(*names):
    def damage(folder):
        for name in names:
            (folder / name).unlink()

    return damage


def directory(name):
    def damage(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return damage


def tensors(change):
    def damage(folder):
        path = folder / "checkpoint.safetensors"
        with safe_open(path, "pt") as file:
            found, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118
        save_file(change(found), path, metadata)

    return damage


def counters(**changes):
    def damage(folder):
        path = folder / "checkpoint.safetensors"
        with safe_open(path, "pt") as file:
            found, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118
        save_file(found, path, metadata | {"counters": json.dumps(json.loads(metadata["counters"]) | changes)})

    return damage


def without(start):
    return tensors(lambda found: {k: v for k, v in found.items() if not k.startswith(start)})


def foreign_parquet(folder):
    pd.DataFrame({"a": [1]}).to_parquet(folder / "history.parquet")


#: What is done to a killed run, and the sentence that refuses it.
REFUSED = {
    "config.json empty": (content("config.json", b""), "config.json is damaged"),
    "config.json not JSON": (content("config.json", b"hello"), "config.json is damaged"),
    "config.json truncated": (truncated("config.json", 0.5), "config.json is damaged"),
    "config.json binary": (content("config.json", bytes(range(256))), "config.json is damaged"),
    "config.json null": (content("config.json", b"null"), "config.json is damaged: it holds None"),
    "config.json a list": (content("config.json", b"[1]"), r"config.json is damaged: it holds \[1\]"),
    "config.json {}": (content("config.json", b"{}"), "is no run folder|has no 'dataset'"),
    "config.json missing": (removed("config.json"), "is no run folder: it has no config.json"),
    "config.json a folder": (directory("config.json"), "config.json"),
    "no dataset": (lacking("config.json", "dataset"), "has no 'dataset'"),
    "no source": (lacking("config.json", "source"), "has no 'source'"),
    "no config": (lacking("config.json", "config"), "has no 'config'"),
    "config null": (setting(config=None), "its 'config' is None"),
    "config a list": (setting(config=[1]), r"its 'config' is \[1\]"),
    "config empty": (setting(config={}), "was made with"),
    "source null": (setting(source=None), "its 'source' is None"),
    "source a word": (setting(source="synthetic"), "its 'source' is 'synthetic'"),
    "source empty": (setting(source={}), "does not say which data"),
    "source with an unknown field": (setting(source=SOURCE | {"alien": 1}), "does not say which data .*alien"),
    "source of nothing": (setting(source={"source": "alien"}), "unknown data set 'alien'"),
    "source of a file that is gone": (setting(source={"source": "gone.csv"}), "gone.csv"),
    "other seed of the data": (setting(source=SOURCE | {"seed": 1}), "trained on other data"),
    "other catalog": (setting(source=SOURCE | {"catalog_size": 110}), "trained on other data"),
    "unknown field": (config(alien=1), r"settings that are not known here \(alien\)"),
    "unknown loss": (config(loss="bpr"), "loss must be one of ce, .* got 'bpr'"),
    "loss null": (config(loss=None), "loss must be a word, got None"),
    "other loss": (config(loss="ce", loss_settings={}), "was made with loss='sce', not 'ce'"),
    "unknown setting of the loss": (config(loss_settings={"alien": 1}), "got a setting 'alien'"),
    "batch_size a half": (config(batch_size=2.5), "batch_size must be a whole number, got 2.5"),
    "batch_size a word": (config(batch_size="many"), "batch_size must be a whole number, got 'many'"),
    "batch_size changed": (config(batch_size=1024), "batch_size=2048, not 1024"),
    "dropout changed": (config(dropout=0.5), "dropout=0.3, not 0.5"),
    "averaging changed": (config(averaging=0.9), "averaging=0.0, not 0.9"),
    "learning_rate nan": (config(learning_rate=float("nan")), "learning_rate must be positive and finite, got nan"),
    "hidden_size changed": (config(hidden_size=16), "hidden_size=8, not 16"),
    "betas null": (config(betas=None), "betas must be two numbers, got None"),
    "device gone": (config(device="cuda:99"), "no device 'cuda:99'"),
    "device unknown": (config(device="tpu9"), "device must be .* got 'tpu9'"),
    "fingerprint a number": (setting(fingerprint=3), "its 'fingerprint' is 3"),
    "checkpoint empty": (content("checkpoint.safetensors", b""), "is no checkpoint, or a damaged one"),
    "checkpoint truncated in its head": (truncated("checkpoint.safetensors", 0.01), "is no checkpoint, or a damaged"),
    "checkpoint truncated": (truncated("checkpoint.safetensors", 0.7), "is no checkpoint, or a damaged one"),
    "checkpoint of zeros": (content("checkpoint.safetensors", bytes(1000)), "is no checkpoint, or a damaged one"),
    "checkpoint a text": (content("checkpoint.safetensors", b"hello, hello, hello"), "is no checkpoint, or a damaged"),
    "checkpoint a folder": (directory("checkpoint.safetensors"), "checkpoint.safetensors"),
    "checkpoint foreign": (
        lambda folder: save_file(dict.fromkeys("a", _zeros()), folder / "checkpoint.safetensors"),
        "is no checkpoint of a run",
    ),
    "no best weights": (without("best."), "has no tensor best."),
    "no weights": (without("model."), "has no tensor model."),
    "no optimizer": (without("optimizer."), "has no tensor optimizer."),
    "half an optimizer": (without("optimizer.2.exp_avg_sq"), "has no tensor optimizer.2.exp_avg_sq"),
    "a tensor too many": (tensors(lambda t: t | {"alien": _zeros()}), "has a tensor alien"),
    "best of another shape": (tensors(lambda t: t | {"best.norm.weight": _zeros()}), "has best.norm.weight of"),
    "optimizer of another shape": (tensors(lambda t: t | {"optimizer.0.exp_avg": _zeros()}), "has optimizer.0.exp_avg"),
    "weights of another dtype": (tensors(lambda t: {k: v.double() for k, v in t.items()}), "of float64"),
    "counters beyond the end": (counters(epoch=10**6, step=10**9), "epoch=1000000, where 0 to 3 can be"),
    "step beyond the epoch": (counters(step=17), "step=17, where"),
    "counters negative": (counters(epoch=-1), "epoch=-1"),
    "best of no epoch": (counters(best_epoch=0), "best_epoch=0"),
    "history truncated": (truncated("history.parquet", 0.5), "history.parquet is damaged"),
    "history empty": (content("history.parquet", b""), "history.parquet is damaged"),
    "history a text": (content("history.parquet", b"hello"), "history.parquet is damaged"),
    "history foreign": (foreign_parquet, "history.parquet is no history of a run: it has the columns a"),
    "history a folder": (directory("history.parquet"), "history.parquet is damaged"),
}


def _zeros():
    import torch

    return torch.zeros(3, 5)


def nothing(folder):
    """No damage."""


def old(folder):
    """As runs were before they knew their data."""
    edited(
        "config.json", lambda c: {k: v for k, v in c.items() if k not in ("fingerprint", "test_users", "checkpoint")}
    )(folder)
    path = folder / "checkpoint.safetensors"
    with safe_open(path, "pt") as file:
        found, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(found, path, {k: v for k, v in metadata.items() if k not in ("data", "draws")})


def left_behind(folder):
    (folder / "checkpoint.safetensors.12345678.partial").write_bytes(b"half")
    (folder / ".lock").write_bytes(b"")


#: What is done to a killed run that goes on all the same, and what is said.
CONTINUED = {
    "nothing": (nothing, ""),
    "of an earlier version": (old, "does not say on which data.*drew its random numbers in another way"),
    "no history": (removed("history.parquet"), "steps 1 to 2 are not in its history"),
    "no checkpoint": (removed("checkpoint.safetensors"), "the run begins again"),
    "neither": (removed("checkpoint.safetensors", "history.parquet"), ""),
    "no environment": (removed("environment.json"), ""),
    "environment damaged": (content("environment.json", b"{"), ""),
    "what a killed process left": (left_behind, ""),
    "summary of somebody else": (content("summary.json", b'{"reason": "stopped"}'), ""),
}


@pytest.fixture
def folder(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("SCE_LAB_RUNS", str(tmp_path / "runs"))
    (tmp_path / "runs").mkdir()
    shutil.copytree(folders / "ended", tmp_path / "runs" / "good")
    return shutil.copytree(folders / "killed", tmp_path / "runs" / "run")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"}


def said(text):
    """One sentence on standard error: the last line; the progress bar before it is none."""
    return [line for line in text.replace("\r", "\n").splitlines() if line.startswith(("sce-lab: ", "note: "))]


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_continued_is_refused_and_kept(folder, sce_lab, kind):
    damage, sentence = REFUSED[kind]
    damage(folder)
    before = contents(folder)
    status, _, err = sce_lab("train", "--resume", str(folder))
    assert status == 2
    assert "Traceback" not in err
    (line,) = (line for line in said(err) if line.startswith("sce-lab: "))
    assert re.search(sentence, line), line
    assert contents(folder) == before
    status, out, err = sce_lab("runs")
    assert "good" in out
    assert "Traceback" not in err


@pytest.mark.parametrize("kind", CONTINUED)
def test_what_can_be_continued_comes_to_the_same_end(folder, folders, sce_lab, kind):
    damage, sentence = CONTINUED[kind]
    damage(folder)
    status, _, err = sce_lab("train", "--resume", str(folder))
    assert status == 0, err
    notes = " ".join(said(err))
    assert re.search(sentence, notes) if sentence else not notes
    whole = Run(folders / "ended")
    assert Run(folder).summary["test"] == whole.summary["test"]
    if kind != "no history":
        columns = ["kind", "step", "loss", "NDCG@10"]
        pd.testing.assert_frame_equal(Run(folder).history[columns], whole.history[columns])
    assert not list(folder.glob("*.partial"))
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        (folder / "config.json").stat().st_mode & 0o777
    }


def test_a_damaged_folder_is_named_beside_the_others(folder, sce_lab):
    content("summary.json", b"[]")(folder)
    runs = list_runs()
    table = compare_runs(runs)
    assert table["status"].tolist() == ["epochs", "unreadable"]
    assert "summary.json is damaged" in table["problem"][1]
    assert for_people(table)["loss"].tolist() == ["SCE", ""]
    status, out, err = sce_lab("runs")
    assert status == 1
    assert "good" in out
    assert "unreadable" in out
    (line,) = said(err)
    assert "summary.json is damaged: it holds []" in line


def test_a_run_with_an_unknown_loss_is_listed(folder, sce_lab):
    config(loss="bpr")(folder)
    status, out, _ = sce_lab("runs")
    assert status == 0
    assert "bpr" in out


def test_a_run_that_kept_no_weights_is_not_begun_again_over_its_history(split, tmp_path, sce_lab):
    list(record(Trainer(CONFIG, split), tmp_path / "run", SOURCE, checkpoint=False))
    before = contents(tmp_path / "run")
    status, _, err = sce_lab("train", "--resume", str(tmp_path / "run"))
    assert status == 2
    assert "kept no checkpoint" in err
    assert contents(tmp_path / "run") == before


def test_options_that_the_run_has_already_do_not_go_with_resume(folder, sce_lab):
    status, _, err = sce_lab("train", "--resume", str(folder), "--dropout", "0.5", "--n-buckets", "3")
    assert status == 2
    assert "leave out --dropout, --n-buckets" in err
    assert sce_lab("train", "--resume", str(folder), "--epochs", "2", "--patience", "1")[0] == 0
    assert (Run(folder).config.max_epochs, Run(folder).summary["epoch"]) == (2, 2)

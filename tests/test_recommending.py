"""A model taken home: its recommendations are the trained model's, and its folder needs nothing of this lab."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import sce_lab.recommending.recommender as recommending
from sce_lab.data import Split, leave_one_out
from sce_lab.data.batches import Packed
from sce_lab.data.labels import read_labels, write_labels
from sce_lab.recommending import Recommender, encoder_program, export
from sce_lab.recommending.program import save_program
from sce_lab.runs import Run, record
from sce_lab.training import Evaluated, StepDone, Trainer, TrainingConfig, make_model

CONFIG = TrainingConfig(hidden_size=8, n_blocks=1, loss="ce", batch_size=64, max_length=6, max_epochs=2)
WORDS = np.array([f"item {c}" for c in range(12)], dtype=object)


@pytest.fixture(scope="module")
def split(cycle_split):
    return replace(cycle_split, item_labels=WORDS)


@pytest.fixture(scope="module")
def whole(split, tmp_path_factory):
    """A run that ended, and what was written of it."""
    root = tmp_path_factory.mktemp("home")
    list(record(Trainer(CONFIG, split), root / "run"))
    export(root / "run", root / "model")
    return root


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole / "run", tmp_path / "a run")


@pytest.fixture
def model(whole, tmp_path):
    return shutil.copytree(whole / "model", tmp_path / "a model")


def made(catalog_size, labels=None, **settings):
    config = replace(CONFIG, **settings)
    weights = make_model(config, catalog_size, torch.Generator().manual_seed(0)).state_dict()
    return Recommender(config, weights, np.arange(catalog_size) if labels is None else labels)


def scores_of(recommender, rows):
    """All scores at once, by the model itself."""
    model = recommender.model
    rows = torch.tensor(rows[-recommender.config.max_length :])
    places = torch.arange(recommender.config.max_length - len(rows), recommender.config.max_length)
    return model.item_embedding.float() @ model(Packed(rows, places, ((1, len(rows)),)))[-1].float()


# ------------------------------------------------------------------------------------------------------ what it answers


def clustered(catalog_size=5_000, width=16):
    """A recommender whose items lie around some directions, as those of a trained one do."""
    recommender = made(catalog_size, hidden_size=width)
    generator = torch.Generator().manual_seed(0)
    around = torch.randn(40, width, generator=generator)[torch.randint(40, (catalog_size,), generator=generator)]
    near = around + 0.5 * torch.randn(catalog_size, width, generator=generator)
    recommender.model.item_embedding.data.copy_(near)
    return recommender


def test_an_approximate_search_finds_nearly_all_of_the_best_and_says_what_it_is():
    pytest.importorskip("faiss")
    recommender, hits = clustered(), []
    for first in range(0, 4_000, 200):
        history = [first, first + 1, first + 1, first + 7]
        exact = recommender.recommend(history)
        found = recommender.recommend(history, search="approximate")
        assert (exact.attrs["search"], found.attrs["search"]) == ("exact", "approximate")
        assert len(found) == 10
        assert not found["item"].isin(history).any()
        same = exact.merge(found, on="item")
        np.testing.assert_allclose(same["score_x"], same["score_y"], rtol=1e-5)
        hits.append(len(same))
    assert 90 <= np.mean(hits) * 10 < 100  # it does not go through all


def test_an_approximate_search_of_a_small_catalog_leaves_out_what_was_seen():
    pytest.importorskip("faiss")
    recommender = made(12)
    assert len(recommender.recommend([1, 2], 50, search="approximate")) <= 10
    kept = recommender.recommend([1, 2], 50, seen="keep", search="approximate")
    assert kept["score"].is_monotonic_decreasing


def test_without_its_library_an_approximate_search_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match="needs faiss, which is not installed: pip install"):
        made(12).recommend([1], search="approximate")
    with pytest.raises(ValueError, match="search must be 'exact' or 'approximate', got 'fast'"):
        made(12).recommend([1], search="fast")


def test_a_loaded_model_recommends_what_the_best_weights_of_the_run_would(whole, split):
    trainer = Trainer(CONFIG, split)
    trainer.load(whole / "run" / "checkpoint.safetensors")
    best, loaded = trainer.best_model().eval(), Recommender.load(whole / "model")
    rows = [3, 4, 5]
    with torch.no_grad():
        output = best(Packed(torch.tensor(rows), torch.arange(3, 6), ((1, 3),)))[-1]
    scores = (best.item_embedding.detach() @ output).numpy()
    scores[rows] = -np.inf
    expected = np.argsort(-scores)[:9]
    found = loaded.recommend(WORDS[rows], 20)
    assert list(found["item"]) == list(WORDS[expected])  # 12 items, three of them seen
    np.testing.assert_allclose(found["score"], scores[expected], rtol=1e-5)
    assert loaded.about["epoch"] == trainer.best_epoch
    assert loaded.about["dataset"] == "cycle"
    assert loaded.about["test"]["HR@10"] == Run(whole / "run").summary["test"]["HR@10"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("rows_at_a_time", [1, 7, 64, 65, 10_000])
def test_going_through_the_table_in_pieces_changes_nothing(monkeypatch, rows_at_a_time, dtype):
    monkeypatch.setattr(recommending, "_ROWS", rows_at_a_time)
    recommender = made(130, dtype=dtype)
    history = [129, 0, 64, 65, 7, 7, 63, 128]  # longer than the model's six, with a repeat, at the ends of pieces
    scores = scores_of(recommender, history)
    for seen in ("exclude", "keep"):
        if seen == "exclude":
            scores, kept = scores.index_fill(0, torch.tensor(history), -torch.inf), scores
        else:
            scores = kept
        best = scores.topk(10)
        found = recommender.recommend(history, 10, seen=seen)
        assert list(found["item"]) == best.indices.tolist()
        np.testing.assert_allclose(found["score"], best.values, rtol=1e-5)
    assert len(recommender.recommend(history, 1000)) == 130 - 7
    table = torch.nn.functional.normalize(recommender.model.item_embedding.float(), dim=1)
    near = (table @ table[64]).index_fill(0, torch.tensor([64]), -2.0).topk(5)
    found = recommender.neighbours(64, 5)
    assert list(found["item"]) == near.indices.tolist()
    np.testing.assert_allclose(found["similarity"], near.values, rtol=1e-5)


def test_of_equal_scores_the_earlier_row_comes_first(monkeypatch):
    monkeypatch.setattr(recommending, "_ROWS", 3)
    recommender = made(10)
    recommender.model.item_embedding[:] = 1.0
    assert list(recommender.recommend([4], 5)["item"]) == [0, 1, 2, 3, 5]


def test_scores_of_a_large_catalog_are_never_held_together(monkeypatch):
    """Not one tensor that a search makes has as many elements as the table has rows."""
    recommender = made(200_000)
    largest = []

    class Watching(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.untyped_storage().data_ptr() != table:
                largest.append(out.untyped_storage().nbytes())
            return out

    table = recommender.model.item_embedding.untyped_storage().data_ptr()
    with Watching():
        recommender.recommend([1, 2, 3])
        recommender.neighbours(7)
    assert max(largest) <= recommending._ROWS * 8 * 4  # rows of D float32


def test_unknown_items_are_named_or_skipped(whole):
    loaded = Recommender.load(whole / "model")
    with pytest.raises(ValueError, match="1 item unknown to this model: 'book'; leave them out, or say unknown='skip'"):
        loaded.recommend(["item 1", "book"])
    skipped = loaded.recommend(["item 1", "book", "item 2"], unknown="skip")
    pd.testing.assert_frame_equal(skipped, loaded.recommend(["item 1", "item 2"]))
    with pytest.raises(ValueError, match="2 items unknown to this model: 1, 2; its items are called like 'item 0'"):
        loaded.recommend([1, 2], unknown="skip")
    many = ["item 1", *(f"x{i}" for i in range(12))]
    with pytest.raises(ValueError, match=r"12 items unknown to this model: 'x0', .*'x9' and 2 more; leave"):
        loaded.recommend(many)
    with pytest.raises(ValueError, match="unknown to this model: 'no'; its items are called like"):
        loaded.neighbours("no")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([],), "the history is empty"),
        (("item 1",), r"got 'item 1'; one item is \['item 1'\]"),
        (([["item 1"]],), "a history is a list of items"),
        ((["item 1"], 0), "k must be a whole number of at least 1, got 0"),
        ((["item 1"], True), "k must be .*True"),
    ],
)
def test_what_is_no_history_is_refused(whole, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recommender.load(whole / "model").recommend(*arguments)


def test_unknown_rules_are_refused(whole):
    with pytest.raises(ValueError, match="seen must be 'exclude' or 'keep', got 'new'"):
        Recommender.load(whole / "model").recommend(["item 1"], seen="new")
    with pytest.raises(ValueError, match="unknown must be 'refuse' or 'skip', got 'drop'"):
        Recommender.load(whole / "model").recommend(["item 1"], unknown="drop")


# ------------------------------------------------------------------------------------------------------- taken home

ALONE = """
import sys
for name in ("sce_lab", "pandas", "pyarrow", "scipy"):
    sys.modules[name] = None  # importing it fails
script = sys.argv.pop(1)
sys.argv[0] = script
import runpy
runpy.run_path(script, run_name="__main__")
"""


def test_the_script_needs_torch_and_safetensors_only_and_says_what_the_recommender_says(whole, tmp_path):
    moved = shutil.copytree(whole / "model", tmp_path / "elsewhere")
    history = ["item 3", "item 4", "item 5", "item 6", "item 7", "item 8", "item 9"]  # one longer than the model's
    command = [sys.executable, "-c", ALONE, str(moved / "recommend.py"), *history]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
    said = [line.split("\t") for line in done.stdout.splitlines()]
    found = Recommender.load(moved).recommend(history, 5)
    assert [item for item, _ in said][:5] == list(found["item"])
    np.testing.assert_allclose([float(score) for _, score in said[:5]], found["score"], atol=1e-4)
    assert len(said) == 12 - 7
    assert len((moved / "recommend.py").read_text().splitlines()) <= 32
    done = subprocess.run([sys.executable, moved / "recommend.py", "item 3", "x", "y"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "unknown items: x, y\n")


ENCODERS = {
    "plain": {},
    "several heads and a running mean": {"n_heads": 2, "n_blocks": 2, "low_pass": 0.3},
    "published": {"encoder": "sasrec_published"},
    "gated": {"encoder": "sasrec_gated", "low_pass": 0.3},
    "bfloat16": {"dtype": "bfloat16"},
    "no block": {"n_blocks": 0},
    "one item": {"max_length": 1},
    "two items": {"max_length": 2},
}


@pytest.mark.parametrize("settings", ENCODERS.values(), ids=ENCODERS)
def test_the_exported_program_says_what_the_encoder_says_for_every_length(tmp_path, settings):
    recommender = made(9, **settings)
    path = tmp_path / "encoder.pt2"
    save_program(encoder_program(recommender.config, recommender.model), path)
    program = torch.export.load(path).module()
    for length in range(1, recommender.config.max_length + 1):
        rows = np.arange(length) % 9
        with torch.no_grad():
            out = program(recommender.model.item_embedding[torch.from_numpy(rows)])
        torch.testing.assert_close(out.float(), recommender.encode(rows), rtol=1e-5, atol=1e-6)


def test_nothing_in_the_folder_is_pickled_and_the_table_is_there_once(whole):
    files = sorted(path.name for path in (whole / "model").iterdir())
    assert files == ["README.md", "config.json", "encoder.pt2", "items.json", "model.safetensors", "recommend.py"]
    with zipfile.ZipFile(whole / "model" / "encoder.pt2") as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert not content.startswith((b"PK", b"\x80\x02")), name
    assert load_file(whole / "model" / "model.safetensors")["item_embedding"].shape == (12, 8)


def test_the_page_of_the_folder_says_what_it_is(whole):
    text = (whole / "model" / "README.md").read_text()
    assert "# Cross-entropy on cycle" in text
    assert re.search(r"12 items, of epoch \d: HR@10 \d\.\d{4}, NDCG@10 \d\.\d{4} on test users", text)


def test_the_command_writes_the_folder_and_how_to_try_it(sce_lab, run, tmp_path):
    status, out, err = sce_lab("export", str(run), str(tmp_path / "new"))
    assert (status, err) == (0, "")
    assert "12 items, the weights of epoch" in out
    assert f"python {tmp_path / 'new' / 'recommend.py'} " in out
    assert Recommender.load(tmp_path / "new").recommend(["item 2"], 3)["item"].isin(WORDS).all()


def test_a_recommender_can_be_written_without_a_run(tmp_path):
    recommender = made(5, np.array([10, 20, 30, 40, 50]))
    export(recommender, tmp_path / "made")
    loaded, ours = Recommender.load(tmp_path / "made").recommend([30]), recommender.recommend([30])
    pd.testing.assert_frame_equal(loaded, ours, atol=1e-6)  # weights lie elsewhere in memory: the last digit may differ
    assert "own data" in (tmp_path / "made" / "README.md").read_text()


# ----------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 2], [2, 1, 0], ["a", "b"], ["007", "7"], ["ß", '"', "a\nb"], [1.5, 2.0], [1, "1"], [2**63, 2**64], []],
)
@pytest.mark.parametrize("always_list", [True, False])
def test_labels_come_back_as_they_were(tmp_path, labels, always_list):
    labels = pd.Series(labels, dtype=object).infer_objects().to_numpy()
    write_labels(tmp_path / "items.json", labels, always_list=always_list)
    found = read_labels(tmp_path / "items.json", len(labels))
    assert found.tolist() == labels.tolist()
    assert [type(label) for label in found.tolist()] == [type(label) for label in labels.tolist()]
    assert isinstance(json.loads((tmp_path / "items.json").read_text()), list) or not always_list


def test_labels_that_json_has_no_word_for_become_text(tmp_path):
    times = pd.Series(pd.to_datetime(["2024-05-01", "2024-05-02"])).to_numpy()
    write_labels(tmp_path / "items.json", times)
    assert read_labels(tmp_path / "items.json", 2).tolist() == ["2024-05-01 00:00:00", "2024-05-02 00:00:00"]


def test_a_run_knows_its_items(whole, run):
    assert list(Run(run).item_labels) == list(WORDS)
    (run / "items.json").write_text('["a"]')
    with pytest.raises(ValueError, match="names 1 items, but the catalog has 12"):
        Run(run).item_labels  # noqa: B018


def test_items_that_stand_twice_are_refused():
    with pytest.raises(ValueError, match="the item 'a' has several rows"):
        made(3, np.array(["a", "b", "a"], dtype=object))


def interactions():
    return pd.DataFrame(
        {"user": np.repeat(np.arange(20), 5), "item": [f"i{c % 7}" for c in range(100)], "timestamp": np.arange(100)}
    )


def test_a_run_of_an_earlier_version_asks_its_data_and_says_so_if_they_are_others(tmp_path):
    data = tmp_path / "data.csv"
    interactions().to_csv(data, index=False)
    split = leave_one_out(interactions(), name="data.csv")
    list(record(Trainer(CONFIG, split), tmp_path / "run", {"source": str(data)}))
    labelled = Recommender.from_run(tmp_path / "run")
    (tmp_path / "run" / "items.json").unlink()
    assert Run(tmp_path / "run").item_labels is None
    asked = Recommender.from_run(Run(tmp_path / "run"))
    pd.testing.assert_frame_equal(asked.recommend(["i3"]), labelled.recommend(["i3"]))
    interactions()[::-1].to_csv(data, index=False)
    with pytest.raises(ValueError, match=r"does not know which items its rows are .* are others by now"):
        Recommender.from_run(tmp_path / "run")
    data.unlink()
    with pytest.raises(ValueError, match=r"cannot be opened \(there is no file"):
        Recommender.from_run(tmp_path / "run")
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    del settings["fingerprint"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="not known for certain: train again"):
        Recommender.from_run(tmp_path / "run")


# -------------------------------------------------------------------------------------------------------- bad input


def refused(sce_lab, run, folder, sentence):
    before = sorted(path.name for path in folder.parent.iterdir()) if folder.parent.is_dir() else None
    status, out, err = sce_lab("export", str(run), str(folder))
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert re.search(sentence, err), err
    if before is not None:
        assert sorted(path.name for path in folder.parent.iterdir()) == before


def test_what_cannot_be_exported_is_said_in_one_sentence_and_leaves_nothing(sce_lab, run, split, tmp_path):
    refused(sce_lab, tmp_path / "nowhere", tmp_path / "new", "nowhere is no run folder: it has no config.json")
    refused(sce_lab, run, run, "is no empty folder: name one that is new")
    refused(sce_lab, run, run / "config.json", r"config.json is a file")
    refused(sce_lab, run, tmp_path / "no" / "new", "there is no folder .*no to put new into")
    checkpoint = (run / "checkpoint.safetensors").read_bytes()
    (run / "checkpoint.safetensors").write_bytes(checkpoint[:1000])
    refused(sce_lab, run, tmp_path / "new", "is no checkpoint, or a damaged one")
    (run / "checkpoint.safetensors").unlink()
    refused(sce_lab, run, tmp_path / "new", "has no weights: it has ended and they were not kept; train again")
    (run / "summary.json").rename(run / "summary.away")
    refused(sce_lab, run, tmp_path / "new", "has no weights: it has not come to its first evaluation; .*--resume`")
    (run / "checkpoint").mkdir()
    refused(sce_lab, run, tmp_path / "new", "was trained with --shard-items, .* train again without it")
    (run / "checkpoint").rmdir()
    (run / "summary.away").rename(run / "summary.json")
    list(record(Trainer(CONFIG, split), tmp_path / "bare", checkpoint=False))
    refused(sce_lab, tmp_path / "bare", tmp_path / "new", "has no weights: it was recorded without checkpoints")
    trainer = Trainer(CONFIG, split)
    trainer.save(run / "checkpoint.safetensors")
    refused(sce_lab, run, tmp_path / "new", "has not been evaluated yet")
    (run / "checkpoint.safetensors").write_bytes(checkpoint)
    settings = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(settings | {"fingerprint": "0" * 32}))
    refused(sce_lab, run, tmp_path / "new", "its checkpoint was trained on other data")
    (run / "config.json").write_text(json.dumps(settings | {"catalog_size": 11}))
    refused(sce_lab, run, tmp_path / "new", "items.json names 12 items, but the catalog has 11")


def test_an_empty_folder_is_filled_and_a_run_that_goes_on_is_exported_as_far_as_it_is(split, tmp_path):
    (tmp_path / "empty").mkdir()
    for event in record(Trainer(replace(CONFIG, max_epochs=50), split), tmp_path / "run"):
        if isinstance(event, Evaluated):
            break
    assert export(tmp_path / "run", tmp_path / "empty").about["epoch"] == 1
    assert Recommender.load(tmp_path / "empty").about["test"] == {}
    assert "on validation users" in (tmp_path / "empty" / "README.md").read_text()


def test_a_folder_that_could_not_be_filled_is_not_there(monkeypatch, whole, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sce_lab.recommending.exporting.save_program", full)
    with pytest.raises(OSError, match=r"new could not be written \(No space left on device\)"):
        export(whole / "run", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def edited(name, change):
    return lambda folder: (folder / name).write_text(json.dumps(change(json.loads((folder / name).read_text()))))


def other_weights(change):
    def damage(folder):
        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path)

    return damage


DAMAGES = {
    "no folder": (shutil.rmtree, "is no exported model: it has no config.json"),
    "no configuration": (lambda f: (f / "config.json").unlink(), "is no exported model"),
    "configuration of a run": (edited("config.json", lambda c: {"config": {}}), "is not of an exported model"),
    "configuration cut": (lambda f: (f / "config.json").write_text('{"config"'), "config.json is damaged"),
    "a setting of another world": (
        edited("config.json", lambda c: c | {"config": c["config"] | {"x": 1}}),
        "settings that are not known here",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing or damaged"),
    "weights cut": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-10]),
        "model.safetensors is missing or damaged",
    ),
    "another width": (
        edited("config.json", lambda c: c | {"config": c["config"] | {"hidden_size": 16}}),
        "weights are not of this configuration",
    ),
    "a tensor gone": (
        other_weights(lambda w: {k: w[k] for k in list(w)[1:]}),
        "no tensor|names 12 items",
    ),
    "no labels": (lambda f: (f / "items.json").unlink(), "items.json is missing"),
    "a label gone": (edited("items.json", lambda labels: labels[1:]), "names 11 items, but the catalog has 12"),
    "labels of another kind": (edited("items.json", lambda labels: [labels] * 12), "holds no list of item labels"),
    "labels cut": (lambda f: (f / "items.json").write_text('["a'), "items.json is damaged"),
}


@pytest.mark.parametrize(("damage", "sentence"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_refused_in_one_sentence(model, damage, sentence):
    damage(model)
    with pytest.raises(ValueError, match=sentence) as error:
        Recommender.load(model)
    assert "\n" not in str(error.value)


def test_a_killed_run_has_no_weights_to_recommend_with(split, tmp_path):
    for event in record(Trainer(CONFIG, split), tmp_path / "run"):
        if isinstance(event, StepDone):
            break
    with pytest.raises(ValueError, match="it has not come to its first evaluation"):
        Recommender.from_run(tmp_path / "run")


def test_labels_of_a_split_are_those_of_the_data():
    assert isinstance(leave_one_out(interactions()), Split)
    assert list(leave_one_out(interactions()).item_labels) == [f"i{c}" for c in range(7)]

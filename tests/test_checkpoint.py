"""A checkpoint is continued if it is whole and belongs to the run, and otherwise refused in one sentence."""

import dataclasses
import json
import os
import re
import resource
import warnings

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from sce_lab.data import Holdout, Sequences, Split
from sce_lab.training import StepDone, Trainer, TrainingConfig

SMALL = TrainingConfig(hidden_size=16, batch_size=16, max_length=8, max_epochs=3, averaging=0.9, learning_rate=1e-2)


@pytest.fixture(scope="module")
def saved(cycle_split, tmp_path_factory):
    """A checkpoint after six of twelve steps, and the losses of the steps that follow."""
    path = tmp_path_factory.mktemp("checkpoint") / "c.safetensors"
    trainer, losses = Trainer(SMALL, cycle_split), []
    for event in trainer.events():
        if isinstance(event, StepDone):
            losses.append(event.loss)
            if event.step == 6:
                trainer.save(path)
    return path, losses[6:]


def parts(path):
    with safe_open(path, "pt") as file:
        return {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118


def refused(path, split, sentence, config=SMALL):
    """The checkpoint is refused, the file and the trainer stay as they were."""
    trainer, content = Trainer(config, split), path.read_bytes()
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    with pytest.raises(ValueError, match=sentence) as error:
        trainer.load(path)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == content
    assert all(torch.equal(before[name], tensor) for name, tensor in trainer.model.state_dict().items())
    assert (trainer.step, dict(trainer.optimizer.state)) == (0, {})


def test_a_whole_one_is_continued_without_a_word(saved, cycle_split):
    path, losses = saved
    trainer = Trainer(SMALL, cycle_split)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.load(path)
    assert [e.loss for e in trainer.events() if isinstance(e, StepDone)] == losses


def test_the_clocks_go_on_and_one_that_was_not_there_stays_unknown(saved, cycle_split, tmp_path):
    tensors, metadata = parts(saved[0])
    counters = json.loads(metadata["counters"])
    assert counters["cpu_seconds"] > 0
    del counters["cpu_seconds"]  # as a version wrote it that had one clock
    save_file(tensors, tmp_path / "older", metadata | {"counters": json.dumps(counters)})
    for path, known in ((saved[0], True), (tmp_path / "older", False)):
        trainer = Trainer(SMALL, cycle_split)
        trainer.load(path)
        *_, finished = trainer.events()
        assert finished.seconds > counters["seconds"]
        if known:
            assert finished.cpu_seconds > json.loads(metadata["counters"])["cpu_seconds"]
        else:
            assert finished.cpu_seconds is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"averaging": 0.5}, "averaging=0.9, not 0.5"),
        ({"averaging": 0.0}, "averaging=0.9, not 0.0"),
        ({"dropout": 0.1}, "dropout=0.3, not 0.1"),
        ({"learning_rate": 0.5}, "learning_rate=0.01, not 0.5"),
        ({"hidden_size": 8}, "hidden_size=16, not 8"),
        ({"batch_size": 15}, "batch_size=16, not 15"),
        ({"loss": "ce"}, "loss='sce', not 'ce'"),
        ({"loss_settings": {"n_buckets": 3}}, r"loss_settings={}, not {'n_buckets': 3}"),
        ({"seed": 1}, "seed=0, not 1"),
        ({"betas": (0.5, 0.5)}, "betas="),
        ({"dtype": "bfloat16"}, "dtype="),
        ({"item_dropout": 0.1}, "item_dropout="),
        ({"low_pass": 0.1}, "low_pass="),
        ({"n_blocks": 1}, "n_blocks="),
        ({"evaluate_every": 2}, "evaluate_every="),
    ],
)
def test_every_setting_counts(saved, cycle_split, change, sentence):
    refused(saved[0], cycle_split, sentence, dataclasses.replace(SMALL, **change))


def test_epochs_and_patience_may_differ_but_not_lie_behind(saved, cycle_split, tmp_path):
    Trainer(dataclasses.replace(SMALL, max_epochs=9, patience=1), cycle_split).load(saved[0])
    trainer = Trainer(SMALL, cycle_split)
    list(trainer.events())
    trainer.save(tmp_path / "end")
    refused(
        tmp_path / "end",
        cycle_split,
        "3 epochs behind it already: max_epochs=2",
        dataclasses.replace(SMALL, max_epochs=2),
    )


def renumbered(split):
    """The same interactions, items numbered in another order, as after a file was sorted again."""
    other = torch.randperm(12, generator=torch.Generator().manual_seed(1)).numpy()

    def seqs(sequences):
        return Sequences(other[sequences.items], sequences.offsets)

    holdouts = [Holdout(seqs(h.histories), other[h.targets]) for h in (split.validation, split.test)]
    return Split(seqs(split.train), *holdouts, 12, split.item_labels[other.argsort()], split.name)


def test_other_data_are_refused(saved, cycle_split):
    refused(saved[0], renumbered(cycle_split), "trained on other data .* order of rows, or the seed")


def said(act):
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        act()
    return " ".join(str(w.message) for w in noted)


def test_an_older_one_is_continued_and_says_what_that_means(saved, cycle_split, tmp_path):
    tensors, metadata = parts(saved[0])
    old = tmp_path / "old"
    save_file(tensors, old, {k: v for k, v in metadata.items() if k in ("config", "counters")})
    trainer = Trainer(dataclasses.replace(SMALL, max_epochs=SMALL.max_epochs + 1), cycle_split)
    assert re.fullmatch(r"\S+ does not say on which data it was trained: .*", said(lambda: trainer.load(old)))
    assert "drew its random numbers in another way" in said(lambda: list(trainer.events()))
    trainer.save(tmp_path / "new")
    assert said(lambda: Trainer(trainer.config, cycle_split).load(tmp_path / "new")) == ""


def test_an_older_one_that_is_not_trained_further_says_nothing_of_random_numbers(saved, cycle_split, tmp_path):
    tensors, metadata = parts(saved[0])
    save_file(tensors, tmp_path / "old", {k: v for k, v in metadata.items() if k != "draws"})
    ended = Trainer(dataclasses.replace(SMALL, max_epochs=json.loads(metadata["counters"])["epoch"]), cycle_split)
    assert said(lambda: ended.load(tmp_path / "old")) == ""
    assert said(lambda: list(ended.events())) == ""


def test_an_average_in_bfloat16_is_read_as_float32(cycle_split, tmp_path):
    config = dataclasses.replace(SMALL, dtype="bfloat16")
    Trainer(config, cycle_split).save(tmp_path / "new")
    tensors, metadata = parts(tmp_path / "new")
    save_file({k: v.bfloat16() if "average" in k else v for k, v in tensors.items()}, tmp_path / "old", metadata)
    trainer = Trainer(config, cycle_split)
    trainer.load(tmp_path / "old")
    assert {tensor.dtype for tensor in trainer.average.values()} == {torch.float32}


def without(*starts):
    return lambda tensors: {k: v for k, v in tensors.items() if not k.startswith(starts)}


def reshaped(name):
    return lambda tensors: tensors | {name: torch.zeros(3, 5)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("best."), "has no tensor best.item_embedding"),
        (without("average."), "has no tensor average."),
        (without("optimizer."), "has no tensor optimizer.0.step"),
        (without("optimizer.3."), "has no tensor optimizer.3.step"),
        (without("optimizer.0.exp_avg_sq"), "has no tensor optimizer.0.exp_avg_sq"),
        (without("model.blocks.1"), "has no tensor model.blocks.1"),
        (reshaped("model.item_embedding"), r"has model.item_embedding of float32 \(3, 5\), where float32 \(12, 16\)"),
        (reshaped("best.item_embedding"), r"has best.item_embedding of float32 \(3, 5\)"),
        (reshaped("average.norm.weight"), "has average.norm.weight of"),
        (reshaped("optimizer.0.exp_avg"), r"has optimizer.0.exp_avg of float32 \(3, 5\), where float32 \(12, 16\)"),
        (reshaped("optimizer.0.step"), "has optimizer.0.step of"),
        (reshaped("model.more"), "has a tensor model.more, which"),
        (reshaped("alien"), "has a tensor alien, which"),
        (reshaped("optimizer.999.exp_avg"), "has a tensor optimizer.999.exp_avg"),
        (lambda tensors: {k: v.double() for k, v in tensors.items()}, "of float64"),
        (lambda tensors: {}, "has no tensor model|is no checkpoint, or a damaged one"),
    ],
)
def test_tensors_that_are_not_those_of_the_run(saved, cycle_split, tmp_path, change, sentence):
    tensors, metadata = parts(saved[0])
    save_file(change(tensors), tmp_path / "c", metadata)
    refused(tmp_path / "c", cycle_split, sentence)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("epoch", 7, "epoch=7, where 0 to 3 can be with max_epochs=3"),
        ("epoch", -1, "epoch=-1"),
        ("epoch", 1.5, "epoch=1.5"),
        ("epoch", "one", "epoch='one'"),
        ("batch_in_epoch", 5, "batch_in_epoch=5, where 0 to 4 can be with 4 steps an epoch"),
        ("step", 7, "step=7, where 6 can be after 1 epochs of 4 steps"),
        ("step", 10**9, "step=1000000000"),
        ("best_epoch", 2, "best_epoch=2, where 0 to 1"),
        ("best_epoch", 0, "best_metrics=.*with best_epoch=0"),
        ("best_metrics", {}, "best_metrics={} with best_epoch=1"),
        ("best_metrics", None, "best_metrics=None"),
        ("evaluations_since_best", -1, "evaluations_since_best=-1"),
        ("seconds", "long", "seconds='long'"),
        ("seconds", float("nan"), "seconds=nan"),
        ("seconds", None, "seconds=None"),
        ("cpu_seconds", -1, "cpu_seconds=-1"),
        ("changed", {"calibration": 0.5}, "got a setting 'calibration'"),
        ("changed", [], r"changed=\[\]"),
        ("alien", 1, r"has unknown counters \(alien\)"),
    ],
)
def test_counters_that_no_run_has(saved, cycle_split, tmp_path, name, value, sentence):
    tensors, metadata = parts(saved[0])
    counters = json.dumps(json.loads(metadata["counters"]) | {name: value})
    save_file(tensors, tmp_path / "c", metadata | {"counters": counters})
    refused(tmp_path / "c", cycle_split, sentence)


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({}, "is no checkpoint of a run"),
        ({"config": "{}"}, "is no checkpoint of a run"),
        ({"config": "{", "counters": "{}"}, "is no checkpoint of a run"),
        ({"config": "null", "counters": "{}"}, "the configuration in .* is None, not a table"),
        ({"config": '{"loss": "bpr"}', "counters": "{}"}, "cannot be used: loss must be one of .* got 'bpr'"),
        ({"config": '{"alien": 1}', "counters": "{}"}, r"settings that are not known here \(alien\)"),
        ({"config": "{}", "counters": "3"}, "is no checkpoint of a run"),
        ({"config": "{}", "counters": "{}"}, "was made with"),
    ],
)
def test_files_of_somebody_else(saved, cycle_split, tmp_path, metadata, sentence):
    save_file(parts(saved[0])[0], tmp_path / "c", metadata or None)
    refused(tmp_path / "c", cycle_split, sentence)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_a_truncated_one(saved, cycle_split, tmp_path, share):
    content = saved[0].read_bytes()
    (tmp_path / "c").write_bytes(content[: int(share * len(content))])
    refused(tmp_path / "c", cycle_split, "is no checkpoint, or a damaged one")


def test_two_files_of_one_name_but_the_end_are_two_files(cycle_split, tmp_path, monkeypatch):
    """What is being written has a name of its own, so that two that are written at once do not meet."""
    seen = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(sorted(p.name for p in tmp_path.iterdir())), real(fd)))
    for name in ("ckpt.a", "ckpt.b"):
        Trainer(SMALL, cycle_split).save(tmp_path / name)
    partial = {name for names in seen for name in names if name.endswith(".partial")}
    assert {name.rsplit(".", 2)[0] for name in partial} == {"ckpt.a", "ckpt.b"}  # fsync comes before the rename
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ckpt.a", "ckpt.b"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_who_may_read_it_is_for_the_umask_to_say(cycle_split, tmp_path, umask):
    before = os.umask(umask)
    try:
        Trainer(SMALL, cycle_split).save(tmp_path / "c")
    finally:
        os.umask(before)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_full_disk_leaves_the_last_one(saved, cycle_split, tmp_path):
    path = tmp_path / "c"
    path.write_bytes(saved[0].read_bytes())
    trainer = Trainer(SMALL, cycle_split)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match=r"c could not be written .*; what was there before is still there"):
            trainer.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    trainer.load(path)


def test_one_from_before_the_rule_about_seen_items_says_so_where_targets_repeat(saved, cycle_split, tmp_path):
    tensors, metadata = parts(saved[0])
    config = json.loads(metadata["config"])
    del config["seen"]
    for split, n_warnings in ((cycle_split, 0), (repeating(cycle_split), 1)):
        old = tmp_path / f"{n_warnings}.safetensors"
        save_file(tensors, old, metadata | {"config": json.dumps(config), "data": split.fingerprint})
        trainer = Trainer(SMALL, split)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            trainer.load(old)
        assert len(said) == n_warnings
        assert all("cannot be compared" in str(w.message) and "seen='exclude'" in str(w.message) for w in said)
        assert trainer.config.seen == "exclude"


def repeating(split):
    """The same data, but the first user's test target is what that user began with."""
    targets = split.test.targets.copy()
    targets[0] = split.test.histories[0][0]
    return dataclasses.replace(split, test=Holdout(split.test.histories, targets))

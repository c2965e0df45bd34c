"""Refusing in time, and living on when memory runs out after all."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import textwrap

import pytest

from sce_lab.memory import (
    DoesNotFitError,
    RanOutOfMemoryError,
    check_fits,
    explaining_out_of_memory,
    free_memory,
    guard,
    guarded_train,
    is_out_of_memory,
    what_would_fit,
)
from sce_lab.training import Finished, TrainingConfig

SMALL = TrainingConfig(loss="ce", hidden_size=16, max_length=10, batch_size=8)
FREE = 2**30


@pytest.fixture
def a_gibibyte(monkeypatch):
    monkeypatch.setattr(guard, "free_memory", lambda device="cpu": FREE)


def files(root, **contents):
    root.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (root / name.replace("__", ".")).write_text(str(text))


def test_the_tightest_control_group_counts_and_cached_files_do_not(tmp_path, monkeypatch):
    monkeypatch.delenv("MEM_LIMIT", raising=False)
    monkeypatch.setattr(guard, "_CGROUPS", tmp_path)
    monkeypatch.setattr(guard, "_own_cgroup", lambda controller: "" if controller else "jobs/mine")
    stat = "anon 5\ninactive_file 100"
    files(tmp_path / "jobs", memory__max=1000, memory__current=900, memory__stat=stat)
    files(tmp_path / "jobs" / "mine", memory__max="max", memory__current=900, memory__stat=stat)
    assert free_memory() == 200
    files(tmp_path / "jobs" / "mine", memory__max=850, memory__current=900, memory__stat=stat)
    assert free_memory() == 50


def test_version_1_control_groups_count_too(tmp_path, monkeypatch):
    monkeypatch.delenv("MEM_LIMIT", raising=False)
    monkeypatch.setattr(guard, "_CGROUPS", tmp_path)
    monkeypatch.setattr(guard, "_own_cgroup", lambda controller: "")
    files(
        tmp_path / "memory",
        memory__limit_in_bytes=5000, memory__usage_in_bytes=4000, memory__stat="total_inactive_file 500",
    )  # fmt: skip
    assert free_memory() == 1500


def test_the_refusal_names_a_batch_size_that_fits(a_gibibyte):
    config = TrainingConfig(loss="ce", hidden_size=16, max_length=10, batch_size=8)
    with pytest.raises(DoesNotFitError) as error:
        check_fits(config, 2 * 10**6)
    found = int(str(error.value).split("batch_size=")[1].split()[0])
    assert 1 <= found < 8
    assert check_fits(TrainingConfig(**{**vars(config), "batch_size": found}), 2 * 10**6)
    assert str(error.value).count(". ") == 0  # one sentence


def test_other_losses_are_named_only_if_they_fit(a_gibibyte):
    advice = what_would_fit(SMALL, 10**6, FREE)
    assert "loss=sce with its own defaults" in advice
    assert "own defaults" not in what_would_fit(SMALL, 10**8, FREE)
    assert what_would_fit(SMALL, 10**8, 1000).startswith("no catalog would fit: free some memory")


def test_the_same_loss_without_its_logits_is_named_first(a_gibibyte):
    with pytest.raises(DoesNotFitError, match=r"is free: loss=cce, which computes the same, or batch_size=\d instead"):
        check_fits(SMALL, 2 * 10**6)
    with pytest.raises(DoesNotFitError, match=r"is free: loss=cce, which computes the same, and batch_size=\d+, or "):
        check_fits(dataclasses.replace(SMALL, batch_size=65_536), 10**6)
    advice = what_would_fit(dataclasses.replace(SMALL, loss="sampled", batch_size=65_536), 10**6, FREE)
    assert "computes the same" not in advice


def advised(config, catalog_size, advice):
    """Every configuration, and its catalog, that a sentence names."""
    for batch_size in re.findall(r"(?<!and )batch_size=(\d+) instead", advice):
        yield dataclasses.replace(config, batch_size=int(batch_size)), catalog_size
    named = r"loss=(\w+)(?: with its own defaults|, which computes the same,)(?: and batch_size=(\d+))?"
    for loss, batch_size in re.findall(named, advice):
        batch_size = int(batch_size or config.batch_size)
        settings = config.loss_settings if loss == config.loss else {}
        yield dataclasses.replace(config, loss=loss, loss_settings=settings, batch_size=batch_size), catalog_size
    for items, loss in re.findall(r"([\d,]+) items with loss=(\w+)", advice):
        settings = config.loss_settings if loss == config.loss else {}
        yield dataclasses.replace(config, loss=loss, loss_settings=settings), int(items.replace(",", ""))


@pytest.mark.parametrize(
    ("catalog_size", "n_users", "batch_size", "averaging", "says"),
    [
        (2 * 10**6, 0, 8, 0.0, "batch_size="),
        (10**6, 50_000, 64, 0.9, "loss=sce with its own defaults or "),
        (10**6, 50_000, 64, 0.0, "loss=cce, which computes the same, or "),
        (10**6, 50_000, 65_536, 0.0, "loss=sce with its own defaults and batch_size="),
        (10**8, 50_000, 8, 0.0, "a smaller catalog or hidden_size would fit"),
        (4 * 10**6, 50_000, 8, 0.0, "a smaller catalog or hidden_size would fit"),
        (200_000, 50_000, 8, 0.0, "items with loss=sce"),  # the step would fit, the scoring does not
    ],
)
@pytest.mark.filterwarnings("ignore:bucket_size:RuntimeWarning")
def test_whatever_a_refusal_advises_is_not_refused(monkeypatch, catalog_size, n_users, batch_size, averaging, says):
    config = dataclasses.replace(SMALL, batch_size=batch_size, averaging=averaging)
    free = FREE if "items with" not in says else 300 * 2**20
    monkeypatch.setattr(guard, "free_memory", lambda device="cpu": free)
    with pytest.raises(DoesNotFitError) as error:
        check_fits(config, catalog_size, n_users=n_users)
    sentence = str(error.value)
    assert says in sentence
    followed = list(advised(config, catalog_size, sentence))
    assert len(followed) == sentence.count(" instead") + sentence.count("loss=")
    monkeypatch.setattr(guard, "free_memory", lambda device="cpu": int(0.96 * free))  # a little less, meanwhile
    for other, items in followed:
        assert check_fits(other, items, n_users=n_users)
    assert "loss=sce" in sentence


def test_an_evaluation_that_would_not_fit_is_refused_too(monkeypatch):
    use = check_fits(SMALL, 10_000)
    monkeypatch.setattr(guard, "free_memory", lambda device="cpu": use.needed + 2**20)
    assert check_fits(SMALL, 10_000, n_users=5)
    with pytest.raises(DoesNotFitError, match="scoring 10,000 items for 50,000 users needs"):
        check_fits(SMALL, 10_000, n_users=50_000)


def test_a_moving_average_is_one_more_copy_of_the_weights(monkeypatch):
    use = check_fits(SMALL, 10_000)
    monkeypatch.setattr(guard, "free_memory", lambda device="cpu": use.needed)
    assert check_fits(SMALL, 10_000)
    with pytest.raises(DoesNotFitError, match=r"ce over 10,000 items needs .* batch_size=\d instead of 8"):
        check_fits(dataclasses.replace(SMALL, averaging=0.9), 10_000)


def test_training_is_refused_unless_it_is_forced(cycle_split, monkeypatch):
    config = TrainingConfig(loss="ce", hidden_size=16, max_length=8, batch_size=8, max_epochs=1)
    monkeypatch.setattr(guard, "free_memory", lambda device="cpu": 1000)
    with pytest.raises(DoesNotFitError, match=r"ce over 12 items needs .* and 0.977 KiB is free: no catalog would"):
        next(guarded_train(config, cycle_split))
    assert isinstance(list(guarded_train(config, cycle_split, force=True))[-1], Finished)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: x")])
def test_out_of_memory_is_explained(error, a_gibibyte):
    assert is_out_of_memory(error)
    with (
        pytest.raises(RanOutOfMemoryError, match=r"ce over 2,000,000 items needs about .*batch_size=.* would fit"),
        explaining_out_of_memory(SMALL, 2 * 10**6),
    ):
        raise error


def test_another_error_stays_what_it_is(a_gibibyte):
    with pytest.raises(RuntimeError, match=r"^shapes$"), explaining_out_of_memory(SMALL, 10):
        raise RuntimeError("shapes")


OUT_OF_MEMORY = """
    import json, resource, psutil
    from sce_lab.data import open_split
    from sce_lab.memory import RanOutOfMemoryError, guarded_train
    from sce_lab.training import TrainingConfig

    split, _ = open_split("synthetic", catalog_size=2000, seed=0, progress=False)
    small = TrainingConfig(loss="sce", max_epochs=1, batch_size=32)
    before = list(guarded_train(small, split))[-1].validation
    limit = psutil.Process().memory_info().vms + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        list(guarded_train(TrainingConfig(loss="ce", batch_size=100_000, max_length=200), split, force=True))
        message = "it fitted"
    except RanOutOfMemoryError as error:
        message = str(error)
    print(json.dumps([before, list(guarded_train(small, split))[-1].validation, message]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space")
def test_a_real_failure_leaves_the_process_as_it_was():
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # on a busy machine threads would wait for one another
    code = [sys.executable, "-c", textwrap.dedent(OUT_OF_MEMORY)]
    done = subprocess.run(code, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    before, after, message = json.loads(done.stdout)
    assert message.startswith("memory ran out: ce over 2,000 items needs about")
    assert after == before

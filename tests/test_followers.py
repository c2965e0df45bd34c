"""Counts of what followed what: against a loop over places, and wherever a model's scores are used."""

import math
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sce_lab.data.splits import Holdout, Sequences, Split
from sce_lab.distributed import ShardedTrainer
from sce_lab.followers import Followers
from sce_lab.metrics import BASELINES, ranking_metrics
from sce_lab.recommending import Recommender, export
from sce_lab.runs import Run, compare_runs, for_people, record
from sce_lab.sweeps import Trial
from sce_lab.training import Trainer, TrainingConfig, evaluate, evaluate_together, rank_together
from sce_lab.training.config import completed

CONFIG = TrainingConfig(hidden_size=8, n_blocks=1, loss="ce", batch_size=64, max_length=6, max_epochs=2)
COUNTED = replace(CONFIG, followers=1.5)
SEQUENCES = st.lists(st.lists(st.integers(0, 5), max_size=7), max_size=6)


def counted(training, history, reach=3):
    """By hand: what has followed the last items of a history, item by item of a catalog of six."""
    total = [0.0] * 6
    for back, last in enumerate(reversed(history[-reach:])):
        for sequence in training:
            for here, item in enumerate(sequence):
                for places in range(1, reach + 1):
                    if item == last and here + places < len(sequence):
                        total[sequence[here + places]] += 0.5**back * 0.5 ** (places - 1)
    return total


@settings(deadline=None)
@given(SEQUENCES, SEQUENCES.filter(len), st.sampled_from([1, 2, 3]))
def test_followers_are_counted_as_by_hand(training, histories, reach):
    followers = Followers.counted(Sequences.from_lists(training), 6, reach=reach, weight=0.7)
    expected = np.array([counted(training, history, reach) for history in histories])
    np.testing.assert_allclose(followers.after(Sequences.from_lists(histories)).toarray(), expected)
    scores = torch.ones(len(histories), 6, dtype=torch.float64)
    followers.add_to(scores, Sequences.from_lists(histories))
    np.testing.assert_allclose(scores, 1 + 0.7 * np.log1p(expected), rtol=1e-6)
    items, bonus = followers.bonus(np.array(histories[0], dtype=np.int64))
    alone = np.zeros(6)
    alone[items] = bonus
    np.testing.assert_allclose(alone, 0.7 * np.log1p(expected[0]), rtol=1e-6)


def test_as_a_baseline_popularity_decides_among_equals():
    training = [[0, 1, 2], [0, 2, 3], [4, 4], [4, 5, 1]]
    held_out = Holdout(Sequences.from_lists([[3, 0]]), np.array([1]))
    split = Split(Sequences.from_lists(training), held_out, held_out, 6, np.arange(6), "hand")
    # after 0: 1 one, 2 one and a half, 3 a half; 3 was followed by nothing; then 4, 5 and the seen ones by popularity
    ranking = BASELINES["followers"].rank(split, split.test, seen="keep", k_max=6)
    assert ranking.top_items.tolist()[0] == [2, 1, 3, 4, 0, 5]


def test_training_is_the_same_and_ranking_adds_the_counts(cycle_split):
    plain, with_counts = Trainer(CONFIG, cycle_split), Trainer(COUNTED, cycle_split)
    list(plain.events())
    last = list(with_counts.events())[-1]
    for ours, theirs in zip(with_counts.model.parameters(), plain.model.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)  # the loss does not see them
    assert last.test == evaluate(with_counts.best_model(), cycle_split.test)
    assert last.test != evaluate(plain.best_model(), cycle_split.test)
    model = with_counts.best_model()
    followers, holdout = model.followers, cycle_split.test
    model.followers = None
    alone = rank_together([model], holdout)
    model.followers = followers
    heavy = with_counts.best_model()
    heavy.followers = Followers.counted(cycle_split.train, 12, weight=1e6)
    by_counts = BASELINES["followers"].rank(cycle_split, holdout)
    assert ranking_metrics(rank_together([heavy], holdout), 12)["HR@1"] == ranking_metrics(by_counts, 12)["HR@1"] == 1
    assert ranking_metrics(alone, 12)["HR@1"] < 1
    twice = evaluate_together([model, model], holdout)  # scores and counts of both are added up
    assert twice == evaluate(model, holdout)


def test_a_run_goes_on_with_its_counts(cycle_split, tmp_path):
    whole = list(Trainer(COUNTED, cycle_split).events())[-1]
    first = Trainer(replace(COUNTED, max_epochs=1), cycle_split)
    list(first.events())
    first.save(tmp_path / "checkpoint.safetensors")
    second = Trainer(COUNTED, cycle_split)
    second.load(tmp_path / "checkpoint.safetensors")
    assert list(second.events())[-1].test == whole.test


@pytest.fixture
def run(cycle_split, tmp_path):
    """A recorded run."""
    list(record(Trainer(COUNTED, cycle_split), tmp_path / "run", {"source": "cycle"}))
    return tmp_path / "run"


def expected_of(recommender, split, history):
    """All items by their scores, best first, counted by hand."""
    scores = recommender.model.item_embedding @ recommender.encode(np.array(history))
    followed = np.zeros(12)
    for back, last in enumerate(history[::-1][:3]):
        for sequence in split.train:
            for here in np.flatnonzero(sequence[:-1] == last):
                for places, item in enumerate(sequence[here + 1 : here + 4]):
                    followed[item] += 0.5 ** (back + places)
    scores = scores.numpy() + 1.5 * np.log1p(followed)
    scores[history] = -math.inf
    order = np.lexsort((np.arange(12), -scores))
    return order[: 12 - len(set(history))].tolist(), scores


@pytest.mark.parametrize("history", [[3], [3, 4], [0, 1, 2, 3, 7], [5, 5]])
def test_a_recommender_adds_them_too(run, cycle_split, history):
    recommender = Recommender.from_run(run)
    items, scores = expected_of(recommender, cycle_split, history)
    for k in (1, 3, 12):
        found = recommender.recommend(history, k)
        assert found["item"].tolist() == items[:k]
        np.testing.assert_allclose(found["score"], scores[items[:k]], rtol=1e-5)
    kept = recommender.recommend(history, 12, seen="keep")
    assert len(kept) == 12
    assert kept["score"].is_monotonic_decreasing


def test_an_exported_folder_has_them(run, cycle_split, tmp_path):
    written = export(run, tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model")
    for history in ([3], [0, 1, 2, 3, 7]):
        expected = written.recommend(history)
        assert loaded.recommend(history).equals(expected)
        command = [sys.executable, str(tmp_path / "model" / "recommend.py"), *map(str, history)]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert [int(line.split("\t")[0]) for line in shown.splitlines()] == expected["item"].tolist()
    assert "followers.safetensors" in (tmp_path / "model" / "README.md").read_text()
    (tmp_path / "model" / "followers.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"followers\.safetensors is missing or damaged .*: export the run again"):
        Recommender.load(tmp_path / "model")


def test_counts_that_cannot_be_are_one_sentence(run, cycle_split):
    for weight in (-1.0, math.nan, math.inf, 1e39):
        with pytest.raises(ValueError, match=r"followers must be a weight of 0 to 1,000\.0, got"):
            replace(CONFIG, followers=weight)
    with pytest.raises(ValueError, match=r"followers=1\.5 does not go with a sharded item table"):
        ShardedTrainer(COUNTED, cycle_split, None)
    model = Trainer(COUNTED, cycle_split).model
    with pytest.raises(ValueError, match=r"a model with followers=1\.5 is given no counts"):
        Recommender(COUNTED, model.state_dict(), np.arange(12))
    few = Followers.counted(cycle_split.train, 13)
    with pytest.raises(ValueError, match=r"counts of 12 items are needed, got a table \(13, 13\)"):
        Recommender(COUNTED, model.state_dict(), np.arange(12), followers=few)
    (run / "followers.safetensors").unlink()
    with pytest.raises(ValueError, match=r"followers\.safetensors is missing or damaged .*: train again"):
        Recommender.from_run(run)


DAMAGED = {
    "no number": {"counts": np.array([np.nan, 1], np.float32)},
    "endless": {"counts": np.array([np.inf, 1], np.float32)},
    "negative": {"counts": np.array([-1, 1], np.float32)},
    "of another kind": {"counts": np.array([1, 1], np.complex64)},
    "twice": {"items": np.array([1, 1])},
    "no such item": {"items": np.array([1, 3])},
    "half an item": {"items": np.array([0.5, 1])},
    "shorter": {"items": np.array([1])},
}


@pytest.mark.parametrize("wrong", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_table_is_not_loaded(tmp_path, wrong):
    whole = {"counts": np.array([2, 1], np.float32), "items": np.array([0, 2]), "offsets": np.array([0, 2, 2, 2])}
    save_file(whole, tmp_path / "whole")
    assert Followers.load(tmp_path / "whole", 3).table.toarray()[0].tolist() == [2, 0, 1]
    save_file(whole | wrong, tmp_path / "damaged")
    with pytest.raises(ValueError, match="damaged is missing or damaged"):
        Followers.load(tmp_path / "damaged", 3)


def test_a_table_of_runs_tells_them_apart(run, cycle_split, tmp_path):
    list(record(Trainer(CONFIG, cycle_split), tmp_path / "plain"))
    table = for_people(compare_runs([Run(run), Run(tmp_path / "plain")]))
    assert table["loss"].tolist() == ["Cross-entropy + counts", "Cross-entropy"]


def test_what_was_written_before_there_were_counts_stays_what_it_was():
    config = TrainingConfig()
    before = {name: value for name, value in asdict(config).items() if name != "followers"}
    assert completed(before) == completed(asdict(config)) == asdict(config)
    assert Trial(config).name == "sce-af9c5b72fc81"  # of a folder that people have
    assert Trial(replace(config, followers=1.0)).name != Trial(config).name

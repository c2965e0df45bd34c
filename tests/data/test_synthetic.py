"""The synthetic process: its draws, and its ceiling, against the formulas of its docstring written out item by item."""

import math
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from sce_lab.data.splits import Holdout, Sequences, leave_one_out, temporal_split
from sce_lab.data.synthetic import SyntheticProcess


def cluster_and_rank(process):
    """Of every item id; the rest of what these tests know of a process is public."""
    inside = process._inside_of
    return inside % process.n_clusters, inside // process.n_clusters


def proposal(process, taste, previous):
    """f(i | theta) of all items, as a list."""
    clusters, ranks = cluster_and_rank(process)
    sizes = [int((clusters == cluster).sum()) for cluster in range(process.n_clusters)]
    total = [sum((r + 1) ** -process.zipf_exponent for r in range(size)) for size in sizes]
    p = 0.0 if previous is None else process.p_transition
    f = [
        (1 - p) * process.tastes[taste, c] * (r + 1) ** -process.zipf_exponent / total[c]
        for c, r in zip(clusters.tolist(), ranks.tolist())
    ]
    if previous is not None:
        for successor, weight in zip(process.successors(previous).tolist(), process.successor_weights):
            f[successor] += p * weight
    assert sum(f) == pytest.approx(1)
    return f


def given_taste(process, taste, history):
    """P(i | history, theta) of all items."""
    f = proposal(process, taste, history[-1] if history else None)
    unseen = 1 - sum(f[item] for item in history)
    return [0.0 if item in history else f[item] / unseen for item in range(process.catalog_size)]


def given_history(process, history):
    """P(i | history) of all items, by Bayes' rule over the tastes."""
    joint = []
    for taste in range(process.n_tastes):
        likelihood = 1.0
        for t, item in enumerate(history):
            likelihood *= given_taste(process, taste, history[:t])[item]
        joint.append(likelihood)
    posterior = np.array(joint) / sum(joint)
    return posterior @ [given_taste(process, taste, history) for taste in range(process.n_tastes)]


SETTINGS = {
    "few_clusters": {"n_clusters": 3, "n_tastes": 3},
    "default": {},
    "own_successor": {"n_clusters": 20, "n_successors": 4, "p_transition": 0.9, "seed": 5},
    "no_transitions": {"n_clusters": 7, "p_transition": 0.0, "zipf_exponent": 1.5},
    "uniform": {"n_clusters": 1, "n_tastes": 1, "zipf_exponent": 0.0, "cluster_exponent": 0.0},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_ceiling_agrees_with_brute_force(name):
    process = SyntheticProcess(catalog_size=103, n_users=12, **SETTINGS[name])  # 103: clusters of two sizes
    split = leave_one_out(process.interactions(), catalog_size=103)
    ks = (1, 3, 10, 103)
    best = [sorted(given_history(process, history.tolist()), reverse=True) for history in split.test.histories]
    ceiling = process.ceiling(split.test, ks)
    assert list(ceiling) == [f"{metric}@{k}" for k in ks for metric in ("HR", "NDCG")]
    for k in ks:
        hr = np.mean([sum(p[:k]) for p in best])
        ndcg = np.mean([sum(p[j] / math.log2(2 + j) for j in range(k)) for p in best])
        assert ceiling[f"HR@{k}"] == pytest.approx(hr, abs=1e-9)
        assert ceiling[f"NDCG@{k}"] == pytest.approx(ndcg, abs=1e-9)
    assert ceiling["HR@103"] == pytest.approx(1)
    few = process.ceiling(split.test, (1, 3))  # a short list looks at the heads of the clusters only
    assert few == pytest.approx({name: ceiling[name] for name in few}, abs=1e-12)


def test_recommended_items_are_those_of_the_probabilities():
    process = SyntheticProcess(catalog_size=100, n_users=10)
    histories = leave_one_out(process.interactions(), catalog_size=100).test.histories
    histories = Sequences.from_lists([[], [17], *histories])
    items, probabilities = process.recommend(histories, k=120)
    for history, row, chances in zip(histories, items, probabilities):
        truth = given_history(process, history.tolist())
        n = 100 - len(history)
        assert sorted([*row[:n], *history]) == list(range(100))  # everything else, each once
        np.testing.assert_allclose(chances[:n], truth[row[:n]], atol=1e-12)
        assert (np.diff(chances) <= 1e-15).all()
        assert (row[n:] == -1).all()
        assert (chances[n:] == 0).all()


def test_recommending_in_chunks_changes_nothing(monkeypatch):
    process = SyntheticProcess(catalog_size=200, n_users=50)
    histories = leave_one_out(process.interactions(), catalog_size=200).test.histories
    items, probabilities = process.recommend(histories, 10)
    monkeypatch.setattr("sce_lab.data.predicting._CHUNK_BYTES", 1)
    one_by_one, their_probabilities = process.recommend(histories, 10)
    np.testing.assert_allclose(their_probabilities, probabilities, atol=1e-12)
    assert (one_by_one == items).mean() > 0.99  # equal probabilities may come in another order


HARD = {
    "always the successor": {"p_transition": 1 - 1e-16, "n_successors": 1, "n_users": 200},
    "always one of few": {"p_transition": 0.9999, "n_successors": 1, "catalog_size": 100, "max_length": 25},
    "the steepest": {"zipf_exponent": 3, "n_clusters": 1, "n_users": 20},
    "one cluster for all": {"cluster_exponent": 3, "catalog_size": 100, "taste_breadth": 1e-9, "p_transition": 0},
}


@pytest.mark.parametrize("name", HARD)
def test_settings_that_leave_hardly_anything_unseen_come_to_an_end(name, monkeypatch):
    """By rejection some of these would take hours."""
    monkeypatch.setattr("sce_lab.data.synthetic._PATIENCE", 20)
    process = SyntheticProcess(**HARD[name])
    interactions = process.interactions()
    assert not interactions.duplicated(["user", "item"]).any()
    assert interactions["item"].between(0, process.catalog_size - 1).all()
    test = leave_one_out(interactions[interactions["user"] < 20], catalog_size=process.catalog_size).test
    assert 0 < process.ceiling(test)["HR@10"] <= 1 + 1e-9


@pytest.mark.parametrize("name", SETTINGS)
def test_drawing_what_is_unseen_has_the_stated_probabilities(name):
    process = SyntheticProcess(catalog_size=103, n_users=200, mean_length=15, **SETTINGS[name])
    history = process.interactions().query("user == 7")["item"].to_numpy()
    n, taste = 20_000, process.n_tastes - 1
    seen = np.tile(process._inside_of[history], (n, 1))
    drawn = process._id_of[process._draw_unseen(np.random.default_rng(0), np.full(n, taste), seen)]
    expected = n * np.array(given_taste(process, taste, history.tolist()))
    found = np.bincount(drawn, minlength=103)
    assert not found[history].any()
    frequent = expected > 10
    deviation = (found - expected)[frequent] / np.sqrt(expected[frequent])
    assert np.abs(deviation).max() < 4.5
    assert np.mean(deviation**2) == pytest.approx(1, abs=0.6)


@pytest.mark.parametrize("catalog_size", [100, 3_000])
def test_the_optimal_recommender_reaches_its_ceiling(catalog_size):
    process = SyntheticProcess(catalog_size=catalog_size, n_users=10_000)
    test = leave_one_out(process.interactions(), catalog_size=catalog_size).test
    items, _ = process.recommend(test.histories, 10)
    hits = items == test.targets[:, None]  # (users, 10), at most one a row
    ceiling = process.ceiling(test)
    for k in (1, 5, 10):
        hr, gain = hits[:, :k].sum(1), hits[:, :k] @ (1 / np.log2(2 + np.arange(k)))
        for metric, values in (("HR", hr), ("NDCG", gain)):
            error = values.std() / math.sqrt(len(values))
            assert abs(values.mean() - ceiling[f"{metric}@{k}"]) < 4 * error, (metric, k)


@pytest.mark.parametrize(
    "settings", [{"catalog_size": 1_000}, {"catalog_size": 103, "zipf_exponent": 0.0, "cluster_exponent": 0.0}]
)
def test_first_items_follow_taste_and_zipf(settings):
    process = SyntheticProcess(**settings, n_users=40_000, mean_length=5, max_length=5)
    first = process.interactions().groupby("user")["item"].first().to_numpy()
    chance = np.mean([proposal(process, taste, None) for taste in range(process.n_tastes)], axis=0)
    expected, found = 40_000 * chance, np.bincount(first, minlength=process.catalog_size)
    frequent = expected > 10
    assert frequent.sum() > 100
    deviation = (found - expected)[frequent] / np.sqrt(expected[frequent])
    assert np.abs(deviation).max() < 5
    assert np.mean(deviation**2) == pytest.approx(1, abs=0.3)


def test_tastes_are_distributions_that_differ_and_leave_nothing_out():
    tastes = SyntheticProcess().tastes
    assert tastes.shape == (8, 20)
    np.testing.assert_allclose(tastes.sum(1), 1)
    assert tastes.min() > 0.1 / 50
    assert np.sort(tastes, axis=1)[:, -3:].sum(1).mean() > 0.5  # a few clusters matter to a user
    assert len(set(tastes.argmax(1))) > 2


def test_popularity_is_heavy_tailed_like_zipf():
    interactions = SyntheticProcess(catalog_size=5_000, n_users=10_000).interactions()
    counts = np.sort(interactions["item"].value_counts().to_numpy())[::-1]
    ranks = np.arange(10, 1_000)
    slope = np.polyfit(np.log(ranks), np.log(counts[ranks]), 1)[0]
    assert -1.3 < slope < -0.6
    flat = SyntheticProcess(catalog_size=5_000, n_users=10_000, zipf_exponent=0, cluster_exponent=0).interactions()
    assert counts[:50].sum() > 5 * np.sort(flat["item"].value_counts())[::-1][:50].sum()


@pytest.mark.parametrize("p_transition", [0.0, 0.3, 0.8])
def test_transitions_occur_at_the_stated_rate(p_transition):
    # In a large flat catalog a successor is hardly ever met by chance, or seen already.
    flat = {"zipf_exponent": 0.0, "cluster_exponent": 0.0, "mean_length": 10, "max_length": 20}
    process = SyntheticProcess(catalog_size=200_000, n_users=2_000, p_transition=p_transition, **flat)
    interactions = process.interactions()
    same_user = interactions["user"].to_numpy()[1:] == interactions["user"].to_numpy()[:-1]
    items = interactions["item"].to_numpy()
    which = process.successors(items[:-1][same_user]) == items[1:][same_user][:, None]  # (steps, n_successors)
    n = len(which)
    assert abs(which.any(1).mean() - p_transition) < 4 * math.sqrt(0.25 / n) + 0.001
    assert which.sum(1).max(initial=0) <= 1
    if p_transition:
        shares = which.sum(0) / which.sum()
        np.testing.assert_allclose(shares, process.successor_weights, atol=0.02)


@pytest.mark.parametrize("catalog_size", [100, 103, 5_000])
def test_successors_stay_in_the_cluster_and_everybody_has_as_many_predecessors(catalog_size):
    process = SyntheticProcess(catalog_size=catalog_size)
    items = np.arange(catalog_size)
    successors = process.successors(items)
    clusters, _ = cluster_and_rank(process)
    assert (clusters[successors] == clusters[:, None]).all()
    assert (np.sort(successors, axis=0) == items[:, None]).all()  # each of the n_successors rules is a bijection
    assert (np.diff(np.sort(successors, axis=1)) > 0).all()  # an item's successors are different items


def test_form_of_the_interactions():
    interactions = SyntheticProcess(catalog_size=300, n_users=2_000).interactions()
    assert list(interactions.columns) == ["user", "item", "timestamp"]
    assert (interactions.dtypes == np.int64).all()
    assert interactions["item"].between(0, 299).all()
    assert not interactions.duplicated(["user", "item"]).any()
    users = interactions.groupby("user")
    assert users.ngroups == 2_000
    assert users["timestamp"].is_monotonic_increasing.all()
    lengths = users.size()
    assert lengths.min() == 5
    assert lengths.max() == 50
    assert 18 < lengths.mean() < 21
    split = temporal_split(interactions, min_users_per_item=None, min_items_per_user=None, catalog_size=300)
    assert 50 < len(split.test) < 500


def test_seeds():
    process = SyntheticProcess(catalog_size=500, n_users=200, seed=3)
    interactions = process.interactions()
    pd.testing.assert_frame_equal(interactions, process.interactions())
    pd.testing.assert_frame_equal(interactions, SyntheticProcess(catalog_size=500, n_users=200, seed=3).interactions())
    assert not interactions.equals(SyntheticProcess(catalog_size=500, n_users=200, seed=4).interactions())
    more_users = SyntheticProcess(catalog_size=500, n_users=900, seed=3)
    items = np.arange(500)
    assert (more_users.successors(items) == process.successors(items)).all()  # the process is the same one
    assert (more_users.tastes == process.tastes).all()


def test_ids_do_not_reveal_popularity():
    process = SyntheticProcess(catalog_size=2_000)
    counts = np.bincount(process.interactions()["item"], minlength=2_000)
    ranks = pd.Series(counts).rank()
    assert abs(np.corrcoef(np.arange(2_000), ranks)[0, 1]) < 4 / math.sqrt(2_000)


def test_ten_million_items_take_seconds_and_little_memory():
    tracemalloc.start()
    start = time.perf_counter()
    process = SyntheticProcess(catalog_size=10_000_000, n_users=1_000)
    interactions = process.interactions()
    test = Holdout(Sequences.from_lists([[int(interactions["item"].max())], [5, 6]]), np.array([0, 1]))
    ceiling = process.ceiling(test)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**30
    assert seconds < 20
    assert 0 < ceiling["HR@10"] < 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"catalog_size": 99}, "catalog_size must be a whole number of at least 100, got 99"),
        ({"catalog_size": 1000.5}, "catalog_size must be a whole number of at least 100, got 1000.5"),
        ({"catalog_size": 200, "n_clusters": 50}, "at least 250 for 50 clusters with 4 successors an item, got 200"),
        ({"n_clusters": 1, "n_successors": 5000}, "at least 5001 for 1 cluster with 5,000 successors an item"),
        ({"n_users": 0}, "n_users must be a whole number of at least 1, got 0"),
        ({"n_users": 2.5}, "n_users must be a whole number of at least 1, got 2.5"),
        ({"n_tastes": True}, "n_tastes must be a whole number of at least 1, got True"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"max_length": math.nan}, "max_length must be a whole number of at least 5, got nan"),
        ({"p_transition": 1.0}, "p_transition must be at least 0 and below 1, got 1.0"),
        ({"p_transition": math.nan}, "p_transition must be at least 0 and below 1, got nan"),
        ({"taste_breadth": 0}, "taste_breadth must be positive and finite, got 0"),
        ({"taste_breadth": math.nan}, "taste_breadth must be positive and finite, got nan"),
        ({"taste_breadth": math.inf}, "taste_breadth must be positive and finite, got inf"),
        ({"zipf_exponent": -0.5}, "zipf_exponent must lie between 0, which makes all alike, and 3, got -0.5"),
        ({"zipf_exponent": 50}, "zipf_exponent must lie between 0, which makes all alike, and 3, got 50"),
        ({"cluster_exponent": math.nan}, "cluster_exponent must lie between 0, .*, got nan"),
        ({"mean_length": 60}, "between 5 and max_length=50, got 60"),
        ({"mean_length": 4}, "between 5 and max_length=50, got 4"),
        ({"mean_length": math.nan}, "between 5 and max_length=50, got nan"),
        ({"catalog_size": 10**13}, "10,000,000,000,000 items in 20 clusters need about .* GiB, and .* GiB are free"),
        ({"n_users": 10**12}, "1,000,000,000,000 users with up to 50 .* GiB are free; take fewer of them"),
        ({"catalog_size": 10**7, "n_clusters": 10**6, "n_users": 10**6}, "in 1,000,000 clusters need about"),
    ],
)
def test_settings_that_make_no_process_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        SyntheticProcess(**settings)


def test_histories_of_another_catalog_are_refused():
    process = SyntheticProcess(catalog_size=100)
    with pytest.raises(ValueError, match=r"histories hold items 3\.\.100, but this process has 0\.\.99"):
        process.recommend(Sequences.from_lists([[3, 100]]))
    with pytest.raises(ValueError, match="k must be a whole number of at least 1, got 0"):
        process.recommend(Sequences.from_lists([[3]]), k=0)
    with pytest.raises(ValueError, match="ks is empty"):
        process.ceiling(Holdout(Sequences.from_lists([[3]]), np.array([0])), ks=())
    with pytest.raises(ValueError, match="the holdout is empty"):
        process.ceiling(Holdout(Sequences.from_lists([]), np.empty(0, dtype=np.int64)))

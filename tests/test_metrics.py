"""Ranking metrics against a slow implementation that follows the definitions word by word."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from sce_lab.data.splits import Holdout, Sequences
from sce_lab.metrics import KS, MISS, SEEN, Ranking, gains, metrics_apart, rank_items, ranking_metrics


def holdout(histories, targets):
    return Holdout(Sequences.from_lists(histories), np.asarray(targets, dtype=np.int64))


def rank_scores(scores, held_out, **settings):
    """Rank given scores (U, C) exactly: with the identity for a catalog, every score is one product with 1."""
    scores = torch.as_tensor(scores, dtype=torch.float32)
    return rank_items(scores, torch.eye(scores.shape[1]), held_out, **settings)


def slow_allowed(n_items, history, seen):
    return [item for item in range(n_items) if seen == "keep" or item not in history]


def slow_rank(scores, history, target, seen):
    allowed = slow_allowed(len(scores), history, seen)
    return 1 + sum(not scores[i] < scores[target] for i in allowed if i != target) if target in allowed else MISS


def slow_top(scores, history, k, seen):
    return sorted(slow_allowed(len(scores), history, seen), key=lambda item: -scores[item])[:k]


@st.composite
def cases(draw):
    catalog_size, n_users = draw(st.integers(1, 9)), draw(st.integers(1, 6))
    item = st.integers(0, catalog_size - 1)
    few_values = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0])  # many ties
    scores = draw(
        st.lists(st.lists(few_values, min_size=catalog_size, max_size=catalog_size), min_size=n_users, max_size=n_users)
    )
    histories = [draw(st.lists(item, max_size=12)) for _ in range(n_users)]
    targets = [draw(item) for _ in range(n_users)]
    return scores, histories, targets, draw(st.integers(1, 12)), draw(st.integers(1, 200))


@given(cases(), st.sampled_from(list(SEEN)))
@settings(max_examples=200, deadline=None)
def test_ranks_lists_and_metrics_follow_the_definition(case, seen):
    scores, histories, targets, k_max, chunk_bytes = case
    repeats = [target in history for history, target in zip(histories, targets)]
    ranking = rank_scores(scores, holdout(histories, targets), seen=seen, k_max=k_max, chunk_bytes=chunk_bytes)
    if seen == "new":
        rows = [row for row, repeat in zip(zip(scores, histories, targets), repeats) if not repeat]
        if not rows:
            with pytest.raises(ValueError, match=f"no users to evaluate.*all {len(targets)} targets repeat"):
                ranking_metrics(ranking, len(scores[0]), ks=(1,))
            return
        scores, histories, targets = zip(*rows)
        repeats = [False] * len(rows)
    slow = [slow_rank(*row, seen) for row in zip(scores, histories, targets)]
    assert ranking.ranks.tolist() == slow
    assert ranking.repeats.tolist() == repeats
    for row, history, target, rank, top in zip(scores, histories, targets, slow, ranking.top_items.tolist()):
        expected = slow_top(row, history, k_max, seen)
        listed = top[: len(expected)]
        assert top[len(expected) :] == [-1] * (k_max - len(expected))
        assert len(set(listed)) == len(listed)
        assert set(listed) <= set(slow_allowed(len(row), history, seen))
        assert [row[item] for item in listed] == [row[item] for item in expected]  # equal scores in any order
        assert rank > k_max or target in top[:rank]

    metrics = ranking_metrics(ranking, len(scores[0]), ks=range(1, k_max + 1))
    for k in range(1, k_max + 1):
        n = len(slow)
        assert metrics[f"HR@{k}"] == pytest.approx(sum(rank <= k for rank in slow) / n)
        assert metrics[f"NDCG@{k}"] == pytest.approx(sum(1 / math.log2(1 + rank) for rank in slow if rank <= k) / n)
        assert metrics[f"MRR@{k}"] == pytest.approx(sum(1 / rank for rank in slow if rank <= k) / n)
        recommended = {item for top in ranking.top_items.tolist() for item in top[:k]} - {-1}
        assert metrics[f"COV@{k}"] == pytest.approx(len(recommended) / len(scores[0]))


def test_known_numbers():
    scores = [[9, 8, 7, 6, 5], [1, 2, 3, 4, 5]]
    ranking = rank_scores(scores, holdout([[0], [4, 3]], [2, 1]), k_max=3)
    assert ranking.ranks.tolist() == [2, 2]
    assert ranking.top_items.tolist() == [[1, 2, 3], [2, 1, 0]]
    metrics = ranking_metrics(ranking, 5, ks=(1, 2, 3))
    assert list(metrics)[:5] == ["HR@1", "NDCG@1", "MRR@1", "COV@1", "HR@2"]
    assert metrics["HR@1"] == 0
    assert metrics["HR@2"] == 1
    assert metrics["NDCG@2"] == pytest.approx(1 / math.log2(3))
    assert metrics["MRR@2"] == 0.5
    assert metrics["COV@1"] == 2 / 5
    assert metrics["COV@2"] == 2 / 5  # the same two items, the other way round
    assert metrics["COV@3"] == 4 / 5


def test_default_cut_offs_are_reported():
    metrics = ranking_metrics(rank_scores(torch.rand(3, 60), holdout([[]] * 3, [0, 1, 2])), 60)
    names = [f"{metric}@{k}" for k in (1, 5, 10, 20, 50) for metric in ("HR", "NDCG", "MRR", "COV")]
    assert list(metrics) == [*names, "users", "repeats"]
    assert KS == (1, 5, 10, 20, 50)


def test_a_model_that_scores_everything_alike_gets_nothing():
    ranking = rank_scores(torch.zeros(4, 100), holdout([[1], [2], [3], [4]], [0, 0, 0, 0]))
    assert ranking.ranks.tolist() == [99] * 4
    assert ranking_metrics(ranking, 100)["HR@50"] == 0


#: The best score of the first user is a repeat, of the second a new item.
REPEATS = [[0.0, 5.0, 9.0, 3.0], [8.0, 7.0, 1.0, 0.0]], ([[1, 2, 2], [3]], [2, 0])


@pytest.mark.parametrize(
    ("seen", "ranks", "top", "hits", "share"),
    [
        ("exclude", [MISS, 1], [[3, 0, -1, -1], [0, 1, 2, -1]], 0.5, 0.5),
        ("keep", [1, 1], [[2, 1, 3, 0], [0, 1, 2, 3]], 1.0, 0.5),
        ("new", [1], [[0, 1, 2, -1]], 1.0, 0.5),
    ],
)
def test_what_becomes_of_a_target_that_repeats(seen, ranks, top, hits, share):
    scores, held_out = REPEATS
    ranking = rank_scores(scores, holdout(*held_out), seen=seen, k_max=4)
    assert ranking.ranks.tolist() == ranks
    assert ranking.top_items.tolist() == top
    assert ranking.seen == seen
    metrics = ranking_metrics(ranking, 4, ks=(1, 4))
    assert (metrics["HR@1"], metrics["HR@4"], metrics["NDCG@4"]) == (hits, hits, hits)
    assert (metrics["users"], metrics["repeats"]) == (len(ranks), share)


def test_a_miss_is_one_even_in_a_list_that_is_longer_than_the_catalog():
    ranking = rank_scores(torch.rand(1, 4), holdout([[2]], [2]))
    assert ranking_metrics(ranking, 4)["HR@50"] == 0
    assert gains(ranking.ranks, "MRR@50").tolist() == [0]


@given(cases())
@settings(max_examples=100, deadline=None)
def test_the_candidates_do_not_know_the_target(case):
    """Another target changes no list, whatever the rule: what may be recommended follows from the history alone."""
    scores, histories, targets, *_ = case
    others = [(target + 1) % len(scores[0]) for target in targets]
    for seen in ("exclude", "keep"):
        lists = [
            [set(top) for top in rank_scores(scores, holdout(histories, t), seen=seen, k_max=50).top_items.tolist()]
            for t in (targets, others)
        ]
        assert lists[0] == lists[1]


def test_new_targets_and_repeats_apart():
    scores, held_out = REPEATS
    kept = rank_scores([[9.0, 5.0, 8.0, 3.0], scores[1]], holdout(*held_out), seen="keep", k_max=4)
    apart = metrics_apart(kept, 4, ks=(1, 2))
    assert (apart["new"]["HR@1"], apart["repeats"]["HR@1"], apart["repeats"]["HR@2"]) == (1, 0, 1)
    assert (apart["new"]["users"], apart["repeats"]["users"]) == (1, 1)
    assert metrics_apart(rank_scores(scores, holdout(*held_out), seen="new", k_max=4), 4) == {}


def test_a_rule_must_be_one():
    with pytest.raises(ValueError, match=r"'exclude': .*'keep': .*'new': .*, got 'target'"):
        rank_scores(torch.zeros(1, 3), holdout([[]], [0]), seen="target")


def test_gains_are_what_the_metrics_average():
    ranks = torch.tensor([1, 3, 11, MISS])
    assert gains(ranks, "HR@10").tolist() == [1, 1, 0, 0]
    assert gains(ranks, "NDCG@10").tolist() == [1, 0.5, 0, 0]
    assert gains(ranks, "MRR@3").tolist() == pytest.approx([1, 1 / 3, 0, 0])
    for name in ("COV@10", "HR", "HR@0", "HR@ten"):
        with pytest.raises(ValueError, match="HR@k, NDCG@k or MRR@k"):
            gains(ranks, name)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_scores_that_are_not_finite_count_against_the_model(value):
    held_out = holdout([[0], []], [1, 1])
    competitor = rank_items(torch.ones(2, 1), torch.tensor([[0.0], [2.0], [value], [1.0]]), held_out, k_max=4)
    assert competitor.ranks.tolist() == ([1, 1] if value == -torch.inf else [2, 2])
    target = rank_items(torch.ones(2, 1), torch.tensor([[0.0], [value], [2.0], [1.0]]), held_out, k_max=4)
    assert target.ranks.tolist() == ([1, 1] if value == torch.inf else [3, 4])
    for ranking in (competitor, target):
        assert [sorted(top) for top in ranking.top_items.tolist()] == [[-1, 1, 2, 3], [0, 1, 2, 3]]
    everything = rank_items(torch.full((2, 1), value), torch.ones(4, 1), held_out, k_max=4)
    assert everything.ranks.tolist() == [3, 4]


def test_minus_infinity_is_a_score_and_not_an_exclusion():
    ranking = rank_items(
        torch.ones(1, 1), torch.tensor([[-torch.inf], [-torch.inf], [1.0]]), holdout([[2]], [0]), k_max=3
    )
    assert ranking.ranks.tolist() == [2]
    assert sorted(ranking.top_items[0].tolist()) == [-1, 0, 1]


def random_case(n_users=40, catalog_size=300, width=8):
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    held_out = holdout(
        [rng.integers(catalog_size, size=rng.integers(0, 20)) for _ in range(n_users)],
        rng.integers(catalog_size, size=n_users),
    )
    outputs, weight = (torch.randn(n, width, generator=generator) for n in (n_users, catalog_size))
    return outputs, weight, held_out


def test_chunks_do_not_change_the_result():
    outputs, weight, held_out = random_case()
    whole = rank_items(outputs, weight, held_out, chunk_bytes=2**30)
    for chunk_bytes in (1, 300 * 4 * 7):
        parts = rank_items(outputs, weight, held_out, chunk_bytes=chunk_bytes)
        assert torch.equal(parts.ranks, whole.ranks)
        assert torch.equal(parts.top_items, whole.top_items)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_scored_in_single(dtype):
    outputs, weight, held_out = random_case(catalog_size=70_000)  # more than one block of the table
    outputs, weight = outputs.to(dtype), weight.to(dtype)
    half = rank_items(outputs, weight, held_out)
    for other in (rank_items(outputs.float(), weight, held_out), rank_items(outputs.float(), weight.float(), held_out)):
        assert torch.equal(half.ranks, other.ranks)
        assert torch.equal(half.top_items, other.top_items)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rank_items(outputs.float(), weight.float(), held_out).ranks, half.ranks)


def test_double_precision_is_kept():
    weight = torch.tensor([[1.0], [1.0 + 1e-12]], dtype=torch.float64)
    held_out = holdout([[]], [1])
    assert rank_items(torch.ones(1, 1, dtype=torch.float64), weight, held_out).ranks.tolist() == [1]
    assert rank_items(torch.ones(1, 1), weight.float(), held_out).ranks.tolist() == [2]


def test_no_gradient_is_recorded_and_inputs_stay_as_they_are():
    outputs, weight, held_out = random_case()
    before = outputs.clone(), weight.clone()
    outputs.requires_grad_(), weight.requires_grad_()
    ranking = rank_items(outputs, weight, held_out)
    assert not ranking.ranks.requires_grad
    assert torch.equal(outputs, before[0])
    assert torch.equal(weight, before[1])


class LargestTensor(TorchDispatchMode):
    n_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.n_bytes = max(self.n_bytes, tensor.untyped_storage().nbytes())
        return result


def test_users_times_catalog_is_never_held():
    outputs, weight, held_out = random_case(n_users=500, catalog_size=2_000)
    budget = 2**17
    with LargestTensor() as largest:
        rank_items(outputs, weight, held_out, k_max=5, chunk_bytes=budget)
    inputs = 4 * 2_000 * 8
    assert max(budget, inputs) * 0.9 < largest.n_bytes <= max(budget, inputs)  # users x catalog would be 4 MB


def test_lists_longer_than_the_catalog():
    ranking = rank_scores([[1.0, 2.0, 3.0]], holdout([[0]], [2]), k_max=50)
    assert ranking.top_items.shape == (1, 50)
    assert ranking.top_items[0, :3].tolist() == [2, 1, -1]
    assert ranking_metrics(ranking, 3)["COV@50"] == pytest.approx(2 / 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_cpu():
    outputs, weight, held_out = random_case(catalog_size=5_000)
    outputs, weight = outputs.round(), weight.round()  # exact in any order of summation, and full of ties
    cpu, cuda = rank_items(outputs, weight, held_out), rank_items(outputs.cuda(), weight.cuda(), held_out)
    assert cuda.ranks.device.type == cuda.top_items.device.type == "cpu"
    assert torch.equal(cpu.ranks, cuda.ranks)


@pytest.mark.parametrize(
    ("outputs", "weight", "histories", "targets", "settings", "message"),
    [
        ((2, 3), (5, 4), [[], []], [0, 0], {}, r"\(2, 3\) and \(5, 4\)"),
        ((2, 3), (5, 3), [[]], [0], {}, "2 rows but holdout has 1 users"),
        ((1, 3), (5, 3), [[]], [5], {}, r"targets span items 5\.\.5, but the catalog has rows 0\.\.4"),
        ((1, 3), (5, 3), [[-1]], [0], {}, r"histories span items -1\.\.-1"),
        ((1, 3), (5, 3), [[]], [0], {"k_max": 0}, "got 0 and"),
        ((1, 3), (5, 3), [[]], [0], {"chunk_bytes": 0}, "and 0"),
    ],
)
def test_what_does_not_fit_is_named(outputs, weight, histories, targets, settings, message):
    with pytest.raises(ValueError, match=message):
        rank_items(torch.zeros(outputs), torch.zeros(weight), holdout(histories, targets), **settings)


def test_metrics_need_users_and_long_enough_lists():
    nobody = rank_items(torch.zeros(0, 2), torch.zeros(3, 2), holdout([], []))
    with pytest.raises(ValueError, match="no users to evaluate"):
        ranking_metrics(nobody, 3)
    short = Ranking(torch.tensor([1]), torch.tensor([[0, 1]]), torch.tensor([False]))
    with pytest.raises(ValueError, match=r"1\.\.2.*\(1, 5\).*k_max"):
        ranking_metrics(short, 3, ks=(1, 5))


def test_ranks_are_counted_beyond_what_float32_can_count():
    """All items score alike, so that the target comes last: 2 ** 24 + 3 is no number of float32."""
    catalog_size = 2**24 + 3
    ranking = rank_items(torch.ones(1, 1), torch.ones(catalog_size, 1), holdout([[]], [7]), k_max=1)
    assert ranking.ranks.tolist() == [catalog_size]

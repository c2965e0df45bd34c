"""What the lessons measure, against the definitions; and the checks of exercises, with right answers and wrong ones."""

import numpy as np
import pandas as pd
import pytest
import torch

from sce_lab import (
    SyntheticProcess,
    cross_entropy,
    explain,
    leave_one_out,
    scalable_cross_entropy,
    scalable_cross_entropy_statistics,
)
from sce_lab.explain import Buckets, check_sampled, check_sce, fill_in

SIZES = {"n_buckets": 6, "bucket_size_x": 9, "bucket_size_y": 12}


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(1)
    x, w = torch.randn(40, 8, generator=generator), torch.randn(90, 8, generator=generator)
    return x, w, torch.randint(90, (40,), generator=generator)


@pytest.mark.parametrize("mix_x", [False, True])
def test_what_is_found_is_what_the_loss_looks_at(batch, mix_x):
    """The library's own statistics, and its gradient: it is not zero where something was found, and nowhere else."""
    x, w, target = batch
    buckets = Buckets(**SIZES, mix_x=mix_x)
    found = buckets.found(x, w, target, seed=2)
    table = w.clone().requires_grad_()
    statistics = scalable_cross_entropy_statistics(x, table, target, **SIZES, centers=buckets.centers(x, 2))
    covered = found.any(1)
    assert float(statistics.coverage) == pytest.approx(float(covered.float().mean()))
    mass = (x @ w.T).softmax(1)
    assert float(statistics.captured_mass) == pytest.approx(float((found * mass).sum(1)[covered].mean()), rel=1e-4)
    buckets.loss(x, table, target, seed=2).backward()
    touched = found.any(0).index_fill(0, target[covered], True)
    assert ((table.grad != 0).any(1) == touched).all()


def test_captured_mass_counts_everybody(batch):
    whole = Buckets(1, 40, 90)
    rows = explain.captured_mass(*batch, {"all": whole, "some": Buckets(**SIZES)}, draws=3).set_index("way")
    assert rows.loc["all", ["coverage", "mass"]].tolist() == pytest.approx([1, 1])
    assert rows.loc["some", "mass"] < rows.loc["some", "coverage"] < 1
    assert rows.loc["Sampled softmax", "n_logits"] == whole.n_logits


def test_found_by_rank_is_a_share_of_positions(batch):
    x, w, target = batch
    rows = explain.found_by_rank(*batch, Buckets(1, 40, 90), ranks=5, draws=2)
    assert (rows[rows["loss"] == "sce"]["found"] == 1).all()  # one bucket that holds everything
    buckets = Buckets(**SIZES)
    rows = explain.found_by_rank(*batch, buckets, ranks=3, draws=1).set_index(["loss", "rank"])["found"]
    wrong = (x @ w.T).scatter(1, target[:, None], -torch.inf)
    second = wrong.argsort(1, descending=True)[:, 1]
    assert rows["sce", 2] == pytest.approx(float(buckets.found(*batch)[torch.arange(40), second].float().mean()))
    many = explain.found_by_rank(*batch, buckets, ranks=1, draws=200).set_index("loss")["found"]
    k = round(buckets.n_logits / 40)
    assert many["sampled"] == pytest.approx(1 - (1 - 1 / 90) ** k, abs=0.03)


def test_collapse_tells_outputs_that_are_alike(batch):
    x, w, _ = batch
    alike = x[:1] + 0.01 * x
    same, apart = explain.collapse(alike, w, 10), explain.collapse(x, w, 10)
    assert same["cosine"] > 0.99 > 0.3 > apart["cosine"]
    assert same["shared"] == pytest.approx(same["own"], rel=0.05)
    assert apart["shared"] < 0.8 * apart["own"]
    unit = torch.nn.functional.normalize(x, dim=1)
    pairs = (unit @ unit.T)[~torch.eye(40, dtype=torch.bool)]
    assert apart["cosine"] == pytest.approx(float(pairs.mean()), abs=1e-5)


def test_gradients_of_all_logits_are_those_of_cross_entropy(batch):
    rows = explain.gradients(*batch, [Buckets(1, 40, 90), Buckets(**SIZES)], ks=[4, 4000], draws=2)
    whole, some, few, many = rows.to_dict("records")
    assert (whole["cosine"], whole["length"], whole["share"]) == pytest.approx((1, 1, 1), abs=1e-4)
    assert some["cosine"] < 0.95
    assert few["cosine"] < many["cosine"]
    assert many["cosine"] > 0.95
    assert few["length"] > many["length"]
    assert rows["n_logits"].tolist() == [3600, 648, 160, 160_000]


def test_a_small_model_is_trained_and_seen_at_a_batch():
    split = leave_one_out(SyntheticProcess(catalog_size=100, n_users=150).interactions())
    model = explain.train_small(split, "sce", epochs=2, **SIZES)
    again = explain.train_small(split, "sce", epochs=2, **SIZES)
    pd.testing.assert_frame_equal(model.history, again.history)
    assert list(model.history["epoch"]) == [1, 2]
    assert model.last["HR@10"] > 0
    assert 0 < model.last["coverage"] <= 1
    assert len(model.outputs) == len(model.target)
    exact = explain.train_small(split, "ce", epochs=3)
    assert "coverage" not in exact.history
    assert float(cross_entropy(exact.outputs, exact.items, exact.target)) < np.log(len(exact.items))


# ----------------------------------------------------------------------------------------------------------- sampling


def test_all_draws_are_listed_and_unbiased():
    logits, q = np.array([2.0, 1.0, -0.5]), np.array([0.2, 0.3, 0.5])
    rows = explain.all_draws(logits, target=0, q=q, k=2)
    assert len(rows) == 9
    assert rows["chance"].sum() == pytest.approx(1)
    assert (rows["chance"] * rows["sum"]).sum() == pytest.approx(np.exp(logits[1:]).sum())
    one = rows[rows["draw"] == (1, 0)].iloc[0]
    assert one["sum"] == pytest.approx(np.exp(1) / (2 * 0.3))
    assert one["loss"] == pytest.approx(np.log(np.exp(2) + one["sum"]) - 2)


def test_estimates_come_near_the_exact_loss_when_corrected(batch):
    counts = torch.arange(1, 91)
    rows = explain.estimates(*batch, counts, ks=(8, 2000), draws=6).set_index(["way", "corrected", "k"])
    assert (rows["exact"] == float(cross_entropy(*batch))).all()
    for way in ("uniform", "popularity"):
        assert rows.loc[(way, True, 2000), "loss"] == pytest.approx(rows["exact"].iloc[0], abs=0.05)
        assert abs(rows.loc[(way, False, 2000), "loss"] - rows["exact"].iloc[0]) > 1
        assert rows.loc[(way, True, 8), "spread"] > rows.loc[(way, True, 2000), "spread"]


def test_hits_are_the_shares_of_draws_that_contain_the_target():
    target, counts, k = torch.tensor([0, 0, 1, 2, 3, 0]), torch.tensor([30, 5, 5, 1, 9]), 3
    hits, rng, n = explain.hits(target, counts, k), np.random.default_rng(0), 4000
    q = counts.numpy() ** 0.75 / (counts.numpy() ** 0.75).sum()
    seen = {"uniform": 0, "popularity": 0, "in-batch": 0}
    for _ in range(n):
        at = rng.integers(6)
        seen["uniform"] += int(target[at]) in rng.integers(5, size=k)
        seen["popularity"] += int(target[at]) in rng.choice(5, k, p=q)
        seen["in-batch"] += int(target[at]) in rng.permutation(np.delete(target.numpy(), at))[:k]
    for way, count in seen.items():
        assert hits[way] == pytest.approx(count / n, abs=0.03), way
    assert explain.hits(target, counts, 50)["in-batch"] == pytest.approx(0.5)  # three of the six share a target


def test_pushes_are_shares_of_the_softmax(batch):
    x, w, target = batch
    rows = explain.pushes(*batch, torch.arange(1, 91), position=3, k=7, seed=1)
    assert rows["rank"].tolist() == list(range(1, 90))
    assert int(target[3]) not in set(rows["item"])
    p = (x[3] @ w.T).softmax(0)
    np.testing.assert_allclose(rows["exact"], p[rows["item"].to_numpy()], atol=1e-5)
    assert (rows["exact"].diff().dropna() <= 0).all()
    drawn = torch.randint(90, (7,), generator=torch.Generator().manual_seed(1))
    assert set(rows[rows["uniform"] > 1e-9]["item"]) == set(drawn.tolist()) - {int(target[3])}


def test_enough_is_read_off_between_two_numbers_of_negatives():
    table = pd.DataFrame({"share": [0.01, 0.04], "cosine": [0.2, 0.6]})
    rows = explain.enough({100: table, 1000: table}, cosine=0.4).set_index("catalog_size")
    assert rows["k"].tolist() == pytest.approx([2, 20])
    assert rows["share"].tolist() == pytest.approx([0.02, 0.02])


def test_a_part_of_the_catalog_keeps_the_positions(batch):
    x, w, target = batch
    parts = [explain.part_of(x, w, target, size, n_positions=20) for size in (40, 60, 90)]
    for (outputs, items, own), size in zip(parts, (40, 60, 90)):
        assert len(items) == size
        assert torch.equal(outputs, parts[0][0])
        assert torch.equal(items[own], parts[0][1][parts[0][2]])
    assert {tuple(row) for row in parts[0][1].tolist()} < {tuple(row) for row in parts[1][1].tolist()}
    with pytest.raises(ValueError, match="more than catalog_size=3"):
        explain.part_of(x, w, target, 3)


# ---------------------------------------------------------------------------------------------------------- exercises


def sce(X, W, target, B, b_x, b_y, *, largest=True, mask=-torch.inf, keep="amax", covered_only=True, graph=True):
    rows = (B @ X.T).topk(b_x, dim=1, largest=largest).indices
    items = (B @ W.T).topk(b_y, dim=1).indices
    logits = X[rows] @ W[items].mT
    own = (X * W[target]).sum(dim=1)[rows]
    if mask is not None:
        logits = logits.masked_fill(target[rows].unsqueeze(2) == items.unsqueeze(1), mask)
    slot = torch.cat([own.unsqueeze(2), logits], dim=2).logsumexp(dim=2) - own
    losses = torch.full((len(X),), torch.inf if keep == "amin" else -torch.inf if keep == "amax" else 0.0)
    losses = losses.scatter_reduce(0, rows.flatten(), slot.flatten(), keep, include_self=keep.startswith("am"))
    reached = torch.zeros(len(X), dtype=torch.bool).index_fill(0, rows.flatten(), True)
    if not covered_only:
        return losses.masked_fill(~reached, 0).mean()
    return losses[reached].mean() if graph else losses[reached].mean().detach()


def test_sce_written_right_is_solved():
    assert check_sce(sce).solved
    by_the_library = lambda x, w, t, b, b_x, b_y: scalable_cross_entropy(  # noqa: E731
        x, w, t, n_buckets=len(b), bucket_size_x=b_x, bucket_size_y=b_y, centers=b
    )
    assert check_sce(by_the_library).solved


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ({"largest": False}, "smallest scores"),
        ({"mask": None}, "counts twice"),
        ({"mask": 0.0}, "exp(0) = 1"),
        ({"keep": "amin"}, "smallest loss"),
        ({"keep": "sum"}, "added up"),
        ({"keep": "mean"}, "averaged"),
        ({"covered_only": False}, "covered positions only"),
        ({"graph": False}, "no gradient flows"),
    ],
)
def test_sce_with_a_mistake_is_told_which(mistake, says):
    verdict = check_sce(lambda *arguments: sce(*arguments, **mistake))
    assert not verdict.solved
    assert says in verdict.feedback


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda *_: fill_in(2), "Line 2 is still to be filled in."),
        (lambda *_: None, "returned NoneType"),
        (lambda *_: torch.zeros(3), "shape (3,)"),
        (lambda *_: torch.tensor(12.5), "It gives 12.5000"),
        (lambda *_: torch.tensor(-torch.inf), "leave them out"),
        (lambda *_: torch.tensor(torch.nan), "not-a-number"),
        (lambda *_: torch.zeros(2) @ torch.zeros(3), "It stopped with RuntimeError"),
    ],
)
def test_what_is_no_answer_is_told(function, says):
    verdict = check_sce(function)
    assert not verdict.solved
    assert says in verdict.feedback
    assert says in str(verdict)
    assert "Not yet." in verdict._repr_html_()


def sampled(target_logit, logits, q, offset=lambda k, q: torch.log(k * q), with_target=True):
    terms = logits - offset(len(q), q)
    return (torch.cat([target_logit[None], terms]) if with_target else terms).logsumexp(0) - target_logit


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ({}, "as the library's"),
        ({"offset": lambda k, q: 0}, "Nothing is corrected"),
        ({"offset": lambda k, q: -torch.log(k * q)}, "wrong sign"),
        ({"offset": lambda k, q: torch.log(q)}, "by q alone"),
        ({"offset": lambda k, q: np.log(k)}, "by k alone"),
        ({"offset": lambda k, q: k * q}, "subtract its logarithm"),
        ({"with_target": False}, "target is missing"),
        ({"offset": lambda k, q: 7.0}, "is right. The sum is"),
    ],
)
def test_sampled_softmax_is_checked(mistake, says):
    verdict = check_sampled(lambda *arguments: sampled(*arguments, **mistake))
    assert verdict.solved == (not mistake)
    assert says in verdict.feedback

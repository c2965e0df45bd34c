"""Sampled softmax against loops, and its expectation against statistics."""

from math import log

import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import assert_matches, make_problem, problems, quick
from torch._subclasses.fake_tensor import FakeTensorMode

from sce_lab.losses import SampledSoftmaxLoss, cross_entropy, make_proposal, sampled_softmax
from sce_lab.losses.samplings import SAMPLINGS

DRAWN = ("uniform", "log_uniform", "popularity")


def counts(c):
    return torch.arange(c) ** 2 % 17  # some items have no interaction at all


@quick
@given(problems(dtypes=(torch.float64, torch.float32)), st.integers(1, 6), st.booleans(), st.booleans(), st.data())
def test_equals_the_loops_for_given_negatives(problem, k, shared, correction, data):
    c = len(problem.linear_weight)
    shape = (k,) if shared else (*problem.target.shape, k)
    negatives = torch.randint(c, shape, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    reduction = data.draw(st.sampled_from(["none", "mean", "sum"]))
    loss = sampled_softmax(*problem.arguments, negatives=negatives, logq_correction=correction, reduction=reduction)
    outputs, weight, target = problem.flat
    listed = negatives.expand(*problem.target.shape, k).reshape(-1, k).tolist()
    offsets = [[log(k / c) if correction else 0.0] * k] * len(target)
    expected = oracle.sampled_softmax(outputs, weight, target, listed, offsets)
    assert_matches(problem.backward(loss), expected, problem, reduction)


@pytest.mark.parametrize("correction", [False, True])
def test_all_items_as_negatives_is_cross_entropy(correction):
    problem = make_problem(ignored=0.2)
    everything = torch.arange(50)  # uniform, and each expected once: the correction is log(50 / 50)
    sampled = sampled_softmax(*problem.arguments, negatives=everything, logq_correction=correction)
    for ours, exact in zip(problem.backward(sampled), problem.backward(cross_entropy(*problem.arguments))):
        torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("sampling", DRAWN)
def test_draws_follow_the_stated_probability(sampling):
    c, n = 12, 60_000
    proposal = make_proposal(sampling, counts(c), exponent=0.5)
    q = proposal.log_probability(torch.arange(c), c).double().exp()
    assert q.sum().item() == pytest.approx(1)
    assert (q > 0).all()
    items = proposal.draw((n,), c, torch.device("cpu"), torch.Generator().manual_seed(0))
    frequency = torch.bincount(items, minlength=c) / n
    assert ((frequency - q).abs() < 5 * (q / n).sqrt()).all()
    torch.testing.assert_close(proposal.given(items, c).log_expected.double(), (n * q[items]).log())


def test_popular_items_are_drawn_more_often_and_the_exponent_flattens():
    popularity = [
        make_proposal("popularity", counts(12), e).log_probability(torch.arange(12), 12).exp() for e in (0, 1)
    ]
    torch.testing.assert_close(popularity[0], torch.full((12,), 1 / 12, dtype=torch.float64))
    weights = counts(12).clamp(min=1).double()
    torch.testing.assert_close(popularity[1], weights / weights.sum())
    zipf = make_proposal("log_uniform", counts(12)).log_probability(torch.arange(12), 12)
    by_popularity = counts(12).argsort(descending=True, stable=True)
    assert (zipf[by_popularity].diff() < 0).all()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("sampling", DRAWN)
def test_corrected_estimate_is_unbiased(sampling, shared):
    """exp(loss) is Z / e^t with Z estimated, so with few negatives already its mean is exp(cross-entropy)."""
    c, repeats = 15, 4000
    problem = make_problem(n=1, c=c, d=4)
    problem.target[0] = 1  # an item that all proposals draw
    generator = torch.Generator().manual_seed(0)
    settings = {"sampling": sampling, "item_counts": counts(c), "generator": generator, "reduction": "none"}
    with torch.no_grad():
        exact = cross_entropy(*problem.arguments).exp().item()
        if shared:
            draws = [sampled_softmax(*problem.arguments, n_negatives=3, **settings) for _ in range(repeats // 4)]
            estimates = torch.cat(draws).exp()
        else:
            copies = problem.input.expand(repeats, -1), problem.linear_weight, problem.target.expand(repeats)
            estimates = sampled_softmax(*copies, n_negatives=3, shared_negatives=False, **settings).exp()
    error = estimates.std().item() / len(estimates) ** 0.5
    assert error < 0.1 * exact
    assert estimates.mean().item() == pytest.approx(exact, abs=4 * error)


def test_in_batch_estimate_is_unbiased_over_random_batches():
    c, n, repeats = 9, 6, 2000
    problem = make_problem(n=n, c=c, d=3, scale=0.7)
    item_counts = torch.arange(1, c + 1)
    generator = torch.Generator().manual_seed(0)
    estimates = []
    with torch.no_grad():
        for _ in range(repeats):
            target = torch.multinomial(item_counts.double(), n, replacement=True, generator=generator)
            target[0] = 4
            losses = sampled_softmax(
                problem.input,
                problem.linear_weight,
                target,
                n_negatives=4,  # fewer than there are
                sampling="in_batch",
                item_counts=item_counts,
                reduction="none",
                generator=generator,
            )
            estimates.append(losses[0].exp())
        exact = cross_entropy(problem.input[:1], problem.linear_weight, torch.tensor([4])).exp().item()
    estimates = torch.stack(estimates)
    error = estimates.std().item() / repeats**0.5
    assert error < 0.1 * exact
    assert estimates.mean().item() == pytest.approx(exact, abs=4 * error)


def test_in_batch_without_counts_estimates_the_items_of_the_batch():
    """With every position drawn, the correction by the batch's own frequencies makes the sum exact."""
    problem = make_problem(n=20, c=9, d=3)
    loss = sampled_softmax(*problem.arguments, n_negatives=1000, sampling="in_batch", reduction="none")
    present = problem.target.unique()
    assert len(present) < 20  # some item is there twice
    exact = cross_entropy(
        problem.input,
        problem.linear_weight[present],
        torch.searchsorted(present, problem.target),
        reduction="none",
    )
    torch.testing.assert_close(loss, exact, rtol=1e-10, atol=1e-12)


def test_in_batch_never_draws_a_position_without_target():
    problem = make_problem(n=20, c=30, ignored=0.5)
    kept = problem.target != -100
    few = sampled_softmax(
        problem.input[kept], problem.linear_weight, problem.target[kept], n_negatives=99, sampling="in_batch"
    )
    padded = sampled_softmax(*problem.arguments, n_negatives=99, sampling="in_batch")
    torch.testing.assert_close(padded, few, rtol=1e-10, atol=1e-12)
    plain = sampled_softmax(*problem.arguments, n_negatives=99, sampling="in_batch", logq_correction=False)
    few_plain = sampled_softmax(
        problem.input[kept],
        problem.linear_weight,
        problem.target[kept],
        n_negatives=99,
        sampling="in_batch",
        logq_correction=False,
    )
    torch.testing.assert_close(plain, few_plain, rtol=1e-10, atol=1e-12)


def test_in_batch_with_a_single_target_has_no_negatives():
    problem = make_problem(n=1)
    for item_counts in (None, torch.ones(50)):
        loss = sampled_softmax(*problem.arguments, sampling="in_batch", item_counts=item_counts)
        assert loss == 0


@pytest.mark.parametrize("sampling", DRAWN)
def test_converges_to_cross_entropy(sampling):
    problem = make_problem()
    exact = cross_entropy(*problem.arguments).item()
    errors = []
    for k in (2, 50, 50_000):
        loss = sampled_softmax(
            *problem.arguments,
            n_negatives=k,
            sampling=sampling,
            item_counts=counts(50),
            generator=torch.Generator().manual_seed(0),
        )
        errors.append(abs(loss.item() - exact))
    assert errors[2] < 0.01 * exact
    assert errors[2] < errors[0]


def test_without_correction_it_is_another_loss():
    problem = make_problem()
    settings = {"n_negatives": 5000, "sampling": "popularity", "item_counts": counts(50), "exponent": 1.0}
    loss = sampled_softmax(*problem.arguments, logq_correction=False, **settings)
    assert abs(loss - cross_entropy(*problem.arguments)) > 1


def test_shared_negatives_are_shared():
    problem = make_problem(n=40, c=2000)
    same = problem.input[:1].expand(40, -1)
    target = torch.full((40,), 3)
    for shared, n_different in ((True, 1), (False, 40)):
        losses = sampled_softmax(
            same, problem.linear_weight, target, n_negatives=4, shared_negatives=shared, reduction="none"
        )
        assert len(losses.unique()) == n_different


def test_reproducible_by_generator():
    problem = make_problem()
    for sampling in SAMPLINGS:
        settings = {"sampling": sampling, "item_counts": counts(50), "n_negatives": 4}
        a, b, other = (
            sampled_softmax(*problem.arguments, generator=torch.Generator().manual_seed(seed), **settings)
            for seed in (1, 1, 2)
        )
        assert a == b != other


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_negatives": 0}, "n_negatives.*0"),
        ({"n_negatives": -2}, "n_negatives.*-2"),
        ({"sampling": "zipf"}, "'zipf'"),
        ({"sampling": "popularity"}, "item_counts"),
        ({"sampling": "log_uniform"}, "item_counts"),
        ({"item_counts": torch.ones(49)}, r"50.*\(49,\)"),
        ({"sampling": "in_batch", "shared_negatives": False}, "shared_negatives"),
        ({"sampling": "in_batch", "negatives": torch.arange(3)}, "in_batch"),
        ({"negatives": torch.zeros(4, 3, dtype=torch.int64)}, r"\(4, 3\)"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        sampled_softmax(*make_problem().arguments, **settings)


def test_module_prepares_the_proposal_once_and_follows_changes():
    problem = make_problem()
    loss = SampledSoftmaxLoss(sampling="popularity", item_counts=counts(50), generator=torch.Generator())

    def proposal():
        return make_proposal(loss.sampling, loss.item_counts, loss.exponent)

    first = proposal()
    loss(*problem.arguments)
    assert proposal() is first
    loss.exponent = 0.1
    assert proposal() is not first
    loss.exponent = 0.75
    before = proposal()
    loss.item_counts[3] = 10**6  # in place: what was prepared is no longer right
    torch.testing.assert_close(proposal().log_q, make_proposal("popularity", loss.item_counts.clone()).log_q)
    assert proposal() is not before
    loss.sampling, loss.n_negatives = "uniform", 3
    loss.generator.manual_seed(5)
    expected = sampled_softmax(*problem.arguments, n_negatives=3, generator=torch.Generator().manual_seed(5))
    assert loss(*problem.arguments) == expected
    assert "item_counts" not in loss.state_dict()
    assert dict(loss.named_buffers())["item_counts"] is loss.item_counts


def test_runs_on_fake_tensors():
    with FakeTensorMode():
        problem = make_problem(n=300, c=5000, dtype=torch.float32)
        for sampling in SAMPLINGS:
            loss = sampled_softmax(*problem.arguments, sampling=sampling, item_counts=torch.ones(5000))
            loss.backward()
        assert problem.linear_weight.grad.shape == (5000, 8)

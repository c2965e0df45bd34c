"""Binary cross-entropy against loops, and gBCE's calibration against what it is for."""

import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import assert_matches, make_problem, problems, quick
from torch._subclasses.fake_tensor import FakeTensorMode

from sce_lab.losses import BinaryCrossEntropyLoss, binary_cross_entropy


@quick
@given(
    problems(dtypes=(torch.float64, torch.float32)),
    st.integers(1, 6),
    st.booleans(),
    st.sampled_from([0.0, 0.75, 1.0]),
    st.data(),
)
def test_equals_the_loops_for_given_negatives(problem, k, shared, calibration, data):
    c = len(problem.linear_weight)
    shape = (k,) if shared else (*problem.target.shape, k)
    negatives = torch.randint(c, shape, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    reduction = data.draw(st.sampled_from(["none", "mean", "sum"]))
    loss = binary_cross_entropy(*problem.arguments, negatives=negatives, calibration=calibration, reduction=reduction)
    assert loss.shape == (problem.target.shape if reduction == "none" else ())
    listed = negatives.expand(*problem.target.shape, k).reshape(-1, k).tolist()
    alpha = min(k / max(c - 1, 1), 1)
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)  # as gSASRec writes it
    expected = oracle.binary_cross_entropy(*problem.flat, listed, beta)
    assert_matches(problem.backward(loss), expected, problem, reduction)


def test_the_target_among_the_negatives_costs_nothing():
    problem = make_problem(n=1)
    problem.target[0] = 7
    once, hit = (binary_cross_entropy(*problem.arguments, negatives=torch.tensor(n)) for n in ([3], [3, 7, 7]))
    assert once == hit


def test_large_scores_neither_overflow_nor_lose_their_gradient():
    problem = make_problem(n=4, c=10, scale=60.0, dtype=torch.float32)
    loss, grad_input, _ = problem.backward(binary_cross_entropy(*problem.arguments, n_negatives=50))
    assert loss.isfinite()
    assert loss > 100
    assert (grad_input.abs().amax(dim=1) > 0).all()


def test_negatives_are_uniform_over_the_whole_catalog():
    c, n = 8, 40_000
    weight = torch.eye(c, dtype=torch.float64, requires_grad=True)  # an item's gradient counts its draws
    outputs = torch.zeros(n, c, dtype=torch.float64)
    target = torch.zeros(n, dtype=torch.int64)
    outputs[:, 1] = 1.0
    losses = binary_cross_entropy(outputs, weight, target, reduction="none", generator=torch.Generator().manual_seed(0))
    values, counts = losses.detach().sub(torch.log(torch.tensor(2.0))).round(decimals=4).unique(return_counts=True)
    # a hit of item 0 costs nothing more, item 1 log(1 + e), any other log 2
    torch.testing.assert_close(values[:2], torch.tensor([0.0, 0.6931], dtype=torch.float64), atol=1e-4, rtol=0)
    shares = counts / n
    assert len(shares) == 3
    for share, expected in zip(shares, (1 / c, 6 / c, 1 / c)):
        assert abs(share - expected) < 5 * (expected / n) ** 0.5


def test_full_calibration_brings_the_best_score_back_to_the_true_probability():
    """One user who takes item i with probability p_i: gBCE with c = 1 learns sigma(score_i) = p_i, plain BCE more."""
    p = torch.tensor([0.5, 0.2, 0.1, 0.1, 0.04, 0.03, 0.02, 0.01], dtype=torch.float64)
    c, k = len(p), 2
    target = torch.arange(c)

    def best_probability(calibration):
        score = torch.zeros(c, 1, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([score], max_iter=200, line_search_fn="strong_wolfe")

        def closure():
            optimizer.zero_grad()
            ones = torch.ones(c, 1, dtype=torch.float64)
            # every possible negative once, weighed as k draws of c would be expected
            terms = []
            for negative in range(c):
                plain = {"negatives": torch.full((c, k), negative), "reduction": "none", "calibration": calibration}
                terms.append(binary_cross_entropy(ones, score, target, **plain))
            loss = (torch.stack(terms).mean(0) * p).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        return torch.sigmoid(score.detach()[:, 0])

    # Positive p_i beta, negative k (1 - p_i) / c: the best sigma is their ratio.
    for calibration in (0.0, 1.0):
        beta = 1 - calibration * (1 - k / (c - 1))
        wanted = p * beta / (p * beta + k * (1 - p) / c)
        torch.testing.assert_close(best_probability(calibration), wanted, atol=1e-4, rtol=0)
    assert (best_probability(1.0) - p).abs().max() < 0.05
    assert (best_probability(0.0) - p).abs().max() > 0.2


def test_shared_negatives_are_shared():
    problem = make_problem(n=40, c=2000)
    same = problem.input[:1].expand(40, -1)
    target = torch.full((40,), 3)
    for shared, n_different in ((True, 1), (False, 40)):
        losses = binary_cross_entropy(
            same, problem.linear_weight, target, n_negatives=4, shared_negatives=shared, reduction="none"
        )
        assert len(losses.unique()) == n_different


def test_reproducible_by_generator():
    problem = make_problem()
    a, b, other = (
        binary_cross_entropy(*problem.arguments, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert a == b != other


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_negatives": 0}, "n_negatives.*0"),
        ({"calibration": 1.5}, "calibration.*1.5"),
        ({"calibration": -0.1}, "calibration.*-0.1"),
        ({"negatives": torch.zeros(4, 3, dtype=torch.int64)}, r"\(4, 3\)"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        binary_cross_entropy(*make_problem().arguments, **settings)


def test_module_follows_its_attributes():
    problem = make_problem()
    loss = BinaryCrossEntropyLoss(n_negatives=2, generator=torch.Generator())
    loss.n_negatives, loss.calibration, loss.shared_negatives = 5, 0.75, True
    loss.generator.manual_seed(5)
    settings = {"n_negatives": 5, "calibration": 0.75, "shared_negatives": True}
    expected = binary_cross_entropy(*problem.arguments, **settings, generator=torch.Generator().manual_seed(5))
    assert loss(*problem.arguments) == expected
    assert repr(loss) == "BinaryCrossEntropyLoss(n_negatives=5, calibration=0.75, shared_negatives=True)"
    for wrong in ({"n_negatives": 0}, {"calibration": 2}, {"reduction": "median"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            BinaryCrossEntropyLoss(**wrong)


def test_runs_on_fake_tensors():
    with FakeTensorMode():
        problem = make_problem(n=300, c=5000, dtype=torch.float32)
        binary_cross_entropy(*problem.arguments, n_negatives=3).backward()
        assert problem.linear_weight.grad.shape == (5000, 8)

"""Corners where something was once lost without a word."""

import pytest
import torch
import torch.nn.functional as F
from problems import make_problem

from sce_lab.losses import (
    LOSSES,
    Popularity,
    Uniform,
    binary_cross_entropy,
    cross_entropy,
    make_loss,
    reduced_cross_entropy,
    sampled_softmax,
    scalable_cross_entropy,
)
from sce_lab.losses.inputs import assert_items
from sce_lab.losses.reduction import reduce_losses, reduced_softmax

EXACT = {  # each is cross-entropy here, whatever it draws
    "ce": {},
    "cce": {},
    "ce_minus": {"negatives": torch.arange(50)},
    "sampled": {"negatives": torch.arange(50)},
    "rece": {"n_buckets": 1},
    "sce": {"n_buckets": 1, "bucket_size_x": 30, "bucket_size_y": 50},
}


class Learned(Uniform):
    """A proposal whose probabilities have a gradient."""

    def __init__(self, catalog_size):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(catalog_size, dtype=torch.float64))

    def log_probability(self, items, catalog_size):
        return self.logits.log_softmax(dim=0)[items]


def test_a_learned_proposal_has_its_gradient_whatever_the_reduction():
    found = []
    for reduction in ("mean", "none"):
        problem, proposal = make_problem(n=20, c=50), Learned(50)
        generator = torch.Generator().manual_seed(0)
        loss = sampled_softmax(
            *problem.arguments, n_negatives=8, sampling=proposal, reduction=reduction, generator=generator
        )
        loss.mean().backward()
        found.append(proposal.logits.grad)
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(*found)


def test_lengths_below_zero_are_named():
    problem = make_problem(n=30)
    loss = make_loss("ce_minus", shared_negatives="sequence", n_negatives=4)
    with pytest.raises(ValueError, match="lengths must be"):
        loss(*problem.arguments, lengths=torch.tensor([40, -10]))


def test_given_centers_say_how_many_buckets_there_are():
    problem = make_problem(n=30, d=8)
    centers = torch.randn(5, 8, dtype=torch.float64)
    expected = scalable_cross_entropy(*problem.arguments, n_buckets=5, centers=centers)
    torch.testing.assert_close(scalable_cross_entropy(*problem.arguments, centers=centers), expected)
    rounds = centers.unsqueeze(0)
    expected = reduced_cross_entropy(*problem.arguments, n_buckets=5, centers=rounds)
    torch.testing.assert_close(reduced_cross_entropy(*problem.arguments, centers=rounds), expected)


@pytest.mark.parametrize("name", [name for name in EXACT if name != "ce"])  # whose logits are in half precision
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_scale_does_not_round_half_precision_a_second_time(name, dtype):
    """The scaled outputs are no numbers of half precision: each logit would be off by a part of itself."""
    problem = make_problem(dtype=dtype, scale=0.5)
    x, w, target = problem.arguments
    scale = torch.tensor(20.7, requires_grad=True)
    loss = make_loss(name, **EXACT[name])(x, w, target, logit_scale=scale)
    loss.backward()
    exact_x, exact_scale = x.detach().double().requires_grad_(), scale.detach().double().requires_grad_()
    exact = F.cross_entropy(exact_scale * exact_x @ w.detach().double().T, target)
    exact.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=2e-6)
    assert scale.grad.item() == pytest.approx(exact_scale.grad.item(), rel=2e-5)
    torch.testing.assert_close(x.grad.double(), exact_x.grad, rtol=0.01, atol=0.002 * float(exact_x.grad.abs().max()))


@pytest.mark.parametrize("name", LOSSES)
def test_a_scale_of_one_number_changes_no_dtype(name):
    problem = make_problem(dtype=torch.float32)
    found = []
    for scale in (1.5, torch.tensor(1.5, dtype=torch.float64), torch.tensor([1.5], dtype=torch.float64)):
        torch.manual_seed(0)
        found.append(make_loss(name, **EXACT.get(name, {}))(*problem.arguments, logit_scale=scale))
    assert [one.dtype for one in found] == [torch.float32] * 3
    assert found[0].item() == pytest.approx(found[1].item(), rel=1e-6)
    assert found[1] == found[2]


@pytest.mark.parametrize("name", LOSSES)
def test_a_parameter_among_the_settings_is_one_of_the_modules_own(name):
    scale = torch.nn.Parameter(torch.tensor(1.5))
    loss = make_loss(name, logit_scale=scale)
    assert list(loss.parameters()) == [scale]
    loss(*make_problem(dtype=torch.float32).arguments).backward()
    assert scale.grad != 0
    assert "logit_scale" in loss.state_dict()


@pytest.mark.parametrize("hold_logits", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_of_any_sign_are_those_of_pytorch(hold_logits, smoothing):
    problem = make_problem()
    x, w, target = problem.arguments
    for weight in (-torch.rand(50), torch.randn(50), torch.zeros(50).index_fill(0, target[3:4], 0.1)):
        weight = weight.double()
        found = cross_entropy(x, w, target, weight=weight, label_smoothing=smoothing, hold_logits=hold_logits)
        torch.testing.assert_close(found, F.cross_entropy(x @ w.T, target, weight, label_smoothing=smoothing))


@pytest.mark.parametrize("name", EXACT)
def test_an_item_that_is_ruled_out_leaves_the_gradients_of_the_others(name):
    """A bias of -inf at somebody's target: its loss is infinite, the gradients are finite; both as in PyTorch."""
    problem = make_problem()
    x, w, target = problem.arguments
    bias = torch.zeros(50, dtype=torch.float64).index_fill(0, target[3:4], -torch.inf).requires_grad_()
    expected = torch.autograd.grad(F.cross_entropy(x @ w.T + bias, target), (x, w, bias))
    loss = make_loss(name, **EXACT[name])(x, w, target, linear_bias=bias)
    assert loss == torch.inf
    for ours, theirs in zip(torch.autograd.grad(loss, (x, w, bias)), expected):
        torch.testing.assert_close(ours, theirs)


def test_exponents_that_overflow_powers_are_probabilities_all_the_same():
    counts = torch.tensor([1000, 4000, 4001, 1])
    for exponent, nearly in ((100.0, [0, 1, 1.0253, 0]), (-100.0, [0, 0, 0, 1])):
        q = Popularity(counts, exponent).log_q.exp()
        exact = torch.tensor(nearly, dtype=torch.float64)
        torch.testing.assert_close(q, exact / exact.sum(), rtol=1e-3, atol=1e-12)
    many = Popularity(counts, 100.0).draw((10_000,), 4, torch.device("cpu"), torch.Generator().manual_seed(0))
    assert torch.bincount(many, minlength=4).tolist() == pytest.approx([0, 4937, 5063, 0], abs=200)


@pytest.mark.parametrize("shared", [True, False, "sequence"])
def test_an_ignored_position_touches_no_row_of_a_target(shared):
    """A row that is there, with a gradient of 0, is moved by an optimizer that has momentum."""
    problem = make_problem()
    problem.target.clamp_(min=5)[::3] = -100
    draws = {True: (2,), False: (30, 2), "sequence": (2, 2)}[shared]
    negatives = torch.full(draws, 4)
    lengths = torch.tensor([10, 20])
    arguments = {"negatives": negatives, "sparse_grad": True, "shared_negatives": shared, "lengths": lengths}
    binary_cross_entropy(*problem.arguments, **arguments).backward()
    touched = set(problem.linear_weight.grad.coalesce().indices().flatten().tolist())
    assert touched == {4, *problem.target[problem.target >= 0].tolist()}


@pytest.mark.parametrize("name", ["ce_minus", "bce"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_lengths_in_small_integers_are_lengths(name, dtype):
    problem, lengths = make_problem(n=370), torch.tensor([125, 120, 125])
    negatives = torch.arange(15).view(3, 5)
    loss = make_loss(name, shared_negatives="sequence", negatives=negatives)
    assert loss(*problem.arguments, lengths=lengths.to(dtype)) == loss(*problem.arguments, lengths=lengths)


@pytest.mark.parametrize("sampling", ["popularity", "log_uniform", "in_batch", "mixed"])
def test_counts_from_inference_mode_serve(sampling):
    with torch.inference_mode():
        counts = torch.arange(50)
    problem = make_problem()
    found = []
    for item_counts in (counts, torch.arange(50)):
        torch.manual_seed(0)
        found.append(sampled_softmax(*problem.arguments, sampling=sampling, item_counts=item_counts, n_negatives=9))
    assert found[0] == found[1]


@pytest.mark.parametrize("item", [-1, 50])
def test_a_device_stops_at_an_item_outside_the_catalog(item):
    """On a GPU nobody reads the items back, and Triton's kernels would read and write beside the table."""
    assert_items(torch.arange(50), 50)
    with pytest.raises(RuntimeError, match=r"items must be in 0\.\.49"):
        assert_items(torch.tensor([3, item]), 50)


def test_a_loss_of_ones_own_cannot_have_a_reduction_that_is_none():
    """Two of the three say what they are; anything else would have been taken for the third."""
    losses, there = torch.ones(3), torch.ones(3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"reduction must be .* got 'median'"):
        reduce_losses(losses, there, losses.shape, "median")
    with pytest.raises(ValueError, match=r"reduction must be .* got 'median'"):
        reduced_softmax(None, losses, None, None, losses.shape, "median")

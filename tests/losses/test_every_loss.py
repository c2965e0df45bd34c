"""Each loss of the registry, with any of its settings, against loops in float64: values, and the gradients of outputs,
items, item biases and scale."""

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import make_problem

from sce_lab.losses import LOSSES, make_loss

REDUCTIONS = ("none", "mean", "sum")


class Case:
    """A random problem: what the loss is given, and the same as arrays."""

    def __init__(self, seed):
        self.rng = rng = np.random.default_rng(seed)
        n, c, d = int(rng.integers(1, 15)), int(rng.integers(1, 22)), int(rng.integers(1, 6))
        ignored, scale = rng.choice([0.0, 0.4, 1.1]), rng.choice([0.1, 1.0, 4.0])
        problem = make_problem(n, c, d, seed=seed, ignored=ignored, scale=scale)
        self.input, self.weight, target = problem.arguments
        shapes = [(n,), (1, n), (n, 1)] + ([(n // 2, 2)] if n % 2 == 0 else [])
        self.shape = shapes[rng.integers(len(shapes))]
        self.target = target.view(self.shape)
        self.bias = torch.from_numpy(rng.normal(size=c)).requires_grad_() if rng.random() < 0.5 else None
        self.scale = torch.tensor(rng.uniform(0.3, 2.0), dtype=torch.float64).requires_grad_()
        self.n, self.c, self.d, self.labels = n, c, d, target.tolist()
        self.valid = [t != -100 for t in self.labels]

    @property
    def arrays(self):
        """Outputs with their scale and a 1, items with their bias: (N, D + 1), (C, D + 1)."""
        x, w = self.input.detach().numpy(), self.weight.detach().numpy()
        bias = np.zeros(self.c) if self.bias is None else self.bias.detach().numpy()
        return np.c_[self.scale.item() * x, np.ones(self.n)], np.c_[w, bias], self.labels

    def check(self, loss, expected, reduction, **more):
        """Value and all gradients of the module against an oracle's result for :attr:`arrays`."""
        arguments = self.input.view(*self.shape, self.d), self.weight, self.target
        value = loss(*arguments, linear_bias=self.bias, logit_scale=self.scale, **more)
        assert value.shape == (self.shape if reduction == "none" else ())
        value.sum().backward()
        losses, grad_outputs, grad_weight = expected.reduced(reduction)
        found = {
            "loss": (value.detach(), np.reshape(losses, value.shape)),
            "outputs": (self.input.grad, self.scale.item() * grad_outputs[:, :-1]),
            "items": (self.weight.grad, grad_weight[:, :-1]),
            "scale": (self.scale.grad, (grad_outputs[:, :-1] * self.input.detach().numpy()).sum()),
        }
        if self.bias is not None:
            found["bias"] = self.bias.grad, grad_weight[:, -1]
        size = 1 + max(np.abs(a).max() for a in self.arrays[:2]) ** 2 * self.d
        for name, (ours, theirs) in found.items():
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-8, atol=1e-10 * size, err_msg=name)


def one_of(case, *values):
    return values[case.rng.integers(len(values))]


def cross_entropy(case, name):
    given_weights = case.rng.random() < 0.5
    weights = case.rng.uniform(0.0, 2.0, case.c) if given_weights else np.ones(case.c)
    smoothing = float(one_of(case, 0.0, 0.0, 0.1, 1.0))
    chosen = {"label_smoothing": smoothing, "weight": torch.from_numpy(weights) if given_weights else None}
    if name == "cce":
        chosen["workspace_bytes"] = int(one_of(case, 1, 500, 2**20))
    return chosen, {}, oracle.smoothed_cross_entropy(*case.arrays, weights, smoothing)


def drawn_for(case, k):
    """How negatives are shared, as settings, as arguments of the call, and as a list for each position."""
    how = one_of(case, True, False, "sequence")
    if how is True:
        drawn = case.rng.integers(case.c, size=k)
        return how, drawn, {}, [drawn.tolist()] * case.n
    if how is False:
        drawn = case.rng.integers(case.c, size=(case.n, k))
        return how, drawn.reshape(*case.shape, k), {}, drawn.tolist()
    if len(case.shape) == 2 and case.rng.random() < 0.5:
        lengths, more = [case.shape[1]] * case.shape[0], {}
    else:
        cuts = np.sort(case.rng.integers(case.n + 1, size=case.rng.integers(0, 4)))
        lengths = np.diff([0, *cuts, case.n]).tolist()  # some may be empty
        more = {"lengths": torch.tensor(lengths)}
    drawn = case.rng.integers(case.c, size=(len(lengths), k))
    return how, drawn, more, np.repeat(drawn, lengths, axis=0).tolist()


def sampled(case, name):
    k = int(case.rng.integers(1, 9))
    shared, drawn, more, each = drawn_for(case, k)
    chosen = {"shared_negatives": shared, "negatives": torch.from_numpy(drawn)}
    chosen |= {"workspace_bytes": int(one_of(case, 1, 500, 2**20)), "positive_in_denominator": True}
    corrected = name == "sampled" and case.rng.random() < 0.7
    offset = np.log(k / case.c) if corrected else 0.0
    if name == "sampled":
        chosen["logq_correction"] = bool(corrected)
    chosen["positive_in_denominator"] = bool(case.rng.random() < 0.6)
    of = oracle.sampled_softmax if chosen["positive_in_denominator"] else oracle.unsure_sampled_softmax
    return chosen, more, of(*case.arrays, each, [[offset] * k] * case.n)


def binary(case, name):
    k, calibration = int(case.rng.integers(1, 9)), float(one_of(case, 0.0, 0.75, 1.0))
    shared, drawn, more, each = drawn_for(case, k)
    chosen = {"shared_negatives": shared, "negatives": torch.from_numpy(drawn), "calibration": calibration}
    beta = 1 - calibration * (1 - min(k / max(case.c - 1, 1), 1))
    return chosen, more, oracle.binary_cross_entropy(*case.arrays, each, beta)


def scalable(case, name):
    n_buckets, x, y = (int(case.rng.integers(1, most + 1)) for most in (5, case.n, case.c))
    centers = case.rng.normal(size=(n_buckets, case.d))
    combine, steps = one_of(case, "max", "union", "union"), int(one_of(case, 0, 0, 1, 3))
    near, k = one_of(case, "center", "positions"), int(one_of(case, 0, 1, 7))
    for_all = combine == "union" and k > 0 and case.rng.random() < 0.5
    drawn = case.rng.integers(case.c, size=k)
    chosen = {"n_buckets": n_buckets, "bucket_size_x": x, "bucket_size_y": y, "centers": torch.from_numpy(centers)}
    chosen |= {"combine": combine, "kmeans_steps": steps, "items_near": near}
    chosen |= {"negatives": torch.from_numpy(drawn) if k else None, "negatives_for": "all" if for_all else "uncovered"}
    chosen["workspace_bytes"] = int(one_of(case, 1, 4000, 2**22))

    outputs, weight, labels = case.arrays
    plain, items = outputs[:, :-1], weight[:, :-1]  # the search looks at no bias
    centers = oracle.moved_centers(plain, case.valid, centers, steps) if steps else centers
    rows, taken = oracle.buckets(plain, items, case.valid, centers, x, y)
    if near == "positions":
        means = [sum((plain[n] for n in mine), np.zeros(case.d)) for mine in rows]
        taken = [set(oracle.largest([w @ m for w in items], y)) for m in means]
    if combine == "union":
        return chosen, {}, oracle.union_of_buckets(outputs, weight, labels, rows, taken, drawn.tolist(), for_all)
    result = oracle.scalable_cross_entropy(outputs, weight, labels, rows, taken)
    if k:
        elsewhere = [-100 if result.counted[n] else t for n, t in enumerate(labels)]
        rest = oracle.union_of_buckets(outputs, weight, elsewhere, rows, taken, drawn.tolist())
        for part in ("losses", "counted", "grad_outputs", "grad_weight"):
            setattr(result, part, getattr(result, part) + getattr(rest, part))
    return chosen, {}, result


def reduced(case, name):
    n_rounds, n_buckets, n_extra = (int(case.rng.integers(low, 5)) for low in (1, 1, 0))
    centers = case.rng.normal(size=(n_rounds, n_buckets, case.d))
    chosen = {"n_rounds": n_rounds, "n_buckets": n_buckets, "n_extra_chunks": n_extra}
    chosen |= {"centers": torch.from_numpy(centers), "workspace_bytes": int(one_of(case, 1, 500, 2**20))}
    outputs, weight, labels = case.arrays
    wide = np.concatenate([centers, np.zeros((n_rounds, n_buckets, 1))], axis=2)  # the hash looks at no bias
    return chosen, {}, oracle.reduced_cross_entropy(outputs, weight, labels, wide, n_extra)


ORACLES = {
    "ce": cross_entropy,
    "cce": cross_entropy,
    "ce_minus": sampled,
    "sampled": sampled,
    "rece": reduced,
    "sce": scalable,
    "bce": binary,
}


def equals_the_loops(name, seed):
    case = Case(seed)
    reduction = REDUCTIONS[seed % 3]
    chosen, more, expected = ORACLES[name](case, name)
    case.check(make_loss(name, **chosen, reduction=reduction), expected, reduction, **more)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "bce"])
@pytest.mark.parametrize("softcap", [0.7, 3.0])
def test_logits_that_are_capped(name, softcap, monkeypatch):
    def capped(x, w):
        share = np.tanh(x @ w / softcap)
        return softcap * share, 1 - share**2

    monkeypatch.setattr(oracle, "score", capped)
    for seed in range(25):
        case = Case(seed)
        case.bias = None
        chosen, more, expected = ORACLES[name](case, name)
        if name == "cce":  # smoothing takes one product for all logits
            smooth = chosen.pop("label_smoothing")
            weights = np.ones(case.c) if chosen["weight"] is None else chosen["weight"].numpy()
            expected = oracle.smoothed_cross_entropy(*case.arrays, weights, 0.0) if smooth else expected
        reduction = REDUCTIONS[seed % 3]
        case.check(make_loss(name, **chosen, softcap=softcap, reduction=reduction), expected, reduction, **more)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "bce"])
def test_a_softcap_and_item_biases_are_refused_together(name):
    problem = make_problem()
    with pytest.raises(ValueError, match=r"softcap does not go with linear_bias, got softcap=3\.0: leave one"):
        make_loss(name, softcap=3.0)(*problem.arguments, linear_bias=torch.zeros(50))


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_no_tensor_is_named(name):
    problem = make_problem()
    for at, argument in enumerate(("input", "linear_weight", "target")):
        tensor = problem.arguments[at].detach()
        for wrong, kind in ((tensor.tolist(), "list"), (tensor.numpy(), "ndarray")):
            arguments = [wrong if i == at else one for i, one in enumerate(problem.arguments)]
            with pytest.raises(TypeError, match=f"^{argument} must be a tensor, got a {kind}: torch.as_tensor"):
                make_loss(name)(*arguments)
    with pytest.raises(TypeError, match=r"^linear_bias must be a tensor, got a list"):
        make_loss(name)(*problem.arguments, linear_bias=[0.0] * 50)


def test_every_loss_has_an_oracle():
    assert set(ORACLES) == set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**9))
def test_a_few_dozen_problems(name, seed):
    equals_the_loops(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_two_thousand_problems(name):
    for seed in range(2000):
        equals_the_loops(name, seed)

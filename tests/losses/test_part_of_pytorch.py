"""The losses among PyTorch's own tools: compiled, under torch.func, checkpointed, differentiated twice."""

import pytest
import torch
from problems import make_problem
from torch import nn
from torch.utils.checkpoint import checkpoint

from sce_lab.losses import LOSSES, cross_entropy, make_loss, scalable_cross_entropy
from sce_lab.losses.engine import Blocks
from sce_lab.losses.engine.operators import (
    best_direction,
    block_gradients,
    block_losses,
    losses_and_gradients,
    topk,
)

SIZES = {"n_buckets": 4, "bucket_size_x": 8, "bucket_size_y": 10}
COUNTS = torch.arange(50) % 7 + 1
EVERY = {
    "ce": ("ce", {}),
    "cce": ("cce", {}),
    "cce in two passes": ("cce", {"workspace_bytes": 2_000}),
    "sampled uniform": ("sampled", {"n_negatives": 20}),
    "sampled own": ("sampled", {"n_negatives": 5, "shared_negatives": False}),
    "sampled popularity": ("sampled", {"n_negatives": 20, "sampling": "popularity", "item_counts": COUNTS}),
    "sampled log_uniform": ("sampled", {"n_negatives": 20, "sampling": "log_uniform", "item_counts": COUNTS}),
    "sampled in_batch": ("sampled", {"n_negatives": 8, "sampling": "in_batch"}),
    "sce": ("sce", SIZES),
    "sce mix": ("sce", SIZES | {"mix_x": True}),
    "sce union": ("sce", SIZES | {"combine": "union", "n_negatives": 9, "negatives_for": "all"}),
    "sce uncovered": ("sce", SIZES | {"n_negatives": 9, "kmeans_steps": 1, "items_near": "positions"}),
    "ce_minus": ("ce_minus", {"n_negatives": 20}),
    "sampled unsure": ("sampled", {"n_negatives": 20, "positive_in_denominator": False}),
    "sampled mixed": ("sampled", {"n_negatives": 20, "sampling": "mixed"}),
    "rece": ("rece", {"n_buckets": 5, "n_rounds": 2}),
    "bce": ("bce", {"n_negatives": 3}),
}
ENGINE = [name for name in EVERY if name.split()[0] not in ("ce", "bce")]
SENTENCE = "this loss can be differentiated once"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::UserWarning")


def loss_of(name, **settings):
    loss, settings = EVERY[name][0], EVERY[name][1] | settings
    return make_loss(loss, **settings)


def test_every_loss_is_here():
    assert {name for name, _ in EVERY.values()} == set(LOSSES)


class Model(nn.Module):
    def __init__(self, loss):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.items, self.loss = nn.Linear(8, 8), nn.Parameter(torch.randn(50, 8)), loss

    def forward(self, input, target):
        return self.loss(self.encoder(input).relu(), self.items, target)


def step(run, model, n):
    problem = make_problem(n=n, dtype=torch.float32, ignored=0.2)
    model.zero_grad()
    torch.manual_seed(5)
    loss = run(problem.input.detach(), problem.target)
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters())]


def assert_compiles(name, backend, sizes, **settings):
    torch.compiler.reset()
    model = Model(loss_of(name, **settings))
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for n in sizes:
        for ours, eager in zip(step(compiled, model, n), step(model, model, n)):
            torch.testing.assert_close(ours, eager, rtol=2e-4, atol=1e-6)


RARE = ("cce in two passes", "sampled own", "sampled log_uniform", "sampled unsure", "sampled mixed", "sce uncovered")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in RARE else n for n in EVERY])
def test_compiled_in_one_graph_at_changing_batch_sizes(name):
    assert_compiles(name, "aot_eager", (30, 41, 17))


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_compiled_by_inductor(name):
    torch._inductor.config.fallback_random = True  # the same draws as without
    assert_compiles(name, "inductor", (30, 41))


def test_compiled_sparse_gradients_are_refused_with_the_reason():
    torch.compiler.reset()
    model = Model(loss_of("sce", sparse_grad=True))
    model.encoder.requires_grad_(False)
    with pytest.raises(Exception, match=r"sparse_grad=True does not go with torch\.compile"):
        step(torch.compile(model, fullgraph=True, backend="aot_eager"), model, 30)


@pytest.mark.parametrize("name", ENGINE)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_torch_func_grad_is_autograd(name, reduction):
    problem = make_problem(ignored=0.2)
    loss = loss_of(name, reduction=reduction)

    def value(input, weight):
        return loss(input, weight, problem.target).sum()

    torch.manual_seed(3)
    expected = torch.autograd.grad(value(*problem.arguments[:2]), problem.arguments[:2])
    torch.manual_seed(3)
    got = torch.func.grad(value, argnums=(0, 1))(*(t.detach() for t in problem.arguments[:2]))
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ENGINE)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_torch_func_grad_of_grad_is_refused(name, reduction):
    problem = make_problem()
    loss = loss_of(name, reduction=reduction)

    def value(input):
        return loss(input, problem.linear_weight.detach(), problem.target).sum()

    with pytest.raises(RuntimeError, match=SENTENCE):
        torch.func.grad(lambda x: torch.func.grad(value)(x).square().sum())(problem.input.detach())


@pytest.mark.parametrize("name", ENGINE)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_second_derivative_is_refused_and_never_taken_for_zero(name, reduction):
    problem = make_problem()
    loss = loss_of(name, reduction=reduction)(*problem.arguments).sum()
    first = torch.autograd.grad(loss, problem.arguments[:2], create_graph=True)
    for grad in first:  # each depends on both inputs
        for input in problem.arguments[:2]:
            with pytest.raises(RuntimeError, match=SENTENCE):
                torch.autograd.grad(grad.sum(), input, retain_graph=True)


@pytest.mark.parametrize("name", ENGINE)
def test_a_gradient_penalty_is_refused(name):
    """The penalty's own gradient would be missing from the sum, and nobody would see it."""
    torch.manual_seed(0)
    encoder, problem = nn.Linear(8, 8).double(), make_problem()
    hidden = encoder(problem.input)
    loss = loss_of(name)(hidden, problem.linear_weight, problem.target)
    (gradient,) = torch.autograd.grad(loss, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match=SENTENCE):
        (loss + gradient.square().sum()).backward()


def test_the_losses_that_the_sentence_names_can_be_differentiated_twice():
    problem = make_problem()
    loss = cross_entropy(*problem.arguments)
    (gradient,) = torch.autograd.grad(loss, problem.input, create_graph=True)
    gradient.square().sum().backward()
    assert problem.input.grad.abs().sum() > 0


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("name", EVERY)
def test_checkpointed(name, use_reentrant):
    """The draws of the first pass come again in the second, from torch's own generator."""
    problem = make_problem(ignored=0.2)
    loss = loss_of(name)
    results = []
    for run in (loss, lambda *a: checkpoint(loss, *a, use_reentrant=use_reentrant)):
        torch.manual_seed(7)
        results.append(problem.backward(run(*problem.arguments)))
    for a, b in zip(*results):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("name", [name for name in EVERY if name.split()[0] not in ("ce", "cce")])
def test_a_generator_of_ones_own_is_refused_in_a_checkpoint(name, use_reentrant):
    problem = make_problem()
    loss = loss_of(name, generator=torch.Generator().manual_seed(1))
    value = checkpoint(loss, *problem.arguments, use_reentrant=use_reentrant)
    with pytest.raises(RuntimeError, match="generator of its own ran again within a backward pass"):
        value.backward()


def test_without_draws_a_generator_does_not_matter_to_a_checkpoint():
    problem = make_problem()
    centers = torch.randn(4, 8, dtype=torch.float64)
    generator = torch.Generator()
    settings = SIZES | {"centers": centers, "generator": generator}
    plain = problem.backward(scalable_cross_entropy(*problem.arguments, **settings))
    again = problem.backward(
        checkpoint(lambda *a: scalable_cross_entropy(*a, **settings), *problem.arguments, use_reentrant=False)
    )
    for a, b in zip(plain, again):
        torch.testing.assert_close(a, b)


def asked(kind):
    problem = make_problem(n=12, c=20, d=3, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    valid = torch.arange(12) % 5 != 0
    rows = torch.stack([torch.randperm(12, generator=generator)[:5] for _ in range(3)])
    items = torch.stack([torch.randperm(20, generator=generator)[:7] for _ in range(3)])
    blocks = {
        "catalog": Blocks(),
        "columns": Blocks.of(None, items[:1], torch.randn(1, 7, generator=generator)),
        "blocks": Blocks.of(rows, items),
    }[kind]
    outputs, table, target = (t.detach() for t in problem.arguments)
    return outputs, table, target, valid, *blocks


@pytest.mark.parametrize(
    ("kind", "combine"),
    [("catalog", "max"), ("columns", "max"), ("blocks", "max"), ("blocks", "logsumexp"), ("blocks", "union")],
)
@pytest.mark.parametrize(("biased", "softcap"), [(False, None), (True, None), (False, 2.0)])
def test_operators_are_what_they_say(kind, combine, biased, softcap):
    how = 2**20, False, "auto"
    problem = asked(kind)
    if biased:
        outputs, table, labels, valid, *blocks = problem
        problem = outputs, table, labels, valid, *Blocks(*blocks).plus(torch.linspace(-1, 1, 20))
    asked_for = *problem, torch.ones(12) if biased else None
    torch.library.opcheck(block_losses, (*asked_for, softcap, combine, *how))
    found = block_losses(*asked_for, softcap, combine, *how)
    needs = [kind != "columns", True, biased]
    arguments = torch.ones(12), *asked_for, *found, softcap, combine, needs, False, *how
    torch.library.opcheck(block_gradients, arguments)
    if kind != "blocks" and not biased and softcap is None:
        torch.library.opcheck(losses_and_gradients, (torch.ones(12), *problem, needs, False, *how))


def test_the_hash_is_what_it_says():
    torch.library.opcheck(best_direction, (torch.randn(9, 3), torch.randn(2, 5, 3), 100))


def test_the_search_is_what_it_says():
    queries, table = torch.randn(4, 3), torch.randn(40, 3)
    for allowed in (None, torch.arange(40) % 2 == 0):
        torch.library.opcheck(topk, (queries, table, 5, allowed, 2**20, False, "auto"))

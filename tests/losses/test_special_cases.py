"""Where one loss is another, what is unbiased, and what is never larger than what."""

import numpy as np
import pytest
import torch
from problems import make_problem

from sce_lab.losses import (
    PRESETS,
    Mixed,
    binary_cross_entropy,
    cross_entropy,
    make_loss,
    moved_centers,
    reduced_cross_entropy,
    sampled_softmax,
    scalable_cross_entropy,
)
from sce_lab.losses.proposals import Targets

EVERYTHING = {"n_buckets": 3, "bucket_size_x": 30, "bucket_size_y": 50}


def same(problem, one, other):
    for ours, theirs in zip(problem.backward(one), problem.backward(other)):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    "loss",
    [
        lambda *a: make_loss("ce_minus", negatives=torch.arange(50).flip(0))(*a),
        lambda *a: make_loss("ce_minus", shared_negatives="sequence", negatives=torch.arange(50).expand(2, 50))(
            *a, lengths=torch.tensor([11, 19])
        ),
        lambda *a: reduced_cross_entropy(*a, n_buckets=1),
        lambda *a: reduced_cross_entropy(*a, n_buckets=7, n_extra_chunks=6, n_rounds=2),
        lambda *a: scalable_cross_entropy(*a, **EVERYTHING),
        lambda *a: scalable_cross_entropy(*a, **EVERYTHING, combine="union"),
        lambda *a: scalable_cross_entropy(*a, **EVERYTHING, combine="union", n_negatives=9, negatives_for="all"),
        lambda *a: cross_entropy(*a, weight=torch.full((50,), 3.0), hold_logits=False),
    ],
)
def test_what_looks_at_everything_is_cross_entropy(loss):
    problem = make_problem(ignored=0.2)
    same(problem, loss(*problem.arguments), cross_entropy(*problem.arguments))


def test_gbce_without_calibration_is_bce():
    problem, drawn = make_problem(), torch.arange(7)
    x, w, target = problem.arguments
    logits = torch.cat([(x * w[target]).sum(1, keepdim=True), x @ w[drawn].T], dim=1)
    hit = torch.cat([torch.zeros(30, 1), target[:, None] == drawn], dim=1).bool()
    asked = torch.zeros_like(logits).index_fill(1, torch.tensor([0]), 1.0)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, asked, (~hit).double(), reduction="none")
    gbce = binary_cross_entropy(*problem.arguments, negatives=drawn, calibration=0.0, reduction="none")
    same(problem, gbce, plain.sum(1))


def test_one_bucket_a_position_is_the_largest_and_the_union():
    problem, centers = make_problem(), torch.eye(8, dtype=torch.float64)[:1]
    sizes = {"n_buckets": 1, "bucket_size_x": 9, "bucket_size_y": 20, "centers": centers}
    largest = scalable_cross_entropy(*problem.arguments, **sizes)
    same(problem, scalable_cross_entropy(*problem.arguments, **sizes, combine="union"), largest)


@pytest.mark.parametrize("seed", range(5))
def test_a_union_lies_between_the_largest_loss_and_cross_entropy(seed):
    problem = make_problem(n=60, c=200, seed=seed)
    how = {"n_buckets": 70, "bucket_size_x": 12, "bucket_size_y": 20, "reduction": "none"}  # more than a word of bits
    how["centers"] = torch.randn(70, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    largest, union, twice = (
        scalable_cross_entropy(*problem.arguments, **how, combine=combine) for combine in ("max", "union", "logsumexp")
    )
    exact = cross_entropy(*problem.arguments, reduction="none")
    covered = largest > 0
    assert (union >= largest - 1e-12)[covered].all()
    assert (twice >= union - 1e-12)[covered].all()
    assert (exact >= union - 1e-12)[covered].all()
    assert (union > largest + 1e-3)[covered].any()
    assert (twice > union + 1e-3)[covered].any()
    assert (union[~covered] == 0).all()


@pytest.mark.parametrize("name", ["ce", "cce"])
def test_several_targets_are_as_many_positions(name):
    """As the message says that refuses them."""
    problem, targets = make_problem(), torch.randint(50, (30, 3))
    targets[::4, 2] = -100  # not all have three
    x, w, _ = problem.arguments
    with pytest.raises(ValueError, match=r"several targets are as many positions: input\.unsqueeze"):
        make_loss(name)(x, w, targets)
    apart = make_loss(name)(x.unsqueeze(-2).expand(*targets.shape, 8), w, targets)
    logits, kept = (x @ w.T).log_softmax(1), targets >= 0
    same(problem, apart, -logits.gather(1, targets.clamp(min=0))[kept].mean())


def test_the_corrected_correction_has_the_gradient_of_the_old_one():
    problem = make_problem(ignored=0.2)
    settings = {"negatives": torch.arange(40) % 23, "reduction": "none"}
    usual = sampled_softmax(*problem.arguments, **settings)
    unsure = sampled_softmax(*problem.arguments, **settings, positive_in_denominator=False)
    assert not torch.allclose(usual, unsure)
    for ours, theirs in zip(problem.backward(unsure)[1:], problem.backward(usual)[1:]):
        torch.testing.assert_close(ours, theirs)


def test_a_position_that_is_sure_has_no_loss_without_its_target_in_the_denominator():
    problem = make_problem(n=1, c=3, d=1)
    with torch.no_grad():
        problem.input.fill_(1.0)
        problem.linear_weight.copy_(torch.tensor([[800.0], [0.0], [0.0]]))
    problem.target[0] = 0
    loss, *gradients = problem.backward(
        sampled_softmax(*problem.arguments, negatives=torch.tensor([1, 2]), positive_in_denominator=False)
    )
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients)


def close_on_average(estimates, truth):
    """Within five standard errors, and these are small: ``estimates (draws, ...)``."""
    error = estimates.std(axis=0) / np.sqrt(len(estimates))
    assert (np.abs(estimates.mean(axis=0) - truth) < 5 * error + 1e-12).all()
    assert (error < 0.1 * np.abs(truth)).all()


def sums(problem, losses):
    """What a loss's softmax is over, the target left out: ``(N,)``."""
    x, w, target = (t.detach() for t in problem.arguments)
    own = (x * w[target]).sum(1)
    return ((losses + own).exp() - own.exp()).numpy()


def test_negatives_for_all_make_the_sum_over_the_catalog_right_on_average():
    """Whatever the buckets hold, and also for positions that are in none."""
    problem, generator = make_problem(n=12, c=40, d=4, scale=0.7), torch.Generator().manual_seed(0)
    how = {"n_buckets": 4, "bucket_size_x": 3, "bucket_size_y": 8, "combine": "union", "reduction": "none"}
    how["centers"] = torch.randn(4, 4, dtype=torch.float64, generator=generator)
    assert (scalable_cross_entropy(*problem.arguments, **how) == 0).any()
    with torch.no_grad():
        exact = sums(problem, cross_entropy(*problem.arguments, reduction="none"))
        drawn = [
            sums(
                problem,
                scalable_cross_entropy(
                    *problem.arguments, **how, n_negatives=30, negatives_for="all", generator=generator
                ),
            )
            for _ in range(600)
        ]
    close_on_average(np.array(drawn), exact)


@pytest.mark.parametrize("counts", [None, torch.arange(40) + 1.0])
@pytest.mark.parametrize("share", [0.25, 0.8])
def test_mixed_negatives_are_right_on_average(counts, share):
    """Every item comes up, also one of no target; without counts exactly, with them if the batch follows them."""
    generator, problem = torch.Generator().manual_seed(0), make_problem(n=25, c=40, d=3, scale=0.5)
    proposal, valid = Mixed(counts, share), torch.ones(25, dtype=torch.bool)
    labels = problem.target
    times, weighed = np.zeros(40), np.zeros(40)
    for _ in range(3000):
        if counts is not None:
            labels = torch.multinomial(counts, 25, replacement=True, generator=generator)
        items, log_expected, usable = proposal.negatives(Targets(labels, valid, 40, generator), 20)
        assert usable.all()
        assert len(items) == 20
        np.add.at(times, items.numpy(), 1)
        np.add.at(weighed, items.numpy(), np.exp(-log_expected.numpy()))
    target = 1.0 if counts is None else 25 / 24  # at one position its own target never counts
    error = np.sqrt(weighed / 3000 * (weighed / times) / 3000)
    assert (np.abs(weighed / 3000 - 1) < 5 * error + (target - 1)).all()


def test_shares_of_none_and_all():
    labels, valid = torch.arange(9), torch.ones(9, dtype=torch.bool)
    batch = Mixed(None, 0.0).negatives(Targets(labels, valid, 40, None), 5)
    assert len(set(batch.items.tolist())) == 5
    assert set(batch.items.tolist()) <= set(range(9))
    uniform = Mixed(None, 1.0).negatives(Targets(labels, valid, 40, None), 500)
    assert set(uniform.items.tolist()) == set(range(40))


@pytest.mark.parametrize("name", ["ce_minus", "sampled", "bce"])
def test_a_sequence_shares_its_draws_and_no_other_has_them(name):
    problem = make_problem(n=40, c=1000)
    loss = make_loss(name, shared_negatives="sequence", n_negatives=3)
    lengths = torch.tensor([17, 0, 3, 20])
    with torch.no_grad():
        problem.input.copy_(problem.input[:1].expand(40, -1).clone())
    loss.reduction = "none"
    losses = loss(problem.input, problem.linear_weight, torch.full((40,), 7), lengths=lengths)
    parts = [part for part in losses.detach().split(lengths.tolist()) if len(part)]
    assert all(part.std() < 1e-9 for part in parts)
    assert len({round(part[0].item(), 6) for part in parts}) == 3


@pytest.mark.parametrize("name", PRESETS)
def test_published_settings_make_a_loss(name):
    preset = PRESETS[name]
    loss = make_loss(name, reduction="sum")
    assert type(loss) is type(make_loss(preset.loss))
    assert {setting: getattr(loss, setting) for setting in preset.settings} == preset.settings
    assert loss.reduction == "sum"


def test_k_means_moves_centres_to_where_outputs_are():
    """Three far apart groups, from centres that lie anywhere: each group gets a centre of its own direction."""
    generator = torch.Generator().manual_seed(1)
    directions = torch.eye(3)
    outputs = (directions.repeat_interleave(20, 0) + 0.05 * torch.randn(60, 3, generator=generator)) * 4
    start = torch.tensor([[5.0, 1.0, 0.0], [0.0, 0.2, 0.1], [-0.1, 0.0, 0.1], [-1.0, -1.0, -1.0]])
    moved = moved_centers(start, outputs, torch.ones(60, dtype=torch.bool), 5)
    assert (directions @ moved.T).amax(1).min() > 0.99
    torch.testing.assert_close(moved[3], start[3] / 3**0.5)  # nobody points its way
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(4))


def test_centres_can_run_over_batches():
    """Moved one step at a time they are where all the steps at once bring them, and so is the loss."""
    problem, start = make_problem(), torch.randn(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, valid = problem.input.detach(), torch.ones(30, dtype=torch.bool)
    sizes, kept = {"n_buckets": 4, "bucket_size_x": 8, "bucket_size_y": 10}, start
    for _ in range(3):
        kept = moved_centers(kept, x, valid, 1)
    at_once = scalable_cross_entropy(*problem.arguments, **sizes, centers=start, kmeans_steps=3)
    same(problem, scalable_cross_entropy(*problem.arguments, **sizes, centers=kept), at_once)


SIZES = {"n_buckets": 3, "bucket_size_x": 4, "bucket_size_y": 6}
OPTIONS = [
    ("sce", SIZES | {"combine": "union"}),
    ("sce", SIZES | {"n_negatives": 5}),
    ("sce", SIZES | {"combine": "union", "n_negatives": 9, "negatives_for": "all"}),
    ("sce", SIZES | {"kmeans_steps": 2, "items_near": "positions"}),
    ("rece", {"n_buckets": 4, "n_rounds": 2}),
    ("sampled", {"n_negatives": 5, "shared_negatives": "sequence"}),
    ("sampled", {"n_negatives": 5, "positive_in_denominator": False}),
    ("sampled", {"n_negatives": 5, "sampling": "mixed"}),
    ("bce", {"n_negatives": 5, "shared_negatives": "sequence"}),
    ("cce", {"label_smoothing": 0.1, "weight": torch.rand(50)}),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "settings"), OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_options_with_no_positions_no_targets_and_whatever_stands_at_ignored_ones(name, settings, dtype):
    loss = make_loss(name, **settings)
    bias = torch.zeros(50, dtype=dtype, requires_grad=True)
    for n, ignored in ((0, 0.0), (6, 1.1), (12, 0.5)):
        problem = make_problem(n=n, dtype=dtype, ignored=ignored)
        with torch.no_grad():
            problem.input[problem.target == -100] = torch.nan
        shape = (n // 3, 3)
        x, w, target = problem.input.view(*shape, 8), problem.linear_weight, problem.target.view(shape)
        value, *gradients = problem.backward(loss(x, w, target, linear_bias=bias, logit_scale=2.0))
        assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert (value > 0) == bool((problem.target >= 0).any())
        assert all(gradient.isfinite().all() for gradient in (*gradients, bias.grad))
        assert (gradients[0][problem.target == -100] == 0).all()


@pytest.mark.parametrize("name", ["sampled", "ce_minus", "bce"])
def test_sequences_of_a_batch_are_compiled(name):
    torch.compiler.reset()
    loss = make_loss(name, shared_negatives="sequence", n_negatives=4)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for batch in (4, 7):
        problem = make_problem(n=batch * 5, dtype=torch.float32)
        x, w, target = problem.input.view(batch, 5, 8), problem.linear_weight, problem.target.view(batch, 5)
        results = []
        for run in (loss, compiled):
            torch.manual_seed(0)
            results.append(problem.backward(run(x, w, target)))
        for ours, theirs in zip(*results):
            torch.testing.assert_close(ours, theirs)


def test_a_learned_scale_and_bias_are_learned():
    problem = make_problem(dtype=torch.float32)
    scale, bias = torch.tensor(2.0, requires_grad=True), torch.zeros(50, requires_grad=True)
    for name in ("ce", "cce", "sampled", "ce_minus", "rece", "sce", "bce"):
        scale.grad = bias.grad = None
        make_loss(name)(*problem.arguments, linear_bias=bias, logit_scale=scale).backward()
        assert scale.grad.abs() > 0
        assert bias.grad.abs().sum() > 0

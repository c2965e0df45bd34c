"""Both versions of Scalable Cross-Entropy against loops, and what the loss promises."""

import warnings

import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import TOLERANCE, assert_matches, make_problem, problems, quick

from sce_lab.losses import (
    SCELoss,
    cross_entropy,
    scalable_cross_entropy,
    scalable_cross_entropy_reference,
    scalable_cross_entropy_statistics,
)
from sce_lab.losses.buckets import BucketSizes
from sce_lab.losses.engine.torch_search import streaming_topk

both = pytest.mark.parametrize("sce", [scalable_cross_entropy_reference, scalable_cross_entropy])
clamping = pytest.mark.filterwarnings("ignore:bucket_size")
SIZES = {"n_buckets": 4, "bucket_size_x": 8, "bucket_size_y": 10}


def draw_centers(n_buckets, d, seed=0):
    return torch.randn(n_buckets, d, generator=torch.Generator().manual_seed(seed)).double()


@st.composite
def sce_settings(draw, problem):
    n_buckets = draw(st.integers(1, 5))
    return {
        "n_buckets": n_buckets,
        "bucket_size_x": draw(st.integers(1, 16)),
        "bucket_size_y": draw(st.integers(1, 23)),
        "centers": draw_centers(n_buckets, problem.input.shape[-1], draw(st.integers(0, 99))),
        "reduction": draw(st.sampled_from(["none", "mean", "sum"])),
    }


@clamping
@quick
@given(st.data())
def test_engine_equals_the_loops(data):
    """Whatever way ties fall: the loops are given the buckets, and test_topk checks that the buckets are right."""
    problem = data.draw(problems())
    settings = data.draw(sce_settings(problem))
    workspace = data.draw(st.sampled_from([1, 1000, None]))
    loss = scalable_cross_entropy(*problem.arguments, workspace_bytes=workspace, **settings)
    actual = problem.backward(loss)

    outputs, weight, target = problem.flat
    dtype = torch.float64 if problem.input.dtype == torch.float64 else torch.float32
    centers, input, table = settings["centers"].to(dtype), problem.input.detach(), problem.linear_weight.detach()
    rows = streaming_topk(
        centers,
        input.reshape(-1, input.shape[-1]),
        min(settings["bucket_size_x"], len(outputs)),
        allowed=problem.target.flatten() != -100,
        workspace_bytes=workspace or 2**25,
    )
    items = streaming_topk(
        centers, table, min(settings["bucket_size_y"], len(weight)), workspace_bytes=workspace or 2**25
    )
    expected = oracle.scalable_cross_entropy(outputs, weight, target, rows.tolist(), items.tolist())
    assert_matches(actual, expected, problem, settings["reduction"])


@both
@clamping
@quick
@given(data=st.data())
def test_equals_the_loops_from_the_centers_on(sce, data):
    n, c, d = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 21)), data.draw(st.integers(2, 5))
    problem = make_problem(
        n, c, d, dtype=data.draw(st.sampled_from([torch.float64, torch.float32])), ignored=0.3, seed=n + 31 * c
    )
    settings = data.draw(sce_settings(problem))
    outputs, weight, target = problem.flat
    rows, items = oracle.buckets(
        outputs,
        weight,
        [t != -100 for t in target],
        settings["centers"].numpy(),
        settings["bucket_size_x"],
        settings["bucket_size_y"],
    )
    expected = oracle.scalable_cross_entropy(outputs, weight, target, rows, items)
    actual = problem.backward(sce(*problem.arguments, **settings))
    assert_matches(actual, expected, problem, settings["reduction"])


@both
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_one_bucket_that_holds_everything_is_cross_entropy(sce, reduction):
    problem = make_problem(ignored=0.2)
    exact = problem.backward(cross_entropy(*problem.arguments, reduction=reduction))
    loss = sce(*problem.arguments, n_buckets=1, bucket_size_x=30, bucket_size_y=50, reduction=reduction)
    for ours, truth in zip(problem.backward(loss), exact):
        torch.testing.assert_close(ours, truth, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mix_x", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_engine_equals_reference_for_the_same_generator(mix_x, dtype):
    problem = make_problem(n=300, c=2000, d=16, dtype=dtype, ignored=0.2)
    results = []
    for sce in (scalable_cross_entropy_reference, scalable_cross_entropy):
        generator = torch.Generator().manual_seed(3)
        loss = sce(
            *problem.arguments, n_buckets=12, bucket_size_x=40, bucket_size_y=60, mix_x=mix_x, generator=generator
        )
        results.append(problem.backward(loss))
    for ours, theirs in zip(*results):
        assert (ours - theirs).norm() <= TOLERANCE[dtype] / 2 * theirs.norm()


@pytest.mark.parametrize("workspace_bytes", [1, None])
def test_gradcheck(workspace_bytes):
    problem = make_problem(n=12, c=20, d=3, ignored=0.2)
    centers = draw_centers(3, 3)

    def loss_of(input, weight):
        return scalable_cross_entropy(
            input,
            weight,
            problem.target,
            n_buckets=3,
            bucket_size_x=6,
            bucket_size_y=7,
            centers=centers,
            reduction="none",
            workspace_bytes=workspace_bytes,
        )

    assert torch.autograd.gradcheck(loss_of, (problem.input, problem.linear_weight))


@both
def test_settings_below_one_are_named(sce):
    for name in SIZES:
        for value in (0, -3):
            with pytest.raises(ValueError, match=f"{name}.*{value}"):
                sce(*make_problem().arguments, **{**SIZES, name: value})
            with pytest.raises(ValueError, match=f"{name}.*{value}"):
                SCELoss(**{name: value})


@both
def test_centers_of_another_shape_are_named(sce):
    with pytest.raises(ValueError, match=r"\(4, 8\).*\(3, 8\)"):
        sce(*make_problem().arguments, **SIZES, centers=torch.zeros(3, 8))


@both
def test_too_large_buckets_take_everything_and_warn_once(sce):
    problem = make_problem()
    with pytest.warns(RuntimeWarning) as warned:
        loss = sce(*problem.arguments, n_buckets=1, bucket_size_x=31, bucket_size_y=51)
    assert len(warned) == 1
    assert "bucket_size_x=31 of 30 positions and bucket_size_y=51 of 50 items" in str(warned[0].message)
    torch.testing.assert_close(loss, cross_entropy(*problem.arguments))


def test_module_warns_once_and_again_after_a_change():
    problem = make_problem()
    loss = SCELoss(n_buckets=2, bucket_size_x=99, bucket_size_y=5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # as outside of tests: the same warning once
        for bucket_size_x, n_warnings in ((99, 1), (99, 0), (120, 1), (120, 0), (7, 0)):
            loss.bucket_size_x = bucket_size_x
            before = len(caught)
            loss(*problem.arguments)
            assert len(caught) == before + n_warnings


@pytest.mark.filterwarnings("error")
def test_module_follows_the_paper_where_nothing_is_said():
    loss = SCELoss()
    asked = loss.n_buckets, loss.bucket_size_x, loss.bucket_size_y
    sizes = BucketSizes.asked(*asked, n_positions=10_000, catalog_size=10_000)
    assert (sizes.n_buckets, sizes.bucket_size_x, sizes.bucket_size_y) == (200, 200, 256)
    for n in (1, 2, 30):  # small batches and catalogs: as many as there are, silently
        problem = make_problem(n=n)
        assert loss(*problem.arguments).isfinite()


def test_module_does_what_the_function_does():
    problem = make_problem()
    settings = {**SIZES, "mix_x": True, "reduction": "sum", "ignore_index": 7, "sparse_grad": True}
    problem.target[4] = 7
    loss = SCELoss(**settings, generator=torch.Generator().manual_seed(2))
    expected = scalable_cross_entropy(*problem.arguments, **settings, generator=torch.Generator().manual_seed(2))
    assert loss(*problem.arguments) == expected
    loss(*problem.arguments).backward()
    assert problem.linear_weight.grad.is_sparse
    assert "n_buckets=4" in repr(loss)


@pytest.mark.parametrize("size_x", [3, 30])
def test_statistics_equal_the_loops(size_x):
    problem = make_problem(ignored=0.3)
    centers = draw_centers(4, 8)
    outputs, weight, target = problem.flat
    valid = [t != -100 for t in target]
    rows, items = oracle.buckets(outputs, weight, valid, centers.numpy(), size_x, 10)
    sizes = {"n_buckets": 4, "bucket_size_x": size_x, "bucket_size_y": 10}
    statistics = scalable_cross_entropy_statistics(*problem.arguments, **sizes, centers=centers)
    expected = oracle.statistics(outputs, weight, target, rows, items)
    assert statistics.as_dict() == pytest.approx(expected, rel=1e-5)


def test_statistics_are_about_the_buckets_that_the_loss_would_fill():
    problem = make_problem(ignored=0.3)
    before = torch.Generator().manual_seed(7)
    statistics = scalable_cross_entropy_statistics(*problem.arguments, **SIZES, mix_x=True, generator=before)
    before.manual_seed(7)
    losses = scalable_cross_entropy(*problem.arguments, **SIZES, mix_x=True, generator=before, reduction="none")
    assert float(statistics.coverage) == pytest.approx(
        (losses > 0).sum().item() / (problem.target != -100).sum().item()
    )


def test_statistics_of_many_positions_come_from_a_sample():
    problem = make_problem(n=700, c=80, dtype=torch.float32)
    centers = torch.randn(3, 8)
    sizes = {"n_buckets": 3, "bucket_size_x": 600, "bucket_size_y": 40}
    statistics = scalable_cross_entropy_statistics(*problem.arguments, **sizes, centers=centers)
    outputs, weight, target = problem.flat
    rows, items = oracle.buckets(outputs, weight, [True] * 700, centers.double().numpy(), 600, 40)
    expected = oracle.statistics(outputs, weight, target, rows, items)
    got = statistics.as_dict()
    assert got.pop("captured_mass") == pytest.approx(expected.pop("captured_mass"), abs=0.05)
    assert got == pytest.approx(expected, rel=1e-5)


def test_statistics_without_any_target():
    statistics = scalable_cross_entropy_statistics(*make_problem(ignored=1.1).arguments, **SIZES)
    assert set(statistics.as_dict().values()) == {0.0}

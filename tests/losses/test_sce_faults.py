"""One test for each fault that published implementations of SCE have, and this one must not."""

import pytest
import torch
from live_bytes import LiveBytes
from problems import make_problem
from torch.utils.flop_counter import FlopCounterMode, bmm_flop

from sce_lab.losses import (
    cross_entropy,
    scalable_cross_entropy,
    scalable_cross_entropy_reference,
    scalable_cross_entropy_statistics,
)

both = pytest.mark.parametrize("sce", [scalable_cross_entropy_reference, scalable_cross_entropy])
SIZES = {"n_buckets": 4, "bucket_size_x": 8, "bucket_size_y": 10}


@pytest.fixture
def large():
    """Large enough that scores and logits would be the largest tensors by far."""
    problem = make_problem(n=3000, c=20_000, d=16, dtype=torch.float32)
    return problem, {"n_buckets": 100, "bucket_size_x": 100, "bucket_size_y": 128, "workspace_bytes": 2**20}


def test_1_scores_are_never_whole(large):
    problem, settings = large
    with LiveBytes() as live:
        scalable_cross_entropy(*problem.arguments, **settings)
    scores_of_positions, scores_of_items = 4 * 100 * 3000, 4 * 100 * 20_000
    assert max(live.sizes) <= 2**20 < scores_of_positions < scores_of_items
    assert live.peak() < 3 * 2**20


def test_2_nothing_of_the_size_of_logits_waits_for_backward(large):
    problem, settings = large
    with LiveBytes() as live:
        loss = scalable_cross_entropy(*problem.arguments, **settings)
        kept = live.now()
    logits, gathered = 4 * 100 * 100 * 128, 4 * 100 * (100 + 128) * 16
    assert kept < 8 * 100 * 128 + 40 * 3000 < min(logits, gathered)
    loss.backward()


def test_3_only_winning_slots_are_back_propagated(large):
    problem, settings = large
    settings["centers"] = torch.randn(100, 16)
    loss = scalable_cross_entropy(*problem.arguments, **settings)
    in_place = {torch.ops.aten.baddbmm_: lambda total, a, b, out_shape: bmm_flop(a, b)}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter, LiveBytes():  # which looks into the engine
        loss.backward()
    with torch.no_grad():
        losses = scalable_cross_entropy(*problem.arguments, **settings, reduction="none")
    every_slot, n_winners = 3 * 2 * 100 * 100 * 128 * 16, int((losses > 0).sum())
    winners = 3 * 2 * n_winners * 128 * 16
    assert winners <= counter.get_total_flops() < 1.5 * winners < every_slot


@both
def test_4_confident_positions_stay_in_the_mean(sce):
    items = torch.eye(6) * 200  # the target outweighs all others beyond float32: a loss of exactly 0
    target = torch.arange(6)
    input = torch.eye(6)
    input[5] = 0.0  # but for one: log 6
    sizes = {"n_buckets": 1, "bucket_size_x": 6, "bucket_size_y": 6}
    losses = sce(input, items, target, **sizes, reduction="none")
    assert (losses[:5] == 0).all()
    mean = sce(input, items, target, **sizes)
    assert mean.item() == pytest.approx(losses[5].item() / 6)
    assert mean.item() == pytest.approx(cross_entropy(input, items, target).item())


@both
def test_4_nothing_selected_is_zero_and_not_nan(sce):
    problem = make_problem(ignored=1.1)
    loss, grad_input, grad_weight = problem.backward(sce(*problem.arguments, **SIZES))
    assert loss == 0
    assert not grad_input.any()
    assert not grad_weight.any()


@both
def test_4_a_loss_of_nan_is_not_hidden(sce):
    problem = make_problem()
    with torch.no_grad():
        problem.input[3] = torch.nan
    assert sce(*problem.arguments, n_buckets=1, bucket_size_x=30, bucket_size_y=50).isnan()


@both
def test_5_padded_positions_fill_no_bucket(sce):
    problem = make_problem(n=40, ignored=0.5)
    kept = problem.target != -100
    centers = torch.randn(4, 8, dtype=torch.float64)
    with torch.no_grad():
        problem.input[~kept] = 100 * centers[0]  # would be first in the first bucket
    alone = problem.input.detach()[kept].requires_grad_()
    loss, grad_input, grad_weight = problem.backward(sce(*problem.arguments, **SIZES, centers=centers))
    expected = sce(alone, problem.linear_weight, problem.target[kept], **SIZES, centers=centers)
    problem.linear_weight.grad = None
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(grad_input[kept], alone.grad)
    torch.testing.assert_close(grad_weight, problem.linear_weight.grad)


@both
def test_5_padded_positions_do_not_steer_mixed_centers(sce):
    problem = make_problem(n=40, ignored=0.5)
    losses = []
    for padding in (0.0, 1e6, torch.nan):
        with torch.no_grad():
            problem.input[problem.target == -100] = padding
        generator = torch.Generator().manual_seed(0)
        losses.append(sce(*problem.arguments, **SIZES, mix_x=True, generator=generator).item())
    assert losses[0] == losses[1]
    if sce is scalable_cross_entropy:
        assert losses[2] == losses[0]


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mix_x", [False, True])
@pytest.mark.filterwarnings("ignore:bucket_size")
def test_6_large_buckets_and_half_precision_do_not_crash(sce, dtype, mix_x):
    problem = make_problem(dtype=dtype)
    loss = sce(*problem.arguments, n_buckets=5, bucket_size_x=10**6, bucket_size_y=10**6, mix_x=mix_x)
    with torch.no_grad():
        exact = cross_entropy(problem.input.double(), problem.linear_weight.double(), problem.target)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sce(*problem.arguments, **SIZES, mix_x=mix_x).backward()
    assert problem.linear_weight.grad.isfinite().all()


@both
def test_7_the_catalog_is_its_rows_and_nothing_else(sce):
    """The last item can be a negative, and so can item 0; there is no row beyond, and none for padding."""
    items = torch.zeros(10, 2)
    items[9], items[0] = torch.tensor([3.0, 0.0]), torch.tensor([2.0, 0.0])
    input, target = torch.tensor([[1.0, 0.0]]), torch.tensor([4])
    sizes = {"n_buckets": 1, "bucket_size_x": 1, "bucket_size_y": 2, "centers": torch.tensor([[1.0, 0.0]])}
    loss = sce(input, items, target, **sizes)
    assert loss.item() == pytest.approx(torch.tensor([0.0, 3.0, 2.0]).logsumexp(0).item())
    with pytest.raises(ValueError, match="target 10"):
        sce(input, items, torch.tensor([10]), **sizes)


@both
def test_8_the_item_table_gets_its_gradient(sce):
    problem = make_problem()
    _, _, grad_weight = problem.backward(sce(*problem.arguments, **SIZES))
    targets = torch.zeros(50, dtype=torch.bool)
    targets[problem.target] = True
    touched = (grad_weight != 0).any(dim=1)
    assert (touched & ~targets).any()  # negatives
    assert (touched & targets).any()


@both
def test_9_generator_reduction_and_diagnostics(sce):
    problem = make_problem()

    def run(seed, **settings):
        return sce(*problem.arguments, **SIZES, generator=torch.Generator().manual_seed(seed), **settings)

    torch.manual_seed(0)
    first = run(1)
    torch.manual_seed(1)
    assert run(1) == first != run(2)
    losses = run(1, reduction="none")
    generator = torch.Generator().manual_seed(1)
    statistics = scalable_cross_entropy_statistics(*problem.arguments, **SIZES, generator=generator)
    assert losses.shape == problem.target.shape
    torch.testing.assert_close(run(1, reduction="sum"), losses.sum())
    n_covered = float(statistics.coverage) * len(losses)
    assert first.item() == pytest.approx(losses.sum().item() / n_covered)
    assert 0 < n_covered < len(losses)

"""Full cross-entropy against loops, and what all losses promise alike."""

import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from problems import assert_matches, make_problem, problems, quick

from sce_lab.losses import LOSSES, cross_entropy, make_loss

REDUCTIONS = ("none", "mean", "sum")
EVERY_LOSS = {
    "ce": {},
    "cce": {},
    "sampled": {"n_negatives": 5},
    "sce": {"n_buckets": 3, "bucket_size_x": 4, "bucket_size_y": 6},
    "bce": {"n_negatives": 2},
    "ce_minus": {"n_negatives": 5},
    "rece": {"n_buckets": 3},
}


@quick
@given(problems(dtypes=(torch.float64, torch.float32)), st.sampled_from(REDUCTIONS))
def test_equals_the_loops(problem, reduction):
    loss = cross_entropy(*problem.arguments, reduction=reduction)
    assert loss.shape == (problem.target.shape if reduction == "none" else ())
    assert_matches(problem.backward(loss), oracle.cross_entropy(*problem.flat), problem, reduction)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_sums_in_no_less_than_float32(name, dtype):
    problem = make_problem(dtype=dtype)
    loss, grad_input, grad_weight = problem.backward(make_loss(name, **EVERY_LOSS[name])(*problem.arguments))
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert grad_input.dtype == grad_weight.dtype == dtype
    assert grad_input.isfinite().all()
    assert grad_weight.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_autocast(name):
    problem = make_problem(dtype=torch.float32)
    loss_of = make_loss(name, **EVERY_LOSS[name])
    torch.manual_seed(0)
    exact = loss_of(*problem.arguments).item()
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = problem.input @ torch.eye(problem.input.shape[1])  # as a model would give it
        assert hidden.dtype == torch.bfloat16
        loss = loss_of(hidden, problem.linear_weight, problem.target)
        assert loss.dtype == torch.float32
    _, grad_input, grad_weight = problem.backward(loss)
    assert loss.item() == pytest.approx(exact, rel=0.05)
    assert grad_input.isfinite().all()
    assert grad_weight.abs().sum() > 0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_without_any_target_the_loss_is_zero_and_back_propagates(name, reduction):
    problem = make_problem(ignored=1.1)
    loss, grad_input, grad_weight = problem.backward(
        make_loss(name, reduction=reduction, **EVERY_LOSS[name])(*problem.arguments)
    )
    assert (loss == 0).all()
    assert (grad_input == 0).all()
    assert (grad_weight == 0).all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", LOSSES)
def test_without_any_position_the_loss_is_zero(name):
    problem = make_problem(n=0)
    loss, _, grad_weight = problem.backward(make_loss(name, **EVERY_LOSS[name])(*problem.arguments))
    assert loss == 0
    assert (grad_weight == 0).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("ignore_index", [-100, 0, -1])
def test_ignored_positions_get_no_gradient_and_do_not_count(name, ignore_index):
    problem = make_problem(ignored=0.4, ignore_index=ignore_index)
    ignored = problem.target == ignore_index
    assert ignored.any()
    settings = {**EVERY_LOSS[name], "reduction": "none", "ignore_index": ignore_index}
    losses, grad_input, _ = problem.backward(make_loss(name, **settings)(*problem.arguments))
    assert (losses[ignored] == 0).all()
    assert (grad_input[ignored] == 0).all()
    assert (losses[~ignored] > 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_batches_are_flattened(name):
    problem = make_problem()
    settings = {**EVERY_LOSS[name], "reduction": "none"}
    torch.manual_seed(1)
    flat = make_loss(name, **settings)(*problem.arguments)
    torch.manual_seed(1)
    shaped = make_loss(name, **settings)(problem.input.view(5, 6, -1), problem.linear_weight, problem.target.view(5, 6))
    assert shaped.shape == (5, 6)
    assert torch.equal(shaped.flatten(), flat)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": torch.tensor([50])}, "target 50 .* 50 items"),
        ({"target": torch.tensor([-3])}, "target -3"),
        ({"target": torch.tensor([1.0])}, "float32"),
        ({"target": torch.tensor([1, 2])}, r"\(1,\).*\(2,\)"),
        ({"input": torch.zeros(1, 7)}, r"\(1, 7\).*\(50, 8\)"),
        ({"input": torch.zeros(1, 8, dtype=torch.int64)}, "int64"),
        ({"input": torch.zeros(1, 8, dtype=torch.float64)}, "float64.*float32"),
        ({"linear_weight": torch.zeros(0, 8)}, r"\(0, 8\)"),
    ],
)
def test_what_does_not_fit_is_named(name, change, message):
    arguments = {
        "input": torch.zeros(1, 8),
        "linear_weight": torch.zeros(50, 8),
        "target": torch.tensor([3]),
        **change,
    }
    settings = {**EVERY_LOSS[name], "bucket_size_x": 1} if name == "sce" else EVERY_LOSS[name]
    with pytest.raises(ValueError, match=message):
        make_loss(name, **settings)(**arguments)


@pytest.mark.parametrize("name", LOSSES)
def test_settings_that_make_no_sense_are_named(name):
    with pytest.raises(ValueError, match="median"):
        make_loss(name, reduction="median")


def test_unknown_losses_are_named_with_the_known_ones():
    with pytest.raises(ValueError, match=f"'bpr'.*{', '.join(map(repr, LOSSES))}"):
        make_loss("bpr")


def test_every_loss_has_a_label_and_no_state():
    for name, loss in LOSSES.items():
        assert loss.label
        assert make_loss(name).state_dict() == {}

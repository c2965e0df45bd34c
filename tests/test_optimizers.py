"""Adam on rows, against PyTorch's own dense and sparse Adam; and trainings that use it."""

import dataclasses

import pytest
import torch

from sce_lab.losses import LOSSES
from sce_lab.optimizers import RowSparseAdam, add_rows, clip_grad_norm_
from sce_lab.training import Evaluated, Finished, StepDone, Trainer, TrainingConfig, takes, train

C, D = 20, 4


def sparse(rows, values, shape=(C, D)):
    return torch.sparse_coo_tensor(rows.unsqueeze(0), values, shape, check_invariants=True)


def steps(optimizer_class, n=6, seed=0, all_rows=False, **options):
    torch.manual_seed(seed)
    table, dense = torch.nn.Parameter(torch.randn(C, D)), torch.nn.Parameter(torch.randn(3))
    parameters = [table] if optimizer_class is torch.optim.SparseAdam else [table, dense]
    optimizer = optimizer_class(parameters, lr=0.1, betas=(0.8, 0.9), **options)
    for _ in range(n):
        rows = torch.arange(C) if all_rows else torch.randint(C, (7,))
        values = torch.randn(len(rows), D)
        dense_grad = torch.randn(3)
        grad = sparse(rows, values)
        table.grad = grad.to_dense() if optimizer_class is torch.optim.Adam else grad
        dense.grad = dense_grad
        optimizer.step()
    return table.detach(), dense.detach(), optimizer


def test_rows_are_updated_as_sparse_adam_does_it():
    ours, _, _ = steps(RowSparseAdam)
    theirs, _, _ = steps(torch.optim.SparseAdam)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_with_a_gradient_in_every_row_it_is_adam():
    ours, ours_dense, _ = steps(RowSparseAdam, all_rows=True)
    theirs, theirs_dense, _ = steps(torch.optim.Adam, all_rows=True, fused=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert torch.equal(ours_dense, theirs_dense)


def test_rows_without_a_gradient_stay_as_they_are():
    table = torch.nn.Parameter(torch.ones(C, D))
    optimizer = RowSparseAdam([table])
    for rows in (torch.tensor([1, 3, 1]), torch.tensor([3])):
        table.grad = sparse(rows, torch.ones(len(rows), D))
        optimizer.step()
    changed = (table.detach() != 1).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [1, 3]
    assert (optimizer.state[table]["exp_avg"] != 0).any(dim=1).nonzero().flatten().tolist() == [1, 3]
    assert table.grad.layout == torch.sparse_coo  # as optimizers leave it


def test_rows_are_added_to_either_kind_of_gradient():
    rows, values = torch.tensor([2, 5, 2]), torch.arange(12.0).view(3, D)
    more, extra = torch.tensor([5, 7]), torch.ones(2, D)
    expected = sparse(torch.cat([rows, more]), torch.cat([values, extra])).to_dense()
    dense = sparse(rows, values).to_dense()
    assert add_rows(dense, more, extra) is dense
    assert torch.equal(dense, expected)
    total = add_rows(sparse(rows, values).coalesce(), more, extra)
    assert total._indices().tolist() == [[2, 5, 7]]
    assert torch.equal(total.to_dense(), expected)


@pytest.mark.parametrize("loss", ["sampled", "sce"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_training_with_row_sparse_gradients_learns(loss, dtype, cycle_split):
    sizes = {"sce": {"n_buckets": 8, "bucket_size_x": 20, "bucket_size_y": 12}}.get(loss, {"n_negatives": 8})
    config = TrainingConfig(
        loss=loss, loss_settings=sizes, hidden_size=16, max_length=8, batch_size=8, max_epochs=15,
        sparse_gradients=True, dtype=dtype, learning_rate=0.01,
    )  # fmt: skip
    *events, last = train(config, cycle_split)
    losses = [e.loss for e in events if isinstance(e, StepDone)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert isinstance(last, Finished)
    assert last.validation["HR@1"] > 0.3
    assert Trainer(config, cycle_split).model.item_embedding.dtype == getattr(torch, dtype)


def test_the_first_step_is_that_of_dense_gradients(cycle_split):
    config = TrainingConfig(
        loss="sampled", hidden_size=16, max_length=8, batch_size=8, loss_settings={"n_negatives": 8}
    )
    tables = []
    for sparse_gradients in (False, True):
        trainer = Trainer(dataclasses.replace(config, sparse_gradients=sparse_gradients), cycle_split)
        events = trainer.events()
        while not isinstance(next(events), StepDone):
            pass
        tables.append(trainer.model.item_embedding.detach())
    torch.testing.assert_close(tables[0], tables[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("settings", [{"sparse_gradients": True}, {"dtype": "bfloat16"}])
def test_a_resumed_run_is_the_same_to_the_last_bit(settings, cycle_split, tmp_path):
    config = TrainingConfig(loss="sce", hidden_size=16, max_length=8, batch_size=8, max_epochs=4, **settings)
    whole = [e.loss for e in train(config, cycle_split) if isinstance(e, StepDone)]
    trainer, losses = Trainer(config, cycle_split), []
    for event in trainer.events():
        if isinstance(event, StepDone):
            losses.append(event.loss)
            if event.step == 11:
                trainer.save(tmp_path / "checkpoint.safetensors")
                break
    again = train(config, cycle_split, resume_from=tmp_path / "checkpoint.safetensors")
    losses += [e.loss for e in again if isinstance(e, StepDone)]
    assert losses == whole
    assert len(whole) > 20


def test_a_checkpoint_from_before_there_were_these_settings_still_loads(cycle_split, tmp_path):
    import json

    from safetensors import safe_open
    from safetensors.torch import save_file

    config = TrainingConfig(loss="ce", hidden_size=16, max_length=8, batch_size=8, max_epochs=2)
    trainer = Trainer(config, cycle_split)
    assert any(isinstance(e, Evaluated) for e in trainer.events())
    path = tmp_path / "old.safetensors"
    trainer.save(path)
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    old = {k: v for k, v in json.loads(metadata["config"]).items() if k not in ("dtype", "sparse_gradients")}
    save_file(tensors, path, metadata | {"config": json.dumps(old)})
    Trainer(config, cycle_split).load(path)
    with pytest.raises(ValueError, match="made with dtype='float32', not 'bfloat16'"):
        Trainer(dataclasses.replace(config, dtype="bfloat16"), cycle_split).load(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"loss": "ce", "sparse_gradients": True},
            "sparse_gradients=True does not go with loss='ce'.*sampled, rece, sce",
        ),
        ({"dtype": "float16"}, "dtype must be one of float32, bfloat16, got 'float16'"),
    ],
)
def test_what_cannot_be_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**settings)


def test_every_loss_with_row_sparse_gradients_has_them_everywhere():
    for name, loss in LOSSES.items():
        if takes(name, "sparse_grad"):
            made = loss(sparse_grad=True)
            weight = torch.randn(30, 4, requires_grad=True)
            made(torch.randn(12, 4), weight, torch.arange(12)).backward()
            assert weight.grad.layout == torch.sparse_coo, name


@pytest.mark.parametrize("eps", [1e-8, 0.3])
@pytest.mark.parametrize("betas", [(0.8, 0.9), (0.0, 0.99)])
def test_eps_stands_beside_the_corrected_moment(eps, betas):
    """Against Adam written down in float64: small gradients, so that eps decides."""
    table = torch.nn.Parameter(torch.randn(C, D, generator=torch.Generator().manual_seed(0)))
    expected, first, second = table.detach().double(), 0.0, 0.0
    optimizer = RowSparseAdam([table], lr=0.1, betas=betas, eps=eps)
    for step in range(1, 4):
        values = 0.1 * torch.randn(C, D, generator=torch.Generator().manual_seed(step))
        table.grad = sparse(torch.arange(C), values)
        optimizer.step()
        first = betas[0] * first + (1 - betas[0]) * values.double()
        second = betas[1] * second + (1 - betas[1]) * values.double() ** 2
        root = (second / (1 - betas[1] ** step)).sqrt()
        expected -= 0.1 * first / (1 - betas[0] ** step) / (root + eps)
        torch.testing.assert_close(table.detach().double(), expected, rtol=1e-5, atol=1e-6)


def scaled_steps(gradients, row_sparse):
    """Tables and states after steps under GradScaler."""
    table, dense = torch.nn.Parameter(torch.ones(C, D)), torch.nn.Parameter(torch.ones(3))
    optimizer = RowSparseAdam([table, dense], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for gradient in gradients:
        scaler.scale(torch.ones((), requires_grad=True))  # as a loss is scaled
        values = 4.0 * torch.full((C, D), gradient)
        table.grad = sparse(torch.arange(C), values) if row_sparse else values
        dense.grad = torch.full((3,), 4.0 * gradient)
        scaler.step(optimizer)
        scaler.update(4.0)
    return table.detach(), dense.detach(), optimizer.state[table]["step"]


def test_under_a_grad_scaler_a_step_that_is_not_finite_is_left_out():
    gradients = [0.5, float("inf"), -0.25]
    for ours, theirs in zip(scaled_steps(gradients, True), scaled_steps(gradients, False)):
        torch.testing.assert_close(ours, theirs)
    for with_inf, without in zip(scaled_steps(gradients, True), scaled_steps([0.5, -0.25], True)):
        assert torch.equal(with_inf, without)


def test_a_closure_is_called_before_the_gradients_are_looked_at():
    table = torch.nn.Parameter(torch.ones(C, D))
    optimizer = RowSparseAdam([table], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.embedding(torch.tensor([3]), table, sparse=True).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == D
    torch.testing.assert_close(table.detach()[3], torch.full((D,), 0.9))
    assert (table.detach() != 1).any(dim=1).nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("setting", [{"weight_decay": 0.1}, {"maximize": True}, {"amsgrad": True}])
def test_what_a_lazy_update_does_not_have_is_refused(setting):
    ((name, value),) = setting.items()
    table = torch.nn.Parameter(torch.ones(C, D))
    with pytest.raises(ValueError, match=f"no {name}, got {name}={value}"):
        RowSparseAdam([{"params": [table], **setting}])
    optimizer = RowSparseAdam([table])
    optimizer.param_groups[0][name] = value
    table.grad = sparse(torch.tensor([1]), torch.ones(1, D))
    with pytest.raises(ValueError, match=f"no {name}"):
        optimizer.step()
    assert torch.equal(table.detach(), torch.ones(C, D))


def test_a_gradient_that_is_sparse_in_its_elements_is_refused_and_kept():
    table = torch.nn.Parameter(torch.ones(C, D))
    table.grad = torch.sparse_coo_tensor(torch.tensor([[1], [2]]), torch.ones(1), (C, D), check_invariants=True)
    with pytest.raises(ValueError, match=r"sparse_dim=1.*got sparse_dim=2 of shape \(20, 4\)"):
        RowSparseAdam([table]).step()
    assert table.grad is not None


@pytest.mark.parametrize(("betas", "moved"), [((0.9, 0.98), 0.71), ((0.9, 0.999), 2.51)])
def test_how_far_a_row_moves_that_is_first_touched_late(betas, moved):
    """As torch's SparseAdam; the docstring says it."""
    tables = [torch.nn.Parameter(torch.zeros(C, D)) for _ in range(2)]
    for table, kind in zip(tables, (RowSparseAdam, torch.optim.SparseAdam)):
        optimizer = kind([table], lr=1.0, betas=betas)
        for step in range(1001):
            table.grad = sparse(torch.tensor([0 if step < 1000 else 5]), torch.ones(1, D))
            optimizer.step()
    torch.testing.assert_close(tables[0].detach(), tables[1].detach(), rtol=1e-3, atol=1e-3)
    assert -tables[0][5, 0].item() == pytest.approx(moved, abs=0.01)
    assert RowSparseAdam([torch.nn.Parameter(torch.zeros(2, 2))]).defaults["betas"] == (0.9, 0.98)


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_gradients_are_clipped_together_rows_that_repeat_as_their_sum(max_norm):
    rows, values = torch.tensor([2, 5, 2]), torch.arange(12.0).view(3, D)
    ours = [
        torch.nn.Parameter(torch.zeros(C, D)),
        torch.nn.Parameter(torch.zeros(3)),
        torch.nn.Parameter(torch.ones(1)),
    ]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    ours[0].grad, theirs[0].grad = sparse(rows, values), sparse(rows, values).to_dense()
    ours[1].grad, theirs[1].grad = torch.ones(3), torch.ones(3)
    norm = clip_grad_norm_(ours, max_norm)
    torch.testing.assert_close(norm, torch.nn.utils.clip_grad_norm_(theirs, max_norm))
    torch.testing.assert_close(ours[0].grad.to_dense(), theirs[0].grad)
    torch.testing.assert_close(ours[1].grad, theirs[1].grad)

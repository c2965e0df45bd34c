"""Adam on rows, against PyTorch's own dense and sparse Adam; and trainings that use it."""

import dataclasses

import pytest
import torch

from sce_lab.losses import LOSSES
from sce_lab.optimizers import RowSparseAdam, add_rows
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
        ({"loss": "ce", "sparse_gradients": True}, "sparse_gradients=True does not go with loss='ce'.*sampled, sce"),
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

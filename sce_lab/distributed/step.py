"""One optimizer step on several ranks."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from sce_lab.data.batches import Batch
from sce_lab.distributed.launch import ranks_of
from sce_lab.distributed.table import Lookup, as_table
from sce_lab.losses.sharded import bounds
from sce_lab.optimizers import add_rows
from sce_lab.training import Phase, StepFunction, StepResult, loss_of_batch


def sharded_step(mesh: DeviceMesh, catalog_size: int) -> StepFunction:
    """:func:`sce_lab.training.training_step` of this rank's share of a batch, in the same five phases.

    Rows of the item table are asked of the ranks that have them, and their gradients sent back there.
    """
    ranks = ranks_of(mesh)
    first, _ = bounds(catalog_size, ranks)
    per_rank = -(-catalog_size // ranks.n)

    def step(
        model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, phase: Phase
    ) -> StepResult:
        rows = model.item_embedding
        with phase("forward"):
            lookup = Lookup.of(batch.inputs.items, first, per_rank, ranks)
            embedded = lookup(rows.detach()).requires_grad_()  # (N, D)
            outputs = model(batch.inputs, embedded)  # (N, D)
            head = outputs.detach().requires_grad_()
        with phase("loss_forward"):
            value = loss_of_batch(loss, head, as_table(rows, mesh, catalog_size), batch)
        with phase("loss_backward"):
            value.backward()
        with phase("backward"):
            outputs.backward(head.grad)
            rows.grad = add_rows(rows.grad, lookup.rows, lookup.gradients(embedded.grad))
        with phase("optimizer"):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return StepResult(value.detach())

    return step

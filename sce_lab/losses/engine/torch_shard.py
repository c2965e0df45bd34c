"""What a shard of the item table gives to a softmax over the whole table, with PyTorch.

The problem is that of the shard: ``table`` is its rows, the items of the blocks are numbered from its first, and a
label is -1 where the target is on another shard.
"""

import torch
from torch import Tensor

from . import torch_buckets, torch_whole
from .problem import Combine, Found, PositionGradients, Problem
from .table_gradient import TableGradient
from .tiles import Plan, chunks, is_fake
from .torch_combine import slots_with_gradient
from .torch_parts import take


def shard_sums(problem: Problem, plan: Plan, distinct: bool) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of each slot's negatives here, and logits ``(N,)`` of the targets that are here, 0 for others."""
    if problem.blocks.rows is None:
        log_negatives = torch_whole.log_negatives(problem, plan)
    else:
        log_negatives = torch_buckets.log_negatives(problem, plan, distinct)
    positive = log_negatives.new_zeros(len(problem.outputs))
    for part in _here(problem, plan):
        x = take(problem.outputs, part, plan)
        positive[part] = (x * take(problem.table, problem.labels[part], plan)).sum(dim=1)
    return log_negatives, positive


def add_shard_gradients(
    problem: Problem,
    found: Found,
    grad_losses: Tensor,
    combine: Combine,
    plan: Plan,
    grad_outputs: Tensor | None,
    grad_table: TableGradient | None,
) -> None:
    """Add what the items here give to the gradients, given what was found over all shards."""
    losses, slot, log_z = found
    counted = slot >= 0
    problem = problem._replace(labels=problem.labels.where(counted, -1))
    at = PositionGradients(grad_losses.where(counted, 0.0), torch.expm1(-losses), log_z)
    if problem.blocks.rows is None:
        torch_whole.add_gradients(problem, at, plan, grad_outputs, grad_table)
    else:
        slots = slots_with_gradient(problem.blocks.rows, slot, problem.valid, combine)
        torch_buckets.add_negative_gradients(
            problem, slots, at, plan, grad_outputs, grad_table, distinct=combine == "union"
        )
    if problem.blocks.items is None:
        return  # the cells of the targets were among those of the items
    for part in _here(problem, plan):
        g = (at.losses[part] * at.target[part]).unsqueeze(1)
        if grad_outputs is not None:
            grad_outputs.index_add_(0, part, take(problem.table, problem.labels[part], plan).mul_(g))
        if grad_table is not None:
            grad_table.add(problem.labels[part], take(problem.outputs, part, plan).mul_(g))


def _here(problem: Problem, plan: Plan) -> list[Tensor]:
    """Positions with a target that is here, in parts."""
    labels = problem.labels
    here = torch.empty_like(labels) if is_fake(labels) else (problem.valid & (labels >= 0)).nonzero().squeeze(1)
    size = plan.tile_bytes // (4 * problem.outputs.shape[1] * plan.dtype.itemsize)
    return [here[part] for part in chunks(len(here), size, labels)]

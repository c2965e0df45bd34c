"""The engine in PyTorch: any device, any dtype, any blocks."""

import torch
from torch import Tensor

from . import torch_buckets, torch_whole
from .problem import Gradients, PositionGradients, Problem, Slots
from .table_gradient import TableGradient
from .tiles import Plan, chunks
from .torch_parts import take
from .torch_search import streaming_topk


class TorchBackend:
    """See :class:`.backend.Backend`."""

    name = "torch"

    def serves(self, outputs: Tensor, table: Tensor, plan: Plan) -> bool:
        """Always."""
        return True

    def pays(self, outputs: Tensor) -> bool:
        """There is none after it."""
        return True

    def topk(self, queries: Tensor, table: Tensor, k: int, allowed: Tensor | None, workspace_bytes: int) -> Tensor:
        """Chunk by chunk of the table."""
        return streaming_topk(queries, table, k, allowed=allowed, workspace_bytes=workspace_bytes)

    def target_logits(self, problem: Problem, plan: Plan) -> Tensor:
        """Chunk by chunk of the positions."""
        positive = problem.outputs.new_empty(len(problem.outputs), dtype=plan.dtype)
        for part in _position_chunks(problem, plan):
            x = problem.outputs[part].to(plan.dtype)
            positive[part] = (x * take(problem.table, problem.labels[part], plan)).sum(dim=1)
        return positive

    def log_negatives(self, problem: Problem, plan: Plan, distinct: bool = False) -> Tensor:
        """Tile by tile."""
        if problem.blocks.rows is None:
            return torch_whole.log_negatives(problem, plan)
        return torch_buckets.log_negatives(problem, plan, distinct)

    def gradients(
        self,
        problem: Problem,
        slots: Slots | None,
        at: PositionGradients,
        plan: Plan,
        needs: list[bool],
        sparse: bool,
        distinct: bool = False,
    ) -> Gradients:
        """Tile by tile, with logits computed again."""
        grad_outputs = _zeros_for_outputs(problem, plan) if needs[0] else None
        grad_table = TableGradient(problem, plan, sparse) if needs[1] else None
        grad_bias = torch.zeros_like(problem.blocks.bias, dtype=plan.dtype) if needs[2] else None
        to = grad_outputs, grad_table, grad_bias
        if slots is None:
            torch_whole.add_gradients(problem, at, plan, *to)
        else:
            torch_buckets.add_negative_gradients(problem, slots, at, plan, *to, distinct)
        if problem.blocks.items is not None:
            _add_target_gradients(problem, at, plan, grad_outputs, grad_table)
        return _finished(problem, grad_outputs, grad_table)._replace(bias=grad_bias)

    def losses_and_gradients(
        self, problem: Problem, g: Tensor, plan: Plan, needs: list[bool], sparse: bool
    ) -> tuple[Tensor, Gradients]:
        """Tile by tile, with logits computed once."""
        grad_outputs = _zeros_for_outputs(problem, plan) if needs[0] else None
        grad_table = TableGradient(problem, plan, sparse) if needs[1] else None
        losses, target = torch_whole.losses_and_gradients(problem, g, plan, grad_outputs, grad_table)
        if problem.blocks.items is not None:
            at = PositionGradients(g, target, losses)
            _add_target_gradients(problem, at, plan, grad_outputs, grad_table)
        return losses, _finished(problem, grad_outputs, grad_table)


def _position_chunks(problem: Problem, plan: Plan) -> list[slice]:
    n_positions, dim = problem.outputs.shape
    return chunks(n_positions, plan.tile_bytes // (4 * dim * plan.dtype.itemsize), problem.outputs)


def _zeros_for_outputs(problem: Problem, plan: Plan) -> Tensor:
    """In the dtype to add up in."""
    return problem.outputs.new_zeros(problem.outputs.shape, dtype=plan.dtype)


def _add_target_gradients(
    problem: Problem,
    at: PositionGradients,
    plan: Plan,
    grad_outputs: Tensor | None,
    grad_table: TableGradient | None,
) -> None:
    """Add what targets give: ``g (p_t - 1) w_t`` to each position's output, ``g (p_t - 1) x`` to its target."""
    for part in _position_chunks(problem, plan):
        g = (at.losses[part] * at.target[part]).unsqueeze(1)  # 0 where there is no loss
        if grad_outputs is not None:
            grad_outputs[part] += take(problem.table, problem.labels[part], plan).mul_(g)
        if grad_table is not None:
            x = problem.outputs[part].to(plan.dtype)
            grad_table.add(
                problem.labels[part], torch.where(g == 0, 0.0, x * g)
            )  # whatever stands at ignored positions


def _finished(problem: Problem, grad_outputs: Tensor | None, grad_table: TableGradient | None) -> Gradients:
    rows, touched = (None, None) if grad_table is None else grad_table.finish()
    return Gradients(None if grad_outputs is None else grad_outputs.to(problem.outputs.dtype), rows, touched)

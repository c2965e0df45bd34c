"""The engine in PyTorch: any device, any dtype, any blocks."""

import torch
from torch import Tensor

from . import torch_buckets, torch_whole
from .problem import Blocks, Combine, Found, Gradients, PositionGradients, Problem
from .table_gradient import TableGradient
from .tiles import Plan, chunks
from .torch_combine import combined, mean_of_counted, slots_with_gradient
from .torch_parts import cap, slope, take
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

    def blocks(self, rows: Tensor | None, items: Tensor, bias: Tensor | None) -> Blocks:
        """In ascending order, each item once."""
        return Blocks.of(rows, items, bias)

    def topk(self, queries: Tensor, table: Tensor, k: int, allowed: Tensor | None, workspace_bytes: int) -> Tensor:
        """Chunk by chunk of the table."""
        return streaming_topk(queries, table, k, allowed=allowed, workspace_bytes=workspace_bytes)

    def losses(self, problem: Problem, combine: Combine, plan: Plan) -> Found:
        """Slot by slot, then put together."""
        log_negatives = self.log_negatives(problem, plan, combine == "union")
        positive = self.target_logits(problem, plan)
        if problem.target_bias is not None:
            positive += problem.target_bias
        return combined(log_negatives, positive, problem.blocks.rows, problem.valid, combine)

    def mean(self, losses: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        """A sum and a count."""
        return mean_of_counted(losses, slot)

    def target_logits(self, problem: Problem, plan: Plan) -> Tensor:
        """Inner product of each position with its own target, capped if they are: ``(N,)``."""
        positive = problem.outputs.new_empty(len(problem.outputs), dtype=plan.dtype)
        for part in _position_chunks(problem, plan):
            x = problem.outputs[part].to(plan.dtype)
            positive[part] = (x * take(problem.table, problem.labels[part], plan)).sum(dim=1)
        return cap(positive, problem.softcap)

    def log_negatives(self, problem: Problem, plan: Plan, distinct: bool = False) -> Tensor:
        """Log-sum-exp of every slot's logits (plus bias) over the items of its block, its target left out.

        With ``distinct``, items in an earlier block of the position are left out, too. ``(n_blocks, n_x)``, or ``(N,)``
        for one block of all positions; -inf where nothing is left.
        """
        if problem.blocks.rows is None:
            return torch_whole.log_negatives(problem, plan)
        return torch_buckets.log_negatives(problem, plan, distinct)

    def gradients(
        self,
        problem: Problem,
        found: Found,
        grad_losses: Tensor,
        combine: Combine,
        plan: Plan,
        needs: list[bool],
        sparse: bool,
    ) -> Gradients:
        """Tile by tile, with logits computed again."""
        losses, slot, log_z = found
        counted = slot >= 0
        problem = _only_counted_targets(problem, counted)
        g = grad_losses.to(losses.dtype).where(counted, 0.0)
        at = PositionGradients(g, torch.expm1(-losses), log_z)  # p_t - 1, exact where p_t is nearly 1, too
        rows = problem.blocks.rows
        slots = None if rows is None else slots_with_gradient(rows, slot, problem.valid, combine)
        grad_outputs = _zeros_for_outputs(problem, plan) if needs[0] else None
        grad_table = TableGradient(problem.table, _touching(problem), plan, sparse) if needs[1] else None
        grad_bias = torch.zeros_like(problem.blocks.bias, dtype=plan.dtype) if needs[2] else None
        to = grad_outputs, grad_table, grad_bias
        if slots is None:
            torch_whole.add_gradients(problem, at, plan, *to)
        else:
            torch_buckets.add_negative_gradients(problem, slots, at, plan, *to, combine == "union")
        if problem.blocks.items is not None:
            if problem.softcap is not None:
                at = at._replace(target=at.target * slope(self.target_logits(problem, plan), problem.softcap))
            _add_target_gradients(problem, at, plan, grad_outputs, grad_table)
        return _finished(problem, grad_outputs, grad_table)._replace(bias=grad_bias)

    def fits_at_once(self, problem: Problem, plan: Plan) -> bool:
        """Where a tile has room for all items."""
        return torch_whole.fits_at_once(problem, plan)

    def losses_and_gradients(
        self, problem: Problem, g: Tensor, plan: Plan, needs: list[bool], sparse: bool
    ) -> tuple[Tensor, Gradients]:
        """Tile by tile, with logits computed once."""
        problem = _only_counted_targets(problem, problem.valid)
        grad_outputs = _zeros_for_outputs(problem, plan) if needs[0] else None
        grad_table = TableGradient(problem.table, _touching(problem), plan, sparse) if needs[1] else None
        losses, target = torch_whole.losses_and_gradients(problem, g, plan, grad_outputs, grad_table)
        if problem.blocks.items is not None:
            at = PositionGradients(g, target, losses)
            _add_target_gradients(problem, at, plan, grad_outputs, grad_table)
        return losses, _finished(problem, grad_outputs, grad_table)


def _touching(problem: Problem) -> Tensor | None:
    """Items that have a gradient, with repetitions; None: all."""
    items = problem.blocks.items
    return None if items is None else torch.cat([items.flatten(), problem.labels])


def _only_counted_targets(problem: Problem, counted: Tensor) -> Problem:
    """The row of a target that does not count is not to be touched: another that is touched stands in."""
    items = problem.blocks.items
    return problem if items is None else problem._replace(labels=problem.labels.where(counted, items.flatten()[:1]))


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

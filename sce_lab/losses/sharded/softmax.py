"""The softmax over some blocks of the logits, with the item table spread over ranks and each rank's own positions.

Positions are treated in chunks: w of every rank at a time. Their outputs are gathered, every rank sums up the logits
of its own items, and the sums are added up; in backward outputs are gathered again, every rank has the gradient of its
own rows, and the parts of the outputs' gradients are added up where the positions are. So no rank holds more than a
chunk of the others' outputs, nor any row of the table that is not its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..engine import Blocks, Combine, How, Problem, is_fake
from ..engine.problem import Found
from ..engine.table_gradient import TableGradient
from ..engine.tiles import Plan, compute_dtype
from ..engine.torch_combine import combined
from ..engine.torch_shard import add_shard_gradients, shard_sums
from .everyone import Everyone

GATHERED_BYTES = 64 * 2**20
"""For the outputs that are gathered at a time, in the dtype that is computed in."""


def sharded_losses(
    outputs: Tensor, everyone: Everyone, blocks: Blocks, how: How, combine: Combine = "max"
) -> tuple[Tensor, Tensor]:
    """As :func:`..engine.softmax_losses`, of one's own positions ``(N of this rank,)``; blocks are about all of them.

    Args:
        outputs: ``(N of this rank, D)``.
        everyone: the positions of all ranks, and the table.
        blocks: of all positions and the whole catalog, the same on all ranks; their bias has no gradient.
        how: how to compute; with PyTorch, whatever backend it names.
        combine: as there.
    """
    plan = Plan(compute_dtype(outputs, everyone.shard.rows), how.tile_bytes, how.deterministic)
    work = _Work(everyone, _Here.of(blocks, everyone, plan.dtype), plan, combine, how.sparse_grad)
    return _ShardedSoftmax.apply(outputs, everyone.shard.rows, work)


class _Here(NamedTuple):
    """Blocks with those of their items that are here, numbered from the first of the shard."""

    rows: Tensor | None  # (n_blocks, n_x) in the padded numbering of positions, -1 for none
    blocks: Blocks  # without rows
    touching: Tensor | None  # the items that are here, with repetitions; None: all

    @classmethod
    def of(cls, blocks: Blocks, everyone: Everyone, dtype: torch.dtype) -> _Here:
        shard = everyone.shard
        rows = None if blocks.rows is None else everyone.padded(blocks.rows)
        if blocks.items is None:
            return cls(rows, Blocks(), None)
        items, n_rows = blocks.items, shard.stop - shard.start  # in ascending order: those that are here are neighbours
        first, last = (
            torch.searchsorted(items, items.new_full((len(items), 1), end)) for end in (shard.start, shard.stop)
        )
        count = last - first  # (n_blocks, 1)
        # In a prediction as many as there can be.
        most = min(items.shape[1], n_rows) if is_fake(items) else int(count.amax()) if len(count) else 0
        nth = torch.arange(most, device=items.device).unsqueeze(0)
        there = nth < count
        place = (first + torch.minimum(nth, count - 1)).clamp(min=0, max=max(items.shape[1] - 1, 0))
        mine = items.gather(1, place) - shard.start
        touching = mine.flatten() if is_fake(items) else mine[there]
        if most:  # where nothing is, an item that has a gradient anyway stands in
            mine = torch.where(count > 0, mine, touching[0])
        bias = torch.zeros_like(mine, dtype=dtype) if blocks.bias is None else blocks.bias.detach().gather(1, place)
        bias = bias.masked_fill(~there, -torch.inf)
        return cls(rows, Blocks(None, mine, bias), touching)


class _Work(NamedTuple):
    everyone: Everyone
    here: _Here
    plan: Plan
    combine: Combine
    sparse: bool

    def chunks(self, outputs: Tensor) -> Iterator[tuple[slice, Problem]]:
        """One's own positions of a chunk, and the problem of the shard with those of all ranks, w of each."""
        everyone, shard, here = self.everyone, self.everyone.shard, self.here
        n, longest = everyone.padded_labels.shape
        width = max(GATHERED_BYTES // (n * outputs.shape[1] * self.plan.dtype.itemsize), 1)
        for start in range(0, longest, width):
            part = slice(start, min(start + width, longest))
            w = part.stop - part.start
            mine = outputs[part]
            if len(mine) < w:
                mine = torch.cat([mine, mine.new_zeros(w - len(mine), outputs.shape[1])])
            labels = everyone.padded_labels[:, part].flatten()
            valid, own = labels >= 0, labels - shard.start
            own = own.masked_fill(~valid | (own < 0) | (labels >= shard.stop), -1)
            rows, items, bias = here.rows, here.blocks.items, here.blocks.bias
            if rows is not None and w < longest:
                rows, kept = _of_chunk(rows, part, longest, n * w)
                items, bias = items[kept], bias[kept]
            gathered = shard.ranks.gathered(mine).flatten(0, 1)
            yield part, Problem(gathered, shard.rows.detach(), own, valid, Blocks(rows, items, bias))


def _of_chunk(rows: Tensor, part: slice, longest: int, at_most: int) -> tuple[Tensor, Tensor]:
    """Rows of those blocks that have any in the chunk, in its numbering; and which blocks these are."""
    rank, nth = rows.div(longest, rounding_mode="floor"), rows.remainder(longest)
    there = (rows >= 0) & (nth >= part.start) & (nth < part.stop)
    rows = torch.where(there, rank * (part.stop - part.start) + nth - part.start, -1)
    count = there.sum(dim=1)
    if is_fake(rows):
        most, kept = min(rows.shape[1], at_most), torch.arange(len(rows), device=rows.device)
    else:
        most, kept = int(count.amax()) if len(count) else 0, count.nonzero().squeeze(1)
    rows = rows[kept]
    order = (rows < 0).to(torch.uint8).sort(dim=1, stable=True).indices[:, :most]
    return rows.gather(1, order), kept


class _ShardedSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, outputs: Tensor, table: Tensor, work: _Work) -> tuple[Tensor, Tensor]:
        everyone, plan = work.everyone, work.plan
        ranks, n_mine = everyone.ranks, len(outputs)
        losses = outputs.new_zeros(n_mine, dtype=plan.dtype)
        slot = torch.full_like(losses, -1, dtype=torch.int64)
        found = []
        for part, problem in work.chunks(outputs):
            log_negatives, positive = shard_sums(problem, plan, work.combine == "union")
            log_negatives, positive = _merged(log_negatives, positive, ranks)
            one = combined(log_negatives, positive, problem.blocks.rows, problem.valid, work.combine)
            found.append(one)
            mine = slice(ranks.rank * (part.stop - part.start), None)
            n = max(min(part.stop, n_mine) - part.start, 0)
            losses[part] = one.losses[mine][:n]
            slot[part] = one.slot[mine][:n]
            del problem, log_negatives, positive, one
        ctx.save_for_backward(outputs, table)
        ctx.work, ctx.found = work, found
        ctx.mark_non_differentiable(slot)
        ctx.set_materialize_grads(False)
        return losses, slot

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses: Tensor | None, _: None) -> tuple[Tensor | None, Tensor | None, None]:
        if grad_losses is None:
            return None, None, None
        (outputs, table), work, found = ctx.saved_tensors, ctx.work, ctx.found
        plan, ranks = work.plan, work.everyone.ranks
        of_outputs, of_table = ctx.needs_input_grad[:2]
        grad_outputs = torch.zeros_like(outputs, dtype=plan.dtype) if of_outputs else None
        touching = work.here.touching
        if touching is not None and of_table:
            touching = torch.cat([touching, _targets_here(work, found)])
        grad_table = TableGradient(table, touching, plan, work.sparse, once=len(found) == 1) if of_table else None
        for (part, problem), one in zip(work.chunks(outputs), found):
            w = part.stop - part.start
            g = grad_losses.new_zeros(w, dtype=plan.dtype)
            mine = grad_losses[part]
            g[: len(mine)] = mine
            g = ranks.gathered(g).flatten()
            partial = torch.zeros_like(problem.outputs, dtype=plan.dtype) if of_outputs else None
            add_shard_gradients(problem, one, g, work.combine, plan, partial, grad_table)
            del problem
            if of_outputs:
                grad_outputs[part] = ranks.my_sums(partial.view(ranks.n, w, -1))[: len(mine)]
            del partial
        rows = None
        if of_table:
            rows, touched = grad_table.finish()
            if work.sparse:
                rows = torch.sparse_coo_tensor(
                    touched.unsqueeze(0), rows, table.shape, is_coalesced=True, check_invariants=False
                )
        return grad_outputs.to(outputs.dtype) if of_outputs else None, rows, None


def _merged(log_negatives: Tensor, positive: Tensor, ranks: Any) -> tuple[Tensor, Tensor]:
    """Log-sum-exp over all shards, and the target's logit from the one that has it."""
    largest = ranks.largest(log_negatives.clone())
    shift = largest.clamp(min=torch.finfo(largest.dtype).min)
    sums = ranks.added(torch.cat([(log_negatives - shift).exp_().flatten(), positive]))
    summed, positive = sums.split([log_negatives.numel(), len(positive)])
    return summed.view_as(shift).log().add_(shift), positive


def _targets_here(work: _Work, found: list[Found]) -> Tensor:
    """Targets that count and are here, numbered from the first of the shard."""
    shard = work.everyone.shard
    labels = work.everyone.padded_labels - shard.start
    if is_fake(labels):
        return labels.flatten()[: shard.stop - shard.start]
    nobody = labels[:, :0] >= 0  # where no rank has a position
    counted = torch.cat([nobody, *(one.slot.view(len(labels), -1) >= 0 for one in found)], dim=1)
    return labels[counted & (labels >= 0) & (labels < shard.stop - shard.start)]

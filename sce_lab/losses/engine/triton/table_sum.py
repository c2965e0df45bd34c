"""The gradient of some rows of the item table, added up in float32 whatever the table holds."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..problem import Problem
from .launch import kernel, launch


class TableSum:
    """Where the gradients of the blocks' items and of the targets are added up.

    - *Dense, float32*: in the gradient itself.
    - *Dense, half precision*: each row at the first place where it stands in the list of all items of the blocks and
      all targets; what has been added up is then rounded once. The list is as long as it can be, so nothing waits to
      know how many distinct items there are.
    - *Row-sparse*: every entry of that list has a row of its own. An item that stands there several times has several
      rows, as the gradient of an embedding has; ``coalesce()`` adds them up.

    Attributes:
        rows: to add to, float32.
        of_items: of the items of the blocks, which row that is; of_targets: of the targets ``(N,)``.
    """

    def __init__(self, problem: Problem, slot: Tensor, sparse: bool) -> None:
        table, labels, items = problem.table, problem.labels, problem.blocks.items
        self.table, self.entries, self.first = table, None, None
        if table.dtype == torch.float32 and not sparse:
            self.rows = torch.zeros_like(table, memory_format=torch.contiguous_format)
            self.of_items, self.of_targets = items, labels
            return
        items, (n_items, n_targets) = items.flatten(), (items.numel(), len(labels))
        if sparse:  # a target that does not count is not to be touched: an item that is stands in
            labels = labels.where(slot >= 0, items[:1])
        self.entries = torch.cat([items, labels])
        place = torch.arange(n_items + n_targets, device=table.device)
        self.rows = torch.zeros(len(place), table.shape[1], dtype=torch.float32, device=table.device)
        if not sparse:
            self.first = torch.full((len(table),), len(place), dtype=torch.int64, device=table.device)
            self.first.scatter_reduce_(0, self.entries, place, "amin")
            place = self.first[self.entries]
            self.entries = None
        self.of_items, self.of_targets = place.split([n_items, n_targets])

    def finish(self) -> tuple[Tensor, Tensor | None]:
        """Rows in the table's dtype, and whose they are; None: those of the whole table, one after the other."""
        if self.first is None:
            return self.rows.to(self.table.dtype), self.entries
        grad = torch.empty_like(self.table, memory_format=torch.contiguous_format)
        dim = grad.shape[1]
        block_d = min(triton.next_power_of_2(dim), 256)
        grid = triton.cdiv(len(grad), 2048 // block_d), triton.cdiv(dim, block_d)
        launch(
            place_kernel, grid, self.rows, self.first, grad, len(self.rows), len(grad), dim,
            BLOCK_C=2048 // block_d, BLOCK_D=block_d,
        )  # fmt: skip
        return grad, None


@kernel
def place_kernel(rows, first, grad, n_rows, n_items, dim, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr):
    """Some items: the sum that stands at their first place, or 0."""
    item = tl.program_id(0).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    there = (item < n_items)[:, None] & (column < dim)[None, :]
    row = tl.load(first + item, mask=item < n_items, other=n_rows)
    total = tl.load(rows + row[:, None] * dim + column[None, :], mask=there & (row < n_rows)[:, None], other=0.0)
    tl.store(grad + item[:, None] * dim + column[None, :], total, mask=there)

"""The gradient of the item table, row by row."""

import torch
from torch import Tensor

from .tiles import Plan, is_fake
from .torch_parts import add_rows


class TableGradient:
    """Adds up rows of the item table's gradient.

    They go straight to their places in a dense gradient. Where that would round them each time (a table in half
    precision), or where nothing of the table's size is wanted (``sparse``), the rows that have any are added up side by
    side first: those of the blocks' items and of the targets.

    Args:
        table: ``(C, D)``.
        touching: items that have a gradient, with repetitions; None: all.
        plan: how to compute.
        sparse: whether only rows that have a gradient are wanted.
        once: whether :meth:`begin` is called once for each row of the whole catalog. Rows that are added to again are
            added up in full precision, too.
    """

    def __init__(self, table: Tensor, touching: Tensor | None, plan: Plan, sparse: bool, once: bool = True) -> None:
        self.table, self.plan, self.sparse = table, plan, sparse
        self.whole_catalog = touching is None
        self.touched: Tensor | None = None
        if self.whole_catalog or not (sparse or table.dtype != plan.dtype):
            dtype = table.dtype if once else plan.dtype
            self.rows = torch.zeros_like(table, dtype=dtype, memory_format=torch.contiguous_format)
        else:
            self.touched = _distinct(touching, len(table))
            self.rows = table.new_zeros(len(self.touched), table.shape[1], dtype=plan.dtype)

    def add(self, items: Tensor, rows: Tensor) -> None:
        """Add ``rows (n, D)`` to the gradients of ``items (n,)``."""
        place = items if self.touched is None else torch.searchsorted(self.touched, items)
        add_rows(self.rows, place, rows, self.plan)

    def begin(self, part: slice, w: Tensor) -> Tensor:
        """Zeros like ``w (n, D)``, rows of a block of all positions, to add their gradients up in."""
        if self.whole_catalog and self.rows.dtype == self.plan.dtype:
            return self.rows[part]
        return torch.zeros_like(w, memory_format=torch.contiguous_format)

    def end(self, part: slice, items: Tensor, grad_w: Tensor) -> None:
        """Take what was begun; the rows are those of ``items (n,)``, which in the whole catalog are its ``part``."""
        if not self.whole_catalog:
            self.add(items, grad_w)
        elif self.rows.dtype != self.plan.dtype:
            self.rows[part] = grad_w

    def finish(self) -> tuple[Tensor, Tensor | None]:
        """The rows, in the table's dtype, and whose they are; None: those of the whole table, one after the other."""
        rows = self.rows.to(self.table.dtype)
        if self.touched is None or self.sparse:
            return rows, self.touched
        self.rows = None
        return torch.zeros_like(self.table).index_copy_(0, self.touched, rows), None


def _distinct(items: Tensor, at_most: int) -> Tensor:
    """The distinct items, sorted. Fake items are as distinct as can be."""
    if is_fake(items):
        return torch.empty_like(items)[:at_most].clone()
    return torch.unique(items).clone()  # which leaves behind the storage of all of them

"""Rows of the item table whose gradient may be row-sparse."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def look_up(table: Tensor, index: Tensor, sparse_grad: bool) -> Tensor:
    """Rows ``(n, D)`` of a ``table (C, D)``, for ``index (n,)``."""
    return _RowLookup.apply(table, index) if sparse_grad else F.embedding(index, table)


class _RowLookup(torch.autograd.Function):
    """The table's gradient is row-sparse and may hold a row several times."""

    @staticmethod
    def forward(table: Tensor, index: Tensor) -> Tensor:
        return table.index_select(0, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        table, index = inputs
        ctx.save_for_backward(index)
        ctx.shape = table.shape

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return torch.sparse_coo_tensor(index.unsqueeze(0), grad, ctx.shape, check_invariants=False), None

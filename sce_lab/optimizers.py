"""Adam for tables of which a step touches few rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sce_lab.losses.engine import decided, is_fake


class RowSparseAdam(torch.optim.Adam):
    """Fused Adam that takes row-sparse gradients, too.

    A parameter whose gradient is a sparse tensor of rows is updated in these rows only, as ``torch.optim.SparseAdam``
    does it ("lazy" Adam): rows without a gradient keep their value and their moments. All others are updated as in
    ``torch.optim.Adam``. Both keep the same state, so that checkpoints have one form.

    Memory of a step: about ``5 * R * D`` numbers for R rows with a gradient, whatever the size of the table.
    """

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        super().__init__(params, lr=lr, betas=betas, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient."""
        sparse = []
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.grad.layout == torch.sparse_coo:
                    sparse.append((p, p.grad, group))
                    p.grad = None
        value = super().step(closure)
        for p, grad, group in sparse:
            p.grad = grad
            self._update_rows(p, grad, group)
        return value

    def _update_rows(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        rows, values = grad._indices()[0], grad._values()  # (R,), (R, D)
        if not grad.is_coalesced():
            rows, values = distinct_rows(rows, values, at_most=len(p))
        beta1, beta2 = group["betas"]
        state["step"] += 1
        first = state["exp_avg"][rows].lerp_(values, 1 - beta1)
        state["exp_avg"].index_copy_(0, rows, first)
        second = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)
        state["exp_avg_sq"].index_copy_(0, rows, second)
        correction1, correction2 = (1 - beta ** state["step"].double() for beta in (beta1, beta2))
        scale = correction2.sqrt()
        # lr * (first / correction1) / (sqrt(second / correction2) + eps), with the numbers of the step put together
        second.sqrt_().add_(group["eps"] * scale)
        first.div_(second).mul_(-group["lr"] * scale / correction1)
        p.index_add_(0, rows, first)


def distinct_rows(rows: Tensor, values: Tensor, at_most: int) -> tuple[Tensor, Tensor]:
    """Rows that occur several times, added up: sorted distinct rows ``(R,)`` and their sums ``(R, D)``.

    The sums are made in the order of ``rows``, so they are the same each time (on a CPU). In a memory prediction the
    rows are as distinct as can be, with ``at_most`` of them.
    """
    if is_fake(rows):
        n_distinct = decided(lambda: 0, min(len(rows), at_most), rows)
        distinct, place = rows.new_empty(n_distinct), torch.empty_like(rows)
    else:
        distinct, place = torch.unique(rows, return_inverse=True)
        decided(lambda: len(distinct), 0, rows)
    return distinct, values.new_zeros(len(distinct), values.shape[1]).index_add_(0, place, values)


def add_rows(grad: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """The gradient of a table ``(C, D)``, dense or row-sparse, with ``values (N, D)`` added at ``rows (N,)``.

    A dense one is changed in place; of a sparse one there is a new one, whose rows are distinct and sorted.
    """
    if grad.layout == torch.strided:
        return grad.index_add_(0, rows, values)
    rows = torch.cat([grad._indices()[0], rows])
    values = torch.cat([grad._values(), values])
    rows, values = distinct_rows(rows, values, at_most=len(grad))
    return torch.sparse_coo_tensor(rows.unsqueeze(0), values, grad.shape, is_coalesced=True, check_invariants=False)

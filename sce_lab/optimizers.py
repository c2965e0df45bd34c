"""Adam for tables of which a step touches few rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from sce_lab.losses.engine import is_fake


class RowSparseAdam(torch.optim.Adam):
    """Fused Adam that takes row-sparse gradients, too.

    A parameter whose gradient is a sparse tensor of rows is updated in these rows only, as ``torch.optim.SparseAdam``
    does it ("lazy" Adam): rows without a gradient keep their value and their moments. All others are updated as in
    ``torch.optim.Adam``. Both keep the same state, so that checkpoints have one form.

    The corrections ``1 - beta ** step`` count the steps of the table, not of a row. A row that is first touched after
    thousands of steps therefore moves by ``lr * (1 - beta1) / sqrt(1 - beta2)``: 0.7 ``lr`` with the defaults here, 3.2
    ``lr`` with torch's (0.9, 0.999).

    Memory of a step: about ``5 * R * D`` numbers for R rows with a gradient, whatever the size of the table.

    Under ``torch.amp.GradScaler`` a step whose gradients are not finite is left out. To clip gradients, see
    :func:`clip_grad_norm_`: torch's does not know sparse ones.

    Raises:
        ValueError: ``weight_decay``, ``maximize`` or ``amsgrad`` in a group of parameters: a lazy update has none.
    """

    def __init__(
        self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.98), eps: float = 1e-8
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, fused=True)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own."""
        super().add_param_group(param_group)
        _check_group(self.param_groups[-1])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient, after ``closure``, if given, has computed them."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        sparse = []
        for group in self.param_groups:
            _check_group(group)
            for p in group["params"]:
                if p.grad is not None and p.grad.layout == torch.sparse_coo:
                    if p.grad.sparse_dim() != 1 or p.dim() != 2:
                        raise ValueError(
                            f"a sparse gradient must have rows (sparse_dim=1) of a table (C, D), got sparse_dim="
                            f"{p.grad.sparse_dim()} of shape {tuple(p.shape)}"
                        )
                    sparse.append((p, p.grad, group))
        for p, _, _ in sparse:
            p.grad = None
        super().step()
        scale, found_inf = (getattr(self, name, None) for name in ("grad_scale", "found_inf"))  # GradScaler sets them
        for p, grad, group in sparse:
            p.grad = grad
            if found_inf is None or not found_inf:
                self._update_rows(p, grad, group, scale)
        return value

    def _update_rows(self, p: Tensor, grad: Tensor, group: dict[str, Any], grad_scale: Tensor | None) -> None:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        rows, values = grad._indices()[0], grad._values()  # (R,), (R, D)
        if not grad.is_coalesced():
            rows, values = distinct_rows(rows, values, at_most=len(p))
        if grad_scale is not None:
            values = values / grad_scale
        beta1, beta2 = group["betas"]
        state["step"] += 1
        first = state["exp_avg"][rows].lerp_(values, 1 - beta1)
        state["exp_avg"].index_copy_(0, rows, first)
        second = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)
        state["exp_avg_sq"].index_copy_(0, rows, second)
        # 1 - beta ** step; through the logarithm it is exact in float32, and not every device has float64
        correction1, correction2 = (-torch.expm1(state["step"] * _log(beta)) for beta in (beta1, beta2))
        scale = correction2.sqrt()
        # lr * (first / correction1) / (sqrt(second / correction2) + eps), with the numbers of the step put together
        second.sqrt_().add_(group["eps"] * scale)
        first.div_(second).mul_(-group["lr"] * scale / correction1)
        p.index_add_(0, rows, first)


def _check_group(group: dict[str, Any]) -> None:
    for name in ("weight_decay", "maximize", "amsgrad"):
        if group[name]:
            raise ValueError(f"RowSparseAdam has no {name}, got {name}={group[name]}: use torch.optim.Adam for it")


def _log(beta: float) -> float:
    return math.log(beta) if beta else -math.inf


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """:func:`torch.nn.utils.clip_grad_norm_` that takes row-sparse gradients, too: scale all to a norm together.

    Returns:
        The norm ``()`` that they had. Rows that occur several times count as their sum; afterwards they occur once.
    """
    values = []
    for p in parameters:
        if p.grad is not None and p.grad.layout == torch.sparse_coo:
            p.grad = p.grad.coalesce()
            values.append(p.grad._values())
        elif p.grad is not None:
            values.append(p.grad)
    norm = torch.nn.utils.get_total_norm(values)
    scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for value in values:
        value.mul_(scale.to(value.device))
    return norm


def distinct_rows(rows: Tensor, values: Tensor, at_most: int) -> tuple[Tensor, Tensor]:
    """Rows that occur several times, added up: sorted distinct rows ``(R,)`` and their sums ``(R, D)``.

    The sums are made in the order of ``rows``, so they are the same each time (on a CPU). In a memory prediction the
    rows are as distinct as can be, with ``at_most`` of them.
    """
    if is_fake(rows):
        distinct, place = rows.new_empty(min(len(rows), at_most)), torch.empty_like(rows)
    else:
        distinct, place = torch.unique(rows, return_inverse=True)
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

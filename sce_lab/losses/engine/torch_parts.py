"""Small steps that the PyTorch backend takes in several places."""

import torch
from torch import Tensor

from .tiles import Plan


def take(table: Tensor, index: Tensor, plan: Plan) -> Tensor:
    """Rows of ``table (C, D)``: ``(*index.shape, D)`` in the dtype to compute in."""
    return table.index_select(0, index.flatten()).to(plan.dtype).view(*index.shape, table.shape[1])


def softplus(log_odds: Tensor) -> Tensor:
    """``log(e^t + sum of e^negatives) - t``, exact also where the target far outweighs the rest."""
    return torch.logaddexp(log_odds, torch.zeros_like(log_odds))


def cap(scores: Tensor, softcap: float | None) -> Tensor:
    """``softcap * tanh(scores / softcap)``, in place; without a softcap the scores as they are."""
    return scores if softcap is None else scores.div_(softcap).tanh_().mul_(softcap)


def slope(capped: Tensor, softcap: float) -> Tensor:
    """Derivative of :func:`cap` where it returned this: ``1 - (capped / softcap)^2``."""
    return capped.div(softcap).square_().neg_().add_(1.0)


def set_at_targets(logits: Tensor, targets: Tensor, items: Tensor, value: float | Tensor) -> None:
    """Set ``logits (n_b, n_x, n_y)`` wherever the sorted ``items (n_b, n_y)`` hold the slot's target ``(n_b, n_x)``.

    The ``value`` is one for all or ``(n_b, n_x)``. Of equal items the first is meant: the others are not there (see
    :meth:`.problem.Blocks.of`).
    """
    column = torch.searchsorted(items.contiguous(), targets).clamp(max=items.shape[1] - 1)  # (n_b, n_x)
    is_target = (items.gather(1, column) == targets).unsqueeze(2)
    column = column.unsqueeze(2)
    value = value.unsqueeze(2) if isinstance(value, Tensor) else value
    logits.scatter_(2, column, torch.where(is_target, value, logits.gather(2, column)))


def log_sum_exp_inplace(logits: Tensor) -> Tensor:
    """Log-sum-exp over the last dimension, which overwrites ``logits``; a row of nothing but -inf gives -inf."""
    largest = logits.amax(dim=-1).clamp(min=torch.finfo(logits.dtype).min)
    return logits.sub_(largest.unsqueeze(-1)).exp_().sum(dim=-1).log_().add_(largest)


def add_rows(table: Tensor, index: Tensor, rows: Tensor, plan: Plan) -> None:
    """``table[index] += rows``, with repetitions; deterministic on CUDA, too, where the plan says so."""
    rows = rows.to(table.dtype)
    if plan.deterministic:
        table.index_put_((index,), rows, accumulate=True)  # sorts first on CUDA: always the same sums
    else:
        table.index_add_(0, index, rows)

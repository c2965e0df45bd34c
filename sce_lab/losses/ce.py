"""Full softmax cross-entropy: the exact loss, and the memory wall that the others avoid."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from .common import accumulation_dtype, check_reduction, flatten_inputs, reduce_losses


def cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    r"""Softmax cross-entropy over the whole catalog.

    .. math:: \ell_n = -\log \frac{e^{x_n \cdot w_{t_n}}}{\sum_{i=0}^{C-1} e^{x_n \cdot w_i}}

    Memory: the logits, N x C numbers, exist several times over (scores, log-probabilities and their gradient):
    about ``3 * N * C * 4`` bytes in float32. With 51,200 positions and a million items that is 600 GB.

    Args:
        input: outputs of the model, ``(N, D)`` or ``(B, L, D)``.
        linear_weight: item embeddings ``(C, D)``, one row per item and no other row.
        target: the true next items, ``(N,)`` or ``(B, L)``.
        ignore_index: target value of positions that have no target.
        reduction: ``"none"`` (shape of ``target``, 0 where ignored), ``"mean"`` over the targets, or ``"sum"``.

    Returns:
        The loss: float32 for half-precision inputs and under autocast, the input's dtype otherwise. A batch
        without any target gives 0, which back-propagates zeros.

    Raises:
        ValueError: inputs that do not fit together, a target outside the catalog, an unknown reduction.
    """
    check_reduction(reduction)
    outputs, labels, valid = flatten_inputs(input, linear_weight, target, ignore_index)
    logits = F.linear(outputs, linear_weight)  # (N, C): the wall
    logits = logits.to(accumulation_dtype(logits.dtype))
    losses = F.cross_entropy(logits, labels, reduction="none")  # (N,)
    return reduce_losses(losses, valid, target.shape, reduction)


class CrossEntropyLoss(nn.Module):
    """Module around :func:`cross_entropy`; its settings are plain attributes."""

    label: ClassVar[str] = "Cross-entropy"

    def __init__(self, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.ignore_index = ignore_index
        self.reduction = reduction

    def forward(self, input: Tensor, linear_weight: Tensor, target: Tensor) -> Tensor:
        """Loss of ``input (..., D)`` against ``target (...)`` over the catalog ``linear_weight (C, D)``."""
        return cross_entropy(input, linear_weight, target, ignore_index=self.ignore_index, reduction=self.reduction)

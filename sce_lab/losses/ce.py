"""Full softmax cross-entropy: the exact loss. With its logits held it is the wall of memory; without, it is not."""

import torch.nn.functional as F
from torch import Tensor

from .engine import Blocks, How, Problem, resolved, without_autocast, workspace_or_default
from .inputs import check_reduction, flatten_inputs
from .module import LossModule
from .reduction import accumulation_dtype, reduce_losses, reduced_softmax


def cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    hold_logits: bool = True,
    ignore_index: int | None = -100,
    reduction: str = "mean",
    workspace_bytes: int | None = None,
    deterministic: bool = False,
    backend: str = "auto",
) -> Tensor:
    r"""Softmax cross-entropy over the whole catalog.

    .. math:: \ell_n = -\log \frac{e^{x_n \cdot w_{t_n}}}{\sum_{i=0}^{C-1} e^{x_n \cdot w_i}}

    Memory beyond inputs and gradients, with ``hold_logits``: the logits, N x C numbers, exist several times over
    (scores, log-probabilities and their gradient): about ``3 * N * C * 4`` bytes in float32. With 51,200 positions and
    a million items that is 600 GB. Without: ``workspace_bytes``, and some numbers a position. The logits of a tile are
    summed up at once, and where a tile has no room for all items of 64 positions they are computed again in backward.

    Time: ``2 N C D`` operations a matrix product, with three of them (logits, and the gradients of outputs and items)
    or four (logits twice). Nothing takes that down but to compute fewer logits.

    Args:
        input: outputs of the model, ``(N, D)`` or ``(B, L, D)``.
        linear_weight: item embeddings ``(C, D)``, one row per item and no other row.
        target: the true next items, ``(N,)`` or ``(B, L)``.
        hold_logits: write the matrix of logits down, as the plain loss does. Without, the values are the same.
        ignore_index: target value of positions that have no target; None: all have one.
        reduction: ``"none"`` (shape of ``target``, 0 where ignored), ``"mean"`` over the targets, or ``"sum"``.
        workspace_bytes: bytes for temporary tensors without held logits. By default 4 MiB on a CPU, about its cache;
            on a GPU 128 MiB with Triton, and without it a sixteenth of what is free (128 MiB to 2 GiB).
        deterministic: on CUDA, add up gradients in a fixed order. On a CPU the order is always the same.
        backend: who computes without held logits, "auto", "torch" or "triton".

    Returns:
        The loss: float32 for half-precision inputs and under autocast, the input's dtype otherwise. A batch
        without any target gives 0, which back-propagates zeros.

    Raises:
        ValueError: inputs that do not fit together, a target outside the catalog, an unknown reduction.

    Source of the version without held logits: Wijmans, Huval, Hertzberg, Koltun, Krähenbühl, "Cut your losses in
    large-vocabulary language models", ICLR 2025, arXiv 2411.09009.
    """
    check_reduction(reduction)
    inputs = flatten_inputs(input, linear_weight, target, ignore_index)
    if hold_logits:
        logits = F.linear(inputs.finite_outputs, linear_weight)  # (N, C): the wall
        logits = logits.to(accumulation_dtype(logits.dtype))
        losses = F.cross_entropy(logits, inputs.labels, reduction="none")  # (N,)
        return reduce_losses(losses, inputs.valid, target.shape, reduction)
    with without_autocast(input):
        problem = Problem(inputs.outputs, linear_weight, inputs.labels, inputs.valid, Blocks())
        backend = resolved(backend, inputs.outputs, linear_weight, deterministic)
        how = How(workspace_or_default(workspace_bytes, input, backend), False, deterministic, backend)
        return reduced_softmax(problem, how, target.shape, reduction)


class CrossEntropyLoss(LossModule, function=cross_entropy, label="Cross-entropy"):
    """Module around :func:`cross_entropy`."""


class CutCrossEntropyLoss(
    LossModule, function=cross_entropy, label="Cross-entropy, logits never held", hold_logits=False
):
    """Module around :func:`cross_entropy` that never holds the logits."""

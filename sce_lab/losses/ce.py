"""Full softmax cross-entropy: the exact loss. With its logits held it is the wall of memory; without, it is not."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .engine import Blocks, How, resolved, without_autocast, workspace_or_default
from .inputs import (
    Inputs,
    accumulation_dtype,
    check_reduction,
    check_scale,
    check_share,
    check_softcap,
    check_switches,
    flatten_inputs,
)
from .module import LossModule
from .reduction import block_losses, reduce_losses, reduced_softmax


def cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    hold_logits: bool = True,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    logit_scale: float | Tensor = 1.0,
    softcap: float | None = None,
    ignore_index: int | None = -100,
    reduction: str = "mean",
    workspace_bytes: int | None = None,
    deterministic: bool = False,
    backend: str = "auto",
) -> Tensor:
    r"""Softmax cross-entropy over the whole catalog.

    .. math:: \ell_n = -\log \frac{e^{s_n(t_n)}}{\sum_{i=0}^{C-1} e^{s_n(i)}},
              \qquad s_n(i) = a \, x_n \cdot w_i + b_i

    with a scale a, 1 by default, and a bias b, if there is one. With ``weight`` u and ``label_smoothing`` e a position
    has ``(1 - e) u_t l_n + e / C sum_i u_i (log Z_n - s_n(i))``, as in ``torch.nn.functional.cross_entropy``. The
    second sum needs no logits: ``sum_i u_i w_i`` is one vector.

    A position with several targets is several positions with one output each:
    ``cross_entropy(input.unsqueeze(-2).expand(*target.shape, D), linear_weight, target)`` for ``target (..., P)``.

    Memory beyond inputs and gradients, with ``hold_logits``: the logits, N x C numbers, exist several times over
    (scores, log-probabilities and their gradient): about ``3 * N * C * 4`` bytes in float32. With 51,200 positions and
    a million items that is 600 GB. Without: ``workspace_bytes``, and some numbers a position. The logits of a tile are
    summed up at once, and where a tile has no room for all items of 64 positions they are computed again in backward.

    Time: ``2 N C D`` operations a matrix product, with three of them (logits, and the gradients of outputs and items)
    or four (logits twice). Nothing takes that down but to compute fewer logits.

    Args:
        input: outputs of the model, ``(N, D)`` or ``(B, L, D)``.
        linear_weight: item embeddings ``(C, D)``, one row per item and no other row.
            A DTensor of them, sharded by rows, makes it the loss of all ranks' batches: see ``docs/distributed.md``.
        target: the true next items, ``(N,)`` or ``(B, L)``.
        linear_bias: ``(C,)``, added to the logits of each item.
        hold_logits: write the matrix of logits down, as the plain loss does. Without, the values are the same. Over a
            sharded table it is never written down.
        weight: ``(C,)``, of a position with this target; the mean is over what they sum up to. It has no gradient.
        label_smoothing: share of the target that is spread over all items, from 0 to 1. Without held logits it takes
            one more tensor like ``linear_weight``, the gradient of that vector.
        logit_scale: of cosine models, whose outputs and items have length 1; a tensor has its gradient.
        softcap: take ``softcap * tanh(logit / softcap)`` for each logit, as Gemma 2 does with 30; None: as they are.
        ignore_index: target value of positions that have no target; None: all have one.
        reduction: ``"none"`` (shape of ``target``, 0 where ignored), ``"mean"`` over the targets, or ``"sum"``.
        workspace_bytes: bytes for temporary tensors without held logits. By default 4 MiB on a CPU, about its cache;
            on a GPU 128 MiB with Triton, and without it a sixteenth of what is free (128 MiB to 2 GiB).
        deterministic: on CUDA, add up gradients in a fixed order. On a CPU the order is always the same.
        backend: who computes without held logits, "auto", "torch" or "triton".

    Returns:
        The loss: float32 for half-precision inputs and under autocast, the input's dtype otherwise. Logits that are
        held are in half precision then, as those of the plain loss are; others in float32. A batch without any target,
        or with targets of weight 0 only, gives 0, which back-propagates zeros.

    Raises:
        ValueError: inputs that do not fit together, a target outside the catalog, an unknown reduction.

    Source of the version without held logits: Wijmans, Huval, Hertzberg, Koltun, Krähenbühl, "Cut your losses in
    large-vocabulary language models", ICLR 2025, arXiv 2411.09009.
    """
    check_reduction(reduction)
    _check(weight, label_smoothing, logit_scale, softcap, hold_logits)
    options = {"softcap": softcap, "may_be_sharded": True}
    inputs = flatten_inputs(input, linear_weight, target, ignore_index, linear_bias, logit_scale, **options)
    if inputs.everyone is not None and label_smoothing:
        raise ValueError(f"label_smoothing does not go with a sharded item table, got {label_smoothing!r}")
    of_classes, weights = _weights(weight, inputs, linear_weight)
    if hold_logits and inputs.everyone is None:
        logits = F.linear(inputs.finite_outputs.to(input.dtype), linear_weight)  # (N, C): the wall
        logits = logits.to(accumulation_dtype(logits.dtype))
        if softcap is not None:
            logits = logits.div_(softcap).tanh_() * softcap
        if inputs.bias is not None:
            logits = logits.add_(inputs.bias)
        losses = F.cross_entropy(logits, inputs.labels, of_classes, reduction="none", label_smoothing=label_smoothing)
        return reduce_losses(losses, inputs.valid, target.shape, reduction, weights)
    with without_autocast(input):
        backend = resolved(backend, inputs.outputs, linear_weight, deterministic, special=inputs.special)
        how = How(workspace_or_default(workspace_bytes, input, backend), False, deterministic, backend)
        if label_smoothing == 0:
            return reduced_softmax(inputs, linear_weight, Blocks(), how, target.shape, reduction, weights)
        losses, _ = block_losses(inputs, linear_weight, Blocks(), how)
        spread = _spread(inputs, linear_weight, losses, of_classes)
        losses = (1 - label_smoothing) * (losses if weights is None else losses * weights) + label_smoothing * spread
        return reduce_losses(losses, inputs.valid, target.shape, reduction, weights)


def _weights(weight: Tensor | None, inputs: Inputs, linear_weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Weights of items ``(C,)`` and of positions ``(N,)``."""
    if weight is None:
        return None, None
    if weight.shape != linear_weight.shape[:1]:
        raise ValueError(
            f"weight must be one number for each of the {len(linear_weight)} items, got shape {tuple(weight.shape)}"
        )
    weight = weight.to(accumulation_dtype(inputs.outputs.dtype, linear_weight.dtype))
    return weight, weight[inputs.labels].where(inputs.valid, 0.0)


def _spread(inputs: Inputs, linear_weight: Tensor, losses: Tensor, of_classes: Tensor | None) -> Tensor:
    """``sum_i u_i (log Z - s(i)) / C`` of each position ``(N,)``, from its loss and without its logits."""
    x, w = inputs.finite_outputs.to(losses.dtype), linear_weight.to(losses.dtype)
    catalog_size = len(w)
    share = torch.full_like(w[:, 0], 1 / catalog_size) if of_classes is None else of_classes / catalog_size  # (C,)
    log_z = losses + (x * w[inputs.labels]).sum(dim=1)
    spread = share.sum() * log_z - x @ (share @ w)
    if inputs.bias is not None:
        spread = spread + share.sum() * inputs.bias[inputs.labels] - share @ inputs.bias
    return spread


def _check(
    weight: Tensor | None,
    label_smoothing: float,
    logit_scale: float | Tensor,
    softcap: float | None,
    hold_logits: bool = True,
    **_: Any,
) -> None:
    check_scale(logit_scale)
    check_softcap(softcap)
    check_share("label_smoothing", label_smoothing)
    check_switches(hold_logits=hold_logits)
    if label_smoothing and softcap is not None and not hold_logits:
        raise ValueError(
            f"label_smoothing without held logits sums them up by one product, which capped ones do not allow, got "
            f"label_smoothing={label_smoothing!r} and softcap={softcap!r}: leave one out, or hold the logits"
        )
    if weight is not None and (weight.dim() != 1 or weight.is_complex()):
        raise ValueError(
            f"weight must be (C,), one number for each item, got shape {tuple(weight.shape)} of {weight.dtype}"
        )
    if weight is not None and weight.requires_grad:
        raise ValueError("weight has no gradient here, as in torch.nn.functional.cross_entropy: detach() it")


class CrossEntropyLoss(
    LossModule,
    function=cross_entropy,
    label="Cross-entropy",
    says="Scores every item at every position, and holds all the scores.",
    check=_check,
):
    """Module around :func:`cross_entropy`."""


class CutCrossEntropyLoss(
    LossModule,
    function=cross_entropy,
    label="Cross-entropy, logits never held",
    says="The same loss, with scores made and summed up a tile at a time.",
    check=_check,
    hold_logits=False,
):
    """Module around :func:`cross_entropy` that never holds the logits."""

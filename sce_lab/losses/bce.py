"""Binary cross-entropy with sampled negatives: what the original SASRec trains with, and gSASRec's calibration."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .draws import draw
from .inputs import (
    accumulation_dtype,
    check_positive,
    check_reduction,
    check_scale,
    check_share,
    check_sparse_grad,
    flatten_inputs,
    flatten_negatives,
)
from .module import LossModule
from .reduction import reduce_losses
from .rows import look_up
from .sampled import check_sharing
from .sequences import Pieces, cut_sequences


def binary_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    lengths: Tensor | None = None,
    n_negatives: int = 1,
    calibration: float = 0.0,
    shared_negatives: bool | str = False,
    negatives: Tensor | None = None,
    logit_scale: float | Tensor = 1.0,
    ignore_index: int | None = -100,
    reduction: str = "mean",
    generator: torch.Generator | None = None,
    sparse_grad: bool = False,
) -> Tensor:
    r"""Binary cross-entropy: is this the next item? Yes for the target, no for each of the sampled negatives.

    .. math:: \ell_n = -\beta \log \sigma(x_n \cdot w_t)
              - \sum_{j=1}^{k} [i_j \ne t] \, \log \big(1 - \sigma(x_n \cdot w_{i_j})\big),
              \qquad i_j \sim \text{uniform}, \qquad \beta = 1 - c \Big(1 - \frac{k}{C - 1}\Big)

    The negatives are independent draws, with replacement, from the whole catalog; a draw that hits the target is
    dropped. (The original SASRec draws from the items outside the user's history, which a loss does not know.)

    Every question is answered by itself, and of the negatives only a sample is asked: trained to the end the model
    says "yes" too easily. The calibration ``c`` of gBCE weighs the positive down to make up for it: 0 is plain binary
    cross-entropy, 1 makes up for all of the sampling, and gSASRec takes 0.75 with 256 negatives.

    Memory: ``N * (n_negatives + 1)`` logits a few times over, and without ``shared_negatives`` also
    ``N * n_negatives * D`` numbers of item embeddings; for sequences as many for each piece of up to 16 positions.

    Args:
        input: outputs of the model, ``(N, D)`` or ``(B, L, D)``.
        linear_weight: item embeddings ``(C, D)``.
        target: the true next items, ``(N,)`` or ``(B, L)``.
        linear_bias: ``(C,)``, added to the logits of each item.
        lengths: ``(S,)`` positions of each sequence, where sequences stand one behind the other; by default they are
            the rows of a target ``(B, L)``. Only ``shared_negatives="sequence"`` asks for them.
        n_negatives: draws, k; the original SASRec has one.
        calibration: gBCE's t, from 0 to 1, called c above.
        shared_negatives: one set of negatives for the whole batch (True), one for each ``"sequence"``, or one for each
            position (False).
        negatives: use these items, ``(k,)`` or ``(..., k)`` after the shape of ``target``, as if drawn; ``(S, k)`` for
            sequences.
        logit_scale: of cosine models, whose outputs and items have length 1; a tensor has its gradient.
        ignore_index: target value of positions that have no target; None: all have one.
        reduction: ``"none"`` (shape of ``target``, 0 where ignored), ``"mean"`` over the targets, or ``"sum"``.
        generator: source of the randomness, torch's global one by default.
        sparse_grad: give ``linear_weight`` a row-sparse gradient: a row for each target and each draw.

    Returns:
        The loss: float32 for half-precision inputs and under autocast, the input's dtype otherwise; the negatives'
        logits are in half precision then. A batch without any target gives 0, which back-propagates zeros.

    Raises:
        ValueError: a setting, named with its value, that is out of range.

    Source: Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018, section III-E; Petrov and
    Macdonald, "gSASRec: Reducing overconfidence in sequential recommendation trained with negative sampling",
    RecSys 2023, arXiv 2308.07192, section 5.
    """
    check_reduction(reduction)
    _check(n_negatives, calibration, shared_negatives, logit_scale)
    check_sparse_grad(sparse_grad, linear_weight)
    inputs = flatten_inputs(input, linear_weight, target, ignore_index, linear_bias, logit_scale)
    by_sequence = shared_negatives == "sequence"
    pieces = cut_sequences(lengths, target.shape, input.device) if by_sequence else None
    n_sequences = pieces.n_sequences if by_sequence else None
    outputs, labels, catalog_size = inputs.finite_outputs, inputs.labels, len(linear_weight)
    n_positions = len(outputs)

    if negatives is None:
        n_sets = n_sequences if by_sequence else n_positions
        shape = (n_negatives,) if shared_negatives is True else (n_sets, n_negatives)
        negatives = draw(torch.randint, catalog_size, shape, device=input.device, generator=generator)
    else:
        negatives = flatten_negatives(negatives, target.shape, catalog_size, n_sequences)
    k = negatives.shape[-1]
    beta = 1 - calibration * (1 - min(k / max(catalog_size - 1, 1), 1))

    if sparse_grad:  # the row of a target that does not count is not to be touched: another that is touched stands in
        labels = labels.where(inputs.valid, negatives.flatten()[:1])
    # One lookup for both: two would each leave a dense (C, D) gradient to be added up.
    rows = look_up(linear_weight, torch.cat([labels, negatives.flatten()]), sparse_grad)
    targets, negative_items = rows.split([n_positions, negatives.numel()])  # (N, D)
    negative_items = negative_items.view(*negatives.shape, rows.shape[1])  # (k, D) or (N, k, D)
    dtype = accumulation_dtype(torch.promote_types(outputs.dtype, rows.dtype))
    target_logits = torch.linalg.vecdot(outputs.to(dtype), targets.to(dtype))  # (N,)
    outputs = outputs.to(input.dtype)
    if by_sequence:
        logits, negatives = _of_sequences(outputs, negative_items, negatives, pieces)  # (N, k)
    elif negatives.dim() == 1:
        logits = F.linear(outputs, negative_items)  # (N, k)
    else:
        logits = torch.matmul(negative_items, outputs.unsqueeze(2)).squeeze(2)  # (N, k)
    if inputs.bias is not None:
        target_logits, logits = target_logits + inputs.bias[labels], logits.to(dtype) + inputs.bias[negatives]
    logits = logits.to(dtype).masked_fill(negatives == labels.unsqueeze(1), -torch.inf)  # accidental hits cost nothing

    # -log sigmoid(s) = softplus(-s), and -log(1 - sigmoid(s)) = softplus(s).
    losses = beta * F.softplus(-target_logits) + F.softplus(logits).sum(dim=1)  # (N,)
    return reduce_losses(losses, inputs.valid, target.shape, reduction)


def _of_sequences(outputs: Tensor, items: Tensor, negatives: Tensor, pieces: Pieces) -> tuple[Tensor, Tensor]:
    """Logits ``(N, k)`` with the ``items (S, k, D)`` of each position's sequence, and which they are ``(N, k)``."""
    rows, sequence, _ = pieces
    x = outputs[rows.clamp(min=0)]  # (P, m, D)
    logits = torch.matmul(x, items[sequence].mT).flatten(0, 1)  # (P m, k)
    slot = torch.arange(rows.numel(), device=rows.device)
    n_positions = len(outputs)
    at = slot.new_zeros(n_positions + 1).scatter(0, rows.flatten().where(rows.flatten() >= 0, n_positions), slot)
    at = at[:n_positions]  # where each position stands in the pieces, (N,)
    return logits[at], negatives[sequence[at // max(rows.shape[1], 1)]]


def _check(
    n_negatives: int, calibration: float, shared_negatives: bool | str, logit_scale: float | Tensor, **_: Any
) -> None:
    check_positive("n_negatives", n_negatives)
    check_sharing(shared_negatives)
    check_scale(logit_scale)
    check_share("calibration", calibration)


class BinaryCrossEntropyLoss(
    LossModule,
    function=binary_cross_entropy,
    label="BCE",
    says="Asks one question an item: is it the next? Yes for the target, no for a random one.",
    check=_check,
):
    """Module around :func:`binary_cross_entropy`."""

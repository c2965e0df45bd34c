"""Binary cross-entropy with sampled negatives: what the original SASRec trains with, and gSASRec's calibration."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .common import accumulation_dtype, check_positive, check_reduction, flatten_inputs, reduce_losses


def binary_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    n_negatives: int = 1,
    calibration: float = 0.0,
    shared_negatives: bool = False,
    negatives: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    generator: torch.Generator | None = None,
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
    ``N * n_negatives * D`` numbers of item embeddings.

    Args:
        input: outputs of the model, ``(N, D)`` or ``(B, L, D)``.
        linear_weight: item embeddings ``(C, D)``.
        target: the true next items, ``(N,)`` or ``(B, L)``.
        n_negatives: draws, k; the original SASRec has one.
        calibration: gBCE's t, from 0 to 1, called c above.
        shared_negatives: one set of negatives for the whole batch, or one for each position.
        negatives: use these items, ``(k,)`` or ``(..., k)`` after the shape of ``target``, as if drawn.
        ignore_index: target value of positions that have no target.
        reduction: ``"none"`` (shape of ``target``, 0 where ignored), ``"mean"`` over the targets, or ``"sum"``.
        generator: source of the randomness, torch's global one by default.

    Returns:
        The loss: float32 for half-precision inputs and under autocast, the input's dtype otherwise. A batch
        without any target gives 0, which back-propagates zeros.

    Raises:
        ValueError: a setting, named with its value, that is out of range.

    Source: Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018, section III-E; Petrov and
    Macdonald, "gSASRec: Reducing overconfidence in sequential recommendation trained with negative sampling",
    RecSys 2023, arXiv 2308.07192, section 5.
    """
    check_reduction(reduction)
    _check_calibration(calibration)
    outputs, labels, valid = flatten_inputs(input, linear_weight, target, ignore_index)
    n_positions, catalog_size = len(outputs), len(linear_weight)

    if negatives is None:
        k = check_positive("n_negatives", n_negatives)
        shape = (k,) if shared_negatives else (n_positions, k)
        where = input.device if generator is None else generator.device
        negatives = torch.randint(catalog_size, shape, generator=generator, device=where).to(input.device)
    elif negatives.dim() != 1:
        if negatives.shape[:-1] != target.shape:
            raise ValueError(f"negatives must be (k,) or {(*target.shape, 'k')}, got shape {tuple(negatives.shape)}")
        negatives = negatives.reshape(-1, negatives.shape[-1])
    k = negatives.shape[-1]
    beta = 1 - calibration * (1 - min(k / max(catalog_size - 1, 1), 1))

    # One lookup for both: two would each leave a dense (C, D) gradient to be added up.
    rows = F.embedding(torch.cat([labels, negatives.flatten()]), linear_weight)
    targets, negative_items = rows.split([n_positions, negatives.numel()])  # (N, D)
    negative_items = negative_items.view(*negatives.shape, rows.shape[1])  # (k, D) or (N, k, D)
    dtype = accumulation_dtype(torch.promote_types(outputs.dtype, rows.dtype))
    target_logits = torch.linalg.vecdot(outputs.to(dtype), targets.to(dtype))  # (N,)
    if negatives.dim() == 1:
        logits = F.linear(outputs, negative_items)  # (N, k)
    else:
        logits = torch.matmul(negative_items, outputs.unsqueeze(2)).squeeze(2)  # (N, k)
    logits = logits.to(dtype).masked_fill(negatives == labels.unsqueeze(1), -torch.inf)  # accidental hits cost nothing

    # -log sigmoid(s) = softplus(-s), and -log(1 - sigmoid(s)) = softplus(s).
    losses = beta * F.softplus(-target_logits) + F.softplus(logits).sum(dim=1)  # (N,)
    return reduce_losses(losses, valid, target.shape, reduction)


def _check_calibration(calibration: float) -> None:
    if not 0 <= calibration <= 1:
        raise ValueError(f"calibration must lie between 0 (plain) and 1, got {calibration!r}")


class BinaryCrossEntropyLoss(nn.Module):
    """Module around :func:`binary_cross_entropy`; its settings are plain attributes that may change between steps."""

    label: ClassVar[str] = "BCE"

    def __init__(
        self,
        *,
        n_negatives: int = 1,
        calibration: float = 0.0,
        shared_negatives: bool = False,
        ignore_index: int = -100,
        reduction: str = "mean",
        generator: torch.Generator | None = None,
    ) -> None:
        """See :func:`binary_cross_entropy` for the settings and the errors."""
        super().__init__()
        check_positive("n_negatives", n_negatives)
        check_reduction(reduction)
        _check_calibration(calibration)
        self.n_negatives = n_negatives
        self.calibration = calibration
        self.shared_negatives = shared_negatives
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.generator = generator

    def forward(self, input: Tensor, linear_weight: Tensor, target: Tensor) -> Tensor:
        """Loss of ``input (..., D)`` against ``target (...)`` over the catalog ``linear_weight (C, D)``."""
        return binary_cross_entropy(
            input,
            linear_weight,
            target,
            n_negatives=self.n_negatives,
            calibration=self.calibration,
            shared_negatives=self.shared_negatives,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            generator=self.generator,
        )

    def extra_repr(self) -> str:
        """The settings, for ``print(loss)``."""
        return f"n_negatives={self.n_negatives}, calibration={self.calibration}, shared={self.shared_negatives}"

"""Sampled softmax: the sum over the catalog is estimated from a few negatives."""

from typing import Any

import torch
from torch import Tensor

from .engine import Blocks, How, blocks_for, resolved, without_autocast, workspace_or_default
from .inputs import (
    accumulation_dtype,
    check_positive,
    check_reduction,
    check_scale,
    check_softcap,
    check_sparse_grad,
    check_switches,
    flatten_inputs,
    flatten_negatives,
)
from .module import LossModule
from .proposals import Negatives, Proposal, Targets, check_size
from .reduction import block_losses, reduce_losses, reduced_softmax
from .samplings import make_proposal
from .sequences import Pieces, cut_sequences
from .sharded import check_same


def sampled_softmax(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    lengths: Tensor | None = None,
    n_negatives: int = 256,
    sampling: str | Proposal = "uniform",
    item_counts: Tensor | None = None,
    exponent: float = 0.75,
    uniform_share: float = 0.5,
    shared_negatives: bool | str = True,
    logq_correction: bool = True,
    positive_in_denominator: bool = True,
    negatives: Tensor | None = None,
    logit_scale: float | Tensor = 1.0,
    softcap: float | None = None,
    ignore_index: int | None = -100,
    reduction: str = "mean",
    generator: torch.Generator | None = None,
    sparse_grad: bool = False,
    workspace_bytes: int | None = None,
    deterministic: bool = False,
    backend: str = "auto",
) -> Tensor:
    r"""Softmax cross-entropy of the target against sampled negatives.

    .. math:: \ell_n = -x_n \cdot w_t + \log \Big( e^{x_n \cdot w_t}
              + \sum_{j=1}^{k} [i_j \ne t] \, e^{x_n \cdot w_{i_j} - \log k Q(i_j)} \Big), \qquad i_j \sim Q

    What the correction means, exactly. The ``k`` negatives are independent draws, with replacement, from Q over the
    *whole* catalog, target included. A draw that hits the target is dropped, and ``k`` is not reduced for it. Item i
    is then expected ``k Q(i)`` times, so dividing its ``exp`` by ``k Q(i)`` makes the inner sum an unbiased estimate
    of the sum over all items but the target. The target itself is always there and is not corrected. The
    logarithm of an unbiased estimate lies a little low, by O(1 / k): as k grows the loss converges to cross-entropy.
    Without the correction the loss is a softmax over the drawn items as they come: CE-.

    With ``positive_in_denominator=False`` it is the corrected correction of Khrylchenko et al.: the target leaves the
    denominator, and each position is weighed by how unsure it is, a number without a gradient:

    .. math:: \ell_n = \mathrm{sg}(1 - p_t) \Big( -x_n \cdot w_t
              + \log \sum_{j=1}^{k} [i_j \ne t] \, e^{x_n \cdot w_{i_j} - \log k Q(i_j)} \Big)

    with p the softmax above. The value differs, the gradient does not: both are ``sum_j p_j w_j - (1 - p_t) w_t``. What
    that paper mends is a correction of the target's own logit, which was never done here.

    The proposals Q: ``"uniform"``, ``"log_uniform"``, ``"popularity"``, ``"in_batch"``, ``"mixed"``, or an object, see
    :mod:`sce_lab.losses.proposals` and :mod:`sce_lab.losses.in_batch`.

    In the matrix of logits shared negatives are k columns with a bias of ``-log k Q``, one's own are k cells a row,
    those of a sequence k cells for up to 16 rows at a time.

    Memory beyond inputs and gradients: ``workspace_bytes`` for a tile of logits, which are never held whole, and some
    numbers a position and a draw. Draws of one's own are ``N * n_negatives`` numbers, sorted and weighed: some 50 bytes
    each; of S sequences ``S * n_negatives``, and once more some 16 bytes for each piece of up to 16 positions.

    Args:
        input: outputs of the model, ``(N, D)`` or ``(B, L, D)``.
        linear_weight: item embeddings ``(C, D)``.
            A DTensor of them, sharded by rows, makes it the loss of all ranks' batches: see ``docs/distributed.md``.
        target: the true next items, ``(N,)`` or ``(B, L)``.
        linear_bias: ``(C,)``, added to the logits of each item.
        lengths: ``(S,)`` positions of each sequence, where sequences stand one behind the other; by default they are
            the rows of a target ``(B, L)``. Only ``shared_negatives="sequence"`` asks for them.
        n_negatives: draws, k; for each position or sequence anew when they are not shared.
        sampling: the proposal Q, by its name or as an object.
        item_counts: ``(C,)`` training count of each item, for a proposal by name.
        exponent: flattens the popularity (``"popularity"`` only): 0 is uniform, 1 the popularity itself.
        uniform_share: share of uniform draws (``"mixed"`` only).
        shared_negatives: one set of negatives for the whole batch (True), one for each ``"sequence"``, or one for each
            position (False).
        logq_correction: subtract ``log k Q(i)`` from the logits of negatives.
        positive_in_denominator: False: see above.
        negatives: use these items, ``(k,)`` or ``(..., k)`` after the shape of ``target``, as if drawn from Q;
            ``(S, k)`` for sequences.
        logit_scale: of cosine models, whose outputs and items have length 1; a tensor has its gradient.
        softcap: take ``softcap * tanh(logit / softcap)`` for each logit, as Gemma 2 does with 30; None: as they are.
        ignore_index: target value of positions that have no target; None: all have one.
        reduction: ``"none"`` (shape of ``target``, 0 where ignored), ``"mean"`` over the targets, or ``"sum"``.
        generator: source of the randomness, torch's global one by default.
        sparse_grad: give ``linear_weight`` a row-sparse gradient: a row for each item drawn and each target.
        workspace_bytes: bytes for temporary tensors. By default 4 MiB on a CPU, about its cache; on a GPU 128 MiB with
            Triton, and without it a sixteenth of what is free (128 MiB to 2 GiB).
        deterministic: on CUDA, add up gradients in a fixed order. On a CPU the order is always the same.
        backend: who computes, "auto", "torch" or "triton".

    Returns:
        The loss: float32 for half-precision inputs and under autocast, the input's dtype otherwise. A batch
        without any target gives 0, which back-propagates zeros.

    Raises:
        ValueError: a setting, named with its value, that is out of range or misses what it needs.

    Source: Bengio and Senecal, "Adaptive importance sampling to accelerate training of a neural probabilistic
    language model", 2008 (importance sampling of the partition function); Yi et al., "Sampling-bias-corrected
    neural modeling for large corpus item recommendations", RecSys 2019 (in-batch); Khrylchenko et al., "Correcting the
    LogQ correction: Revisiting sampled softmax for large-scale retrieval", RecSys 2025, arXiv 2507.09331. CE- by that
    name: arXiv 2509.09682.
    """
    check_reduction(reduction)
    check_sparse_grad(sparse_grad, linear_weight)
    check_sharing(shared_negatives)
    check_switches(logq_correction=logq_correction, positive_in_denominator=positive_in_denominator)
    options = {"softcap": softcap, "may_be_sharded": True, "sparse_grad": sparse_grad}
    inputs = flatten_inputs(input, linear_weight, target, ignore_index, linear_bias, logit_scale, **options)
    everyone = inputs.everyone
    if everyone is not None:
        _check_sharded(shared_negatives, negatives)
    proposal, catalog_size = make_proposal(sampling, item_counts, exponent, uniform_share), len(linear_weight)
    if shared_negatives is not True:
        proposal.check_own()
    by_sequence = shared_negatives == "sequence"
    pieces = cut_sequences(lengths, target.shape, input.device) if by_sequence else None
    n_sequences = pieces.n_sequences if by_sequence else None
    if item_counts is not None:
        check_size(item_counts, catalog_size)
    if negatives is None:
        k = check_positive("n_negatives", n_negatives)
        labels, valid = (inputs.labels, inputs.valid) if everyone is None else (everyone.labels, everyone.valid)
        n_sets = n_sequences if by_sequence else None if shared_negatives else len(labels)
        drawn = proposal.negatives(Targets(labels, valid, catalog_size, generator), k, n_sets)
    else:
        drawn = proposal.given(flatten_negatives(negatives, target.shape, catalog_size, n_sequences), catalog_size)

    with without_autocast(input):
        dtype = accumulation_dtype(input.dtype, linear_weight.dtype)
        special = by_sequence or inputs.special or drawn.log_expected.requires_grad
        backend = resolved(backend, inputs.outputs, linear_weight, deterministic, special=special)
        blocks = _blocks(drawn, logq_correction, dtype, pieces, backend)
        if everyone is not None:
            _check_bias(blocks.bias)
            check_same(everyone, "negatives", blocks.items, blocks.bias)
        how = How(workspace_or_default(workspace_bytes, input, backend), sparse_grad, deterministic, backend)
        if positive_in_denominator:
            return reduced_softmax(inputs, linear_weight, blocks, how, target.shape, reduction)
        losses, _ = block_losses(inputs, linear_weight, blocks, how)
        unsure = -torch.expm1(-losses.detach())  # 1 - p_t
        value = unsure * losses.detach() + torch.special.xlogy(unsure, unsure)  # the log-odds, weighed
        losses = losses + (value - losses.detach())
        return reduce_losses(losses, inputs.valid, target.shape, reduction, everyone=everyone)


def _blocks(drawn: Negatives, logq_correction: bool, dtype: torch.dtype, pieces: Pieces | None, backend: str) -> Blocks:
    """One block of k columns for all positions, one of k cells for each, or one for each piece of a sequence."""
    bias = -drawn.log_expected.to(dtype) if logq_correction else torch.zeros_like(drawn.items, dtype=dtype)
    if drawn.usable is not None:
        bias = bias.masked_fill(~drawn.usable, -torch.inf)
    if drawn.items.dim() == 1:
        return blocks_for(backend, None, drawn.items.unsqueeze(0), bias.unsqueeze(0))
    if pieces is None:
        return blocks_for(backend, torch.arange(len(bias), device=bias.device).unsqueeze(1), drawn.items, bias)
    _, items, bias = Blocks.of(None, drawn.items, bias)
    return Blocks(pieces.rows, items[pieces.sequence], bias[pieces.sequence])


def _check_sharded(shared_negatives: bool | str, negatives: Tensor | None) -> None:
    """A ValueError unless all ranks can know all draws."""
    if shared_negatives == "sequence" or (negatives is not None and negatives.dim() > 1):
        raise ValueError(
            "a sharded item table goes with negatives shared by the whole batch, or drawn for each position, got "
            f"shared_negatives={shared_negatives!r}" + ("" if negatives is None else " and negatives of one's own")
        )


def _check_bias(bias: Tensor) -> None:
    """A ValueError if it has a gradient: over a sharded table nothing would send it to the sampler."""
    if bias.requires_grad:
        raise ValueError(
            "a sharded item table goes with samplers without a gradient, but log_probability of this one has one: "
            "detach() it, give logq_correction=False, or call full_tensor()"
        )


def check_sharing(shared_negatives: bool | str) -> None:
    """A ValueError unless it is one of three."""
    if not isinstance(shared_negatives, bool) and shared_negatives != "sequence":
        raise ValueError(f'shared_negatives must be True, "sequence" or False, got {shared_negatives!r}')


def _check(
    n_negatives: int,
    sampling: str | Proposal,
    item_counts: Tensor | None,
    exponent: float,
    uniform_share: float,
    shared_negatives: bool | str,
    logq_correction: bool,
    positive_in_denominator: bool,
    logit_scale: float | Tensor,
    softcap: float | None,
    **_: Any,
) -> None:
    check_positive("n_negatives", n_negatives)
    check_scale(logit_scale)
    check_softcap(softcap)
    check_sharing(shared_negatives)
    check_switches(logq_correction=logq_correction, positive_in_denominator=positive_in_denominator)
    proposal = make_proposal(sampling, item_counts, exponent, uniform_share)
    if shared_negatives is not True:
        proposal.check_own()


class SampledSoftmaxLoss(
    LossModule,
    function=sampled_softmax,
    label="Sampled softmax",
    says="Scores a few random items and corrects for how often each is expected.",
    dials=("n_negatives", "sampling"),
    check=_check,
):
    """Module around :func:`sampled_softmax`."""


class CEMinusLoss(
    LossModule,
    function=sampled_softmax,
    label="CE-",
    says="Scores a few random items, drawn evenly, as if there were no others.",
    dials=("n_negatives",),
    check=_check,
    sampling="uniform",
    item_counts=None,
    exponent=0.75,
    uniform_share=0.5,
    logq_correction=False,
):
    """Module around :func:`sampled_softmax`: uniform negatives as they come, without a correction."""

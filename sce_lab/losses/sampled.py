"""Sampled softmax: the sum over the catalog is estimated from a few negatives."""

from typing import Any

import torch
from torch import Tensor

from .engine import Blocks, How, Problem, blocks_for, resolved, without_autocast, workspace_or_default
from .inputs import (
    check_positive,
    check_reduction,
    check_sparse_grad,
    flatten_inputs,
    flatten_negatives,
)
from .module import LossModule
from .proposals import Negatives, Proposal, check_size, make_proposal
from .reduction import accumulation_dtype, reduced_softmax


def sampled_softmax(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    n_negatives: int = 256,
    sampling: str | Proposal = "uniform",
    item_counts: Tensor | None = None,
    exponent: float = 0.75,
    shared_negatives: bool = True,
    logq_correction: bool = True,
    negatives: Tensor | None = None,
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
    Without the correction the loss is a softmax over the drawn items as they come.

    The proposals Q: ``"uniform"``, ``"log_uniform"``, ``"popularity"``, ``"in_batch"``, or an object, see
    :mod:`sce_lab.losses.proposals`.

    In the matrix of logits shared negatives are k columns with a bias of ``-log k Q``, one's own are k cells a row.

    Memory beyond inputs and gradients: ``workspace_bytes`` for a tile of logits, which are never held whole, and some
    numbers a position and a draw. Draws of one's own are ``N * n_negatives`` numbers, sorted and weighed: some 50 bytes
    each.

    Args:
        input: outputs of the model, ``(N, D)`` or ``(B, L, D)``.
        linear_weight: item embeddings ``(C, D)``.
        target: the true next items, ``(N,)`` or ``(B, L)``.
        n_negatives: draws, k; for each position anew when they are not shared.
        sampling: the proposal Q, by its name or as an object.
        item_counts: ``(C,)`` training count of each item, for a proposal by name.
        exponent: flattens the popularity (``"popularity"`` only): 0 is uniform, 1 the popularity itself.
        shared_negatives: one set of negatives for the whole batch, or one for each position.
        logq_correction: subtract ``log k Q(i)`` from the logits of negatives.
        negatives: use these items, ``(k,)`` or ``(..., k)`` after the shape of ``target``, as if drawn from Q.
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
    neural modeling for large corpus item recommendations", RecSys 2019 (in-batch).
    """
    check_reduction(reduction)
    check_sparse_grad(sparse_grad, linear_weight)
    inputs = flatten_inputs(input, linear_weight, target, ignore_index)
    proposal, catalog_size = make_proposal(sampling, item_counts, exponent), len(linear_weight)
    if item_counts is not None:
        check_size(item_counts, catalog_size)
    if negatives is None:
        k = check_positive("n_negatives", n_negatives)
        drawn = proposal.negatives(inputs.labels, inputs.valid, k, shared_negatives, catalog_size, generator)
    else:
        drawn = proposal.given(flatten_negatives(negatives, target.shape, catalog_size), catalog_size)

    with without_autocast(input):
        dtype = accumulation_dtype(torch.promote_types(input.dtype, linear_weight.dtype))
        backend = resolved(backend, inputs.outputs, linear_weight, deterministic)
        blocks = _blocks(drawn, logq_correction, dtype, backend)
        problem = Problem(inputs.outputs, linear_weight, inputs.labels, inputs.valid, blocks)
        how = How(workspace_or_default(workspace_bytes, input, backend), sparse_grad, deterministic, backend)
        return reduced_softmax(problem, how, target.shape, reduction)


def _blocks(drawn: Negatives, logq_correction: bool, dtype: torch.dtype, backend: str) -> Blocks:
    """One block of k columns for all positions, or one of k cells for each."""
    bias = -drawn.log_expected.to(dtype) if logq_correction else torch.zeros_like(drawn.items, dtype=dtype)
    if drawn.usable is not None:
        bias = bias.masked_fill(~drawn.usable, -torch.inf)
    if drawn.items.dim() == 1:
        return blocks_for(backend, None, drawn.items.unsqueeze(0), bias.unsqueeze(0))
    return blocks_for(backend, torch.arange(len(bias), device=bias.device).unsqueeze(1), drawn.items, bias)


def _check(
    n_negatives: int,
    sampling: str | Proposal,
    item_counts: Tensor | None,
    exponent: float,
    shared_negatives: bool,
    **_: Any,
) -> None:
    check_positive("n_negatives", n_negatives)
    proposal = make_proposal(sampling, item_counts, exponent)
    if not shared_negatives:
        proposal.check_own()


class SampledSoftmaxLoss(LossModule, function=sampled_softmax, label="Sampled softmax", check=_check):
    """Module around :func:`sampled_softmax`."""

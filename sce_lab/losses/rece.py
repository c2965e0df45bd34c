"""RECE: a softmax over the chunks of a sorted catalog that are likely to hold the large logits."""

import math
from typing import Any

import torch
from torch import Tensor

from .buckets import BucketSizes, checked_centers
from .draws import draw
from .engine import Blocks, How, best_direction, resolved, without_autocast, workspace_or_default
from .inputs import (
    accumulation_dtype,
    check_positive,
    check_reduction,
    check_scale,
    check_softcap,
    check_sparse_grad,
    flatten_inputs,
)
from .module import LossModule
from .reduction import block_losses, reduce_losses


def reduced_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    n_buckets: int | None = None,
    n_extra_chunks: int = 1,
    n_rounds: int = 1,
    centers: Tensor | None = None,
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
    r"""Reduced cross-entropy: softmax cross-entropy over the items whose hash is near that of the position.

    In each round every position and every item is hashed to the one of ``n_buckets`` random directions that has the
    largest inner product with it. Both are sorted by that number and cut into as many chunks, equal but for one. A
    chunk of positions meets the items of the chunk of its own number and of ``n_extra_chunks`` neighbours on either
    side:

    .. math:: \ell_n = -\log \frac{e^{x_n \cdot w_{t_n}}}
              {e^{x_n \cdot w_{t_n}} + \sum_{i \in I_n, i \ne t_n} e^{x_n \cdot w_i}}, \qquad
              I_n = \bigcup_{\text{rounds } r} \; \bigcup_{|c - c_r(n)| \le n_{ec}} I_{r,c}

    An item that comes up in several rounds counts once. Unlike in SCE every position is in a chunk, and learns.

    Memory beyond inputs and gradients: ``workspace_bytes``, and the chunks' items, of which there are ``n_rounds *
    (2 * n_extra_chunks + 1) * C``: 12 bytes each are kept, with their bias, and 32 needed while they are sorted. With
    several rounds it is some 50, and ``n_rounds * n_buckets / 8`` for each position and each item, to know what comes
    up twice.

    Time: ``n_rounds * n_buckets * (N + C) * D`` products for the hashes and
    ``n_rounds * (2 * n_extra_chunks + 1) / n_buckets * N * C * D`` for the losses, three times that for the gradients.

    Args:
        input: outputs of the model, ``(N, D)`` or ``(B, L, D)``.
        linear_weight: item embeddings ``(C, D)``, one row per item and no other row.
        target: the true next items, ``(N,)`` or ``(B, L)``.
        linear_bias: ``(C,)``, added to the logits of each item; hashes do not look at it.
        n_buckets: directions, and chunks, of a round; None: ``2 sqrt(N)``, as for SCE. No more than positions or items.
        n_extra_chunks: neighbours on either side of a chunk.
        n_rounds: how often to hash.
        centers: ``(n_rounds, n_buckets, D)`` directions to use instead of random ones.
        logit_scale: of cosine models, whose outputs and items have length 1; a tensor has its gradient.
        softcap: take ``softcap * tanh(logit / softcap)`` for each logit, as Gemma 2 does with 30; None: as they are.
        ignore_index: target value of positions that have no target; they are in no chunk. None: all have one.
        reduction: ``"none"`` (shape of ``target``, 0 where ignored), ``"mean"`` over the targets, or ``"sum"``.
        generator: source of the randomness, torch's global one by default.
        sparse_grad: give ``linear_weight`` a row-sparse gradient. Nearly every item has one: every chunk is met.
        workspace_bytes: bytes for temporary tensors, by default about what a cache holds.
        deterministic: on CUDA, add up gradients in a fixed order. On a CPU the order is always the same.
        backend: who computes, "auto", "torch" or "triton".

    Returns:
        The loss: float32 for half-precision inputs and under autocast, the input's dtype otherwise. A batch
        without any target gives 0, which back-propagates zeros.

    Raises:
        ValueError: a setting out of range, directions of another shape, inputs that do not fit together; the message
            names the value.

    Source: Gusak, Mezentsev, Oseledets, Frolov, "RECE: Reduced cross-entropy loss for large-catalogue sequential
    recommenders", CIKM 2024, arXiv 2408.02354. There the last chunks are filled up with padding; here chunks differ by
    one.
    """
    check_reduction(reduction)
    check_sparse_grad(sparse_grad, linear_weight)
    _check(n_buckets, n_extra_chunks, n_rounds, logit_scale, softcap)
    inputs = flatten_inputs(input, linear_weight, target, ignore_index, linear_bias, logit_scale, softcap=softcap)
    n_positions, catalog_size = len(inputs.outputs), len(linear_weight)
    if n_buckets is None and centers is not None and centers.dim() == 3:
        n_buckets = check_positive("n_buckets", centers.shape[1])
    if n_buckets is None:
        n_buckets = BucketSizes.paper_rule(n_positions, catalog_size).n_buckets
    n_buckets = max(min(n_buckets, n_positions, catalog_size), 1) if centers is None else n_buckets
    backend = resolved(backend, inputs.outputs, linear_weight, deterministic, special=True)
    workspace_bytes = workspace_or_default(workspace_bytes, input, backend)
    how = How(workspace_bytes, sparse_grad, deterministic, backend)
    with without_autocast(input):
        dtype = accumulation_dtype(input.dtype, linear_weight.dtype)
        if centers is None:
            shape = n_rounds, n_buckets, input.shape[-1]
            centers = draw(torch.randn, *shape, device=input.device, generator=generator, dtype=dtype)
        else:
            centers = checked_centers(centers, inputs.outputs, dtype, n_rounds=n_rounds, n_buckets=n_buckets)
        blocks = chunk_blocks(inputs.outputs, linear_weight, inputs.valid, centers, n_extra_chunks, workspace_bytes)
        losses, slot = block_losses(inputs, linear_weight, blocks, how, "max" if n_rounds == 1 else "union")
        return reduce_losses(losses, slot >= 0, target.shape, reduction)


@torch.no_grad()
def chunk_blocks(
    outputs: Tensor, linear_weight: Tensor, valid: Tensor, centers: Tensor, n_extra_chunks: int, workspace_bytes: int
) -> Blocks:
    """The chunks of all rounds, one block each. That is a choice: it has no gradient.

    Args:
        outputs: ``(N, D)``.
        linear_weight: ``(C, D)``.
        valid: ``(N,)`` bool, positions with a target.
        centers: ``(n_rounds, n_buckets, D)``.
        n_extra_chunks: neighbours on either side of a chunk of items.
        workspace_bytes: for the scores of some vectors.
    """
    n_buckets, n_positions, catalog_size, n_extra = centers.shape[1], len(outputs), len(linear_weight), n_extra_chunks
    hashes = best_direction(outputs, centers, workspace_bytes)
    hashes = hashes.where(valid, n_buckets)  # without a target: behind all others
    positions = hashes.argsort(dim=1, stable=True)  # (n_rounds, N)
    items = best_direction(linear_weight, centers, workspace_bytes).argsort(dim=1, stable=True)  # (n_rounds, C)

    chunk = torch.arange(n_buckets, device=items.device)
    most = -(-n_positions // n_buckets)
    rows = _cut(positions, _bound(chunk, valid.sum(), n_buckets), _bound(chunk + 1, valid.sum(), n_buckets), most)
    first, last = (chunk - n_extra).clamp(min=0), (chunk + n_extra + 1).clamp(max=n_buckets)
    most = min(-(-(2 * n_extra + 1) * catalog_size // n_buckets), catalog_size)
    near = _cut(items, _bound(first, catalog_size, n_buckets), _bound(last, catalog_size, n_buckets), most)
    near = near.where(near >= 0, catalog_size).sort(dim=1).values  # what is not there comes last
    bias = torch.zeros_like(near, dtype=centers.dtype).masked_fill_(near == catalog_size, -math.inf)
    return Blocks(rows, near.clamp_(max=catalog_size - 1), bias)


def _bound(chunk: Tensor, n: int | Tensor, n_chunks: int) -> Tensor:
    """Where chunks ``(n_chunks,)`` of n begin: ``round(chunk * n / n_chunks)``, halves upwards."""
    return (2 * chunk * n + n_chunks) // (2 * n_chunks)


def _cut(order: Tensor, begin: Tensor, end: Tensor, most: int) -> Tensor:
    """Chunks ``(n_rounds * n_chunks, most)`` of each row of ``order``: from ``begin`` to ``end``, then -1."""
    n_rounds = len(order)
    at = begin.unsqueeze(1) + torch.arange(most, device=order.device)  # (n_chunks, most)
    there = at < end.unsqueeze(1)
    chosen = order[:, at.where(there, 0)] if order.shape[1] else at.expand(n_rounds, *at.shape)
    return chosen.where(there, -1).view(n_rounds * len(begin), most)


def _check(
    n_buckets: int | None,
    n_extra_chunks: int,
    n_rounds: int,
    logit_scale: float | Tensor,
    softcap: float | None,
    **_: Any,
) -> None:
    if n_buckets is not None:
        check_positive("n_buckets", n_buckets)
    check_positive("n_rounds", n_rounds)
    if isinstance(n_extra_chunks, bool) or not isinstance(n_extra_chunks, int) or n_extra_chunks < 0:
        raise ValueError(f"n_extra_chunks must be a whole number, 0 for none, got {n_extra_chunks!r}")
    check_scale(logit_scale)
    check_softcap(softcap)


class RECELoss(
    LossModule,
    function=reduced_cross_entropy,
    label="RECE",
    says="Sorts positions and items by the direction that suits them best, and scores along the diagonal.",
    dials=("n_buckets",),
    check=_check,
):
    """Module around :func:`reduced_cross_entropy`."""

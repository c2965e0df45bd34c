"""Scalable Cross-Entropy, the version people run."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .buckets import BucketSizes, SCEStatistics, bucket_statistics, checked_centers, draw_centers
from .engine import (
    How,
    Problem,
    blocks_for,
    mean_loss,
    resolved,
    softmax_losses,
    topk,
    without_autocast,
    workspace_or_default,
)
from .inputs import Inputs, check_reduction, check_sparse_grad, flatten_inputs
from .module import LossModule
from .reduction import accumulation_dtype

DEFAULT_WORKSPACE_BYTES = {"cpu": 32 * 2**20, "triton": 48 * 2**20}
TILE_SHARE = 4  # bucket tiles get this part of the workspace: they are quickest while they stay in cache


def scalable_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    n_buckets: int | None = None,
    bucket_size_x: int | None = None,
    bucket_size_y: int | None = None,
    mix_x: bool = False,
    centers: Tensor | None = None,
    ignore_index: int | None = -100,
    reduction: str = "mean",
    generator: torch.Generator | None = None,
    sparse_grad: bool = False,
    workspace_bytes: int | None = None,
    deterministic: bool = False,
    backend: str = "auto",
) -> Tensor:
    r"""Scalable Cross-Entropy: softmax cross-entropy over the logits that are likely to be large.

    Random directions (centres) collect, each into its bucket, the positions and the items that point their way. Each
    bucket computes a softmax over its own items, and a position in several buckets keeps its largest loss:

    .. math:: \ell_{b,n} = -\log \frac{e^{x_n \cdot w_{t_n}}}
                                     {e^{x_n \cdot w_{t_n}} + \sum_{i \in I_b, i \ne t_n} e^{x_n \cdot w_i}},
              \qquad \ell_n = \max_{b : n \in X_b} \ell_{b,n}

    ``scalable_cross_entropy_reference`` is the same in the paper's words, with the same values and gradients; this one
    never holds scores or logits whole. Exact ties between scores may fall differently in the two.

    Memory beyond inputs and gradients, whatever C is:

    - ``workspace_bytes`` for the search of the buckets, plus ``40 * n_buckets * max(bucket_size_x, bucket_size_y)``;
    - kept for backward: ``8 * n_buckets * bucket_size_y + 24 * N`` (Triton: and ``8 * n_buckets * bucket_size_x``);
    - in backward: a quarter of ``workspace_bytes``; and, for a table in half precision, ``4 * D`` for each item that
      gets a gradient, of which there are at most ``n_buckets * bucket_size_y + N``.

    Time: ``n_buckets * (N + C) * D`` products for the search, ``n_buckets * bucket_size_x * bucket_size_y * D`` for the
    losses, and for the gradients three times those of the winning slots, of which there are at most N.

    Args:
        input: outputs of the model, ``(N, D)`` or ``(B, L, D)``.
        linear_weight: item embeddings ``(C, D)``, one row per item and no other row.
        target: the true next items, ``(N,)`` or ``(B, L)``.
        n_buckets: how many buckets; None: the paper's ``2 sqrt(N)``.
        bucket_size_x: positions per bucket; None: as many as the paper's rule has buckets. With more than there are, a
            bucket takes all and a warning says so.
        bucket_size_y: items per bucket; None: 256. Likewise.
        mix_x: mix the centres from the outputs, so that they lie where the outputs lie, instead of drawing them freely.
        centers: ``(n_buckets, D)`` centres to use instead of random ones.
        ignore_index: target value of positions that have no target; they enter no bucket and steer no centre. None: all
            have one.
        reduction: ``"none"`` (shape of ``target``, 0 where ignored or in no bucket), ``"sum"``, or ``"mean"`` over the
            positions that are in a bucket, however small their loss.
        generator: source of the randomness, torch's global one by default.
        sparse_grad: give ``linear_weight`` a row-sparse gradient (for ``torch.optim.SparseAdam`` and the like): then
            nothing in the step grows with the catalog but the parameters.
        workspace_bytes: bytes for temporary tensors, from which all chunk sizes follow. By default 32 MiB on a CPU,
            about its cache; on a GPU 48 MiB with Triton, and without it a sixteenth of what is free (128 MiB to 2 GiB).
        deterministic: on CUDA, add up gradients in a fixed order. On a CPU the order is always the same.
            ``torch.use_deterministic_algorithms(True)`` does it as well.
        backend: who computes: "torch", "triton" (an NVIDIA GPU), or "auto", whichever is quicker here.

    Returns:
        The loss. Half-precision inputs, and those under autocast, are computed and added up in float32, which is then
        also the dtype of the loss. A batch without any target gives 0, which back-propagates zeros.

    Raises:
        ValueError: a setting below one, centres of another shape, inputs that do not fit together, a target outside
            the catalog; the message names the value.

    Source: Mezentsev, Gusak, Oseledets, Frolov, "Scalable Cross-Entropy Loss for Sequential Recommendations with
    Large Item Catalogs", RecSys 2024, arXiv 2409.18721, Algorithm 1.
    """
    check_reduction(reduction)
    check_sparse_grad(sparse_grad, linear_weight)
    inputs = flatten_inputs(input, linear_weight, target, ignore_index)
    backend = resolved(backend, inputs.outputs, linear_weight, deterministic)
    workspace_bytes = workspace_or_default(workspace_bytes, input, backend, DEFAULT_WORKSPACE_BYTES)
    how = How(max(workspace_bytes // TILE_SHARE, 1), sparse_grad, deterministic, backend)
    with without_autocast(input):
        sizes = (n_buckets, bucket_size_x, bucket_size_y)
        buckets = _fill(inputs, linear_weight, sizes, mix_x, centers, generator, workspace_bytes, how)
        problem = Problem(inputs.outputs, linear_weight, *inputs[1:], blocks_for(how.backend, *buckets))
        losses, slot = softmax_losses(problem, how)
        if reduction == "mean":
            return mean_loss(losses, slot, how)
        return losses.sum() if reduction == "sum" else losses.reshape(target.shape)


class Buckets(NamedTuple):
    """What the buckets hold."""

    rows: Tensor  # (n_buckets, bucket_size_x) positions
    items: Tensor  # (n_buckets, bucket_size_y)


@torch.no_grad()
def _fill(
    inputs: Inputs,
    linear_weight: Tensor,
    sizes: tuple[int | None, int | None, int | None],
    mix_x: bool,
    centers: Tensor | None,
    generator: torch.Generator | None,
    workspace_bytes: int,
    how: How,
) -> Buckets:
    """Draw centres, and find the positions and the items of each. That is a choice: it has no gradient."""
    outputs, _, valid = inputs
    n_positions, catalog_size = len(outputs), len(linear_weight)
    asked = BucketSizes.asked(*sizes, n_positions, catalog_size).clamped(n_positions, catalog_size)
    dtype = accumulation_dtype(torch.promote_types(outputs.dtype, linear_weight.dtype))
    if centers is None:
        centers = draw_centers(outputs, valid, asked.n_buckets, mix_x, generator, dtype)
    else:
        centers = checked_centers(centers, asked.n_buckets, outputs, dtype)
    rest = (workspace_bytes, how.deterministic, how.backend)
    rows = topk(centers, outputs.detach(), asked.bucket_size_x, valid, *rest)
    return Buckets(rows, topk(centers, linear_weight.detach(), asked.bucket_size_y, None, *rest))


@torch.no_grad()
def scalable_cross_entropy_statistics(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    n_buckets: int | None = None,
    bucket_size_x: int | None = None,
    bucket_size_y: int | None = None,
    mix_x: bool = False,
    centers: Tensor | None = None,
    ignore_index: int | None = -100,
    generator: torch.Generator | None = None,
    workspace_bytes: int | None = None,
    deterministic: bool = False,
    backend: str = "auto",
) -> SCEStatistics:
    """What :func:`scalable_cross_entropy` looks at with these arguments: see :class:`SCEStatistics`.

    With the same centres, or a generator in the same state, it is about the same buckets. It costs their search and
    losses again, and a softmax over the catalog at 256 positions.
    """
    inputs = flatten_inputs(input, linear_weight, target, ignore_index)
    backend = resolved(backend, inputs.outputs, linear_weight, deterministic)
    workspace_bytes = workspace_or_default(workspace_bytes, input, backend, DEFAULT_WORKSPACE_BYTES)
    how = How(max(workspace_bytes // TILE_SHARE, 1), False, deterministic, backend)
    with without_autocast(input):
        sizes = (n_buckets, bucket_size_x, bucket_size_y)
        buckets = _fill(inputs, linear_weight, sizes, mix_x, centers, generator, workspace_bytes, how)
        problem = Problem(inputs.outputs, linear_weight, *inputs[1:], blocks_for(how.backend, *buckets))
        _, slot = softmax_losses(problem, how)
        winning_bucket = slot.clamp(min=0) // max(buckets.rows.shape[1], 1)
        return bucket_statistics(inputs.outputs, linear_weight, *inputs[1:], *buckets, winning_bucket)


def _check(n_buckets: int | None, bucket_size_x: int | None, bucket_size_y: int | None, **_: Any) -> None:
    BucketSizes.asked(n_buckets, bucket_size_x, bucket_size_y, n_positions=2**31, catalog_size=2**31)


class SCELoss(
    LossModule,
    function=scalable_cross_entropy,
    label="SCE",
    check=_check,
    statistics=scalable_cross_entropy_statistics,
):
    """Module around :func:`scalable_cross_entropy`."""

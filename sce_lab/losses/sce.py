"""Scalable Cross-Entropy, the version people run."""

from typing import Any, get_args

import torch
from torch import Tensor

from .bucket_search import Search, draw_negatives, fill, with_negatives
from .buckets import BucketSizes, SCEStatistics, bucket_statistics
from .engine import Combine, How, blocks_for, resolved, without_autocast, workspace_or_default
from .inputs import (
    check_reduction,
    check_scale,
    check_softcap,
    check_sparse_grad,
    check_switches,
    flatten_inputs,
)
from .module import LossModule
from .reduction import block_losses, reduce_slots
from .sharded import check_same

DEFAULT_WORKSPACE_BYTES = {"cpu": 32 * 2**20, "triton": 48 * 2**20}
TILE_SHARE = 4  # bucket tiles get this part of the workspace: they are quickest while they stay in cache


def scalable_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    n_buckets: int | None = None,
    bucket_size_x: int | None = None,
    bucket_size_y: int | None = None,
    mix_x: bool = False,
    kmeans_steps: int = 0,
    centers: Tensor | None = None,
    items_near: str = "center",
    combine: str = "max",
    n_negatives: int = 0,
    negatives_for: str = "uncovered",
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
    r"""Scalable Cross-Entropy: softmax cross-entropy over the logits that are likely to be large.

    Random directions (centres) collect, each into its bucket, the positions and the items that point their way. Each
    bucket computes a softmax over its own items, and a position in several buckets keeps its largest loss:

    .. math:: \ell_{b,n} = -\log \frac{e^{x_n \cdot w_{t_n}}}
                                     {e^{x_n \cdot w_{t_n}} + \sum_{i \in I_b, i \ne t_n} e^{x_n \cdot w_i}},
              \qquad \ell_n = \max_{b : n \in X_b} \ell_{b,n}

    ``scalable_cross_entropy_reference`` is the same in the paper's words, with the same values and gradients; this one
    never holds scores or logits whole. Exact ties between scores may fall differently in the two.

    Options that are not the paper's:

    - ``combine="union"``: the softmax of a position is over the distinct items of all of its buckets. It is never below
      the largest loss, and never above cross-entropy.
    - ``n_negatives``: k items drawn uniformly for the whole batch. A position in no bucket, which otherwise learns
      nothing, has the loss of sampled softmax with them. With ``negatives_for="all"`` (in a union) they stand for what
      is in none of a position's buckets: with a weight of C / k each, ``sum_{i in buckets} e^s + C / k sum_{j drawn, in
      no bucket of n} e^s`` is the sum over the catalog, on average over the draws. That corrects for which items are
      included without asking how likely each was, which depends on the angle between it and the position.
    - ``kmeans_steps``: the centres move, from where they were drawn, to the means of the outputs that point their way.
      To let them run over batches, keep them: :func:`sce_lab.losses.moved_centers` before each call, as ``centers``.
    - ``items_near="positions"``: a bucket takes the items nearest to the mean of its positions, not to its centre.

    Memory beyond inputs and gradients, whatever C is:

    - ``workspace_bytes`` for the search of the buckets, plus ``40 * n_buckets * max(bucket_size_x, bucket_size_y)``;
    - kept for backward: ``8 * n_buckets * bucket_size_y + 24 * N`` (Triton: and ``8 * n_buckets * bucket_size_x``);
    - in backward: a quarter of ``workspace_bytes``; and, for a table in half precision, ``4 * D`` for each item that
      gets a gradient, of which there are at most ``n_buckets * bucket_size_y + N``;
    - with a union, ``n_buckets / 8`` for each position and each of the buckets' items; with negatives, ``N /
      bucket_size_x`` more buckets.

    Time: ``n_buckets * (N + C) * D`` products for the search, ``n_buckets * bucket_size_x * bucket_size_y * D`` for the
    losses, and for the gradients three times those of the winning slots, of which there are at most N.

    Args:
        input: outputs of the model, ``(N, D)`` or ``(B, L, D)``.
        linear_weight: item embeddings ``(C, D)``, one row per item and no other row.
            A DTensor of them, sharded by rows, makes it the loss of all ranks' batches: see ``docs/distributed.md``.
        target: the true next items, ``(N,)`` or ``(B, L)``.
        linear_bias: ``(C,)``, added to the logits of each item; the search for buckets does not look at it.
        n_buckets: how many buckets; None: the paper's ``2 sqrt(N)``.
        bucket_size_x: positions per bucket; None: as many as the paper's rule has buckets. With more than there are, a
            bucket takes all and a warning says so.
        bucket_size_y: items per bucket; None: 256. Likewise.
        mix_x: mix the centres from the outputs, so that they lie where the outputs lie, instead of drawing them freely.
        kmeans_steps: steps of k-means (of directions: centres and means have length 1) that the centres take.
        centers: ``(n_buckets, D)`` centres to use instead of random ones.
        items_near: "center" or "positions", see above.
        combine: "max", "union", or "logsumexp", which counts an item of several buckets as often.
        n_negatives: uniform negatives, 0 for none, see above.
        negatives_for: "uncovered" positions or "all".
        negatives: use these items, ``(k,)``, as if drawn.
        logit_scale: of cosine models, whose outputs and items have length 1; a tensor has its gradient.
        softcap: take ``softcap * tanh(logit / softcap)`` for each logit, as Gemma 2 does with 30; None: as they are.
        ignore_index: target value of positions that have no target; they enter no bucket and steer no centre. None: all
            have one.
        reduction: ``"none"`` (shape of ``target``, 0 where ignored or in no bucket), ``"sum"``, or ``"mean"`` over the
            positions that are in a bucket, however small their loss; with negatives over all.
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
    check_switches(mix_x=mix_x)
    _check_options(kmeans_steps, items_near, combine, n_negatives, negatives_for, negatives)
    options = {"softcap": softcap, "may_be_sharded": True, "sparse_grad": sparse_grad}
    inputs = flatten_inputs(input, linear_weight, target, ignore_index, linear_bias, logit_scale, **options)
    with_drawn = n_negatives > 0 or negatives is not None
    special = with_drawn or combine != "max" or inputs.special
    backend = resolved(backend, inputs.outputs, linear_weight, deterministic, special=special)
    workspace_bytes = workspace_or_default(workspace_bytes, input, backend, DEFAULT_WORKSPACE_BYTES)
    how = How(max(workspace_bytes // TILE_SHARE, 1), sparse_grad, deterministic, backend)
    with without_autocast(input):
        sizes = (n_buckets, bucket_size_x, bucket_size_y)
        search = Search(mix_x, kmeans_steps, centers, items_near, generator, workspace_bytes)
        buckets = fill(inputs, linear_weight, sizes, search, how)
        blocks = blocks_for(backend, *buckets)
        if with_drawn:
            drawn = draw_negatives(n_negatives, negatives, linear_weight, generator)
            if inputs.everyone is not None:
                check_same(inputs.everyone, "negatives", drawn)
            blocks = with_negatives(buckets, drawn, inputs, linear_weight, negatives_for == "all")
        losses, slot = block_losses(inputs, linear_weight, blocks, how, combine)
        return reduce_slots(losses, slot, how, reduction, inputs, target.shape)


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
    kmeans_steps: int = 0,
    centers: Tensor | None = None,
    items_near: str = "center",
    ignore_index: int | None = -100,
    generator: torch.Generator | None = None,
    workspace_bytes: int | None = None,
    deterministic: bool = False,
    backend: str = "auto",
) -> SCEStatistics:
    """What :func:`scalable_cross_entropy` looks at with these arguments: see :class:`SCEStatistics`.

    With the same centres, or a generator in the same state, it is about the same buckets. It costs their search and
    losses again, and a softmax over the catalog at 256 positions. Logits are those without a scale and a softcap.
    """
    inputs = flatten_inputs(input, linear_weight, target, ignore_index)
    backend = resolved(backend, inputs.outputs, linear_weight, deterministic)
    workspace_bytes = workspace_or_default(workspace_bytes, input, backend, DEFAULT_WORKSPACE_BYTES)
    how = How(max(workspace_bytes // TILE_SHARE, 1), False, deterministic, backend)
    with without_autocast(input):
        sizes = (n_buckets, bucket_size_x, bucket_size_y)
        search = Search(mix_x, kmeans_steps, centers, items_near, generator, workspace_bytes)
        buckets = fill(inputs, linear_weight, sizes, search, how)
        _, slot = block_losses(inputs, linear_weight, blocks_for(how.backend, *buckets), how)
        winning_bucket = slot.clamp(min=0) // max(buckets.rows.shape[1], 1)
        return bucket_statistics(inputs.outputs, linear_weight, *inputs[1:3], *buckets, winning_bucket)


def _check(
    n_buckets: int | None,
    bucket_size_x: int | None,
    bucket_size_y: int | None,
    mix_x: bool,
    kmeans_steps: int,
    items_near: str,
    combine: str,
    n_negatives: int,
    negatives_for: str,
    negatives: Tensor | None,
    logit_scale: float | Tensor,
    softcap: float | None,
    **_: Any,
) -> None:
    BucketSizes.asked(n_buckets, bucket_size_x, bucket_size_y, n_positions=2**31, catalog_size=2**31)
    check_switches(mix_x=mix_x)
    check_scale(logit_scale)
    check_softcap(softcap)
    _check_options(kmeans_steps, items_near, combine, n_negatives, negatives_for, negatives)


def _check_options(
    kmeans_steps: int, items_near: str, combine: str, n_negatives: int, negatives_for: str, negatives: Tensor | None
) -> None:
    for name, number in (("kmeans_steps", kmeans_steps), ("n_negatives", n_negatives)):
        if isinstance(number, bool) or not isinstance(number, int | torch.SymInt) or number < 0:
            raise ValueError(f"{name} must be a whole number, 0 for none, got {number!r}")
    choices = {"items_near": (items_near, ("center", "positions")), "combine": (combine, get_args(Combine))}
    choices["negatives_for"] = negatives_for, ("uncovered", "all")
    for name, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    if negatives_for == "all" and combine != "union" and (n_negatives or negatives is not None):
        raise ValueError(
            f'negatives_for="all" adds what the buckets leave out, so it takes combine="union", got combine={combine!r}'
        )


class SCELoss(
    LossModule,
    function=scalable_cross_entropy,
    label="SCE",
    says="Searches for the large scores: random directions gather positions and items that point their way.",
    dials=("n_buckets", "bucket_size_x", "bucket_size_y", "mix_x"),
    check=_check,
    statistics=scalable_cross_entropy_statistics,
):
    """Module around :func:`scalable_cross_entropy`."""

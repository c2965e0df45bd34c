"""Scalable Cross-Entropy as the paper writes it: to be read, and to test ``sce.py`` and the engine against."""

import torch
from torch import Tensor

from .buckets import BucketSizes, checked_centers, draw_centers
from .engine import without_autocast
from .inputs import accumulation_dtype, check_reduction, flatten_inputs
from .reduction import reduce_losses


def scalable_cross_entropy_reference(
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
) -> Tensor:
    r"""Scalable Cross-Entropy, step by step. Values and gradients of ``scalable_cross_entropy`` with these arguments.

    Cross-entropy needs every logit, but its gradient is made by few: the large ones. SCE finds them without
    computing the rest. Random directions (centres) collect, each into its bucket, the positions and the items that
    point their way; inner products within a bucket tend to be the large ones. Each bucket then computes a softmax
    over its items only:

    .. math:: \ell_{b,n} = -\log \frac{e^{x_n \cdot w_{t_n}}}
                                     {e^{x_n \cdot w_{t_n}} + \sum_{i \in I_b, i \ne t_n} e^{x_n \cdot w_i}},
              \qquad \ell_n = \max_{b : n \in X_b} \ell_{b,n}

    Memory: ``n_buckets * (N + C)`` scores, and ``n_buckets * bucket_size_x * bucket_size_y`` logits a few times over.

    Source: Mezentsev, Gusak, Oseledets, Frolov, "Scalable Cross-Entropy Loss for Sequential Recommendations with
    Large Item Catalogs", RecSys 2024, arXiv 2409.18721, Algorithm 1.
    """
    check_reduction(reduction)
    inputs = flatten_inputs(input, linear_weight, target, ignore_index)
    outputs, labels, valid = inputs.finite_outputs, inputs.labels, inputs.valid
    n_positions, catalog_size = len(outputs), len(linear_weight)
    sizes = BucketSizes.asked(n_buckets, bucket_size_x, bucket_size_y, n_positions, catalog_size)
    sizes = sizes.clamped(n_positions, catalog_size)
    with without_autocast(input):
        dtype = accumulation_dtype(torch.promote_types(input.dtype, linear_weight.dtype))
        X, W = outputs.to(dtype), linear_weight.to(dtype)  # (N, D), (C, D)

        # 1. Bucket centres: random directions.
        if centers is None:
            B = draw_centers(X, valid, sizes.n_buckets, mix_x, generator, dtype)  # (n_buckets, D)
        else:
            B = checked_centers(centers, X, dtype, n_buckets=sizes.n_buckets)

        # 2. Each bucket takes the positions and the items with the largest inner products. No gradient: it is a choice.
        with torch.no_grad():
            position_scores = (B @ X.T).masked_fill(~valid, -torch.inf)  # (n_buckets, N)
            rows = position_scores.topk(sizes.bucket_size_x, dim=1).indices  # (n_buckets, bucket_size_x)
            items = (B @ W.T).topk(sizes.bucket_size_y, dim=1).indices  # (n_buckets, bucket_size_y)

        # 3. Inside each bucket: logits of its positions against its items ...
        logits = X[rows] @ W[items].mT  # (n_buckets, bucket_size_x, bucket_size_y)
        # ... and against their own targets. A target that is also one of the bucket's items counts once.
        target_logits = (X * W[labels]).sum(dim=1)[rows]  # (n_buckets, bucket_size_x)
        is_target = labels[rows].unsqueeze(2) == items.unsqueeze(1)  # (n_buckets, bucket_size_x, bucket_size_y)
        logits = logits.masked_fill(is_target, -torch.inf)

        # 4. Softmax cross-entropy of every slot.
        all_logits = torch.cat([target_logits.unsqueeze(2), logits], dim=2)
        slot_losses = all_logits.logsumexp(dim=2) - target_logits  # (n_buckets, bucket_size_x)

        # 5. A position in several buckets keeps its largest loss; one in none has no loss. Buckets that ran out of
        #    positions with a target took some without: these slots do not count.
        slot_losses = slot_losses.masked_fill(~valid[rows], -torch.inf)
        nothing = torch.full((n_positions,), -torch.inf, dtype=dtype, device=X.device)
        losses = nothing.scatter_reduce(0, rows.flatten(), slot_losses.flatten(), "amax")  # (N,)
        covered = losses != -torch.inf
        loss = reduce_losses(losses, covered, target.shape, reduction)
    return loss

"""Scalable Cross-Entropy, the version people run."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from .buckets import BucketSizes, SCEStatistics, bucket_statistics, checked_centers, draw_centers
from .common import accumulation_dtype, check_positive, check_reduction, flatten_inputs, reduce_losses, without_autocast
from .engine import BucketSoftmax, Settings
from .kernels import wanted
from .topk import streaming_topk

DEFAULT_WORKSPACE_BYTES = {"cpu": 32 * 2**20, "cuda": 128 * 2**20}
TILE_SHARE = 4  # bucket tiles get this part of the workspace: they are quickest while they stay in cache


@torch._disable_dynamo  # under torch.compile this runs as it is: chunk by chunk there is nothing to fuse
def scalable_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    n_buckets: int,
    bucket_size_x: int,
    bucket_size_y: int,
    mix_x: bool = False,
    centers: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    generator: torch.Generator | None = None,
    return_statistics: bool = False,
    sparse_grad: bool = False,
    workspace_bytes: int | None = None,
    deterministic: bool = False,
) -> Tensor | tuple[Tensor, SCEStatistics]:
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
    - kept for backward: ``8 * n_buckets * bucket_size_y + 24 * N``;
    - in backward: ``4 * D`` (8 for float64) for each item that gets a gradient, and there are at most
      ``n_buckets * bucket_size_y + N`` of those; and a quarter of ``workspace_bytes``.

    Time: ``n_buckets * (N + C) * D`` products for the search, ``n_buckets * bucket_size_x * bucket_size_y * D`` for the
    losses, and for the gradients three times those of the winning slots, of which there are at most N.

    Args:
        input: outputs of the model, ``(N, D)`` or ``(B, L, D)``.
        linear_weight: item embeddings ``(C, D)``, one row per item and no other row.
        target: the true next items, ``(N,)`` or ``(B, L)``.
        n_buckets: how many buckets. The paper takes ``2 sqrt(N)``, and as many positions per bucket.
        bucket_size_x: positions per bucket; with more than there are, a bucket takes all and a warning says so.
        bucket_size_y: items per bucket; likewise.
        mix_x: mix the centres from the outputs, so that they lie where the outputs lie, instead of drawing them freely.
        centers: ``(n_buckets, D)`` centres to use instead of random ones.
        ignore_index: target value of positions that have no target. They enter no bucket and steer no centre.
        reduction: ``"none"`` (shape of ``target``, 0 where ignored or in no bucket), ``"sum"``, or ``"mean"`` over the
            positions that are in a bucket, however small their loss.
        generator: source of the randomness, torch's global one by default.
        return_statistics: also return :class:`SCEStatistics`. This costs a softmax over the catalog at 256 positions.
        sparse_grad: give ``linear_weight`` a row-sparse gradient (for ``torch.optim.SparseAdam`` and the like): then
            nothing in the step grows with the catalog but the parameters.
        workspace_bytes: bytes for temporary tensors, from which all chunk sizes follow. By default 32 MiB on a CPU,
            about its cache, and 128 MiB on a GPU.
        deterministic: on CUDA, add up gradients in a fixed order. On a CPU the order is always the same.
            ``torch.use_deterministic_algorithms(True)`` does it as well.

    Returns:
        The loss, and with ``return_statistics`` the statistics. Half-precision inputs, and those under autocast, are
        computed and added up in float32, which is then also the dtype of the loss. A batch without any target gives
        0, which back-propagates zeros.

    Raises:
        ValueError: a setting below one, centres of another shape, inputs that do not fit together, a target outside
            the catalog; the message names the value.

    Source: Mezentsev, Gusak, Oseledets, Frolov, "Scalable Cross-Entropy Loss for Sequential Recommendations with
    Large Item Catalogs", RecSys 2024, arXiv 2409.18721, Algorithm 1.
    """
    check_reduction(reduction)
    outputs, labels, valid = flatten_inputs(input, linear_weight, target, ignore_index)
    n_positions = len(outputs)
    sizes = BucketSizes.checked(n_buckets, bucket_size_x, bucket_size_y)
    sizes = sizes.clamped(n_positions, catalog_size=len(linear_weight))
    if workspace_bytes is None:
        workspace_bytes = DEFAULT_WORKSPACE_BYTES.get(input.device.type, DEFAULT_WORKSPACE_BYTES["cpu"])
    workspace_bytes = check_positive("workspace_bytes", workspace_bytes)
    dtype = accumulation_dtype(torch.promote_types(input.dtype, linear_weight.dtype))
    kernels = wanted(outputs, linear_weight, dtype, deterministic)
    settings = Settings(dtype, workspace_bytes // TILE_SHARE, sparse_grad, deterministic, kernels)

    with without_autocast(input):
        with torch.no_grad():  # which positions and items a bucket takes is a choice: it has no gradient
            if centers is None:
                centers = draw_centers(outputs, valid, sizes.n_buckets, mix_x, generator, dtype)
            else:
                centers = checked_centers(centers, sizes.n_buckets, outputs, dtype)
            rows = streaming_topk(
                centers,
                outputs,
                sizes.bucket_size_x,
                allowed=valid,
                workspace_bytes=workspace_bytes,
                kernels=kernels,
            )  # (n_buckets, bucket_size_x)
            items = streaming_topk(
                centers, linear_weight, sizes.bucket_size_y, workspace_bytes=workspace_bytes, kernels=kernels
            )  # (n_buckets, bucket_size_y)
        losses, winning_slot = BucketSoftmax.apply(outputs, linear_weight, labels, valid, rows, items, settings)
        loss = reduce_losses(losses, winning_slot >= 0, target.shape, reduction)

    if not return_statistics:
        return loss
    winning_bucket = winning_slot.clamp(min=0) // max(sizes.bucket_size_x, 1)
    return loss, bucket_statistics(outputs, linear_weight, labels, valid, rows, items, winning_bucket)


class SCELoss(nn.Module):
    """Module around :func:`scalable_cross_entropy`; its settings are plain attributes that may change between steps.

    ``n_buckets``, ``bucket_size_x`` and ``bucket_size_y`` that are None follow the paper: ``2 sqrt(N)`` buckets of as
    many positions and 256 items. With ``collect_statistics`` each step leaves its :class:`SCEStatistics` in
    ``statistics``.
    """

    label: ClassVar[str] = "SCE"

    def __init__(
        self,
        *,
        n_buckets: int | None = None,
        bucket_size_x: int | None = None,
        bucket_size_y: int | None = None,
        mix_x: bool = False,
        ignore_index: int = -100,
        reduction: str = "mean",
        generator: torch.Generator | None = None,
        collect_statistics: bool = False,
        sparse_grad: bool = False,
        workspace_bytes: int | None = None,
        deterministic: bool = False,
    ) -> None:
        """See :func:`scalable_cross_entropy` for the settings and the errors."""
        super().__init__()
        check_reduction(reduction)
        self.n_buckets = n_buckets
        self.bucket_size_x = bucket_size_x
        self.bucket_size_y = bucket_size_y
        self.mix_x = mix_x
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.generator = generator
        self.collect_statistics = collect_statistics
        self.sparse_grad = sparse_grad
        self.workspace_bytes = workspace_bytes
        self.deterministic = deterministic
        self.statistics: SCEStatistics | None = None
        self._warned_about: BucketSizes | None = None
        self.sizes(n_positions=2**31, catalog_size=2**31)  # complain of impossible settings here and now

    def sizes(self, n_positions: int, catalog_size: int) -> BucketSizes:
        """The settings for so many positions and items: what is None follows the paper's rule."""
        rule = BucketSizes.paper_rule(n_positions, catalog_size)
        return BucketSizes.checked(
            rule.n_buckets if self.n_buckets is None else self.n_buckets,
            rule.bucket_size_x if self.bucket_size_x is None else self.bucket_size_x,
            rule.bucket_size_y if self.bucket_size_y is None else self.bucket_size_y,
        )

    def forward(self, input: Tensor, linear_weight: Tensor, target: Tensor) -> Tensor:
        """Loss of ``input (..., D)`` against ``target (...)`` over the catalog ``linear_weight (C, D)``."""
        n_positions, catalog_size = max(target.numel(), 1), len(linear_weight)
        asked = self.sizes(n_positions, catalog_size)
        sizes = asked.clamped(n_positions, catalog_size, warn=self._warned_about != asked)
        if sizes != asked:
            self._warned_about = asked  # once, not at every step
        result = scalable_cross_entropy(
            input,
            linear_weight,
            target,
            n_buckets=sizes.n_buckets,
            bucket_size_x=sizes.bucket_size_x,
            bucket_size_y=sizes.bucket_size_y,
            mix_x=self.mix_x,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            generator=self.generator,
            return_statistics=self.collect_statistics,
            sparse_grad=self.sparse_grad,
            workspace_bytes=self.workspace_bytes,
            deterministic=self.deterministic,
        )
        if not self.collect_statistics:
            self.statistics = None
            return result
        loss, self.statistics = result
        return loss

    def extra_repr(self) -> str:
        """The settings, for ``print(loss)``."""
        return (
            f"n_buckets={self.n_buckets}, bucket_size_x={self.bucket_size_x}, "
            f"bucket_size_y={self.bucket_size_y}, mix_x={self.mix_x}"
        )

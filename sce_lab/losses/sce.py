"""Scalable Cross-Entropy, the version people run."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from .buckets import BucketSizes, SCEStatistics, bucket_statistics, check_centers, draw_centers
from .common import accumulation_dtype, check_positive, check_reduction, flatten_inputs, reduce_losses
from .engine import BucketSoftmax, Settings
from .topk import streaming_topk

DEFAULT_WORKSPACE_BYTES = {"cpu": 16 * 2**20, "cuda": 256 * 2**20}


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
    r"""Scalable Cross-Entropy: cross-entropy restricted, bucket by bucket, to the logits likely to be large.
    """
    check_reduction(reduction)
    outputs, labels, valid = flatten_inputs(input, linear_weight, target, ignore_index)
    n_positions, dim = outputs.shape
    sizes = BucketSizes.checked(n_buckets, bucket_size_x, bucket_size_y)
    sizes = sizes.clamped(n_positions, catalog_size=len(linear_weight))
    if workspace_bytes is None:
        workspace_bytes = DEFAULT_WORKSPACE_BYTES.get(input.device.type, DEFAULT_WORKSPACE_BYTES["cpu"])
    settings = Settings(
        dtype=accumulation_dtype(torch.promote_types(input.dtype, linear_weight.dtype)),
        workspace_bytes=check_positive("workspace_bytes", workspace_bytes),
        sparse_grad=sparse_grad,
        deterministic=deterministic,
    )
    if centers is not None:
        check_centers(centers, sizes.n_buckets, dim)
    if n_positions == 0:
        return reduce_losses(outputs.sum(dim=1), valid, target.shape, reduction) + linear_weight[:0].sum()

    with torch.autocast(input.device.type, enabled=False):
        with torch.no_grad():
            if centers is None:
                centers = draw_centers(outputs, valid, sizes.n_buckets, mix_x, generator, settings.dtype)
            centers = centers.to(input.device, settings.dtype)
            rows = streaming_topk(
                centers, outputs, sizes.bucket_size_x, allowed=valid, workspace_bytes=workspace_bytes
            )
            items = streaming_topk(centers, linear_weight, sizes.bucket_size_y, workspace_bytes=workspace_bytes)
        losses, winning_slot = BucketSoftmax.apply(outputs, linear_weight, labels, valid, rows, items, settings)
        covered = winning_slot >= 0
        loss = reduce_losses(losses, covered, target.shape, reduction)

    if not return_statistics:
        return loss
    winning_bucket = winning_slot.clamp(min=0) // sizes.bucket_size_x
    return loss, bucket_statistics(outputs, linear_weight, labels, valid, rows, items, winning_bucket)


class SCELoss(nn.Module):
    """Module around :func:`scalable_cross_entropy`; its settings are plain attributes."""

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
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        for name, value in (
            ("n_buckets", n_buckets),
            ("bucket_size_x", bucket_size_x),
            ("bucket_size_y", bucket_size_y),
        ):
            if value is not None:
                check_positive(name, value)
        self.n_buckets = n_buckets
        self.bucket_size_x = bucket_size_x
        self.bucket_size_y = bucket_size_y
        self.mix_x = mix_x
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.generator = generator
        self.collect_statistics = collect_statistics
        self.statistics: SCEStatistics | None = None
        self._warned_about: BucketSizes | None = None

    def sizes(self, n_positions: int, catalog_size: int) -> BucketSizes:
        """The settings for so many positions and items: what is None follows the paper's rule."""
        rule = BucketSizes.paper_rule(n_positions, catalog_size)
        asked = BucketSizes.checked(
            rule.n_buckets if self.n_buckets is None else self.n_buckets,
            rule.bucket_size_x if self.bucket_size_x is None else self.bucket_size_x,
            rule.bucket_size_y if self.bucket_size_y is None else self.bucket_size_y,
        )
        fitting = asked.clamped(n_positions, catalog_size, warn=self._warned_about != asked)
        if fitting != asked:
            self._warned_about = asked  # say it once, not at every step
        return fitting

    def forward(self, input: Tensor, linear_weight: Tensor, target: Tensor) -> Tensor:
        """Loss of ``input (..., D)`` against ``target (...)`` over the catalog ``linear_weight (C, D)``."""
        sizes = self.sizes(target.numel(), len(linear_weight))
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
        )
        if not self.collect_statistics:
            self.statistics = None
            return result
        loss, self.statistics = result
        return loss

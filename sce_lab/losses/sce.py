"""Scalable Cross-Entropy, the version people run."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from .buckets import BucketSizes, SCEStatistics
from .common import check_positive, check_reduction
from .sce_reference import scalable_cross_entropy_reference

scalable_cross_entropy = scalable_cross_entropy_reference


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

"""The parts of SCE that the readable version and the engine share: settings, centres, statistics."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from .draws import draw
from .engine import is_fake
from .inputs import check_positive


@dataclass(frozen=True)
class BucketSizes:
    """The three settings of SCE: how many buckets, and how many positions and items each of them takes."""

    n_buckets: int
    bucket_size_x: int
    bucket_size_y: int

    @classmethod
    def checked(cls, n_buckets: int, bucket_size_x: int, bucket_size_y: int) -> "BucketSizes":
        """Raise a ValueError that names the first setting below one."""
        return cls(
            check_positive("n_buckets", n_buckets),
            check_positive("bucket_size_x", bucket_size_x),
            check_positive("bucket_size_y", bucket_size_y),
        )

    @classmethod
    def paper_rule(cls, n_positions: int, catalog_size: int) -> "BucketSizes":
        """``2 sqrt(N)`` buckets of as many positions and 256 items each, as far as there are so many."""
        n_buckets = max(int(2 * sqrt(n_positions)), 1)
        return cls(n_buckets, min(n_buckets, max(n_positions, 1)), min(256, catalog_size))

    @classmethod
    def asked(
        cls,
        n_buckets: int | None,
        bucket_size_x: int | None,
        bucket_size_y: int | None,
        n_positions: int,
        catalog_size: int,
    ) -> "BucketSizes":
        """The settings for so many positions and items: what is None follows the paper's rule."""
        rule = cls.paper_rule(n_positions, catalog_size)
        return cls.checked(
            rule.n_buckets if n_buckets is None else n_buckets,
            rule.bucket_size_x if bucket_size_x is None else bucket_size_x,
            rule.bucket_size_y if bucket_size_y is None else bucket_size_y,
        )

    def clamped(self, n_positions: int, catalog_size: int, *, warn: bool = True) -> "BucketSizes":
        """No bucket holds more than all positions and all items. Asking for more is answered by one warning."""
        fitting = BucketSizes(
            self.n_buckets, min(self.bucket_size_x, n_positions), min(self.bucket_size_y, catalog_size)
        )
        too_large = []
        if fitting.bucket_size_x < self.bucket_size_x:
            too_large.append(f"bucket_size_x={self.bucket_size_x} of {n_positions} positions")
        if fitting.bucket_size_y < self.bucket_size_y:
            too_large.append(f"bucket_size_y={self.bucket_size_y} of {catalog_size} items")
        if too_large and warn and n_positions > 0 and not torch.compiler.is_compiling():
            warnings.warn(f"{' and '.join(too_large)}: each bucket takes all there are", RuntimeWarning, stacklevel=3)
        return fitting


@torch.no_grad()
def draw_centers(
    outputs: Tensor,
    valid: Tensor,
    n_buckets: int,
    mix_x: bool,
    generator: torch.Generator | None,
    dtype: torch.dtype,
) -> Tensor:
    """Random bucket centres ``(n_buckets, D)``.

    Plain centres are standard normal. With Mix they are ``Omega X`` for a standard normal ``Omega (n_buckets, N)``,
    so that they lie where the outputs ``X (N, D)`` lie. ``Omega`` is drawn for a slice of positions at a time and
    never whole. Positions without a target do not take part.
    """
    n_positions, dim = outputs.shape

    def normal(n_columns: int) -> Tensor:
        return draw(torch.randn, n_buckets, n_columns, device=outputs.device, generator=generator, dtype=dtype)

    if not mix_x:
        return normal(dim)
    centers = outputs.new_zeros(n_buckets, dim, dtype=dtype)
    for start in range(0, n_positions, 4096):
        part = slice(start, start + 4096)
        x = outputs[part].to(dtype).masked_fill(~valid[part, None], 0.0)  # (<= 4096, D)
        centers += normal(len(x)) @ x
    return centers


@torch.no_grad()
def moved_centers(
    centers: Tensor, outputs: Tensor, valid: Tensor, steps: int, *, add_up: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """The ``centers (n_buckets, D)`` after some steps of spherical k-means on the outputs ``(N, D)``.

    In a step each position with a target counts for the centre that its output points to most, and a centre becomes
    the mean direction of those that count for it; one that has none stays. Lengths do not matter to a bucket.
    Where the outputs are not all here, ``add_up`` adds up what each has found.
    """
    centers = F.normalize(centers, dim=1)
    for _ in range(steps):
        sums = torch.zeros_like(centers)
        for start in range(0, len(outputs), 4096):
            part = slice(start, start + 4096)
            x = F.normalize(outputs[part].to(centers.dtype).masked_fill(~valid[part, None], 0.0), dim=1)
            sums.index_add_(0, (x @ centers.T).argmax(dim=1), x)
        sums = add_up(sums) if add_up else sums
        centers = torch.where((sums != 0).any(dim=1, keepdim=True), F.normalize(sums, dim=1), centers)
    return centers


@torch.no_grad()
def mean_rows(outputs: Tensor, rows: Tensor, valid: Tensor, dtype: torch.dtype) -> Tensor:
    """The mean output ``(n_buckets, D)`` of the positions with a target of each bucket's ``rows (n_buckets, n_x)``.

    Of a row at -1 the output is elsewhere: it counts, with 0.
    """
    n_x = max(rows.shape[1], 1)
    means = outputs.new_zeros(len(rows), outputs.shape[1], dtype=dtype)
    for start in range(0, len(rows), max(2**20 // n_x // outputs.shape[1], 1)):
        part = rows[start : start + max(2**20 // n_x // outputs.shape[1], 1)]
        here, part = (part >= 0).unsqueeze(2), part.clamp(min=0)
        x = outputs[part].to(dtype).masked_fill(~(valid[part].unsqueeze(2) & here), 0.0)  # (n, n_x, D)
        means[start : start + len(part)] = x.sum(dim=1) / n_x
    return means


def checked_centers(centers: Tensor, outputs: Tensor, dtype: torch.dtype, **sizes: int) -> Tensor:
    """Given centres on the device of ``outputs``; a ValueError unless they are of these sizes (by name) and D."""
    shape = (*sizes.values(), outputs.shape[1])
    if tuple(centers.shape) != shape:
        raise ValueError(f"centers must be ({', '.join(sizes)}, D) = {shape}, got {tuple(centers.shape)}")
    readable = centers.device.type == "cpu" and not is_fake(centers) and not torch.compiler.is_compiling()
    if readable and not torch.isfinite(centers).all():
        raise ValueError("centers must be finite numbers: a bucket around NaN or infinity has no nearest positions")
    return centers.to(outputs.device, dtype)


@dataclass(frozen=True)
class SCEStatistics:
    """What one evaluation of SCE looked at: tensors, so that asking does not stall a GPU, all but ``covered`` 0-d.

    Attributes:
        coverage: share of the positions with a target that sit in at least one bucket; only these are trained.
        slots_per_position: in how many buckets a covered position sits, on average.
        target_in_bucket: share of the slots (a position in a bucket) whose bucket holds the position's target.
        captured_mass: share of the true softmax mass, over the whole catalog, that the items of a position's
            winning bucket hold; mean over (at most 256 of) the covered positions.
        covered: ``(N,)`` bool, which positions coverage counts.
    """

    coverage: Tensor
    slots_per_position: Tensor
    target_in_bucket: Tensor
    captured_mass: Tensor
    covered: Tensor

    def as_dict(self) -> dict[str, float]:
        """The shares as plain numbers."""
        return {name: float(value) for name, value in vars(self).items() if value.ndim == 0}


@torch.no_grad()
def bucket_statistics(
    outputs: Tensor,
    linear_weight: Tensor,
    labels: Tensor,
    valid: Tensor,
    rows: Tensor,
    items: Tensor,
    winning_bucket: Tensor,
    *,
    n_sampled: int = 256,
    chunk_size: int = 16384,
) -> SCEStatistics:
    """Statistics of finished buckets.

    Args:
        outputs: ``(N, D)``.
        linear_weight: ``(C, D)``.
        labels: ``(N,)`` target items.
        valid: ``(N,)`` bool, positions with a target.
        rows: ``(n_buckets, bucket_size_x)`` positions of each bucket.
        items: ``(n_buckets, bucket_size_y)`` items of each bucket.
        winning_bucket: ``(N,)`` the bucket whose loss each position kept; anything where it sits in none.
        n_sampled: positions at which the full softmax is computed.
        chunk_size: items per step of that softmax.
    """
    n_positions = len(outputs)
    slots = torch.zeros(n_positions, device=outputs.device)
    in_use = valid[rows]  # (n_buckets, bucket_size_x)
    slots.scatter_add_(0, rows.flatten(), in_use.flatten().to(slots.dtype))
    covered = slots > 0
    n_covered = covered.sum()

    bucket_items = items.sort(dim=1).values
    place = torch.searchsorted(bucket_items, labels[rows]).clamp(max=items.shape[1] - 1)
    hits = ((bucket_items.gather(1, place) == labels[rows]) & in_use).sum()

    # A sample of covered positions, evenly spaced among them: (m,). No shape depends on how many there are.
    m = min(n_sampled, n_positions)
    nth = torch.arange(m, device=outputs.device)
    sampled = nth < n_covered
    nth = torch.where(n_covered > m, nth * n_covered // max(m, 1), nth)
    positions = torch.argsort(covered, descending=True, stable=True)[nth]

    dtype = torch.promote_types(outputs.dtype, torch.float32)
    x = outputs[positions].to(dtype)  # (m, D)
    bucket_mass = torch.logsumexp(
        torch.einsum("md,myd->my", x, linear_weight[items[winning_bucket[positions]]].to(dtype)), dim=-1
    )  # (m,)
    total_mass = torch.full_like(bucket_mass, -torch.inf)
    for part in linear_weight.split(chunk_size):
        total_mass = torch.logaddexp(total_mass, (x @ part.to(dtype).T).logsumexp(dim=-1))
    captured = torch.exp(bucket_mass - total_mass).where(sampled, 0.0).sum() / sampled.sum().clamp(min=1)

    return SCEStatistics(
        coverage=n_covered / valid.sum().clamp(min=1),
        slots_per_position=slots.sum() / n_covered.clamp(min=1),
        target_in_bucket=hits / slots.sum().clamp(min=1),
        captured_mass=captured,
        covered=covered,
    )

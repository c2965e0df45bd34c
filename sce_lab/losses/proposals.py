"""Where negatives come from: distributions Q over the items, to draw from and to correct for."""

from __future__ import annotations

from math import log, log1p
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .draws import draw
from .engine import is_fake
from .inputs import check_items


class Targets(NamedTuple):
    """Whom negatives are for."""

    labels: Tensor  # (N,) target items
    valid: Tensor  # (N,) bool, positions with a target
    catalog_size: int
    generator: torch.Generator | None  # source of the randomness


class Negatives(NamedTuple):
    """Drawn negatives, ``(k,)`` shared by all positions, or sets of k; the three tensors have one shape."""

    items: Tensor
    log_expected: Tensor  # log of how often the item is expected among the draws that are not its own target
    usable: Tensor | None = None  # False: not a negative at all (in-batch draws of a position without a target)


class Proposal(nn.Module):
    """A distribution Q over items 0..C-1. A sampler of your own is a subclass with these two methods.

    Its tensors are buffers, so it moves with the loss that it is a setting of.
    """

    def draw(
        self, shape: tuple[int, ...], catalog_size: int, device: torch.device, generator: torch.Generator | None
    ) -> Tensor:
        """Independent draws from Q, int64 of this shape, on the device."""
        raise NotImplementedError

    def log_probability(self, items: Tensor, catalog_size: int) -> Tensor:
        """``log Q(i)`` of each of the ``items``."""
        raise NotImplementedError

    def negatives(self, targets: Targets, n_negatives: int, n_sets: int | None = None) -> Negatives:
        """k negatives for all targets, or so many sets of k."""
        shape = (n_negatives,) if n_sets is None else (n_sets, n_negatives)
        items = self.draw(shape, targets.catalog_size, targets.labels.device, targets.generator)
        if items.shape != shape or items.is_floating_point():
            raise ValueError(
                f"draw of {type(self).__name__} must return whole numbers of shape {shape}, got {items.dtype} of "
                f"shape {tuple(items.shape)}"
            )
        check_items("negative", items, targets.catalog_size, f"draw of {type(self).__name__} returned it")
        return self.given(items.long(), targets.catalog_size)

    def check_own(self) -> None:
        """Raise a ValueError if there can be only one set of negatives, for the whole batch."""

    def given(self, items: Tensor, catalog_size: int) -> Negatives:
        """Negatives ``(k,)``, or sets of k, that somebody else drew from Q."""
        log_q = self.log_probability(items, catalog_size)
        if log_q.shape != items.shape:
            raise ValueError(
                f"log_probability of {type(self).__name__} must return one number for each of the items it is asked "
                f"about, shape {tuple(items.shape)}, got shape {tuple(log_q.shape)}"
            )
        return Negatives(items, log(items.shape[-1]) + log_q)


class Uniform(Proposal):
    """Every item alike, ``Q = 1 / C``."""

    def draw(
        self, shape: tuple[int, ...], catalog_size: int, device: torch.device, generator: torch.Generator | None
    ) -> Tensor:
        """See :meth:`Proposal.draw`."""
        return draw(torch.randint, catalog_size, shape, device=device, generator=generator)

    def log_probability(self, items: Tensor, catalog_size: int) -> Tensor:
        """See :meth:`Proposal.log_probability`."""
        return torch.full(items.shape, -log(catalog_size), device=items.device, dtype=precise_dtype(items.device))


class _FromCounts(Proposal):
    """A distribution that is prepared from counts: its logarithms are a table, draws invert it at uniform numbers."""

    def __init__(self, log_q: Tensor) -> None:
        super().__init__()
        self.register_buffer("log_q", log_q, persistent=False)  # (C,)

    def item_at(self, u: Tensor) -> Tensor:
        """The items where the distribution function reaches ``u``, from 0 to 1."""
        raise NotImplementedError

    def draw(
        self, shape: tuple[int, ...], catalog_size: int, device: torch.device, generator: torch.Generator | None
    ) -> Tensor:
        """See :meth:`Proposal.draw`."""
        check_size(self.log_q, catalog_size)
        return self.item_at(draw(torch.rand, shape, device=device, generator=generator, dtype=precise_dtype(device)))

    def log_probability(self, items: Tensor, catalog_size: int) -> Tensor:
        """See :meth:`Proposal.log_probability`."""
        check_size(self.log_q, catalog_size)
        return self.log_q.to(items.device)[items]


class LogUniform(_FromCounts):
    """Zipf over the popularity rank r = 0..C-1, ``Q = log((r + 2) / (r + 1)) / log(C + 1)``.

    Args:
        item_counts: ``(C,)`` training count of each item.
    """

    def __init__(self, item_counts: Tensor) -> None:
        item_at_rank = torch.argsort(_checked(item_counts), descending=True, stable=True)
        rank = torch.arange(len(item_at_rank), device=item_at_rank.device, dtype=precise_dtype(item_at_rank.device))
        log_q = (torch.log1p(1 / (rank + 1)) / log1p(len(rank))).log()
        super().__init__(torch.empty_like(log_q).index_copy(0, item_at_rank, log_q))
        self.register_buffer("item_at_rank", item_at_rank, persistent=False)  # (C,)

    def item_at(self, u: Tensor) -> Tensor:
        """P(rank < r) is log(r + 1) / log(C + 1)."""
        n = len(self.item_at_rank)
        rank = torch.exp(u * log1p(n)).long() - 1
        return self.item_at_rank.to(u.device)[rank.clamp(max=n - 1)]


class Popularity(_FromCounts):
    """``Q`` proportional to ``max(count, 1) ** exponent``: an item that could never be drawn would be missing.

    Args:
        item_counts: ``(C,)`` training count of each item.
        exponent: flattens the popularity: 0 is uniform, 1 the popularity itself.
    """

    def __init__(self, item_counts: Tensor, exponent: float = 0.75) -> None:
        if not isinstance(exponent, Real) or not -100 <= exponent <= 100:
            raise ValueError(f"exponent must be a number such as 0.75, got {exponent!r}")
        counts = _checked(item_counts).to(precise_dtype(item_counts.device)).clamp(min=1)
        super().__init__((exponent * counts.log()).log_softmax(dim=0))  # the powers themselves may be too large
        self.register_buffer("cumulative", self.log_q.exp().cumsum(0), persistent=False)  # (C,)

    def item_at(self, u: Tensor) -> Tensor:
        """By bisection."""
        return torch.searchsorted(self.cumulative.to(u.device), u, right=True).clamp(max=len(self.cumulative) - 1)


def _checked(item_counts: Tensor) -> Tensor:
    if item_counts.dim() != 1 or item_counts.is_complex() or len(item_counts) == 0:
        raise ValueError(f"item_counts must be (C,) numbers, one for each item, got shape {tuple(item_counts.shape)}")
    if item_counts.device.type == "cpu" and not is_fake(item_counts) and not torch.compiler.is_compiling():
        wrong = ~(torch.isfinite(item_counts) & (item_counts >= 0))
        if wrong.any():
            where = int(wrong.nonzero()[0])
            raise ValueError(
                f"item_counts must be finite and not negative, got {item_counts[where].item()} at item {where}"
            )
    return item_counts


def check_size(of_each_item: Tensor, catalog_size: int) -> None:
    """A ValueError unless there is one number for each item."""
    if len(of_each_item) != catalog_size:
        raise ValueError(
            f"item_counts must hold one count for each of the {catalog_size} items, shape ({catalog_size},), "
            f"got shape {tuple(of_each_item.shape)}"
        )


def precise_dtype(device: torch.device) -> torch.dtype:
    """float64, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64

"""Where negatives come from: distributions Q over the items, to draw from and to correct for."""

from __future__ import annotations

from math import log, log1p
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .draws import draw
from .engine import is_fake


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

    def negatives(
        self,
        labels: Tensor,
        valid: Tensor,
        n_negatives: int,
        n_sets: int | None,
        catalog_size: int,
        generator: torch.Generator | None,
    ) -> Negatives:
        """Negatives for targets ``labels (N,)``, ``valid`` where there is one: k for all, or so many sets of k."""
        shape = (n_negatives,) if n_sets is None else (n_sets, n_negatives)
        return self.given(self.draw(shape, catalog_size, labels.device, generator), catalog_size)

    def check_own(self) -> None:
        """Raise a ValueError if there can be only one set of negatives, for the whole batch."""

    def given(self, items: Tensor, catalog_size: int) -> Negatives:
        """Negatives ``(k,)``, or sets of k, that somebody else drew from Q."""
        return Negatives(items, log(items.shape[-1]) + self.log_probability(items, catalog_size))


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


class LogUniform(Proposal):
    """Zipf over the popularity rank r = 0..C-1, ``Q = log((r + 2) / (r + 1)) / log(C + 1)``.

    Args:
        item_counts: ``(C,)`` training count of each item.
    """

    def __init__(self, item_counts: Tensor) -> None:
        super().__init__()
        item_at_rank = torch.argsort(_checked(item_counts), descending=True, stable=True)
        self.register_buffer("item_at_rank", item_at_rank, persistent=False)  # (C,)
        self.register_buffer("rank_of_item", torch.argsort(item_at_rank), persistent=False)  # (C,)

    def draw(
        self, shape: tuple[int, ...], catalog_size: int, device: torch.device, generator: torch.Generator | None
    ) -> Tensor:
        """See :meth:`Proposal.draw`."""
        check_size(self.item_at_rank, catalog_size)
        u = draw(torch.rand, shape, device=device, generator=generator, dtype=precise_dtype(device))
        rank = torch.exp(u * log1p(catalog_size)).long() - 1  # P(rank < r) = log(r + 1) / log(C + 1)
        return self.item_at_rank.to(device)[rank.clamp(max=catalog_size - 1)]

    def log_probability(self, items: Tensor, catalog_size: int) -> Tensor:
        """See :meth:`Proposal.log_probability`."""
        check_size(self.rank_of_item, catalog_size)
        rank = self.rank_of_item.to(items.device)[items].to(precise_dtype(items.device))
        return (torch.log1p(1 / (rank + 1)) / log1p(catalog_size)).log()


class Popularity(Proposal):
    """``Q`` proportional to ``max(count, 1) ** exponent``: an item that could never be drawn would be missing.

    Args:
        item_counts: ``(C,)`` training count of each item.
        exponent: flattens the popularity: 0 is uniform, 1 the popularity itself.
    """

    def __init__(self, item_counts: Tensor, exponent: float = 0.75) -> None:
        super().__init__()
        if not -100 <= exponent <= 100:
            raise ValueError(f"exponent must be a number such as 0.75, got {exponent!r}")
        weights = _checked(item_counts).to(precise_dtype(item_counts.device)).clamp(min=1).pow(exponent)
        self.register_buffer("cumulative", weights.cumsum(0) / weights.sum(), persistent=False)  # (C,)
        self.register_buffer("log_q", (weights / weights.sum()).log(), persistent=False)  # (C,)

    def draw(
        self, shape: tuple[int, ...], catalog_size: int, device: torch.device, generator: torch.Generator | None
    ) -> Tensor:
        """See :meth:`Proposal.draw`."""
        check_size(self.cumulative, catalog_size)
        u = draw(torch.rand, shape, device=device, generator=generator, dtype=precise_dtype(device))
        # Invert the distribution function at uniform random numbers.
        return torch.searchsorted(self.cumulative.to(device), u, right=True).clamp(max=catalog_size - 1)

    def log_probability(self, items: Tensor, catalog_size: int) -> Tensor:
        """See :meth:`Proposal.log_probability`."""
        check_size(self.log_q, catalog_size)
        return self.log_q.to(items.device)[items]


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

"""Where negatives come from: distributions Q over the items, to draw from and to correct for."""

from __future__ import annotations

from math import log, log1p
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from .draws import draw
from .engine import is_fake

SAMPLINGS = ("uniform", "log_uniform", "popularity", "in_batch", "mixed")


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
        return torch.full(items.shape, -log(catalog_size), device=items.device, dtype=_precise(items.device))


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
        u = draw(torch.rand, shape, device=device, generator=generator, dtype=_precise(device))
        rank = torch.exp(u * log1p(catalog_size)).long() - 1  # P(rank < r) = log(r + 1) / log(C + 1)
        return self.item_at_rank.to(device)[rank.clamp(max=catalog_size - 1)]

    def log_probability(self, items: Tensor, catalog_size: int) -> Tensor:
        """See :meth:`Proposal.log_probability`."""
        check_size(self.rank_of_item, catalog_size)
        rank = self.rank_of_item.to(items.device)[items].to(_precise(items.device))
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
        weights = _checked(item_counts).to(_precise(item_counts.device)).clamp(min=1).pow(exponent)
        self.register_buffer("cumulative", weights.cumsum(0) / weights.sum(), persistent=False)  # (C,)
        self.register_buffer("log_q", (weights / weights.sum()).log(), persistent=False)  # (C,)

    def draw(
        self, shape: tuple[int, ...], catalog_size: int, device: torch.device, generator: torch.Generator | None
    ) -> Tensor:
        """See :meth:`Proposal.draw`."""
        check_size(self.cumulative, catalog_size)
        u = draw(torch.rand, shape, device=device, generator=generator, dtype=_precise(device))
        # Invert the distribution function at uniform random numbers.
        return torch.searchsorted(self.cumulative.to(device), u, right=True).clamp(max=catalog_size - 1)

    def log_probability(self, items: Tensor, catalog_size: int) -> Tensor:
        """See :meth:`Proposal.log_probability`."""
        check_size(self.log_q, catalog_size)
        return self.log_q.to(items.device)[items]


class InBatch(Proposal):
    """The targets of other positions of the batch, drawn without replacement: at most as many as there are.

    They follow the popularity of the training data, so with ``item_counts`` Q is that popularity, over all batches.
    Without, Q is the frequency within the batch, and the estimate is of the sum over the batch's items only. At one
    position its own draw can never count, so ``k`` is the number drawn times ``(N - 1) / N``.
    """

    def __init__(self, item_counts: Tensor | None = None) -> None:
        super().__init__()
        self.popularity = None if item_counts is None else Popularity(item_counts, 1.0)

    def negatives(
        self,
        labels: Tensor,
        valid: Tensor,
        n_negatives: int,
        n_sets: int | None,
        catalog_size: int,
        generator: torch.Generator | None,
    ) -> Negatives:
        """Targets ``(k,)`` of up to ``n_negatives`` different positions."""
        if n_sets is not None:
            self.check_own()
        keys = draw(torch.rand, labels.shape, device=labels.device, generator=generator)
        keys = keys.masked_fill(~valid, -1.0)  # last, so taken only when nothing else is left
        positions = keys.topk(min(n_negatives, len(labels))).indices
        items, usable = labels[positions], valid[positions]
        return Negatives(items, self.log_expected(items, labels, valid, usable.sum(), catalog_size), usable)

    def log_expected(self, items: Tensor, labels: Tensor, valid: Tensor, n_drawn: Tensor, catalog_size: int) -> Tensor:
        """Log of how often each of the ``items`` is expected among ``n_drawn`` targets of the batch."""
        n_valid, n_drawn = valid.sum(), n_drawn.to(_precise(labels.device))
        if self.popularity is not None:
            others = n_drawn * (n_valid - 1) / n_valid.clamp(min=1)  # the draw of one's own target never counts
            return others.clamp(min=1e-9).log() + self.popularity.log_probability(items, catalog_size)
        batch = labels.masked_fill(~valid, -1).sort().values
        count = torch.searchsorted(batch, items, right=True) - torch.searchsorted(batch, items)
        return (n_drawn * count / n_valid.clamp(min=1)).clamp(min=1e-9).log()

    def check_own(self) -> None:
        """Refused: there is one batch only."""
        raise ValueError(f"shared_negatives must be True with {self._called}: it has one batch only")

    def given(self, items: Tensor, catalog_size: int) -> Negatives:
        """Refused: they come from the batch."""
        raise ValueError(f"negatives do not go with {self._called}, which takes them from the batch")

    _called = 'sampling="in_batch"'


class Mixed(InBatch):
    """A share of the negatives drawn uniformly, the rest in-batch: items that nobody interacts with come up, too.

    An item is expected as often as in both draws together, whichever of them brought it.

    Args:
        item_counts: ``(C,)`` training count of each item, as for :class:`InBatch`.
        uniform_share: of the negatives, from 0 to 1.

    Source: Yang et al., "Mixed negative sampling for learning two-tower neural networks in recommendations", WWW 2020.
    """

    _called = 'sampling="mixed"'

    def __init__(self, item_counts: Tensor | None = None, uniform_share: float = 0.5) -> None:
        super().__init__(item_counts)
        if not 0 <= uniform_share <= 1:
            raise ValueError(f"uniform_share must lie between 0 and 1, got {uniform_share!r}")
        self.uniform_share = uniform_share

    def negatives(
        self,
        labels: Tensor,
        valid: Tensor,
        n_negatives: int,
        n_sets: int | None,
        catalog_size: int,
        generator: torch.Generator | None,
    ) -> Negatives:
        """``round(uniform_share * n_negatives)`` uniform draws after the targets of as many positions as are left."""
        n_uniform = round(self.uniform_share * n_negatives)
        batch = super().negatives(labels, valid, n_negatives - n_uniform, n_sets, catalog_size, generator)
        drawn = Uniform().draw((n_uniform,), catalog_size, labels.device, generator)
        items = torch.cat([batch.items, drawn])
        log_expected = self.log_expected(items, labels, valid, batch.usable.sum(), catalog_size)
        if n_uniform > 0:
            log_expected = torch.logaddexp(log_expected, torch.full_like(log_expected, log(n_uniform / catalog_size)))
        return Negatives(items, log_expected, torch.cat([batch.usable, torch.ones_like(drawn, dtype=torch.bool)]))


def make_proposal(
    sampling: str | Proposal, item_counts: Tensor | None = None, exponent: float = 0.75, uniform_share: float = 0.5
) -> Proposal:
    """The proposal of this name in :data:`SAMPLINGS`; one that is prepared from counts is kept as long as they are.

    Raises:
        ValueError: an unknown name, counts that are missing, or values that make no distribution.
    """
    if isinstance(sampling, Proposal):
        return sampling
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}, or a Proposal, got {sampling!r}")
    if sampling == "uniform":
        return Uniform()
    if item_counts is None:
        if sampling in ("in_batch", "mixed"):
            return InBatch() if sampling == "in_batch" else Mixed(uniform_share=uniform_share)
        raise ValueError(f"sampling={sampling!r} needs item_counts, the training count of each item")
    make = {
        "log_uniform": lambda: LogUniform(item_counts),
        "popularity": lambda: Popularity(item_counts, exponent),
        "in_batch": lambda: InBatch(item_counts),
        "mixed": lambda: Mixed(item_counts, uniform_share),
    }[sampling]
    if torch.compiler.is_compiling():
        return make()
    kept = _prepared.setdefault(item_counts, {})
    key = sampling, exponent, uniform_share, item_counts._version
    if key not in kept:
        kept.clear()
        kept[key] = make()
    return kept[key]


_prepared: WeakIdKeyDictionary = WeakIdKeyDictionary()


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


def _precise(device: torch.device) -> torch.dtype:
    """float64, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64

"""Negatives that come from the batch itself, all or some of them."""

from math import log

import torch
from torch import Tensor

from .draws import draw
from .inputs import check_share
from .proposals import Negatives, Popularity, Proposal, Targets, Uniform, precise_dtype


class InBatch(Proposal):
    """The targets of other positions of the batch, drawn without replacement: at most as many as there are.

    They follow the popularity of the training data, so with ``item_counts`` Q is that popularity, over all batches.
    Without, Q is the frequency within the batch, and the estimate is of the sum over the batch's items only. At one
    position its own draw can never count, so ``k`` is the number drawn times ``(N - 1) / N``.
    """

    def __init__(self, item_counts: Tensor | None = None) -> None:
        super().__init__()
        self.popularity = None if item_counts is None else Popularity(item_counts, 1.0)

    def negatives(self, targets: Targets, n_negatives: int, n_sets: int | None = None) -> Negatives:
        """Targets ``(k,)`` of up to ``n_negatives`` different positions."""
        if n_sets is not None:
            self.check_own()
        labels, valid, _, generator = targets
        keys = draw(torch.rand, labels.shape, device=labels.device, generator=generator)
        keys = keys.masked_fill(~valid, -1.0)  # last, so taken only when nothing else is left
        positions = keys.topk(min(n_negatives, len(labels))).indices
        items, usable = labels[positions], valid[positions]
        return Negatives(items, self.log_expected(items, targets, usable.sum()), usable)

    def log_expected(self, items: Tensor, targets: Targets, n_drawn: Tensor) -> Tensor:
        """Log of how often each of the ``items`` is expected among ``n_drawn`` targets of the batch."""
        labels, valid, catalog_size, _ = targets
        n_valid, n_drawn = valid.sum(), n_drawn.to(precise_dtype(labels.device))
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
        check_share("uniform_share", uniform_share)
        self.uniform_share = uniform_share

    def negatives(self, targets: Targets, n_negatives: int, n_sets: int | None = None) -> Negatives:
        """``round(uniform_share * n_negatives)`` uniform draws after the targets of as many positions as are left."""
        n_uniform = round(self.uniform_share * n_negatives)
        batch = super().negatives(targets, n_negatives - n_uniform, n_sets)
        labels, _, catalog_size, generator = targets
        drawn = Uniform().draw((n_uniform,), catalog_size, labels.device, generator)
        items = torch.cat([batch.items, drawn])
        log_expected = self.log_expected(items, targets, batch.usable.sum())
        if n_uniform > 0:
            log_expected = torch.logaddexp(log_expected, torch.full_like(log_expected, log(n_uniform / catalog_size)))
        return Negatives(items, log_expected, torch.cat([batch.usable, torch.ones_like(drawn, dtype=torch.bool)]))

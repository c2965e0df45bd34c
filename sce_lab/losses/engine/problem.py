"""What the engine is asked: which cells of the matrix of logits a loss looks at."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

#: How the blocks of a position are put together: the block with the largest loss, the sum over all of them, or the sum
#: over the distinct items of all of them.
Combine = Literal["max", "logsumexp", "union"]


class Blocks(NamedTuple):
    """Rectangles of the N x C matrix of logits, in which a loss takes its softmax.

    ====================  ==============================  =================================================
    loss                  positions                       items
    ====================  ==============================  =================================================
    cross-entropy         all                             all
    shared negatives      all                             k columns, with a bias of ``-log k Q``
    own negatives         one row a position              k cells each, with a bias
    a sequence's own      up to m rows of a sequence      its k cells, with a bias
    SCE                   ``(n_buckets, bucket_size_x)``  ``(n_buckets, bucket_size_y)``, the largest counts
    SCE, union; RECE      buckets; chunks                 the distinct items of a position's blocks
    ====================  ==============================  =================================================

    Attributes:
        rows: ``(n_blocks, n_x)`` positions of each block, -1 where there is none; None for one block of all positions.
        items: ``(n_blocks, n_y)`` items of each block, in ascending order; None for one block that holds all.
        bias: ``(n_blocks, n_y)``, added to the logits; an item at -inf is not there. It may have a gradient.
    """

    rows: Tensor | None = None
    items: Tensor | None = None
    bias: Tensor | None = None

    @classmethod
    def of(cls, rows: Tensor | None, items: Tensor, bias: Tensor | None = None) -> "Blocks":
        """Blocks of items in any order.

        With a ``bias`` an item may stand in its block several times: then its weights ``exp(bias)`` are added up, and
        it is there once. Without, the items of a block are distinct.
        """
        items, order = items.sort(dim=1)  # a target is found among them by bisection
        if bias is None:
            return cls(rows, items)
        bias = bias.gather(1, order)
        n_blocks, n_y = items.shape
        first = torch.searchsorted(items, items)  # where the first of its equals stands, (n_blocks, n_y)
        first = (first + n_y * torch.arange(n_blocks, device=items.device).unsqueeze(1)).flatten()
        largest = torch.full_like(bias, -torch.inf).view(-1).scatter_reduce(0, first, bias.flatten(), "amax")
        shift = largest.clamp(min=torch.finfo(bias.dtype).min)  # finite, also where nothing is there
        weight = (bias.flatten() - shift[first]).exp()
        total = torch.zeros_like(weight).scatter_add(0, first, weight)
        return cls(rows, items, (shift + total.log()).view(n_blocks, n_y))

    def plus(self, item_bias: Tensor | None) -> "Blocks":
        """With a bias of each item ``(C,)``, which has its gradient, added to that of the blocks."""
        if item_bias is None:
            return self
        of_items = item_bias.unsqueeze(0) if self.items is None else item_bias[self.items]
        return self._replace(bias=of_items if self.bias is None else self.bias + of_items)


class Problem(NamedTuple):
    """A matrix of logits that is never held, the right answers, and which cells to look at."""

    outputs: Tensor  # (N, D)
    table: Tensor  # (C, D)
    labels: Tensor  # (N,) target items
    valid: Tensor  # (N,) bool, positions with a target
    blocks: Blocks
    target_bias: Tensor | None = None  # (N,), added to the logits of the targets
    softcap: float | None = None  # inner products s are taken as softcap * tanh(s / softcap), before any bias


class Found(NamedTuple):
    """What the forward pass found of each position; each is ``(N,)``."""

    losses: Tensor  # 0 for a position without a target or in no block
    slot: Tensor  # where the loss comes from: a position in a block, counted through all blocks; -1 for none
    log_z: Tensor  # log-sum-exp over all that the position looks at, its target included


class Slots(NamedTuple):
    """The slots that have a gradient: which block each is in, and whose it is; a *slot* is one position in a block."""

    block: Tensor  # (M,), -1 for a slot that has none after all
    position: Tensor  # (M,)
    most: int  # no block has more
    once: bool  # no position has two


class PositionGradients(NamedTuple):
    """What the gradients of a position's logits follow from; each is ``(N,)``."""

    losses: Tensor  # gradient of the loss, g; 0 where there is none
    target: Tensor  # gradient of the loss in its target's logit, p_t - 1
    log_z: Tensor  # log-sum-exp over all that the position looks at, its target included


class Gradients(NamedTuple):
    """Gradients of a problem's outputs, table and bias; None for what was not asked for."""

    outputs: Tensor | None  # (N, D)
    rows: Tensor | None  # (C, D), or (T, D) for the touched rows of the table
    touched: Tensor | None  # (T,) in ascending order; None: rows are those of the whole table
    bias: Tensor | None = None  # (n_blocks, n_y); in a block of the whole catalog with what the targets give

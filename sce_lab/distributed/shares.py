"""Each rank's share of a batch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sce_lab.data.batches import Batch, Packed

NO_TARGET = -100


class Share(NamedTuple):
    """Every ``n``-th sequence of packed ones, which have similar lengths on all ranks.

    Attributes:
        inputs: the sequences. A rank that none is left for has the first one, for the sake of the model's collectives.
        index: ``(N,)`` where their positions stand among all.
        is_none: whether none was left.
    """

    inputs: Packed
    index: Tensor
    is_none: bool


def share_of(packed: Packed, rank: int, n: int) -> Share:
    """The share of a rank among ``n``."""
    counts, lengths = np.array(packed.runs).T
    lengths = np.repeat(lengths, counts)
    starts = np.cumsum(lengths) - lengths
    mine = np.arange(len(lengths))[rank::n]
    is_none = len(mine) == 0
    if is_none:
        mine = np.zeros(1, dtype=np.int64)
    lengths, starts = lengths[mine], starts[mine]
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    index = torch.from_numpy(np.repeat(starts, lengths) + np.arange(lengths.sum()) - first)
    distinct, counts = np.unique(lengths, return_counts=True)
    runs = tuple((int(count), int(length)) for count, length in zip(counts, distinct))
    return Share(Packed(packed.items[index], packed.positions[index], runs), index, is_none)


def share_of_batch(batch: Batch, rank: int, n: int) -> Batch:
    """The share of a rank among ``n``; without a target where no sequence is left for it."""
    share = share_of(batch.inputs, rank, n)
    targets = batch.targets[share.index]
    return Batch(share.inputs, targets.fill_(NO_TARGET) if share.is_none else targets)

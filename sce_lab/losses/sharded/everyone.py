"""The positions of all ranks: a loss is that of all batches together, in the order of their ranks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..engine import is_fake
from .ranks import Ranks
from .shard import Shard


class Everyone(NamedTuple):
    """What all ranks know of each other's positions. N is how many there are together."""

    shard: Shard
    sizes: list[int]  # positions of each rank
    labels: Tensor  # (N,)
    valid: Tensor  # (N,)
    padded_labels: Tensor  # (ranks, longest), -1 where there is no position or no target

    @property
    def ranks(self) -> Ranks:
        """Who they are."""
        return self.shard.ranks

    @property
    def n_positions(self) -> int:
        """N."""
        return sum(self.sizes)

    @property
    def mine(self) -> slice:
        """One's own positions among all."""
        start = sum(self.sizes[: self.ranks.rank])
        return slice(start, start + self.sizes[self.ranks.rank])

    def padded(self, positions: Tensor) -> Tensor:
        """Where ``positions`` among all, -1 for none, stand in ``(ranks, longest)``, flat."""
        longest = self.padded_labels.shape[1]
        sizes = torch.tensor(self.sizes, device=positions.device)
        ends = sizes.cumsum(0)
        rank = torch.searchsorted(ends, positions, right=True).clamp(max=len(sizes) - 1)
        return torch.where(positions < 0, -1, rank * longest + positions - (ends - sizes)[rank])

    def summed(self, value: Tensor) -> Tensor:
        """The sum of a number ``()`` over all ranks; its gradient is that of one's own part."""
        return value + (self.ranks.added(value.detach().clone()) - value.detach())


def meet(labels: Tensor, valid: Tensor, shard: Shard) -> Everyone:
    """Tell everyone about one's positions; 8 bytes a rank and 8 a position."""
    ranks = shard.ranks
    told = ranks.gathered(torch.tensor([len(labels)], device=labels.device)).flatten()
    sizes = [len(labels)] * ranks.n if is_fake(labels) else told.tolist()
    mine = labels.new_full((max(sizes),), -1)
    mine[: len(labels)] = labels.masked_fill(~valid, -1)
    padded = ranks.gathered(mine) if len(mine) else mine.new_empty(ranks.n, 0)
    even = min(sizes) == max(sizes)
    labels = padded.flatten() if even else torch.cat([of_rank[:n] for of_rank, n in zip(padded, sizes)])
    return Everyone(shard, sizes, labels.clamp(min=0), labels >= 0, padded)


def check_same(everyone: Everyone, what: str, *tensors: Tensor) -> None:
    """Refuse what decides the blocks, such as drawn negatives, if it is not the same on all ranks; 8 bytes a rank.

    Raises:
        ValueError: on every rank; the message names those that differ from rank 0.
    """
    if is_fake(everyone.labels):
        everyone.ranks.gathered(everyone.labels.new_empty(1))
        return
    mine = torch.stack([checksum(tensor.to(everyone.labels.device)) for tensor in tensors])
    sums = everyone.ranks.gathered(checksum(mine)[None]).flatten()
    if bool((others := (sums != sums[0]).nonzero().flatten()).numel()):
        raise ValueError(
            f"every rank must have the same {what}, but those of rank {', '.join(map(str, others.tolist()))} are not "
            "those of rank 0: give all ranks the same settings and tensors, and generator="
            "torch.Generator().manual_seed(...) with one seed"
        )


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def checksum(tensor: Tensor) -> Tensor:
    """An int64 ``()`` that another value, or another order of the same ones, would most surely change."""
    values = tensor.detach().flatten().view(_INTEGERS[tensor.element_size()])
    total = torch.tensor(len(values), device=tensor.device)
    for start in range(0, len(values), 2**16):  # a part at a time: nothing as large as the tensor
        part = values[start : start + 2**16].long()
        place = torch.arange(start + 1, start + 1 + len(part), device=tensor.device)
        mixed = part + place * 0x1E3779B97F4A7C15  # as SplitMix64 mixes
        mixed = (mixed ^ (mixed >> 30)) * 0x3F58476D1CE4E5B9
        mixed = (mixed ^ (mixed >> 27)) * 0x14D049BB133111EB
        total += mixed.sum()
    return total

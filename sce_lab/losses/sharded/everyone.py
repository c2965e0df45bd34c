"""The positions of all ranks: a loss is that of all batches together, in the order of their ranks."""

from __future__ import annotations

import zlib
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
    if is_fake(labels):
        sizes = [len(labels)] * ranks.n
    else:
        sizes = ranks.gathered(torch.tensor([len(labels)], device=labels.device)).flatten().tolist()
    mine = labels.new_full((max(sizes),), -1)
    mine[: len(labels)] = labels.masked_fill(~valid, -1)
    padded = ranks.gathered(mine) if len(mine) else mine.new_empty(ranks.n, 0)
    even = min(sizes) == max(sizes)
    labels = padded.flatten() if even else torch.cat([of_rank[:n] for of_rank, n in zip(padded, sizes)])
    return Everyone(shard, sizes, labels.clamp(min=0), labels >= 0, padded)


def check_same_draws(everyone: Everyone, generator: torch.Generator | None, device: torch.device) -> None:
    """Refuse generators that would draw something else on another rank.

    Raises:
        ValueError: on every rank; the message names those that differ from rank 0.
    """
    if is_fake(everyone.labels):
        return
    if generator is not None:
        state = generator.get_state()
    else:
        state = torch.get_rng_state() if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)
    mine = torch.tensor([zlib.crc32(state.cpu().numpy().tobytes())], device=everyone.labels.device)
    states = everyone.ranks.gathered(mine).flatten()
    if bool((others := (states != states[0]).nonzero().flatten()).numel()):
        raise ValueError(
            f"every rank must draw the same negatives or centres, but the generator of rank "
            f"{', '.join(map(str, others.tolist()))} is not in the state of that of rank 0: give generator="
            "torch.Generator().manual_seed(...) with one seed for all ranks"
        )

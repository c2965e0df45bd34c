"""The processes that share an item table, and the five ways in which they exchange tensors."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

# PyTorch 2.13 has new names for two collectives, and warns at the old ones.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


class Ranks(NamedTuple):
    """A process group as one of its members sees it. Every member makes the same calls in the same order."""

    group: Any
    rank: int
    n: int

    def gathered(self, mine: Tensor) -> Tensor:
        """``(n, ...)`` of ``mine (...)``, which has the same shape everywhere."""
        everybodys = mine.new_empty(self.n * mine.shape[0], *mine.shape[1:])
        _all_gather(everybodys, mine.contiguous(), group=self.group)
        return everybodys.view(self.n, *mine.shape)

    def added(self, mine: Tensor) -> Tensor:
        """The sum over all ranks, in place."""
        dist.all_reduce(mine, group=self.group)
        return mine

    def largest(self, mine: Tensor) -> Tensor:
        """The largest over all ranks, in place."""
        dist.all_reduce(mine, dist.ReduceOp.MAX, group=self.group)
        return mine

    def my_sums(self, everybodys: Tensor) -> Tensor:
        """The sum over all ranks of one's own part ``(...)`` of ``(n, ...)``."""
        mine = torch.empty_like(everybodys[0], memory_format=torch.contiguous_format)
        if mine.numel():
            _reduce_scatter(mine, everybodys.flatten(0, 1), group=self.group)
        return mine

    def exchanged(self, tensor: Tensor, out: list[int], into: list[int]) -> Tensor:
        """Rows of ``tensor``, ``into[q]`` of them for rank q one after the other; returns ``out[q]`` from rank q."""
        received = tensor.new_empty(sum(out), *tensor.shape[1:])
        dist.all_to_all_single(received, tensor.contiguous(), out, into, group=self.group)
        return received

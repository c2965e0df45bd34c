"""A row-sharded item table in training: its rows as a parameter, and looking up rows that are elsewhere."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from sce_lab.losses.engine import is_fake
from sce_lab.losses.sharded import Ranks


def as_table(rows: Tensor, mesh: DeviceMesh, catalog_size: int) -> DTensor:
    """The table ``(C, D)`` of which these are this rank's rows; a gradient goes to them."""
    size = torch.Size((catalog_size, rows.shape[1]))
    return DTensor.from_local(rows, mesh, [Shard(0)], run_check=False, shape=size, stride=(rows.shape[1], 1))


class Lookup(NamedTuple):
    """Who asks whom for which rows; made once a step, for the rows and for the way back of their gradients."""

    ranks: Ranks
    order: Tensor  # (N,) the items of this rank, sorted by owner
    asked: list[int]  # how many of each rank
    wanted: list[int]  # how many each rank wants from here
    rows: Tensor  # (W,) which of the rows here, rank by rank

    @classmethod
    def of(cls, items: Tensor, first: int, per_rank: int, ranks: Ranks) -> Lookup:
        """For ``items (N,)`` of a catalog of which each rank has ``per_rank`` and this one those from ``first``."""
        owner = items.div(per_rank, rounding_mode="floor")
        order = owner.argsort(stable=True)
        ones = [1] * ranks.n
        if is_fake(items):  # as if all ranks were asked for as many
            ranks.exchanged(items.new_empty(ranks.n), ones, ones)
            wanted = asked = [len(items) // ranks.n + (i < len(items) % ranks.n) for i in range(ranks.n)]
        else:
            counts = torch.bincount(owner, minlength=ranks.n)
            asked, wanted = torch.stack([counts, ranks.exchanged(counts, ones, ones)]).tolist()
        rows = ranks.exchanged(items[order], wanted, asked) - first
        return cls(ranks, order, asked, wanted, rows)

    def __call__(self, rows: Tensor) -> Tensor:
        """The rows ``(N, D)`` of the items, given those of this rank ``(n, D)``."""
        found = self.ranks.exchanged(rows[self.rows], self.asked, self.wanted)
        return torch.empty_like(found).index_copy_(0, self.order, found)

    def gradients(self, of_items: Tensor) -> Tensor:
        """The gradients ``(W, D)`` of the rows that others looked up here, given those of one's own items."""
        return self.ranks.exchanged(of_items[self.order], self.wanted, self.asked)

"""Ranking the whole catalog when each rank has a part of it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from sce_lab.data.batches import history_batches
from sce_lab.data.splits import Holdout, Sequences
from sce_lab.distributed.launch import ranks_of
from sce_lab.distributed.shares import share_of
from sce_lab.distributed.table import Lookup
from sce_lab.losses.sharded import Ranks, bounds
from sce_lab.metrics import KS, Ranking
from sce_lab.metrics.ranking import Columns, rank_items
from sce_lab.model import SASRec


class ShardedColumns(Columns):
    """The columns of this rank; what each finds is put together."""

    def __init__(self, catalog_size: int, ranks: Ranks) -> None:
        super().__init__(*bounds(catalog_size, ranks), width=-(-catalog_size // ranks.n))
        self._ranks = ranks

    def added(self, mine: Tensor) -> Tensor:
        """The sum over all ranks."""
        return self._ranks.added(mine)

    def best(self, scores: Tensor, items: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The ``k`` best of all ranks."""
        width = min(k, self.width)
        padded = scores.new_full((len(scores), width), -torch.inf), items.new_zeros(len(items), width)
        for into, mine in zip(padded, (scores, items)):
            into[:, : mine.shape[1]] = mine
        scores, items = (self._ranks.gathered(t).transpose(0, 1).flatten(1) for t in padded)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        return scores[:, :k], items.gather(1, order[:, :k])


@torch.no_grad()
def rank_on_ranks(
    model: SASRec, mesh: DeviceMesh, catalog_size: int, holdout: Holdout, *, seen: str = "exclude", k_max: int = max(KS)
) -> Ranking:
    """As :func:`sce_lab.training.rank_together` for one model, of which each rank has some rows of the item table."""
    ranks, rows = ranks_of(mesh), model.item_embedding.detach()
    outputs = _last_outputs(model.eval(), holdout.histories, ranks, catalog_size)
    columns = ShardedColumns(catalog_size, ranks)
    return rank_items(outputs, rows, holdout, seen=seen, k_max=k_max, columns=columns, catalog_size=catalog_size)


def _last_outputs(model: SASRec, histories: Sequences, ranks: Ranks, catalog_size: int) -> Tensor:
    """What the model says after each history ``(U, D)``, on every rank; each computes its share of every batch."""
    rows, longest = model.item_embedding.detach(), len(model.position_embedding)
    outputs = torch.empty(len(histories), rows.shape[1], device=rows.device, dtype=rows.dtype)
    first, _ = bounds(catalog_size, ranks)
    for packed, users in history_batches(histories, longest, 8192 * ranks.n):
        inputs = share_of(packed, ranks.rank, ranks.n).inputs.to(rows.device)
        lookup = Lookup.of(inputs.items, first, -(-catalog_size // ranks.n), ranks)
        mine = model(inputs, lookup(rows))[inputs.last.to(rows.device)]
        most = -(-len(users) // ranks.n)
        every = ranks.gathered(torch.cat([mine, mine.new_zeros(most - len(mine), mine.shape[1])]))
        outputs[torch.from_numpy(users).to(rows.device)] = every.transpose(0, 1).flatten(0, 1)[: len(users)]
    return outputs

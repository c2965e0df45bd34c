"""Ranking quality of models on held-out users."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sce_lab.data.batches import history_batches
from sce_lab.data.splits import Holdout, Sequences
from sce_lab.metrics import KS, Ranking, rank_items, ranking_metrics
from sce_lab.model import SASRec


def evaluate(model: SASRec, holdout: Holdout, ks: tuple[int, ...] = KS, *, seen: str = "exclude") -> dict[str, float]:
    """Full-ranking metrics of ``model`` on ``holdout`` (see :mod:`sce_lab.metrics`); the model is left in eval mode."""
    return evaluate_together([model], holdout, ks, seen=seen)


def evaluate_together(
    models: Sequence[SASRec], holdout: Holdout, ks: tuple[int, ...] = KS, *, seen: str = "exclude"
) -> dict[str, float]:
    """:func:`evaluate` for models whose scores are added up, such as runs of one recipe with several seeds.

    Raises:
        ValueError: as :func:`rank_together`; or there are no users to ask.
    """
    return ranking_metrics(rank_together(models, holdout, seen=seen, k_max=max(ks)), len(models[0].item_embedding), ks)


def rank_together(
    models: Sequence[SASRec], holdout: Holdout, *, seen: str = "exclude", k_max: int = max(KS)
) -> Ranking:
    """Where targets come out by the sum of the models' scores.

    A sum of inner products is one inner product of longer vectors,
    ``sum_m <o_m, E_m[c]> = <[o_1, o_2, ...], [E_1[c], E_2[c], ...]>``, so models together are ranked like a single one.

    Raises:
        ValueError: the models' catalogs differ in size, there are no models, or no such rule about ``seen`` items.
    """
    tables = [model.item_embedding.detach() for model in models]
    if len({len(table) for table in tables}) != 1:
        sizes = ", ".join(str(len(table)) for table in tables) or "no models"
        raise ValueError(f"models whose scores are added up must have one catalog, got sizes {sizes}")
    outputs = [_last_outputs(model.eval(), holdout.histories) for model in models]
    return rank_items(_side_by_side(outputs), _side_by_side(tables), holdout, seen=seen, k_max=k_max)


def _side_by_side(tensors: list[Tensor]) -> Tensor:
    """``(n, D_1 + D_2 + ...)``; a single one as it is, for it may be the largest tensor there is."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=1)


def _last_outputs(model: SASRec, histories: Sequences) -> Tensor:
    """What the model says after each history, ``(U, D)``."""
    table = model.item_embedding.detach()
    outputs = torch.empty(len(histories), table.shape[1], device=table.device, dtype=table.dtype)
    with torch.no_grad():
        for packed, users in history_batches(histories, len(model.position_embedding)):
            packed = packed.to(table.device)
            outputs[torch.from_numpy(users).to(table.device)] = model(packed)[packed.last.to(table.device)]
    return outputs

"""Ranking quality of models on held-out users."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sce_lab.data.batches import Packed, history_batches
from sce_lab.data.splits import Holdout, Sequences
from sce_lab.metrics import KS, Ranking, rank_items, ranking_metrics
from sce_lab.model import SASRec
from sce_lab.transfer import ahead, pinned


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
    models: Sequence[SASRec],
    holdout: Holdout,
    *,
    seen: str = "exclude",
    k_max: int = max(KS),
    followers: bool = True,
) -> Ranking:
    """Where targets come out by the sum of the models' scores.

    A sum of inner products is one inner product of longer vectors,
    ``sum_m <o_m, E_m[c]> = <[o_1, o_2, ...], [E_1[c], E_2[c], ...]>``, so models together are ranked like a single one.
    What a model has of :class:`sce_lab.followers.Followers` is added, unless ``followers`` is False.

    Raises:
        ValueError: the models' catalogs differ in size, there are no models, or no such rule about ``seen`` items.
    """
    tables = [model.item_embedding.detach() for model in models]
    if len({len(table) for table in tables}) != 1:
        sizes = ", ".join(str(len(table)) for table in tables) or "no models"
        raise ValueError(f"models whose scores are added up must have one catalog, got sizes {sizes}")
    outputs = [_last_outputs(model.eval(), holdout.histories) for model in models]

    def add(users: np.ndarray, scores: Tensor) -> None:
        for model in models:
            if followers and model.followers is not None:
                model.followers.add_to(scores, holdout.histories.take(users))

    return rank_items(_side_by_side(outputs), _side_by_side(tables), holdout, seen=seen, k_max=k_max, add=add)


def _side_by_side(tensors: list[Tensor]) -> Tensor:
    """``(n, D_1 + D_2 + ...)``; a single one as it is, for it may be the largest tensor there is."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim=1)


def _last_outputs(model: SASRec, histories: Sequences) -> Tensor:
    """What the model says after each history, ``(U, D)``."""
    table = model.item_embedding.detach()
    outputs = torch.empty(len(histories), table.shape[1], device=table.device, dtype=table.dtype)
    longest, on_cpu = len(model.position_embedding), table.device.type == "cpu"
    batches = history_batches(histories, longest, 8192 if on_cpu else 32_768)  # on a GPU it is launches that take time
    with torch.no_grad():
        for ready, last, users in ahead(batches, lambda batch: _ready(*batch, table.device), table.device):
            outputs[users.to(table.device, non_blocking=True)] = model(ready())[
                last.to(table.device, non_blocking=True)
            ]
    return outputs


def _ready(packed: Packed, users: np.ndarray, device: torch.device) -> tuple[Callable[[], Packed], Tensor, Tensor]:
    """What can be done ahead of a batch: the function that sends it, and where which user's last output is."""
    return packed.ready_for(device), pinned(packed.last, device), pinned(torch.from_numpy(users), device)

"""What ranks are worth: HR@k, NDCG@k, MRR@k and COV@k."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from sce_lab.data.sequences import KS
from sce_lab.metrics.ranking import Ranking


def gains(ranks: Tensor, metric: str) -> Tensor:
    """What each rank is worth; the metric is the mean. float64, of the shape of ``ranks``.

        HR@k   = [rank <= k]                     the target was among the first k
        NDCG@k = [rank <= k] / log2(1 + rank)    ... worth less further down (one relevant item, so IDCG = 1)
        MRR@k  = [rank <= k] / rank

    Raises:
        ValueError: ``metric`` is none of these, such as "NDCG@10".
    """
    name, _, k = metric.partition("@")
    if name not in ("HR", "NDCG", "MRR") or not k.isdecimal() or int(k) < 1:
        raise ValueError(f"a metric of single users is HR@k, NDCG@k or MRR@k with a k of at least 1, got {metric!r}")
    rank = ranks.double()
    hit = (rank <= int(k)).double()
    return hit / {"HR": 1.0, "NDCG": torch.log2(1 + rank), "MRR": rank}[name]


def ranking_metrics(ranking: Ranking, catalog_size: int, ks: Sequence[int] = KS) -> dict[str, float]:
    """Average quality of a ranking over the users that its rule asks, for each cut-off k.

    HR@k, NDCG@k and MRR@k are means of :func:`gains`, and

        COV@k = #(items in anybody's first k) / catalog_size

    Returns:
        A dict with the keys "HR@1", "NDCG@1", "MRR@1", "COV@1", "HR@5", ... in the order of ``ks``, values in 0..1;
        then "users", how many were asked, and "repeats", the share of all users whose target repeats.

    Raises:
        ValueError: no users, a k below 1, or a k beyond the recorded lists (raise k_max of ``rank_items``).
    """
    n_users = len(ranking.ranks)
    if not n_users:
        why = f": all {ranking.n_not_asked:,} targets repeat" if ranking.n_not_asked else ""
        raise ValueError(f"there are no users to evaluate: the ranking is empty{why}")
    if min(ks) < 1 or max(ks) > ranking.top_items.shape[1]:
        raise ValueError(
            f"ks must lie in 1..{ranking.top_items.shape[1]}, the length of the recorded lists, got {tuple(ks)}; "
            f"for longer lists call rank_items with a larger k_max"
        )
    metrics = {}
    for k in ks:
        for name in ("HR", "NDCG", "MRR"):
            metrics[f"{name}@{k}"] = gains(ranking.ranks, f"{name}@{k}").mean().item()
        recommended = torch.zeros(catalog_size + 1, dtype=torch.bool)  # the last place is that of -1, no item
        recommended[ranking.top_items[:, :k]] = True
        metrics[f"COV@{k}"] = recommended[:-1].sum().item() / catalog_size
    repeated = int(ranking.repeats.sum()) + ranking.n_not_asked
    return metrics | {"users": float(n_users), "repeats": repeated / (n_users + ranking.n_not_asked)}


def metrics_apart(ranking: Ranking, catalog_size: int, ks: Sequence[int] = KS) -> dict[str, dict[str, float]]:
    """:func:`ranking_metrics` of the users whose target is new ("new") and of those whose target repeats ("repeats").

    Empty if all users are of one kind: then there is nothing to tell apart.
    """
    repeats = ranking.repeats
    if repeats.all() or not repeats.any():
        return {}
    parts = {"new": ~repeats, "repeats": repeats}
    rows = {
        name: dataclasses.replace(
            ranking, ranks=ranking.ranks[who], top_items=ranking.top_items[who], repeats=repeats[who]
        )
        for name, who in parts.items()
    }
    return {name: ranking_metrics(part, catalog_size, ks) for name, part in rows.items()}

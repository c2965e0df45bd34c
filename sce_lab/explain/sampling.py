"""What sampled softmax estimates, how well, and what one draw pushes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sce_lab.losses import cross_entropy, sampled_softmax


def all_draws(logits: Iterable[float], target: int, q: Iterable[float], k: int) -> pd.DataFrame:
    """Every draw of ``k`` items from ``q`` that can happen, over a catalog small enough to list them.

    Returns:
        Columns draw, chance, sum (the estimate of the sum of exp over the wrong items), loss.
    """
    logits, q = np.asarray(list(logits), float), np.asarray(list(q), float)
    rows = []
    for draw in product(range(len(logits)), repeat=k):
        wrong = [i for i in draw if i != target]
        total = sum(np.exp(logits[i]) / (k * q[i]) for i in wrong)
        loss = np.log(np.exp(logits[target]) + total) - logits[target]
        rows.append({"draw": draw, "chance": float(np.prod(q[list(draw)])), "sum": total, "loss": loss})
    return pd.DataFrame(rows)


#: How negatives are drawn, by the name that a figure shows.
WAYS: dict[str, dict[str, Any]] = {
    "uniform": {"sampling": "uniform"},
    "popularity": {"sampling": "popularity"},
    "in-batch": {"sampling": "in_batch"},
}


def estimates(
    outputs: Tensor, items: Tensor, target: Tensor, item_counts: Tensor, ks: Iterable[int], draws: int = 20
) -> pd.DataFrame:
    """The loss that sampled softmax reports for one model, with the correction and without, beside the exact one.

    Returns:
        Columns way, corrected, k, loss (mean over ``draws``), spread (their standard deviation), exact.
    """
    exact, rows = float(cross_entropy(outputs, items, target)), []
    for (way, settings), corrected, k in product(WAYS.items(), (False, True), ks):
        found = []
        for seed in range(draws):
            generator = torch.Generator().manual_seed(seed)
            more = {"n_negatives": k, "logq_correction": corrected, "item_counts": item_counts, "generator": generator}
            found.append(float(sampled_softmax(outputs, items, target, **settings, **more)))
        row = {"way": way, "corrected": corrected, "k": k, "loss": np.mean(found), "spread": np.std(found)}
        rows.append({**row, "exact": exact})
    return pd.DataFrame(rows)


def hits(target: Tensor, item_counts: Tensor, k: int, exponent: float = 0.75) -> dict[str, float]:
    """The chance that a position's own target is among its ``k`` negatives, mean over positions, by way of drawing."""
    counts = item_counts.double().clamp(min=1)
    q = {"uniform": torch.full_like(counts, 1 / len(counts)), "popularity": counts**exponent / (counts**exponent).sum()}
    shares = {way: float((1 - (1 - p[target]) ** k).mean()) for way, p in q.items()}
    same = torch.bincount(target, minlength=len(counts)).double()[target] - 1  # others with the same target
    n = len(target) - 1
    k = min(k, n)
    # Of n others, k are drawn without replacement; the chance that none of them is among the `same`.
    none = torch.lgamma(n - same + 1) + torch.lgamma(torch.tensor(n - k + 1.0).double())
    none = none - torch.lgamma((n - same - k).clamp(min=0) + 1) - torch.lgamma(torch.tensor(n + 1.0).double())
    return {**shares, "in-batch": float((1 - none.exp() * (n - same >= k)).mean())}


def pushes(
    outputs: Tensor, items: Tensor, target: Tensor, item_counts: Tensor, position: int, k: int, seed: int = 0
) -> pd.DataFrame:
    """How hard each wrong item is pushed away from one position: by cross-entropy, and by one draw of ``k`` negatives.

    A push is the item's share of the softmax: the gradient of the loss in its logit.

    Returns:
        Columns item, rank (1 is pushed hardest by cross-entropy), exact, and one for each way of drawing.
    """
    x, own = outputs[position : position + 1], target[position : position + 1]

    def push(loss: Any) -> np.ndarray:
        table = items.clone().requires_grad_()
        loss(table).backward()
        return (table.grad @ x[0] / x[0].square().sum()).numpy()

    columns = {"exact": push(lambda table: cross_entropy(x, table, own))}
    for way in ("uniform", "popularity"):
        generator = torch.Generator().manual_seed(seed)
        settings = {"sampling": way, "n_negatives": k, "item_counts": item_counts, "generator": generator}
        columns[way] = push(lambda table, settings=settings: sampled_softmax(x, table, own, **settings))
    rows = pd.DataFrame({"item": np.arange(len(items)), **columns}).drop(index=int(own))
    rows["rank"] = rows["exact"].rank(ascending=False, method="first").astype(int)
    return rows.sort_values("rank", ignore_index=True)


def enough(gradients: Mapping[int, pd.DataFrame], cosine: float) -> pd.DataFrame:
    """How many negatives give the gradient this cosine with cross-entropy's, for catalogs of several sizes.

    Args:
        gradients: by catalog size, as of :func:`sce_lab.explain.gradients`, with a row for each number of negatives.
        cosine: to reach; between two rows it is interpolated over log k.

    Returns:
        Columns catalog_size, k, share of the catalog.
    """
    rows = []
    for size, table in gradients.items():
        k = float(np.exp(np.interp(cosine, table["cosine"], np.log(table["share"] * size))))
        rows.append({"catalog_size": size, "k": k, "share": k / size})
    return pd.DataFrame(rows)


def part_of(
    outputs: Tensor, items: Tensor, target: Tensor, catalog_size: int, n_positions: int = 150, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Some positions, and a smaller catalog for them: their targets and others of the items, chosen at random.

    With one seed the positions are the same for every size, and a smaller catalog is a part of a larger one.

    Raises:
        ValueError: the targets alone are more than ``catalog_size``.
    """
    generator = torch.Generator().manual_seed(seed)
    positions = torch.randperm(len(target), generator=generator)[:n_positions]
    own = torch.zeros(len(items), dtype=torch.bool)
    own[target[positions]] = True
    if own.sum() > catalog_size:
        raise ValueError(
            f"{int(own.sum())} items are targets of these positions, more than catalog_size={catalog_size}"
        )
    order = torch.randperm(len(items), generator=generator)
    order = torch.cat([order[own[order]], order[~own[order]]])  # targets first
    kept = order[:catalog_size].sort().values
    return outputs[positions], items[kept], torch.searchsorted(kept, target[positions])

"""What SCE finds, beside sampled softmax with as many logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from sce_lab.losses import cross_entropy, sampled_softmax, scalable_cross_entropy


@dataclass(frozen=True)
class Buckets:
    """The settings of SCE, and what they take from a batch.

    Attributes:
        n_buckets, bucket_size_x, bucket_size_y, mix_x: see ``scalable_cross_entropy``.
    """

    n_buckets: int
    bucket_size_x: int
    bucket_size_y: int
    mix_x: bool = False

    @property
    def n_logits(self) -> int:
        """How many logits the buckets compute."""
        return self.n_buckets * self.bucket_size_x * self.bucket_size_y

    def centers(self, outputs: Tensor, seed: int = 0) -> Tensor:
        """Random directions ``(n_buckets, D)``; with Mix, random sums of the outputs."""
        generator = torch.Generator().manual_seed(seed)
        if self.mix_x:
            return torch.randn(self.n_buckets, len(outputs), generator=generator) @ outputs
        return torch.randn(self.n_buckets, outputs.shape[1], generator=generator)

    def loss(self, outputs: Tensor, items: Tensor, target: Tensor, seed: int = 0) -> Tensor:
        """SCE in the directions of this seed."""
        sizes = {name: getattr(self, name) for name in ("n_buckets", "bucket_size_x", "bucket_size_y")}
        return scalable_cross_entropy(outputs, items, target, **sizes, centers=self.centers(outputs, seed))

    def found(self, outputs: Tensor, items: Tensor, target: Tensor, seed: int = 0) -> Tensor:
        """``(N, C)``: is the item in the bucket whose loss the position keeps? A row of False: it is in none."""
        centers = self.centers(outputs, seed)
        rows = (centers @ outputs.T).topk(self.bucket_size_x, dim=1).indices  # (n_buckets, bucket_size_x)
        taken = (centers @ items.T).topk(self.bucket_size_y, dim=1).indices  # (n_buckets, bucket_size_y)
        logits = outputs @ items.T  # (N, C)
        found = torch.zeros_like(logits, dtype=torch.bool)
        largest = torch.full((len(outputs),), -torch.inf)
        for n, i in zip(rows, taken):
            own = logits[n, target[n]]  # (bucket_size_x,)
            wrong = logits[n][:, i].masked_fill(i == target[n, None], -torch.inf)
            losses = torch.cat([own[:, None], wrong], dim=1).logsumexp(dim=1) - own
            better = losses > largest[n]
            largest[n[better]] = losses[better]
            found[n[better]] = torch.zeros(len(items), dtype=torch.bool).index_fill(0, i, True)
        return found


def found_by_rank(
    outputs: Tensor, items: Tensor, target: Tensor, buckets: Buckets, ranks: int = 50, draws: int = 20
) -> pd.DataFrame:
    """How often a loss looks at the hardest wrong item of a position, at the second hardest, and so on.

    Sampled softmax is given as many logits as the buckets compute: ``n_logits / N`` negatives, uniform.

    Returns:
        Columns loss, rank (1 is the hardest), found (share of all positions, mean over ``draws``).
    """
    wrong = (outputs @ items.T).scatter(1, target[:, None], -torch.inf)
    order = wrong.topk(ranks, dim=1).indices  # (N, ranks)
    generator = torch.Generator().manual_seed(0)
    k, rows = _as_many_negatives(buckets, outputs), []
    shares = {"sce": torch.zeros(ranks), "sampled": torch.zeros(ranks)}
    for seed in range(draws):
        drawn = torch.zeros(len(items), dtype=torch.bool)
        drawn[torch.randint(len(items), (k,), generator=generator)] = True
        shares["sce"] += buckets.found(outputs, items, target, seed).gather(1, order).float().mean(dim=0) / draws
        shares["sampled"] += drawn[order].float().mean(dim=0) / draws
    for loss, found in shares.items():
        rows += [{"loss": loss, "rank": r + 1, "found": float(share)} for r, share in enumerate(found)]
    return pd.DataFrame(rows)


def captured_mass(
    outputs: Tensor, items: Tensor, target: Tensor, ways: Mapping[str, Buckets], draws: int = 10
) -> pd.DataFrame:
    """Share of the softmax mass that is looked at, over all positions: one in no bucket counts as nothing looked at.

    Args:
        outputs, items, target: of one model.
        ways: buckets by name; sampled softmax, uniform, is given as many logits as the first of them.
        draws: what is returned are means over so many draws.

    Returns:
        Columns way, n_logits, coverage, mass.
    """
    mass, rows = (outputs @ items.T).softmax(dim=1), []
    for way, buckets in ways.items():
        found = torch.stack([buckets.found(outputs, items, target, seed) for seed in range(draws)])  # (draws, N, C)
        shares = {"coverage": float(found.any(dim=2).float().mean()), "mass": float((found * mass).sum(dim=2).mean())}
        rows.append({"way": way, "n_logits": buckets.n_logits, **shares})
    generator, k = torch.Generator().manual_seed(0), _as_many_negatives(next(iter(ways.values())), outputs)
    drawn = [torch.randint(len(items), (k,), generator=generator).unique() for _ in range(draws)]
    caught = sum(float(mass[:, each].sum(dim=1).mean()) for each in drawn) / draws
    rows.append({"way": "Sampled softmax", "n_logits": k * len(outputs), "coverage": 1.0, "mass": caught})
    return pd.DataFrame(rows)


def _as_many_negatives(buckets: Buckets, outputs: Tensor) -> int:
    """How many negatives, shared by all positions, are as many logits."""
    return max(round(buckets.n_logits / len(outputs)), 1)


def collapse(outputs: Tensor, items: Tensor, size: int) -> dict[str, float]:
    """How alike the outputs are, and whether the same few items hold everybody's softmax mass.

    Returns:
        ``cosine``: mean cosine of the outputs of two positions; ``own``: softmax mass of each position's own ``size``
        largest items; ``shared``: of the ``size`` items that are best for all positions together. Equal: all
        positions want the same.
    """
    unit = torch.nn.functional.normalize(outputs, dim=1)
    n = len(outputs)
    mass = (outputs @ items.T).softmax(dim=1)
    return {
        "cosine": float((unit.sum(dim=0).square().sum() - n) / (n * (n - 1))),
        "own": float(mass.topk(size, dim=1).values.sum(dim=1).mean()),
        "shared": float(mass.mean(dim=0).topk(size).values.sum()),
    }


def gradients(
    outputs: Tensor, items: Tensor, target: Tensor, buckets: Iterable[Buckets], ks: Iterable[int], draws: int = 5
) -> pd.DataFrame:
    """The gradient of a loss in the item table beside that of cross-entropy, for the logits it computes.

    Returns:
        Columns loss, n_logits, share (of N C logits), cosine, length (1 is cross-entropy's), means over ``draws``.
    """

    def gradient(loss: Callable[[Tensor], Tensor]) -> Tensor:
        table = items.clone().requires_grad_()
        loss(table).backward()
        return table.grad.flatten()

    exact, rows = gradient(lambda table: cross_entropy(outputs, table, target)), []
    whole = len(outputs) * len(items)

    def measure(loss: str, n_logits: int, function: Callable[[Tensor, int], Tensor]) -> None:
        found = [gradient(lambda table, seed=seed: function(table, seed)) for seed in range(draws)]
        cosine = sum(float(torch.cosine_similarity(g, exact, dim=0)) for g in found) / draws
        length = sum(float(g.norm() / exact.norm()) for g in found) / draws
        row = {"loss": loss, "n_logits": n_logits, "share": n_logits / whole, "cosine": cosine, "length": length}
        rows.append(row)

    for sizes in buckets:
        measure("sce", sizes.n_logits, lambda table, seed, sizes=sizes: sizes.loss(outputs, table, target, seed))
    for k in ks:

        def sampled(table: Tensor, seed: int, k: int = k) -> Tensor:
            generator = torch.Generator().manual_seed(seed)
            return sampled_softmax(outputs, table, target, n_negatives=k, generator=generator)

        measure("sampled", k * len(outputs), sampled)
    return pd.DataFrame(rows)

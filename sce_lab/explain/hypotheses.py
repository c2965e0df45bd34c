"""Why does SCE rank as it does? Suspicions as contrasts between trainings, and what the numbers say about each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sce_lab.explain.ablation import VARIANTS, variant_step
from sce_lab.sweeps import Trial, vary
from sce_lab.training import TrainingConfig

HELPS, HURTS, SAME = "helps", "hurts", "not told apart"
CE, SCE = "cross-entropy", "SCE"
ALL_POSITIONS, ALL_ITEMS = "SCE, no position left out", "SCE, no item left out"
MEAN, RANDOM = "SCE, mean of the buckets", "SCE, random items"
CE_SMALL, SCE_SMALL = "cross-entropy, a quarter of the batch", "SCE, a quarter of the batch"
_LABELS = {
    "all-positions": ALL_POSITIONS,
    "all-items": ALL_ITEMS,
    "mean-of-buckets": MEAN,
    "random-items": RANDOM,
}


@dataclass(frozen=True)
class Hypothesis:
    """A suspicion, and the contrast that would show it.

    Attributes:
        name: for people.
        contrast: weights of trainings, by label; they add up to 0. It is positive if the suspicion is right.
    """

    name: str
    contrast: Mapping[str, float]


HYPOTHESES = (
    Hypothesis("SCE against cross-entropy", {SCE: 1, CE: -1}),
    Hypothesis("Leaving out easy items", {ALL_POSITIONS: 1, CE: -1}),
    Hypothesis("Keeping the hard items, not any", {SCE: 1, RANDOM: -1}),
    Hypothesis("The largest of the buckets, not the mean", {SCE: 1, MEAN: -1}),
    Hypothesis("Leaving out positions", {SCE: 1, ALL_POSITIONS: -1}),
    Hypothesis("The lead grows with the batch", {SCE: 1, CE: -1, SCE_SMALL: -1, CE_SMALL: 1}),
)


def trials_of(
    config: TrainingConfig, source: Mapping[str, Any], seeds: Iterable[int], sizes: Mapping[str, int]
) -> list[Trial]:
    """All trainings that :data:`HYPOTHESES` compare, a seed after the other.

    Args:
        config: model, batch and epochs of all; its loss does not count.
        source: the data.
        seeds: with one seed all begin with the same weights and see the same batches, so they are compared in pairs.
        sizes: ``n_buckets``, ``bucket_size_x``, ``bucket_size_y`` for a whole batch. A quarter of it has half as many
            buckets of half as many positions, as the paper's rule has it.
    """
    found = []
    for seed in seeds:
        exact = vary(config, loss="cce", loss_settings={}, seed=seed)
        sce = vary(config, loss="sce", loss_settings={**sizes, "mix_x": True}, seed=seed)
        half = {name: max(sizes[name] // 2, 1) for name in ("n_buckets", "bucket_size_x")}
        quarter = max(config.batch_size // 4, 1)
        found += [Trial(exact, source, label=CE), Trial(sce, source, label=SCE)]
        labels = {
            "all-positions": ALL_POSITIONS,
            "all-items": ALL_ITEMS,
            "mean-of-buckets": MEAN,
            "random-items": RANDOM,
        }
        found += [Trial(sce, source, v, variant_step(VARIANTS[v]), label) for v, label in labels.items()]
        found.append(Trial(vary(exact, batch_size=quarter), source, label=CE_SMALL))
        found.append(Trial(vary(sce, batch_size=quarter, **half), source, label=SCE_SMALL))
    return found


def best_by(curves: pd.DataFrame, epoch: int, value: str = "NDCG@10") -> pd.DataFrame:
    """The best evaluation up to ``epoch`` of every training that has come so far: ``label``, ``seed``, ``value``."""
    so_far = curves[curves["epoch"] <= epoch].groupby(["label", "seed"], sort=False)
    found = so_far.agg(**{"epoch": ("epoch", "max"), "best": (value, "max")}).reset_index()
    return found[found["epoch"] == epoch].drop(columns="epoch").rename(columns={"best": value})


def contrasts(
    curves: pd.DataFrame, epoch: int, value: str = "NDCG@10", hypotheses: Iterable[Hypothesis] = HYPOTHESES
) -> pd.DataFrame:
    """Each hypothesis in each seed: ``hypothesis``, ``seed``, ``difference``.

    What counts of a training is its best evaluation up to ``epoch``. Seeds in which a training is missing are left out.

    Args:
        curves: as of :meth:`sce_lab.sweeps.Sweep.curves`, with ``label`` and ``seed``.
        epoch: so far.
        value: the metric.
        hypotheses: what is asked.
    """
    best = best_by(curves, epoch, value).set_index(["label", "seed"])[value].unstack("seed")
    rows = []
    for hypothesis in hypotheses:
        if all(label in best.index for label in hypothesis.contrast):
            difference = sum(weight * best.loc[label] for label, weight in hypothesis.contrast.items()).dropna()
            rows += [{"hypothesis": hypothesis.name, "seed": s, "difference": d} for s, d in difference.items()]
    return pd.DataFrame(rows, columns=["hypothesis", "seed", "difference"])


def verdicts(differences: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """What the seeds say: ``hypothesis``, ``mean``, ``low``, ``high`` (Student's interval of the mean), ``verdict``.

    The verdict is "helps" if the whole interval is above 0, "hurts" if it is below, and "not told apart" otherwise, or
    with one seed.

    Args:
        differences: as of :func:`contrasts`.
        confidence: of each interval by itself; among twenty, one is wrong.
    """
    rows = []
    for name, group in differences.groupby("hypothesis", sort=False)["difference"]:
        mean, n = float(group.mean()), len(group)
        reach = np.inf if n < 2 else float(stats.t.ppf((1 + confidence) / 2, n - 1) * group.std(ddof=1) / n**0.5)
        verdict = HELPS if mean - reach > 0 else HURTS if mean + reach < 0 else SAME
        rows.append({"hypothesis": name, "mean": mean, "low": mean - reach, "high": mean + reach, "verdict": verdict})
    return pd.DataFrame(rows, columns=["hypothesis", "mean", "low", "high", "verdict"])

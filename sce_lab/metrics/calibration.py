"""Whether probabilities mean what they say."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def calibration_error(confidence: ArrayLike, hit: ArrayLike, n_bins: int = 15) -> float:
    """Expected calibration error: of predictions that are 30 % sure, 30 % should be right.

    Predictions are sorted by confidence and cut into bins of equal number; the error is the mean over all predictions
    of ``|share of hits - mean confidence|`` of their bin.

    Args:
        confidence: ``(U,)``, the probability given to what was predicted.
        hit: ``(U,)``, whether it was right.
        n_bins: at most so many bins.

    Raises:
        ValueError: no predictions, or as many hits as predictions are not there.

    Source: Naeini, Cooper, Hauskrecht, AAAI 2015; with bins of equal number: Nguyen and O'Connor, EMNLP 2015.
    """
    confidence, hit = np.asarray(confidence, float), np.asarray(hit, float)
    if confidence.ndim != 1 or confidence.shape != hit.shape or not len(confidence):
        raise ValueError(
            f"confidence and hit must be of one length, at least 1, got {confidence.shape} and {hit.shape}"
        )
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(n_bins, len(order)))
    return sum(abs(hit[rows].sum() - confidence[rows].sum()) for rows in bins) / len(order)

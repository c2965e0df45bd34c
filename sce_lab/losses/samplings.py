"""Proposals by their names."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from .in_batch import InBatch, Mixed
from .proposals import LogUniform, Popularity, Proposal, Uniform

SAMPLINGS = ("uniform", "log_uniform", "popularity", "in_batch", "mixed")


def make_proposal(
    sampling: str | Proposal, item_counts: Tensor | None = None, exponent: float = 0.75, uniform_share: float = 0.5
) -> Proposal:
    """The proposal of this name in :data:`SAMPLINGS`; one that is prepared from counts is kept as long as they are.

    Raises:
        ValueError: an unknown name, counts that are missing, or values that make no distribution.
    """
    if isinstance(sampling, Proposal):
        return sampling
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}, or a Proposal, got {sampling!r}")
    if sampling == "uniform":
        return Uniform()
    if item_counts is None:
        if sampling in ("in_batch", "mixed"):
            return InBatch() if sampling == "in_batch" else Mixed(uniform_share=uniform_share)
        raise ValueError(f"sampling={sampling!r} needs item_counts, the training count of each item")
    if not isinstance(item_counts, Tensor):
        raise ValueError(f"item_counts must be a tensor (C,), got a {type(item_counts).__name__}")
    make = {
        "log_uniform": lambda: LogUniform(item_counts),
        "popularity": lambda: Popularity(item_counts, exponent),
        "in_batch": lambda: InBatch(item_counts),
        "mixed": lambda: Mixed(item_counts, uniform_share),
    }[sampling]
    if torch.compiler.is_compiling() or item_counts.is_inference():  # of the latter nobody knows whether they change
        return make()
    kept = _prepared.setdefault(item_counts, {})
    key = sampling, exponent, uniform_share, item_counts._version
    if key not in kept:
        kept.clear()
        kept[key] = make()
    return kept[key]


_prepared: WeakIdKeyDictionary = WeakIdKeyDictionary()

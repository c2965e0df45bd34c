"""The losses: full cross-entropy, sampled softmax, CE-, RECE, Scalable Cross-Entropy, binary cross-entropy.

Each is a function ``f(input (..., D), linear_weight (C, D), target (...), *, ...)`` and a thin module around it. A new
loss is one more file and one more line in ``LOSSES``. Under those that are a softmax over some of the logits lies one
``engine``, which never holds the logits.
"""

from typing import Any

from .bce import BinaryCrossEntropyLoss, binary_cross_entropy
from .buckets import SCEStatistics, moved_centers
from .ce import CrossEntropyLoss, CutCrossEntropyLoss, cross_entropy
from .in_batch import InBatch, Mixed
from .module import LossModule
from .presets import PRESETS
from .proposals import LogUniform, Popularity, Proposal, Uniform
from .rece import RECELoss, reduced_cross_entropy
from .sampled import CEMinusLoss, SampledSoftmaxLoss, sampled_softmax
from .samplings import make_proposal
from .sce import SCELoss, scalable_cross_entropy, scalable_cross_entropy_statistics
from .sce_reference import scalable_cross_entropy_reference

__all__ = [
    "LOSSES",
    "PRESETS",
    "BinaryCrossEntropyLoss",
    "CEMinusLoss",
    "CrossEntropyLoss",
    "CutCrossEntropyLoss",
    "InBatch",
    "LogUniform",
    "LossModule",
    "Mixed",
    "Popularity",
    "Proposal",
    "RECELoss",
    "SCELoss",
    "SCEStatistics",
    "SampledSoftmaxLoss",
    "Uniform",
    "binary_cross_entropy",
    "cross_entropy",
    "make_loss",
    "make_proposal",
    "moved_centers",
    "reduced_cross_entropy",
    "sampled_softmax",
    "scalable_cross_entropy",
    "scalable_cross_entropy_reference",
    "scalable_cross_entropy_statistics",
]

LOSSES: dict[str, type[LossModule]] = {
    "ce": CrossEntropyLoss,
    "cce": CutCrossEntropyLoss,
    "ce_minus": CEMinusLoss,
    "sampled": SampledSoftmaxLoss,
    "rece": RECELoss,
    "sce": SCELoss,
    "bce": BinaryCrossEntropyLoss,
}


def make_loss(name: str, **settings: Any) -> LossModule:
    """The loss called ``name`` in :data:`LOSSES`, or in :data:`PRESETS`, with these settings.

    Raises:
        ValueError: a name that is not there, settings that the loss does not know, or values that it refuses.
    """
    if name in PRESETS:
        name, published, _ = PRESETS[name]
        settings = published | settings
    if name not in LOSSES:
        raise ValueError(f"there is no loss {name!r}; known are {', '.join(map(repr, (*LOSSES, *PRESETS)))}")
    return LOSSES[name](**settings)

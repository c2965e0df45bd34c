"""The losses: full cross-entropy, sampled softmax, Scalable Cross-Entropy, binary cross-entropy.

Each is a function ``f(input (..., D), linear_weight (C, D), target (...), *, ...)`` and a thin module around it. A new
loss is one more file and one more line in ``LOSSES``.
"""

from typing import Any

from torch import nn

from .bce import BinaryCrossEntropyLoss, binary_cross_entropy
from .buckets import SCEStatistics
from .ce import CrossEntropyLoss, cross_entropy
from .sampled import SampledSoftmaxLoss, sampled_softmax
from .sce import SCELoss, scalable_cross_entropy
from .sce_reference import scalable_cross_entropy_reference

__all__ = [
    "LOSSES",
    "BinaryCrossEntropyLoss",
    "CrossEntropyLoss",
    "SCELoss",
    "SCEStatistics",
    "SampledSoftmaxLoss",
    "binary_cross_entropy",
    "cross_entropy",
    "make_loss",
    "sampled_softmax",
    "scalable_cross_entropy",
    "scalable_cross_entropy_reference",
]

LOSSES: dict[str, type[nn.Module]] = {
    "ce": CrossEntropyLoss,
    "sampled": SampledSoftmaxLoss,
    "sce": SCELoss,
    "bce": BinaryCrossEntropyLoss,
}


def make_loss(name: str, **settings: Any) -> nn.Module:
    """The loss called ``name`` in :data:`LOSSES`, with these settings.

    Raises:
        ValueError: a name that is not there, or settings that the loss does not know.
    """
    if name not in LOSSES:
        raise ValueError(f"there is no loss {name!r}; known are {', '.join(map(repr, LOSSES))}")
    return LOSSES[name](**settings)

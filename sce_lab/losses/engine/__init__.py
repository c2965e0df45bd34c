"""The engine under the losses: a softmax over some blocks of the N x C matrix of logits, which is never held.

Each file knows those before it: ``problem`` (what is asked) and ``tiles`` (how work is cut); ``torch_*`` and
``triton``, two implementations of the protocol in ``backend``; ``operators``, which make them a part of PyTorch, and
``autograd``.
"""

from .autograd import mean_loss, softmax_loss, softmax_losses, total
from .backend import blocks_for, resolved
from .operators import IMPLEMENTATIONS, best_direction, topk
from .problem import Blocks, Combine, Problem
from .tiles import DEFAULT_WORKSPACE_BYTES, How, is_fake, without_autocast, workspace_or_default

__all__ = [
    "DEFAULT_WORKSPACE_BYTES",
    "IMPLEMENTATIONS",
    "Blocks",
    "Combine",
    "How",
    "Problem",
    "best_direction",
    "blocks_for",
    "is_fake",
    "mean_loss",
    "resolved",
    "softmax_loss",
    "softmax_losses",
    "topk",
    "total",
    "without_autocast",
    "workspace_or_default",
]

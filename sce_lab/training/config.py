"""What decides a run."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

from sce_lab.losses import LOSSES

DTYPES = ("float32", "bfloat16")


def takes(loss: str, setting: str) -> bool:
    """Whether the loss of this name has such a setting."""
    return setting in inspect.signature(LOSSES[loss]).parameters


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a run, JSON-able. Defaults are the paper's where it names one (section 4).

    Args:
        loss: a name in :data:`sce_lab.losses.LOSSES`.
        loss_settings: keyword arguments of that loss's module.
        hidden_size, n_blocks, n_heads, dropout, low_pass, max_length: see :class:`sce_lab.model.SASRec`.
        item_dropout: probability that an item is left out of a training sequence, drawn anew each epoch.
        batch_size: sequences (users) a step.
        learning_rate, betas: Adam's.
        max_epochs: passes over the training sequences at most.
        patience: stop after this many evaluations without a new best validation NDCG@10.
        evaluate_every: epochs between evaluations.
        averaging: if above 0, what is evaluated and kept is a moving average of the weights: ``averaging`` is the share
            of itself that it keeps at a step, 0.99 averages over some 100 steps. It takes one more copy of the weights.
        seed: decides initial weights, order of batches, dropout, negatives and bucket centres.
        device: a torch device.
        dtype: of weights, gradients, Adam's state and the encoder: "float32", or "bfloat16", which takes half the
            memory and rounds every update to three digits. Losses add up in float32 either way.
        sparse_gradients: the item table's gradient has rows for the items of the step only, and Adam updates these
            rows only: see :class:`sce_lab.optimizers.RowSparseAdam`. Not with a loss that scores the whole catalog.

    Raises:
        ValueError: a setting is out of range; the message names it and its value.
    """

    loss: str = "sce"
    loss_settings: dict[str, Any] = field(default_factory=dict)
    hidden_size: int = 64
    n_blocks: int = 2
    n_heads: int = 1
    dropout: float = 0.3
    low_pass: float = 0.0
    max_length: int = 50
    item_dropout: float = 0.0
    batch_size: int = 128
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    max_epochs: int = 100
    patience: int = 10
    evaluate_every: int = 1
    averaging: float = 0.0
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    sparse_gradients: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON has lists only
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {self.loss!r}")
        for name in (
            "hidden_size",
            "n_heads",
            "max_length",
            "batch_size",
            "max_epochs",
            "patience",
            "evaluate_every",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("dropout", "item_dropout", "averaging"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.low_pass <= 1:
            raise ValueError(f"low_pass must lie in [0, 1], got {self.low_pass}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.sparse_gradients and not takes(self.loss, "sparse_grad"):
            able = ", ".join(loss for loss in LOSSES if takes(loss, "sparse_grad"))
            raise ValueError(
                f"sparse_gradients=True does not go with loss={self.loss!r}, whose gradient has no empty rows; "
                f"it goes with {able}"
            )

"""What decides a run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import torch

from sce_lab.encoders import ENCODERS
from sce_lab.followers import MOST_WEIGHT
from sce_lab.losses import LOSSES, make_loss
from sce_lab.metrics import check_seen
from sce_lab.training.device import AUTO, choose_device

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
        encoder: a name in :data:`sce_lab.encoders.ENCODERS`: SASRec, with gated
            feed-forward layers, or as the paper's authors run it.
        hidden_size, n_blocks, n_heads, dropout, low_pass, max_length: see :class:`sce_lab.model.SASRec`.
        followers: if above 0, counts of what followed what in training are added to the scores whenever items are
            ranked, with this weight: see :class:`sce_lab.followers.Followers`. The loss does not see them.
        item_dropout: probability that an item is left out of a training sequence, drawn anew each epoch.
        batch_size: sequences (users) a step.
        learning_rate, betas: Adam's.
        max_epochs: passes over the training sequences at most.
        patience: stop after this many evaluations without a new best validation NDCG@10.
        evaluate_every: epochs between evaluations.
        steps_per_epoch: an epoch ends after so many steps, though not everybody was seen; the next one begins with
            other users. 0: an epoch is a pass over all. For catalogs over which a pass would take hours.
        seen: the rule about items that a user has had, by which validation and test are judged: a key of
            :data:`sce_lab.metrics.SEEN`. The default is that of the paper's authors: they are left out, so a target
            that repeats is a miss.
        averaging: if above 0, what is evaluated and kept is a moving average of the weights: ``averaging`` is the share
            of itself that it keeps at a step, 0.99 averages over some 100 steps. It takes one more copy of the weights.
        seed: decides initial weights, order of batches, dropout, negatives and bucket centres.
        device: a torch device, or "auto" for the strongest that is here (see :func:`.device.choose_device`); what is
            kept is the device, so that a record says where it was trained.
        dtype: of weights, gradients, Adam's state and the encoder: "float32", or "bfloat16", which takes half the
            memory and rounds every update to three digits. Losses add up in float32 either way.
        sparse_gradients: the item table's gradient has rows for the items of the step only, and Adam updates these
            rows only: see :class:`sce_lab.optimizers.RowSparseAdam`. Not with a loss that scores the whole catalog.

    Raises:
        ValueError: a setting is of another kind, out of range, or refused by the loss; the message names it and its
            value.
    """

    loss: str = "sce"
    loss_settings: dict[str, Any] = field(default_factory=dict)
    encoder: str = "sasrec"
    hidden_size: int = 64
    n_blocks: int = 2
    n_heads: int = 1
    dropout: float = 0.3
    low_pass: float = 0.0
    max_length: int = 50
    followers: float = 0.0
    item_dropout: float = 0.0
    batch_size: int = 128
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    max_epochs: int = 100
    patience: int = 10
    evaluate_every: int = 1
    steps_per_epoch: int = 0
    seen: str = "exclude"
    averaging: float = 0.0
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    sparse_gradients: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.betas, list):
            object.__setattr__(self, "betas", tuple(self.betas))  # JSON has lists only
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            if isinstance(value, np.generic):
                value = value.item()
                object.__setattr__(self, name, value)
            if not is_of(kind, value):
                raise ValueError(f"{name} must be {_WORDS.get(kind, kind)}, got {value!r}")
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {self.loss!r}")
        if self.encoder not in ENCODERS:
            raise ValueError(f"encoder must be one of {', '.join(ENCODERS)}, got {self.encoder!r}")
        check_seen(self.seen)
        for name, (lowest, highest) in _WHOLE.items():
            value = getattr(self, name)
            if value < lowest:
                raise ValueError(f"{name} must be at least {lowest}, got {value}")
            if value > highest:
                raise ValueError(f"{name} must be at most {highest:,}, got {value:,}")
        if self.hidden_size % self.n_heads:
            raise ValueError(
                f"n_heads must divide hidden_size, got n_heads={self.n_heads} and hidden_size={self.hidden_size}"
            )
        for name in ("dropout", "item_dropout", "averaging"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.low_pass <= 1:
            raise ValueError(f"low_pass must lie in [0, 1], got {self.low_pass}")
        if not 0 <= self.followers <= MOST_WEIGHT:
            raise ValueError(f"followers must be a weight of 0 to {MOST_WEIGHT:,}, got {self.followers}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must both lie in [0, 1), got {self.betas}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.device == AUTO:
            object.__setattr__(self, "device", choose_device())
        try:
            torch.device(self.device)
        except RuntimeError:
            raise ValueError(
                f"device must be cpu, cuda, cuda:0, cuda:1, ..., mps or auto, got {self.device!r}"
            ) from None
        if self.sparse_gradients and not takes(self.loss, "sparse_grad"):
            able = ", ".join(loss for loss in LOSSES if takes(loss, "sparse_grad"))
            raise ValueError(
                f"sparse_gradients=True does not go with loss={self.loss!r}, whose gradient has no empty rows; "
                f"it goes with {able}"
            )
        check_loss_settings(self.loss, self.loss_settings)

    @classmethod
    def read(cls, settings: Any, where: str) -> TrainingConfig:
        """The configuration that somebody wrote down, ``where`` says in a message where.

        Raises:
            ValueError: it is none, has settings that are not known here, or values that cannot be.
        """
        if not isinstance(settings, dict):
            raise ValueError(f"{where} is {settings!r}, not a table of settings")
        if unknown := ", ".join(sorted(set(settings) - set(_KINDS))):
            raise ValueError(
                f"{where} has settings that are not known here ({unknown}): was it written by a newer lab?"
            )
        try:
            return cls(**settings)
        except ValueError as error:
            raise ValueError(f"{where} cannot be used: {error}") from error


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that was written down, or a part of it: what it could not have yet then, it has not."""
    return {"followers": 0.0} | dict(config)


#: Whole numbers: from, to. Beyond, nothing could be trained, and predicting it would take very long.
_WHOLE = {
    "hidden_size": (1, 2**16),
    "n_blocks": (0, 1000),
    "n_heads": (1, 2**16),
    "max_length": (1, 10**6),
    "batch_size": (1, 10**7),
    "max_epochs": (1, 10**9),
    "patience": (1, 10**9),
    "evaluate_every": (1, 10**9),
    "steps_per_epoch": (0, 10**9),
    "seed": (0, 2**63 - 1),
}
_KINDS = get_type_hints(TrainingConfig)
_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a word"}
_WORDS |= {dict[str, Any]: "a table of settings", tuple[float, float]: "two numbers"}

#: Settings of a loss that are the training's own business.
_NOT_SET_HERE = {
    "backend",
    "centers",
    "deterministic",
    "generator",
    "hold_logits",
    "ignore_index",
    "item_counts",
    "lengths",
    "linear_bias",
    "negatives",
    "reduction",
    "sparse_grad",
    "weight",
}


def settings_of(loss: str) -> list[str]:
    """The names of the settings that a configuration can have for this loss."""
    return sorted(set(inspect.signature(LOSSES[loss]).parameters) - _NOT_SET_HERE)


def check_loss_settings(loss: str, settings: dict[str, Any]) -> None:
    """Refuse settings that the loss does not take, or values that it refuses.

    Raises:
        ValueError: the message names the first, its value, and what there is.
    """
    for name, value in settings.items():
        if name not in settings_of(loss):
            known = ", ".join(settings_of(loss))
            raise ValueError(f"the loss {loss} takes {known}; got a setting {name!r}")
        if not isinstance(value, str | int | float | None):  # what JSON has, and what a run's history can keep
            raise ValueError(f"{name} must be a number, a word or None, got {value!r}")
    counts = {"item_counts": torch.ones(1)} if takes(loss, "item_counts") else {}  # training has them from its data
    try:
        make_loss(loss, **settings, **counts)
    except (TypeError, OverflowError) as error:
        listed = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        raise ValueError(f"the loss {loss} refuses {listed}: {error}") from error


def is_of(kind: Any, value: Any) -> bool:
    """Whether ``value`` is of the kind that a type hint names; a whole number is a float, a truth value no number."""
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        return isinstance(value, list | tuple) and len(value) == len(kinds) and all(map(is_of, kinds, value))
    if get_origin(kind) is dict:
        return isinstance(value, dict)
    kinds = get_args(kind) or (kind,)
    if isinstance(value, bool):
        return bool in kinds
    return isinstance(value, kinds) or (float in kinds and isinstance(value, int))

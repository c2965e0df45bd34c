r"""How good the probabilities of a model are: always by the whole vocabulary, whatever it was trained with.

With the logits ``s(i) = a x . w_i + b_i`` (a = 1 and b = 0 unless something was fitted, see :mod:`.fitting`) a word has

.. math:: -\log p(t) = \log Z - s(t), \qquad Z = \sum_{i=0}^{V-1} e^{s(i)}

nats, and perplexity is e to the mean of that. Z is the sum over all V words, made for some positions at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sce_lab.data.batches import Batch
from sce_lab.metrics import calibration_error
from sce_lab.model import SASRec

#: Logits that are there at a time.
_AT_A_TIME = 2**23


@dataclass(frozen=True)
class Correction:
    """What is applied to a trained model's logits: a scale, and a bias for each word ``(V,)`` or none."""

    scale: float = 1.0
    bias: Tensor | None = None


@dataclass(frozen=True)
class Quality:
    """What a model reaches on some windows of a text.

    Attributes:
        perplexity: e to the mean of ``-log p`` of the words that came.
        nats: that mean.
        top1, top10: share of the positions where the word that came is the most likely one, is among the ten most
            likely ones; ties count against the model.
        calibration_error: expected, of the most likely word (:func:`sce_lab.metrics.calibration_error`).
        log_z: mean of log Z, and ``log_z_spread`` its standard deviation over the positions. Adding a number to all
            logits of a position changes it and nothing else.
        by_window: mean nats of each window, for differences between models.
    """

    perplexity: float
    nats: float
    top1: float
    top10: float
    calibration_error: float
    log_z: float
    log_z_spread: float
    by_window: tuple[float, ...]

    def as_dict(self, windows: bool = False) -> dict[str, Any]:
        """As JSON has it; with ``windows`` those, too."""
        kept = {name: value for name, value in vars(self).items() if name != "by_window"}
        return kept | ({"by_window": [round(value, 4) for value in self.by_window]} if windows else {})


@torch.no_grad()
def evaluate_language(model: SASRec, batches: Iterable[Batch], correction: Correction = Correction()) -> Quality:
    """What the model reaches on these windows (:func:`.windows.evaluation_batches`).

    It takes ``4 * 2**23`` bytes for logits a few times over, whatever N and V are, and ``2 N V D`` operations.
    """
    outputs, targets, length = hidden_states(model, batches)
    parts = [_judged(*part, correction) for part in in_parts(outputs, targets, model.item_embedding)]
    nats, log_z, rank, confidence = (torch.cat(column).numpy() for column in zip(*parts))
    mean = float(nats.mean())
    return Quality(
        perplexity=math.exp(min(mean, 700.0)),
        nats=mean,
        top1=float((rank == 0).mean()),
        top10=float((rank < 10).mean()),
        calibration_error=float(calibration_error(confidence, rank == 0)),
        log_z=float(log_z.mean()),
        log_z_spread=float(log_z.std()),
        by_window=tuple(nats.reshape(-1, length).mean(axis=1).tolist()),
    )


@torch.no_grad()
def hidden_states(model: SASRec, batches: Iterable[Batch]) -> tuple[Tensor, Tensor, int]:
    """Outputs ``(N, D)`` and targets ``(N,)`` of all windows, and how long a window is."""
    model.eval()
    found = [(model(batch.inputs), batch.targets, batch.inputs.runs[0][1]) for batch in batches]
    outputs, targets, lengths = zip(*found)
    return torch.cat(outputs), torch.cat(targets), lengths[0]


def in_parts(outputs: Tensor, targets: Tensor, table: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Outputs and targets of so many positions that their logits have room, and the table with each."""
    size = max(_AT_A_TIME // len(table), 1)
    return ((x, t, table) for x, t in zip(outputs.split(size), targets.split(size)))


def logits_of(outputs: Tensor, table: Tensor, correction: Correction) -> Tensor:
    """``a x . w_i + b_i``, ``(N, V)``."""
    logits = (outputs * correction.scale) @ table.T
    return logits if correction.bias is None else logits.add_(correction.bias)


def _judged(outputs: Tensor, targets: Tensor, table: Tensor, correction: Correction) -> tuple[Tensor, ...]:
    """Of each position: nats, log Z, how many words are before the one that came, and the most likely one's share."""
    logits = logits_of(outputs, table, correction)
    of_targets = logits.gather(1, targets[:, None])  # (n, 1)
    rank = (logits >= of_targets).sum(dim=1) - 1  # without the target itself; ties are before it
    largest = logits.amax(dim=1)
    log_z = largest.double() + logits.sub_(largest[:, None]).exp_().sum(dim=1, dtype=torch.float64).log()
    confidence = (largest.double() - log_z).exp()
    return log_z - of_targets[:, 0].double(), log_z, rank, confidence


def unigram_nats(counts: np.ndarray, batches: Iterable[Batch]) -> float:
    """Mean nats when every word is as likely as in training (add one), whatever came before: the least to be beaten."""
    targets = np.concatenate([batch.targets.numpy() for batch in batches])
    return float(-np.log((counts[targets] + 1) / (counts.sum() + len(counts))).mean())

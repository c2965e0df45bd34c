r"""What can be mended after training, without touching the model: a scale of the logits, a bias of each word.

A number added to all logits of a position changes no softmax, so there is no such shift to be fitted. What can be:

- **scale** (temperature): one number a, the best on some windows of validation.
- **word bias**: V numbers. Cross-entropy leaves a model in balance: over the training text, a word is expected as often
  as it comes. A loss that leaves most words out does not push those down, and the balance is lost. Iterative scaling
  restores it: with the share :math:`c_i` of a word in training and its mean probability over a sample of training
  positions,

  .. math:: b_i \leftarrow b_i + \log \frac{c_i + \epsilon}{\frac1N \sum_n p_n(i) + \epsilon}

  which raises the likelihood of the sample with each round (:math:`\epsilon` keeps rare words where they are known).

Source: Darroch and Ratcliff, "Generalized iterative scaling for log-linear models", 1972, for one feature a word.
Temperature: Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from sce_lab.data.batches import Batch
from sce_lab.language.evaluation import Correction, hidden_states, in_parts, logits_of
from sce_lab.losses import cross_entropy
from sce_lab.model import SASRec

_SCALES = (0.02, 20.0)


@torch.no_grad()
def fitted_scale(model: SASRec, batches: Sequence[Batch], bias: Tensor | None = None) -> Correction:
    """The scale that makes the words of these windows most likely, to a hundredth; beside it a bias that is given."""
    outputs, targets, _ = hidden_states(model, batches)

    def nats(log_scale: float) -> float:
        given = {"linear_bias": bias, "logit_scale": math.exp(log_scale), "hold_logits": False}
        return float(cross_entropy(outputs, model.item_embedding, targets, **given))

    found = minimize_scalar(nats, bounds=[math.log(s) for s in _SCALES], method="bounded", options={"xatol": 0.01})
    return Correction(math.exp(found.x), bias)


@torch.no_grad()
def fitted_bias(model: SASRec, batches: Sequence[Batch], counts: np.ndarray, *, rounds: int = 4) -> Tensor:
    """The bias ``(V,)`` of each word, by iterative scaling on these windows of the training text.

    Args:
        model: as trained.
        batches: windows of the training text.
        counts: ``(V,)`` of the whole training text.
        rounds: each computes all logits of the windows once.
    """
    outputs, targets, _ = hidden_states(model, batches)
    table = model.item_embedding
    expected = torch.from_numpy(counts / counts.sum())
    least = 0.1 / len(targets)  # a tenth of a position: what a sample cannot know is left alone
    bias = torch.zeros(len(table))
    for _ in range(rounds):
        mass = torch.zeros(len(table), dtype=torch.float64)
        for x, _, _ in in_parts(outputs, targets, table):
            mass += logits_of(x, table, Correction(bias=bias)).softmax(dim=1).sum(dim=0)
        bias += ((expected + least) / (mass / len(targets) + least)).log().float()
    return bias


def corrections(
    model: SASRec, training: Sequence[Batch], validation: Sequence[Batch], counts: np.ndarray
) -> dict[str, Correction]:
    """By name: the logits as they are, with a scale, and with a word bias and a scale.

    Args:
        model: as trained.
        training: windows that the bias is fitted on.
        validation: windows that the scale is fitted on.
        counts: ``(V,)`` of the whole training text.
    """
    bias = fitted_bias(model, training, counts)
    return {
        "none": Correction(),
        "scale": fitted_scale(model, validation),
        "word bias": fitted_scale(model, validation, bias),
    }

"""Training a small causal transformer on a text, with any loss of the lab."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sce_lab.data.batches import Batch
from sce_lab.language.corpus import Corpus
from sce_lab.language.evaluation import Quality, evaluate_language
from sce_lab.language.windows import training_batch
from sce_lab.losses import LossModule
from sce_lab.model import SASRec
from sce_lab.training import TrainingConfig, make_model, make_optimizer, make_training_loss, training_step

LANGUAGE_CONFIG = TrainingConfig(
    loss="cce", hidden_size=64, n_blocks=2, n_heads=2, dropout=0.0, max_length=32, batch_size=8, learning_rate=1e-3
)
"""What is trained unless something else is asked for: ``batch_size`` windows of ``max_length`` words a step."""


@dataclass(frozen=True)
class Progress:
    """A step that was made.

    Attributes:
        step: from 1.
        loss: what the loss says; of SCE and others no logarithm of a probability.
        seconds: that the computing thread has trained so far, evaluations apart.
        finishing: whether it is a step of the finish.
        quality: on the windows that are evaluated, where the step was asked for.
        model: as it is after the step; it goes on changing.
    """

    step: int
    loss: float
    seconds: float
    finishing: bool
    quality: Quality | None
    model: SASRec


def train_language_model(
    corpus: Corpus,
    config: TrainingConfig = LANGUAGE_CONFIG,
    *,
    steps: int,
    finish: int = 0,
    evaluate_at: Collection[int] = (),
    evaluate_on: Sequence[Batch] = (),
    stop: Callable[[], bool] | None = None,
) -> Iterator[Progress]:
    """Train and yield every step. Weights and batches follow from the seed, and are the same for all losses.

    The encoder is the lab's (:class:`sce_lab.model.SASRec`): one table of V words is its input and its output. Nothing
    outside is changed by it: random numbers are its own.

    Args:
        corpus: the text.
        config: the model, the loss, its settings, ``batch_size`` windows of ``max_length`` words a step, and the seed.
            Epochs and what belongs to recommending are not looked at.
        steps: in all.
        finish: so many of them, the last ones, with exact cross-entropy whose logits are never held.
        evaluate_at: steps after which to evaluate.
        evaluate_on: the windows for that, see :func:`.windows.evaluation_batches`.
        stop: is asked before each step; once it says yes there is no other.

    Raises:
        ValueError: a number of steps that cannot be, or settings that the loss refuses.
        FloatingPointError: the loss is no number any more.
    """
    if steps < 1 or not 0 <= finish <= steps:
        raise ValueError(f"steps must be at least 1 and finish between 0 and steps, got {steps} and {finish}")
    generator = torch.Generator(config.device)
    _seed(generator, config.seed)
    model = make_model(config, len(corpus.vocabulary), generator)
    optimizer = make_optimizer(config, model)
    counts = torch.from_numpy(corpus.counts)
    loss, last = (language_loss(c, counts, generator) for c in (config, as_exact(config)))
    seconds = 0.0
    for step in range(1, steps + 1):
        if stop and stop():
            return
        _seed(generator, config.seed, step)
        finishing = step > steps - finish
        batch = training_batch(corpus.train, config.batch_size, config.max_length, config.seed, step)
        model.train()
        began = time.thread_time()
        result = training_step(model, last if finishing else loss, optimizer, batch, nullcontext)
        seconds += time.thread_time() - began
        if not torch.isfinite(result.loss):
            value = float(result.loss)
            raise FloatingPointError(f"the loss {config.loss} is {value} at step {step}: lower the learning rate")
        quality = evaluate_language(model, evaluate_on) if step in evaluate_at and evaluate_on else None
        yield Progress(step, float(result.loss), seconds, finishing, quality, model)


def as_exact(config: TrainingConfig) -> TrainingConfig:
    """The same with exact cross-entropy whose logits are never held."""
    return dataclasses.replace(config, loss="cce", loss_settings={})


def language_loss(config: TrainingConfig, counts: torch.Tensor, generator: torch.Generator) -> LossModule:
    """The loss of a configuration, which draws from ``generator``; ``counts (V,)`` of the words are for samplers."""
    loss: Any = make_training_loss(config, counts)
    loss.generator = generator
    return loss


def _seed(generator: torch.Generator, *key: int) -> None:
    """Let it start from (seed,) for the initial weights, from (seed, step) for a step."""
    sequence = np.random.SeedSequence(key[0], spawn_key=key[1:])
    generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))

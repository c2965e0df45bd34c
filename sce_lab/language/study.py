"""The experiment: a language model's head trained with every loss, at equal seconds and under one cap of bytes.

All have the same text, batches, first weights and learning rate, and the same seconds, those that the computing thread
takes: before anything is trained, steps of all losses are timed in turn (:func:`measured_pace`), and each loss then has
as many steps as fit into its seconds, however busy the machine is meanwhile. Losses hold at most :data:`CAP` bytes, but
for two that are there to show what they hold: plain cross-entropy, and gBCE with negatives of each position's own.

What is trained is judged three times on the test part, each time by the softmax over the whole vocabulary
(:mod:`.evaluation`): as it is, with a scale that was fitted, with a word bias and a scale (:mod:`.fitting`).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from sce_lab.data.batches import Batch
from sce_lab.fidelity import log_sum_bias
from sce_lab.language.corpus import Corpus
from sce_lab.language.evaluation import evaluate_language
from sce_lab.language.fitting import corrections
from sce_lab.language.training import LANGUAGE_CONFIG, Progress, as_exact, language_loss, train_language_model
from sce_lab.language.windows import evaluation_batches
from sce_lab.memory import predict_memory
from sce_lab.training import TrainingConfig

CAP = 8 * 2**20
"""Bytes that a loss may hold beyond its inputs and their gradients."""
FINISH = 0.2
"""Share of the seconds that a finish with exact cross-entropy has."""
_SECONDS = ((4096, 6.0), (16_384, 12.0), (math.inf, 18.0))  # up to so many words


@dataclass(frozen=True)
class Entry:
    """A way to train.

    Attributes:
        words: what it is, for people.
        loss: a name in :data:`sce_lab.losses.LOSSES`.
        settings: of that loss.
        finish: share of the seconds, the last ones, that exact cross-entropy has.
    """

    words: str
    loss: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    finish: float = 0.0

    def config(self, study: Study, seed: int = 0) -> TrainingConfig:
        """What is trained."""
        return dataclasses.replace(study.config, loss=self.loss, loss_settings=dict(self.settings), seed=seed)


_SCE = {"bucket_size_y": 256, "mix_x": True}
_UNION = _SCE | {"combine": "union"}
_STRATUM = _UNION | {"n_negatives": 256, "negatives_for": "all"}
_MANY = {"n_negatives": 1024}

ENTRIES = {
    "cce": Entry("Cross-entropy, logits never held", "cce"),
    "sce": Entry("SCE", "sce", _SCE),
    "sampled-log-uniform": Entry(
        "Sampled softmax, log-uniform, corrected", "sampled", _MANY | {"sampling": "log_uniform"}
    ),
    "sce-stratum": Entry("SCE, union, uniform negatives for the rest", "sce", _STRATUM),
    "sce-finish": Entry("SCE, then cross-entropy", "sce", _SCE, FINISH),
    "ce_minus": Entry("CE-", "ce_minus", _MANY | {"shared_negatives": True}),
    "sampled": Entry("Sampled softmax, uniform, corrected", "sampled", _MANY),
    "sce-union": Entry("SCE, union", "sce", _UNION),
    "rece": Entry("RECE", "rece"),
    "bce": Entry("gBCE", "bce", {"n_negatives": 64, "calibration": 0.75}),
    "ce": Entry("Cross-entropy, logits held", "ce"),
}
"""By name, in the order of usefulness: those that come first are trained first."""


@dataclass(frozen=True)
class Study:
    """What all entries of a table have in common.

    Attributes:
        config: model, batches and learning rate.
        seconds: of each training.
        points: evaluations of each training, evenly spaced.
        on_the_way, for_scale, for_bias, for_test: windows that are evaluated while training and of those of validation
            the scale is fitted on; windows of training that the word bias is fitted on; windows of the test.
    """

    config: TrainingConfig = LANGUAGE_CONFIG
    seconds: float = 12.0
    points: int = 6
    on_the_way: int = 24
    for_scale: int = 24
    for_bias: int = 64
    for_test: int = 96

    @classmethod
    def of_size(cls, vocabulary_size: int) -> Study:
        """That of a vocabulary of this size: where a step takes longer there are more seconds."""
        return cls(seconds=next(seconds for size, seconds in _SECONDS if vocabulary_size <= size))

    @property
    def rules(self) -> dict[str, Any]:
        """As records keep it."""
        shared = dataclasses.asdict(self.config)
        shared = {name: value for name, value in shared.items() if name not in ("loss", "loss_settings", "seed")}
        return json.loads(json.dumps(dataclasses.asdict(self) | {"config": shared}))


def workspace_of(entry: Entry, study: Study, vocabulary_size: int) -> int:
    """Bytes that the loss is predicted to hold at most; of an entry with a finish, the finish's, too."""
    config = entry.config(study)
    asked = [config, *([as_exact(config)] if entry.finish else [])]
    return max(predict_memory(each, vocabulary_size).loss_workspace for each in asked)


def measured_pace(corpus: Corpus, study: Study, entries: Mapping[str, Entry], rounds: int = 3) -> dict[str, float]:
    """Seconds of a step of each loss that the entries need, by entry; those with a finish have that of their loss.

    The losses take turns, so that all have the machine as it is; the median counts, of steps after the first two.
    """
    found: dict[str, list[float]] = {name: [] for name in entries}
    for _ in range(rounds):
        for name, entry in entries.items():
            steps = [0.0, *(p.seconds for p in train_language_model(corpus, entry.config(study), steps=6))]
            found[name] += [after - before for before, after in itertools.pairwise(steps[2:])]
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def steps_of(entry: Entry, study: Study, pace: float, pace_of_exact: float) -> tuple[int, int]:
    """How many steps fit into the seconds, and how many of them are the finish; at least one of each that there is."""
    finish = max(int(entry.finish * study.seconds / pace_of_exact), 1) if entry.finish else 0
    return max(int((1 - entry.finish) * study.seconds / pace), 1) + finish, finish


def train_entry(
    corpus: Corpus,
    study: Study,
    entry: Entry,
    seed: int,
    steps: tuple[int, int],
    also_at: Sequence[int] = (),
    *,
    watch: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] | None = None,
) -> dict[str, Any] | None:
    """Train, fit and judge one entry with one seed; None if it was stopped.

    Args:
        corpus, study, entry, seed: what.
        steps: in all, and of the finish.
        also_at: further steps to evaluate after, such as that at which another loss ends.
        watch: is told every step.
        stop: as in :func:`train_language_model`.

    Returns:
        What a record keeps of a seed: see :mod:`.records`.
    """
    config, (n_steps, finish) = entry.config(study, seed), steps
    length = config.max_length
    validation = evaluation_batches(corpus.validation, max(study.on_the_way, study.for_scale), length, study.on_the_way)
    points = {round(n_steps * (i + 1) / study.points) for i in range(study.points)} | {
        s for s in also_at if s < n_steps
    }
    curve, progress, losses = [], None, []
    for progress in train_language_model(
        corpus, config, steps=n_steps, finish=finish, evaluate_at=points, evaluate_on=validation[:1], stop=stop
    ):
        watch(progress)
        losses.append(progress.loss)
        if progress.quality is not None:
            said = {"loss": statistics.fmean(losses), "finishing": progress.finishing}
            curve.append({"step": progress.step, "seconds": progress.seconds} | said | progress.quality.as_dict())
            losses = []
    if progress is None or progress.step < n_steps:
        return None
    found = {"curve": curve, "cpu_seconds": progress.seconds, "log sum bias": _believed(corpus, config, progress)}
    training = evaluation_batches(corpus.train, study.for_bias, length)
    test = evaluation_batches(corpus.test, study.for_test, length)
    fitted = corrections(progress.model, training, validation, corpus.counts)
    found["test"] = {
        name: {"scale": correction.scale} | evaluate_language(progress.model, test, correction).as_dict(windows=True)
        for name, correction in fitted.items()
    }
    return found


def _believed(corpus: Corpus, config: TrainingConfig, progress: Progress) -> float | None:
    """By how much the loss's own log-sum differs from the whole vocabulary's, on validation; BCE has none."""
    if config.loss == "bce":
        return None
    batch: Batch = evaluation_batches(corpus.validation, config.batch_size, config.max_length)[0]
    loss = language_loss(config, torch.from_numpy(corpus.counts), torch.Generator())
    found = log_sum_bias(loss, progress.model, batch, draws=2)
    return statistics.fmean(found) if found else None

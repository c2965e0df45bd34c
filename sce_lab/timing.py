"""How long a run will take, before it begins: from a few of its own steps, or from the least that they can take.

A probe is the begin of the run itself, thrown away: the same model, loss, optimizer and batches, and a share of an
evaluation. Its random numbers are its own, so that nothing else in the process is changed by it. Where a step takes
seconds, or has no room, nothing is tried, and the roofline (:mod:`sce_lab.memory.roofline`) says what it takes at best.
"""

from __future__ import annotations

import dataclasses
import json
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sce_lab.data.batches import n_batches
from sce_lab.data.sequences import Holdout, Sequences, Split
from sce_lab.memory import count_work, format_seconds, free_memory, predict_memory, this_machine, typical_length
from sce_lab.training import StepDone, Trainer, TrainingConfig, rank_together
from sce_lab.training.state import steps_per_epoch

#: Seconds above which a run is long: people should be told before they wait for it.
LONG = 600.0
#: Seconds that a probe takes, about, and that a step may take at best to be tried.
PROBE, TRIED = 0.4, 0.5
#: Settings that decide how many steps there are, or what they learn, but not what one takes.
_NO_MATTER = ("max_epochs", "patience", "evaluate_every", "learning_rate", "betas", "seed", "steps_per_epoch")


@dataclass(frozen=True)
class Duration:
    """What a run is expected to take; if measured at most, since patience may end it sooner.

    Attributes:
        step, evaluation: seconds of one.
        n_steps, n_evaluations: of them; the last evaluation is that of the test.
        measured: whether that is from steps that were made. Otherwise it is what they take at least, and nothing is
            known of evaluations.
    """

    step: float
    evaluation: float
    n_steps: int
    n_evaluations: int
    measured: bool

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.step * self.n_steps + self.evaluation * self.n_evaluations

    @property
    def words(self) -> str:
        """A step and the whole, for people."""
        least = "" if self.measured else "at least "
        return f"{least}{format_seconds(self.step)} a step, {format_seconds(self.seconds)} a run"


def predict_time(config: TrainingConfig, split: Split, *, epochs_done: int = 0) -> Duration:
    """What training ``config`` on ``split`` will take. What was found is remembered.

    Args:
        config: what would be trained, on its device.
        split: on what.
        epochs_done: epochs that need not be done again.
    """
    epochs = max(0, config.max_epochs - epochs_done)
    n_steps = epochs * steps_per_epoch(config, split)
    n_evaluations = math.ceil(epochs / config.evaluate_every) + 1
    step, evaluation, measured = _known(config, split)
    return Duration(step, evaluation, n_steps, n_evaluations, measured)


def expected(durations: Mapping[str, Duration]) -> str:
    """A sentence for people about runs one after the other, by their names."""
    total = format_seconds(sum(each.seconds for each in durations.values()))
    measured = all(each.measured for each in durations.values())
    if len(durations) == 1:
        return f"Expected: {next(iter(durations.values())).words}{' at most' if measured else ''}."
    each = "; ".join(f"{name} {duration.words}" for name, duration in durations.items())
    return f"Expected: {each}. {f'{total} in all at most' if measured else f'At least {total} in all'}."


def too_long(seconds: float, epochs: int) -> str:
    """A word about a run of more than :data:`LONG` seconds, and the epochs that would take as long; else nothing."""
    if seconds <= LONG:
        return ""
    fewer = int(epochs * LONG / seconds)
    instead = f"; {fewer} of its {epochs:,} epochs would take {LONG / 60:.0f} min" if fewer else ""
    return f"that is {format_seconds(seconds)}{instead}"


def time_left(seconds: float, share: float) -> float | None:
    """Seconds that are left of what took ``seconds`` for this ``share`` of itself; None where nobody can say yet."""
    return seconds * (1 - share) / share if share >= 0.01 else None


def with_catalog(split: Split, catalog_size: int, seed: int = 0) -> Split:
    """The same users with histories as long, of items drawn anew from another catalog: it takes the same time."""
    rng = np.random.default_rng(seed)

    def drawn(sequences: Sequences) -> Sequences:
        return Sequences(rng.integers(catalog_size, size=len(sequences.items)), sequences.offsets)

    def held(holdout: Holdout) -> Holdout:
        return Holdout(drawn(holdout.histories), rng.integers(catalog_size, size=len(holdout)))

    parts = drawn(split.train), held(split.validation), held(split.test)
    return Split(*parts, catalog_size, np.arange(catalog_size), split.name)


# ------------------------------------------------------------------------------------------------------------ finding

_found: dict[tuple[str, str], tuple[float, float, bool]] = {}
_finding = threading.Lock()  # two probes at a time would slow one another


def _known(config: TrainingConfig, split: Split) -> tuple[float, float, bool]:
    decides = {name: value for name, value in dataclasses.asdict(config).items() if name not in _NO_MATTER}
    key = json.dumps(decides, sort_keys=True), split.fingerprint
    with _finding:
        if key not in _found:
            _found[key] = _find(config, split)
        return _found[key]


def _find(config: TrainingConfig, split: Split) -> tuple[float, float, bool]:
    n_sequences = min(config.batch_size, max(1, n_batches(split.train, 1)))
    shape = {"n_sequences": n_sequences, "length": typical_length(config, split)}
    least = count_work(config, split.catalog_size, **shape).seconds(this_machine(device=config.device))
    room = predict_memory(config, split.catalog_size, **shape).needed <= free_memory(config.device)
    if least > TRIED or not room:
        return least, 0.0, False
    try:
        return *_probe(config, split), True
    except FloatingPointError:  # the run will say so
        return least, 0.0, False


def _probe(config: TrainingConfig, split: Split) -> tuple[float, float]:
    """Seconds of a step, and of an evaluation of all users: the first step, which is slower than any other, apart."""
    endless = dataclasses.replace(config, max_epochs=10**6, evaluate_every=10**6)
    trainer = Trainer(endless, split, when_to_test="never")
    steps, begun, now = 0, 0.0, 0.0
    for event in trainer.events():
        if isinstance(event, StepDone):
            now, steps = time.perf_counter(), steps + 1
            begun = begun or now
            if (steps > 2 and now - begun > PROBE) or steps > 50:
                break
    users = len(split.validation)
    n = min(users, max(32, int(2e7 / split.catalog_size)))
    some = split.validation.take(np.linspace(0, max(0, users - 1), n).astype(int))
    began = time.perf_counter()
    rank_together([trainer.model], some, seen=config.seen)
    return (now - begun) / (steps - 1), (time.perf_counter() - began) * users / max(1, n)

"""Seconds of a step, measured on a quiet machine: they turn a budget of seconds into a number of epochs.

They are those that the training thread computes, and there is no other thread: what little else the machine does hardly
changes them.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sce_lab.data import Split
from sce_lab.files import write_text
from sce_lab.reproduce.matches import Match
from sce_lab.reproduce.tournament import Entry, plan_of
from sce_lab.runs import environment
from sce_lab.training import Started, StepDone, Trainer, TrainingConfig, evaluate

T = TypeVar("T")

LONG_ENOUGH = 1.5
"""Seconds of steps in each round, at least, or one step that takes longer."""
ROUNDS = 5
"""How often each entry is measured. The entries take turns, as a machine may be slower for minutes on end: one after
the other, they were wrong by up to a half, and not alike."""
_WARM_UP = 2.0  # seconds of steps before that are not counted, or one that takes longer: the first ones allocate
_NEVER = 10**9  # epochs
_DECIDES_NO_TIME = ("max_epochs", "patience", "evaluate_every", "learning_rate", "dropout", "followers")


def calibration_path(results: Path) -> Path:
    """Where the record is."""
    return results / "calibration" / "seconds.json"


def read_calibration(results: Path) -> dict[str, dict[str, Any]]:
    """By match, what was measured; empty if nothing was."""
    path = calibration_path(results)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def calibrate(
    match: Match, entries: Mapping[str, Entry], split: Split, *, repeat: str, results: Path
) -> Iterator[tuple[str, float]]:
    """Measure the entries of a match, all if one of them is not measured yet; yields the name and the seconds of a step
    of each.

    One that is measured later, alone, would have its seconds of another hour. All are in memory at once, and the record
    is written at the end. Run it while the machine does nothing else.
    """
    path = calibration_path(results)
    known = read_calibration(results).get(match.name, {})
    measured = known.get("entries", {})
    same = all(measured.get(name, {}).get("settings") == entry.settings for name, entry in entries.items())
    if same and known.get("config") == _asked(match.config):
        return
    trainers = {
        name: Trainer(_without_evaluations(entry.config_of(match)), split, when_to_test="never")
        for name, entry in entries.items()
    }
    found = paces(trainers)
    began = time.thread_time()
    evaluate(next(iter(trainers.values())).model, split.validation, seen=match.config.seen)
    new = {
        "config": _asked(match.config),
        "entries": {
            name: {"settings": entry.settings, "workspace": entry.workspace, **found[name]}
            for name, entry in entries.items()
        },
        "evaluation": time.thread_time() - began,
        "repeat": repeat,
        "environment": environment(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(read_calibration(results) | {match.name: new}, indent=1) + "\n")
    for name in entries:
        yield name, found[name]["seconds"]


def _without_evaluations(config: TrainingConfig) -> TrainingConfig:
    """Nothing but steps: a run's clock counts its evaluations, and an epoch may be as short as two steps."""
    return dataclasses.replace(config, max_epochs=_NEVER, patience=_NEVER, evaluate_every=_NEVER)


def paces(trainers: Mapping[str, Trainer]) -> dict[str, dict[str, float]]:
    """By name: the seconds of a step, the median of some rounds; of how many steps; and the steps of an epoch."""
    running = {name: trainer.events() for name, trainer in trainers.items()}
    per_epoch = {name: _first(events, Started).n_steps_per_epoch for name, events in running.items()}
    for name, events in running.items():
        _some_steps(trainers[name], events, _WARM_UP)
    rounds = [
        {name: _some_steps(trainers[name], events, LONG_ENOUGH) for name, events in running.items()}
        for _ in range(ROUNDS)
    ]
    return {
        name: {
            "seconds": statistics.median(found[name][0] / found[name][1] for found in rounds),
            "steps": sum(found[name][1] for found in rounds),
            "steps_per_epoch": per_epoch[name],
        }
        for name in trainers
    }


def _some_steps(trainer: Trainer, events: Iterator[object], seconds: float) -> tuple[float, int]:
    """Train for some seconds; those that it took, and the steps."""
    before, steps = trainer.cpu_seconds, 0
    while trainer.cpu_seconds - before < seconds:
        _first(events, StepDone)
        steps += 1
    return trainer.cpu_seconds - before, steps


def _first(events: Iterator[object], kind: type[T]) -> T:
    return next(event for event in events if isinstance(event, kind))


def pace_of(match: Match, entry: Entry, results: Path) -> tuple[float, int]:
    """Seconds of a step of an entry, and the steps of an epoch, by the record.

    Raises:
        ValueError: it was not measured, or with other settings.
    """
    known = read_calibration(results).get(match.name, {})
    measured = known.get("entries", {}).get(entry.name, {})
    if known.get("config") != _asked(match.config) or measured.get("settings") != entry.settings:
        raise ValueError(
            f"it is not known how long a step of each loss on {match.name} takes: on a machine that does nothing else, "
            f"call sce-lab tournament {match.name} --calibrate (with the same --results, if any)"
        )
    return measured["seconds"], measured["steps_per_epoch"]


def estimate(match: Match, entry: Entry, results: Path) -> float:
    """Seconds that all trainings of an entry take, evaluations included, on one thread of a quiet machine.

    Raises:
        ValueError: as :func:`pace_of` and :func:`.tournament.plan_of`.
    """
    plan = plan_of(match, entry, *pace_of(match, entry, results))
    evaluations = -(-plan.config.max_epochs // plan.config.evaluate_every)
    each = plan.took["seconds"] + evaluations * read_calibration(results)[match.name]["evaluation"]
    return (match.n_trials + match.seeds) * each


def _asked(config: TrainingConfig) -> dict[str, Any]:
    """What of a configuration decides how long a step takes."""
    asked = json.loads(json.dumps(dataclasses.asdict(config)))
    return {name: value for name, value in asked.items() if name not in _DECIDES_NO_TIME}

"""Seconds of a step, measured on a quiet machine: they turn a budget of seconds into a number of epochs.

They are those that the training thread computes, and there is no other thread: what little else the machine does hardly
changes them.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sce_lab.data import Split
from sce_lab.files import write_text
from sce_lab.reproduce.matches import Match
from sce_lab.reproduce.tournament import Entry, plan_of
from sce_lab.runs import environment
from sce_lab.training import Started, StepDone, Trainer, TrainingConfig, evaluate

LONG_ENOUGH = 5.0
"""Seconds of steps that are measured of each entry, at least, or one step that takes longer. One second was wrong by up
to a half, and not alike for all losses."""
_WARM_UP = 2  # steps that are not counted: the first one allocates
_NEVER = 10**9  # epochs
_TOO_SLOW = 3.0  # seconds of a step that is its own warm-up
_DECIDES_NO_TIME = ("max_epochs", "patience", "evaluate_every", "learning_rate", "dropout", "item_dropout")


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
    """Measure those of the entries that are not measured yet; yields the name and the seconds of a step of each.

    The record is written after each. Run it while the machine does nothing else.
    """
    path = calibration_path(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, entry in entries.items():
        config = entry.config_of(match)
        everything = read_calibration(results)
        known = everything.get(match.name, {})
        if _asked(match.config) != known.get("config"):
            known = {"config": _asked(match.config), "entries": {}}
        if known["entries"].get(name, {}).get("settings") == entry.settings:
            continue
        trainer = Trainer(_without_evaluations(config), split, when_to_test="never")
        measured = seconds_of_a_step(trainer)
        if "evaluation" not in known:
            began = time.thread_time()
            evaluate(trainer.model, split.validation, seen=config.seen)
            known["evaluation"] = time.thread_time() - began
        known["entries"][name] = {"settings": entry.settings, "workspace": entry.workspace, **measured}
        known |= {"repeat": repeat, "environment": environment()}
        write_text(path, json.dumps(everything | {match.name: known}, indent=1) + "\n")
        yield name, measured["seconds"]


def _without_evaluations(config: TrainingConfig) -> TrainingConfig:
    """Nothing but steps: a run's clock counts its evaluations, and an epoch may be as short as two steps."""
    return dataclasses.replace(config, max_epochs=_NEVER, patience=_NEVER, evaluate_every=_NEVER)


def seconds_of_a_step(trainer: Trainer) -> dict[str, float]:
    """The mean over some steps, and over how many; and the steps of an epoch."""
    per_epoch, counted, before = 0, 0, 0.0
    for event in trainer.events():
        if isinstance(event, Started):
            per_epoch = event.n_steps_per_epoch
        elif isinstance(event, StepDone):
            if event.step <= _WARM_UP and trainer.cpu_seconds < _TOO_SLOW:
                before = trainer.cpu_seconds
                continue
            counted += 1
            if trainer.cpu_seconds - before >= LONG_ENOUGH:
                break
    seconds = trainer.cpu_seconds - before
    return {"seconds": seconds / max(counted, 1), "steps": counted, "steps_per_epoch": per_epoch}


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

"""A race: how soon does a training pass a published row of the test?

The rules, as such races have them. Data, split and evaluation are fixed. Everything else is free: settings, schedule,
precision, initial weights, how often validation is looked at. The clock begins with the first batch and ends with the
evaluation on validation that stops the training; reading the data and judging the test are not counted. What stops it
is validation alone: both of its metrics reach thresholds that were fixed beforehand, from trainings with other seeds
(:func:`look_ahead`). An entry passes if the means over its seeds, on the test, reach the published row in both metrics.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from sce_lab.data import Split
from sce_lab.data.interactions import count
from sce_lab.files import write_text
from sce_lab.memory import format_bytes, measuring
from sce_lab.reproduce.races import Entry, Race
from sce_lab.reproduce.records import own_results, results_folder
from sce_lab.runs.environment import environment
from sce_lab.training import Evaluated, StepDone, Trainer, evaluate

METRICS = ("HR@10", "NDCG@10")
#: Seeds of the trainings that thresholds come from; those that are raced count from 0.
AHEAD = 1000


def run(entry: Entry, split: Split, seed: int, device: str = "cpu") -> dict[str, Any]:
    """Train until validation reaches the thresholds, and judge the test: seconds, epochs, metrics, memory.

    Args:
        entry: what to train.
        split: the data.
        seed: of the training.
        device: where.

    Returns:
        ``reached`` says whether the thresholds stopped it, and not the end of its epochs.
    """
    trainer = _trainer(entry, split, seed, device)
    memory, reached = [], False
    for event in trainer.events():
        if isinstance(event, StepDone) and event.memory is not None:
            memory.append(event.memory)
        if isinstance(event, Evaluated) and all(event.metrics[m] >= least for m, least in entry.thresholds.items()):
            reached = True
            break
    test = evaluate(trainer.best_model(), split.test, seen=entry.config.seen)
    return {
        "seed": seed,
        "reached": reached,
        "seconds": trainer.seconds,
        "cpu_seconds": trainer.cpu_seconds,
        "epochs": trainer.epoch,
        "validation": {name: trainer.best_metrics[name] for name in METRICS},
        "test": {name: test[name] for name in METRICS},
        "peak": max(use.peak for use in memory),
        "loss_workspace": max(use.loss_workspace for use in memory),
    }


def look_ahead(entry: Entry, split: Split, seed: int, device: str = "cpu") -> Iterator[dict[str, Any]]:
    """Train to the last epoch, and judge validation and test after each: what thresholds are made from.

    With a seed of its own: one that is raced must not have decided when it stops.
    """
    each = dataclasses.replace(entry, config=dataclasses.replace(entry.config, evaluate_every=1))
    trainer = _trainer(each, split, AHEAD + seed, device)
    for event in trainer.events():
        if isinstance(event, Evaluated):
            test = evaluate(trainer.best_model(), split.test, seen=entry.config.seen)
            both = {"validation": event.metrics, "test": test}
            yield {"seed": AHEAD + seed, "epochs": event.epoch} | {
                k: {m: v[m] for m in METRICS} for k, v in both.items()
            }


def _trainer(entry: Entry, split: Split, seed: int, device: str) -> Trainer:
    config = dataclasses.replace(entry.config, seed=seed, device=device, patience=entry.config.max_epochs)
    return Trainer(config, split, step=measuring(), when_to_test="never")


def in_a_line(came_out: dict[str, Any], goal: dict[str, float], where: str) -> str:
    """What a race came to: seconds, epochs, scores, memory, machine."""
    scores = ", ".join(f"{name} {came_out['test'][name]:.4f}" for name in METRICS)
    passed = all(came_out["test"][name] >= least for name, least in goal.items())
    stopped = "" if came_out["reached"] else ", and validation never reached its thresholds"
    return (
        f"seed {came_out['seed']}: {came_out['seconds']:.1f} s, {came_out['epochs']} epochs, {scores} on test "
        f"({'passed' if passed else 'not passed'}{stopped}), peak {format_bytes(came_out['peak'])}, of which the loss "
        f"{format_bytes(came_out['loss_workspace'])}, {where}"
    )


def check_recordable(race: Race, entry: Entry, n_seeds: int, device: str = "cpu", results: Path | None = None) -> None:
    """Whether so many seeds of an entry may be recorded from here: ask before they are trained.

    Raises:
        ValueError: more of them are recorded already, or the folder is part of the installed package.
    """
    own_results(results, "speedrun")
    here = _key({"entry": entry.name, "device": device, "environment": environment()})
    for old in read_races(race.dataset, results):
        if _key(old) == here and len(old["seeds"]) > n_seeds:
            raise ValueError(
                f"{len(old['seeds'])} seeds of {entry.name} are recorded on this machine, and {n_seeds} would take "
                f"their place: run {len(old['seeds'])} or more, or choose another folder with --results"
            )


def record_race(
    race: Race,
    entry: Entry,
    came_out: Iterable[dict[str, Any]],
    repeat: str,
    results: Path | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Write what the seeds of an entry came to, in the place of what it came to before on the same device and threads.

    Raises:
        ValueError: as :func:`check_recordable`.
    """
    seeds, here = list(came_out), environment()
    check_recordable(race, entry, len(seeds), device, results)
    path = race_path(race.dataset, results)
    path.parent.mkdir(parents=True, exist_ok=True)
    config = dataclasses.asdict(entry.config)
    del config["seed"], config["device"]
    mean = {name: statistics.fmean(seed["test"][name] for seed in seeds) for name in METRICS}
    new = {
        "entry": entry.name,
        "note": entry.note,
        "repeat": repeat,
        "thresholds": entry.thresholds,
        "config": config,
        "device": device,
        "environment": here,
        "seeds": seeds,
        "mean": mean | {name: statistics.fmean(seed[name] for seed in seeds) for name in ("seconds", "epochs")},
        "passed": len(seeds) >= 5 and all(mean[name] >= least for name, least in race.goal.items()),
    }
    kept = [old for old in read_races(race.dataset, results) if _key(old) != _key(new)]
    order = [each.name for each in race.entries]
    runs = sorted(
        [*kept, new], key=lambda each: (order.index(each["entry"]) if each["entry"] in order else -1, _key(each))
    )
    write_text(path, json.dumps({"dataset": race.dataset, "goal": race.goal, "runs": runs}, indent=1) + "\n")
    return new


def _key(run: dict[str, Any]) -> tuple[Any, ...]:
    where = run["environment"]
    return run["entry"], where["threads"], where["processor"], _accelerator(run) or "cpu"


def _accelerator(run: dict[str, Any]) -> str:
    """Where it was trained if not on the CPU; records that do not say it are of the CPU."""
    device, _, number = run.get("device", "cpu").partition(":")
    gpus = run["environment"]["gpus"]
    if device == "cpu":
        return ""
    return gpus[int(number or 0)] if device == "cuda" and gpus else device


def machine_of(run: dict[str, Any]) -> str:
    """What a run was trained on, from its ``environment`` and ``device``, as people call it."""
    where = run["environment"]
    return _accelerator(run) or f"{where['processor']}, {count(where['threads'], 'thread')}"


def race_path(dataset: str, results: Path | None = None) -> Path:
    """Where the record of a race is."""
    return results_folder("speedrun", results) / f"{dataset}.json"


def read_races(dataset: str, results: Path | None = None) -> list[dict[str, Any]]:
    """What was recorded of a race: for each entry, and number of threads, its seeds."""
    path = race_path(dataset, results)
    return json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []


def race_table(runs: list[dict[str, Any]]) -> pd.DataFrame:
    """A row an entry and machine, as text; what one machine did stands together, in the order of trying."""

    def row(run: dict[str, Any]) -> dict[str, str]:
        seconds = [seed["seconds"] for seed in run["seeds"]]
        return {
            "machine": machine_of(run),
            "entry": run["entry"],
            "what it changes": run["note"],
            "seeds": str(len(seconds)),
            "seconds": f"{statistics.fmean(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})",
            "epochs": f"{run['mean']['epochs']:.1f}",
            **{name: f"{run['mean'][name]:.4f}" for name in METRICS},
            "passed": "yes" if run["passed"] else "no",
            "peak memory": format_bytes(max(seed["peak"] for seed in run["seeds"])),
        }

    return pd.DataFrame([row(run) for run in sorted(runs, key=machine_of)])

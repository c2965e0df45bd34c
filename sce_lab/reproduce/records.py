"""Records of reproductions: one JSON file a recipe, rewritten whole after every seed.

A record says what was trained, how to do it again, where and when it ran, and what came out for each seed; the means
and standard deviations in it follow from the seeds. With several seeds it also says what their models reach
together, their scores added up. Tables are made from records and never typed.

Training looks at validation only; the test is opened once (:mod:`sce_lab.reproduce.opening`). Records without
``tested_at`` that have a test are the first ones: there each training ended with it. Records whose configuration has no
``seen`` are of an older rule, under which seen items were left out but not the target.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sce_lab.data import Split
from sce_lab.files import SHIPPED, repository
from sce_lab.model import SASRec
from sce_lab.reproduce.recipes import RECIPES, Recipe
from sce_lab.runs import Run, runs_root, write_text
from sce_lab.training import Trainer, evaluate_together

RESULTS_VARIABLE = "SCE_LAB_RESULTS"
"""Environment variable: the folder of records."""


def results_folder(kind: str = "reproduce", results: Path | None = None) -> Path:
    """Where records are read: in ``results``, else ``SCE_LAB_RESULTS``, else ``benchmarks/results/reproduce`` of the
    repository. Records of another ``kind`` are in a folder of that name: inside, or beside that of the repository."""
    ours = repository() / "benchmarks" / "results"
    folder = Path(results or os.environ.get(RESULTS_VARIABLE) or ours / "reproduce")
    if kind == "reproduce":
        return folder
    return (ours if folder.resolve() == (ours / "reproduce").resolve() else folder) / kind


def own_results(results: Path | None = None, kind: str = "reproduce") -> Path:
    """Where records are written: :func:`results_folder`, if it is a person's own.

    Raises:
        ValueError: it is part of the installed package.
    """
    folder = results_folder(kind, results)
    if folder.resolve().is_relative_to(SHIPPED):
        raise ValueError(
            "the records of the installed package are not written to: name a folder with --results, or in the "
            f"environment variable {RESULTS_VARIABLE}"
        )
    return folder


def run_folder(recipe: Recipe, seed: int, root: Path | None = None) -> Path:
    """Where the run of one seed lives: the same place each time, so that an interrupted one is found again."""
    return (root or runs_root()) / "reproduce" / recipe.dataset / recipe.name / f"seed-{seed}"


TrainRun = Callable[[Any, Path], None]
"""Trains a configuration to its end, recorded in a folder, going on from a checkpoint if one is there."""


def reproduce(
    recipe: Recipe,
    split: Split,
    seeds: Iterable[int],
    train_run: TrainRun,
    *,
    repeat: str,
    runs: Path | None = None,
    results: Path | None = None,
    about: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Train ``recipe`` once a seed and yield its record after each; it is written as ``DATASET-NAME.json``.

    A seed whose run has ended is not trained again, and one that was interrupted goes on where it was. What the record
    says is about validation: see :func:`sce_lab.reproduce.open_test`.

    Args:
        recipe: what to train.
        split: the data.
        seeds: each gives one run.
        train_run: trains a configuration, recorded in a folder (see :func:`sce_lab.runs.record`).
        repeat: the command that repeats this.
        runs: folder of run folders, by default that of :func:`sce_lab.runs.runs_root`.
        results: folder of records, by default :func:`results_folder`.
        about: what else the record is to say.

    Raises:
        ValueError: a run folder that is in the way was made with other settings or data, the recipe's test was opened,
            or more seeds are recorded than are asked for.
    """
    path = record_path(recipe, own_results(results))
    path.parent.mkdir(parents=True, exist_ok=True)
    if closed := why_closed(recipe, results):
        raise ValueError(closed)
    known = read_record(path) if path.exists() else {"seeds": []}
    if known.get("withdrawn"):
        known = {"seeds": []}
    seeds, n_known = list(seeds), len(known["seeds"])
    if n_known > len(seeds):
        raise ValueError(
            f"{n_known} seeds of {recipe.dataset} {recipe.name} are recorded, and {len(seeds)} would take their place: "
            f"ask for {n_known} or more, or choose another folder with --results"
        )
    finished: list[Run] = []
    for seed in seeds:
        config = dataclasses.replace(recipe.config, seed=seed)
        run = Run(run_folder(recipe, seed, runs))
        check_same(run, config, split)
        if not has_ended(run):
            train_run(config, run.folder)
            if not has_ended(run):  # stopped by a person
                return
        finished.append(run)
        record = make_record(recipe, split, finished, repeat) | dict(about or {})
        if len(finished) >= n_known:  # until then what is recorded says more
            # that of a withdrawn record, or of a test whose record was never written
            path.with_suffix(".npz").unlink(missing_ok=True)
            write_record(path, record)
        yield record


def why_closed(recipe: Recipe, results: Path | None = None) -> str:
    """Why nothing may be added to the record of ``recipe``, as a sentence; empty if something may."""
    path = record_path(recipe, results)
    known = read_record(path) if path.exists() else {"seeds": []}
    if known.get("withdrawn") or not any("test" in seed for seed in known["seeds"]):
        return ""
    opened = f"was opened at {known['tested_at']}" if "tested_at" in known else "has been looked at"
    return (
        f"the test of {recipe.dataset} {recipe.name} {opened}, so its record is closed; to train it again choose "
        f"another folder for the record with --results"
    )


def record_path(recipe: Recipe, results: Path | None = None) -> Path:
    """Where the record of ``recipe`` is; its ranks have the same name and end in ``.npz``."""
    return (results or results_folder()) / f"{recipe.dataset}-{recipe.name}.json"


def read_record(path: Path) -> dict[str, Any]:
    """The record in this file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write it, whole or not at all."""
    write_text(path, json.dumps(record, indent=1) + "\n")


def has_ended(run: Run) -> bool:
    """Whether the run came to its own end; one that a person stopped did not."""
    return run.summary.get("reason") in ("epochs", "patience")


def check_same(run: Run, config: Any, split: Split, may_differ: Sequence[str] = ("device",)) -> None:
    """Refuse a run folder that holds a run of another configuration, or on other data.

    Raises:
        ValueError: the message names the folder and the first difference.
    """
    if not run.settings:
        return
    trained_on = run.settings.get("fingerprint", split.fingerprint)  # older runs do not say it
    if trained_on != split.fingerprint:
        raise ValueError(
            f"{run.folder} holds a run on other data (fingerprint {trained_on}, here {split.fingerprint}): "
            f"move that folder away, or choose another one with --out"
        )
    ours, theirs = (json.loads(json.dumps(dataclasses.asdict(c))) for c in (config, run.config))
    for name in ours:
        if name not in may_differ and ours[name] != theirs[name]:
            raise ValueError(
                f"{run.folder} holds a run with {name}={theirs[name]!r}, but the recipe says {ours[name]!r}: "
                f"move that folder away, or choose another one with --out"
            )


def make_record(recipe: Recipe, split: Split, runs: list[Run], repeat: str) -> dict[str, Any]:
    """The record of finished runs of ``recipe`` that differ in the seed only."""
    config = dataclasses.asdict(recipe.config) | {"device": runs[-1].config.device}  # where it was, not where we are
    del config["seed"]
    seeds = [_seed_result(run) for run in runs]
    where = ("processor", "threads", "memory", "gpus", "system", "python", "versions")
    return {
        "dataset": recipe.dataset,
        "recipe": recipe.name,
        "note": recipe.note,
        "repeat": repeat,
        "config": config,
        "split": split.summary(),
        "fingerprint": split.fingerprint,
        "environment": entries(runs[-1], "environment", where),
        "seeds": seeds,
        **summary_of_seeds(seeds),
        "together": _together(runs, split),
    }


def _together(runs: list[Run], split: Split) -> dict[str, dict[str, float]]:
    """Metrics of the runs' best models with their scores added up; empty for one run, or if weights are gone."""
    if len(runs) < 2 or not all(run.checkpoint.exists() for run in runs):
        return {}
    models = [best_model(run, split) for run in runs]
    return {"validation": evaluate_together(models, split.validation, seen=runs[0].config.seen)}


def best_model(run: Run, split: Split) -> SASRec:
    """The model of the run's best epoch on validation."""
    trainer = Trainer(dataclasses.replace(run.config, device="auto"), split)  # all on one device, whatever theirs was
    trainer.load(run.checkpoint)
    return trainer.best_model()


def _seed_result(run: Run) -> dict[str, Any]:
    kept = ("reason", "epoch", "best_epoch", "step", "seconds", "validation", "ms", "memory")
    history = run.history
    evaluations = history[history["kind"] == "evaluation"]
    curve = {"epoch": evaluations["epoch"].tolist(), "NDCG@10": evaluations["NDCG@10"].round(5).tolist()}
    came_out = entries(run, "environment", ("time", "threads")) | entries(run, "summary", kept)
    return {"seed": run.config.seed, **came_out, "cpu_seconds": run.summary.get("cpu_seconds"), "curve": curve}


def entries(run: Run, table: str, names: tuple[str, ...]) -> dict[str, Any]:
    """What the run's ``environment`` or ``summary`` says under these names; a ValueError if it lacks one."""
    content = getattr(run, table)
    if missing := [name for name in names if name not in content]:
        raise ValueError(
            f"{run.folder / table}.json does not say {', '.join(missing)}, which a record needs: "
            "get the file back, or move its folder away and train this seed again"
        )
    return {name: content[name] for name in names}


def summary_of_seeds(seeds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Means and standard deviations (n - 1 in the denominator; none for one seed) of the test metrics, if the test was
    opened, of NDCG@10 on validation, and of seconds."""

    def over_seeds(summarize: Callable[[list[float]], float]) -> dict[str, float]:
        tested = seeds[0].get("test", {})
        return {
            **{name: summarize([seed["test"][name] for seed in seeds]) for name in tested},
            "validation NDCG@10": summarize([seed["validation"]["NDCG@10"] for seed in seeds]),
            "seconds": summarize([seed["seconds"] for seed in seeds]),
        }

    return {"mean": over_seeds(statistics.fmean), "sd": over_seeds(statistics.stdev) if len(seeds) > 1 else {}}


def read_records(folder: Path | None = None) -> list[dict[str, Any]]:
    """All records, in the order of the recipes; those of changed settings in the order of their names."""
    files = sorted((folder or results_folder()).glob("*.json"))
    records = [read_record(path) for path in files]
    order = [(dataset, name) for dataset, recipes in RECIPES.items() for name in recipes]

    def place(record: dict[str, Any]) -> int:
        recipe = record["dataset"], record["recipe"].split("+")[0].removesuffix("-reduced")
        return order.index(recipe) if recipe in order else len(order)

    return sorted(records, key=place)

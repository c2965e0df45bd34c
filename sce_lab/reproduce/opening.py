"""The test of a frozen recipe is looked at once; the record says when, what came out, and by which rules."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sce_lab.data import Split
from sce_lab.metrics import interval, metrics_apart, ranking_metrics
from sce_lab.model import SASRec
from sce_lab.reproduce.recipes import Recipe
from sce_lab.reproduce.records import (
    best_model,
    check_same,
    own_results,
    read_record,
    record_path,
    run_folder,
    summary_of_seeds,
    write_record,
)
from sce_lab.runs import Ranks, Run
from sce_lab.training import evaluate_together, rank_together

WITHOUT_COUNTS = "without counts"
"""Beside the names of rules about seen items: the recipe's own rule, but the counts of followers left out."""


def rules_for(split: Split) -> list[str]:
    """The rules about seen items that give different answers here: where no target repeats, one.

    "new" is not among them: it asks whom "exclude" asks besides those it must miss, and they are recorded apart.
    """
    return ["exclude", "keep"] if split.test.repeats.any() else ["exclude"]


def open_test(recipe: Recipe, split: Split, *, runs: Path | None = None, results: Path | None = None) -> dict[str, Any]:
    """Look at the test with the best models of a recipe's recorded seeds; returns the record, which is written, too.

    Where targets repeat, they are judged by the other rule about seen items as well, at the same time, and a model with
    counts of followers also without them: nothing can be chosen by it any more. Where each target came out by the
    recipe's own rule is kept beside the record (``.npz``).

    Args:
        recipe: a recipe as it stands in :data:`RECIPES`: one that is chosen. Trials are compared on validation.
        split: the data.
        runs, results: as in :func:`reproduce`.

    Raises:
        ValueError: it is a trial, nothing of it is recorded, its test was opened before, or weights are gone.
    """
    if "+" in recipe.name:
        raise ValueError(f"{recipe.name} is a trial, and trials have no test: what is chosen by it is a recipe first")
    path = record_path(recipe, own_results(results))
    if not path.exists():
        train = f"sce-lab reproduce {recipe.dataset} --loss {recipe.name}".replace("-reduced", " --reduced")
        raise ValueError(f"there is no record {path}: train with {train} first")
    record = read_record(path)
    if any("test" in seed for seed in record["seeds"]):
        when = record.get("tested_at", "the end of each training")
        raise ValueError(f"the test of {recipe.dataset} {recipe.name} was opened before ({when}): it is opened once")
    models = []
    for seed in record["seeds"]:
        run = Run(run_folder(recipe, seed["seed"], runs))
        if not run.checkpoint.exists():
            raise ValueError(f"{run.checkpoint} is missing: without its weights seed {seed['seed']} cannot be tested")
        check_same(run, dataclasses.replace(recipe.config, seed=seed["seed"]), split)
        models.append(best_model(run, split))
    seen = recipe.config.seen
    judged = {rule: _judge(models, split, rule) for rule in dict.fromkeys([seen, *rules_for(split)])}
    if recipe.config.followers:
        judged[WITHOUT_COUNTS] = _judge(models, split, seen, followers=False)
    seeds, ranks = judged.pop(seen)
    for seed, came_out in zip(record["seeds"], seeds):
        seed |= came_out
    if len(models) > 1:
        record["together"]["test"] = evaluate_together(models, split.test, seen=seen)
    record |= summary_of_seeds(record["seeds"]) | {"interval": _intervals(ranks)}
    record["other_rules"] = {
        rule: {"seeds": seeds, "interval": _intervals(ranks)} for rule, (seeds, ranks) in judged.items()
    }
    record["fingerprint"] = split.fingerprint
    record["tested_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    ranks.write(path.with_suffix(".npz"))
    write_record(path, record)
    return record


def _judge(
    models: list[SASRec], split: Split, seen: str, *, followers: bool = True
) -> tuple[list[dict[str, Any]], Ranks]:
    """What each model reaches on the test by a rule, new targets and repeats apart; and where the targets came out."""
    rankings = [rank_together([model], split.test, seen=seen, followers=followers) for model in models]
    seeds = [
        {"test": ranking_metrics(ranking, split.catalog_size), "apart": metrics_apart(ranking, split.catalog_size)}
        for ranking in rankings
    ]
    return seeds, Ranks.of(*rankings)


def _intervals(ranks: Ranks) -> dict[str, list[float]]:
    found = {name: interval(ranks.gains(name)) for name in ("HR@10", "NDCG@10")}
    return {name: [ends.low, ends.high] for name, ends in found.items()}

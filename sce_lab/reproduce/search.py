"""The same small search for every loss, on validation alone, and the recipe that it freezes.

A :class:`Search` declares a grid of settings and a budget, the same for each of its losses. :func:`search` trains the
grid's trials with one seed, a few epochs each, and the best of them longer (successive halving: Jamieson & Talwalkar,
AISTATS 2016). What was asked and what came out is one JSON file a data set and loss, below the records in ``search/``.
The recipe that it chooses is read from there, and is trained and judged like any other, with other seeds.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from sce_lab.data import Split
from sce_lab.files import write_text
from sce_lab.reproduce.recipes import RECIPES, Recipe, declared_recipe, format_setting
from sce_lab.reproduce.records import TrainRun, check_same, entries, own_results, results_folder, run_folder
from sce_lab.runs import Run
from sce_lab.training import TrainingConfig


@dataclass(frozen=True)
class Search:
    """What is tried for each loss of a data set.

    Attributes:
        dataset: a key of :data:`sce_lab.data.DATASETS`.
        config: what no trial changes. Its ``max_epochs`` and ``patience`` are those of the recipe that is chosen; a
            trial has the epochs of its rung and no early stop, so that each loss has the same budget.
        losses: the settings of each loss. Its name may go on behind a dash, where a loss is there twice: "sce-union".
        space: the values of each setting that are tried, all with all.
        rungs: how many trials go on, and to which epoch; the first has the whole grid. Each must be a whole number of
            ``config.evaluate_every``.
        seed: of every trial. Those of :func:`sce_lab.reproduce.reproduce` count from 0, so that what is judged in the
            end was not chosen for its luck.
        allowance: in words, what a loss was given for its trials, if that is not a number of epochs.
        took: in numbers, the same: the seconds and steps of a trial.
    """

    dataset: str
    config: TrainingConfig = field(hash=False)
    losses: dict[str, dict[str, Any]] = field(hash=False)
    space: dict[str, tuple[Any, ...]] = field(hash=False)
    rungs: tuple[tuple[int, int], ...]
    seed: int = 1000
    allowance: str = ""
    took: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def grid(self) -> list[dict[str, Any]]:
        """The settings of each trial."""
        return [dict(zip(self.space, values)) for values in product(*self.space.values())]

    @property
    def budget(self) -> int:
        """Epochs of all trials of one loss."""
        starts = (0, *(epochs for _, epochs in self.rungs))
        return sum(trials * (epochs - start) for (trials, epochs), start in zip(self.rungs, starts))

    def config_of(self, loss: str, **settings: Any) -> TrainingConfig:
        """What is trained with ``loss``, and with these settings."""
        return dataclasses.replace(
            self.config, loss=loss.partition("-")[0], loss_settings=self.losses[loss], **settings
        )

    def recipe(self, loss: str, settings: dict[str, Any]) -> Recipe:
        """What the search freezes if it chooses these settings for ``loss``."""
        chosen = ", ".join(format_setting(*setting) for setting in settings.items())
        tried = ", ".join(f"{name} in {list(values)}" for name, values in self.space.items())
        allowance = self.allowance or f"with {self.budget} epochs in all, the same for every loss"
        return Recipe(
            self.dataset,
            f"{loss}-searched",
            self.config_of(loss, **settings),
            f"{chosen}: the best on validation of {len(self.grid)} trials ({tried}) {allowance}",
        )

    def trial(self, loss: str, settings: dict[str, Any], epochs: int) -> Recipe:
        """One trial up to the end of a rung; its name says what it changes, and is that of its run folder."""
        named = Recipe(self.dataset, f"{loss}-search", self.config_of(loss), "a trial").with_settings(settings)
        return dataclasses.replace(named, config=dataclasses.replace(named.config, max_epochs=epochs, patience=epochs))


# The encoder of the rows called best, at the width and batch of the quick recipe: an epoch takes seconds, and has four
# times as many steps as with the paper's batch. Its learning rate, .001, would not show in ten epochs what it reaches.
_BEAUTY = TrainingConfig(
    batch_size=256, max_length=50, low_pass=0.5, averaging=0.995, max_epochs=100, patience=5, evaluate_every=2
)
_LOSSES = {
    "sce": {"n_buckets": 100, "bucket_size_x": 100, "bucket_size_y": 100, "mix_x": False},  # the quick recipe's
    "cce": {},
    "sampled": {"n_negatives": 1024},  # shared by the batch: as many as take no longer than SCE
    "bce": {"n_negatives": 64, "calibration": 0.75},  # one negative, uncalibrated, is below what needs no training
}
_SPACE = {"learning_rate": (2e-3, 4e-3), "dropout": (0.4, 0.6), "item_dropout": (0.0, 0.2)}

SEARCHES = {"amazon_beauty": Search("amazon_beauty", _BEAUTY, _LOSSES, _SPACE, rungs=((8, 10), (2, 30)))}
"""Searches by data set."""


def find_search(dataset: str, loss: str) -> Search:
    """The search of ``dataset``, which has ``loss``.

    Raises:
        ValueError: there is none; the message says which there are.
    """
    if dataset not in SEARCHES:
        raise ValueError(f"there is no search for {dataset!r}; there are searches for {', '.join(SEARCHES)}")
    if loss not in SEARCHES[dataset].losses:
        raise ValueError(f"the search of {dataset} has {', '.join(SEARCHES[dataset].losses)}, got {loss!r}")
    return SEARCHES[dataset]


def search(
    plan: Search,
    loss: str,
    split: Split,
    train_run: TrainRun,
    *,
    repeat: str,
    runs: Path | None = None,
    results: Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Train the trials of ``loss`` and yield the record of the search after each; it is written, too.

    What is trained is not trained again, and what was interrupted goes on. The test is never looked at. A record that
    says more, for its runs are gone from here, stays until this search says as much.

    Args:
        plan: what is tried.
        loss: one of its losses.
        split, train_run, repeat, runs, results: as in :func:`sce_lab.reproduce.reproduce`.

    Raises:
        ValueError: a run folder that is in the way was made with other settings.
    """
    path = search_path(plan.dataset, loss, own_results(results))
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"trials": []}
    tried: dict[int, dict[str, Any]] = {}
    left = list(range(len(plan.grid)))
    for n, (trials, epochs) in enumerate(plan.rungs, 1):
        left = sorted(left, key=lambda i: -tried[i]["validation NDCG@10"] if tried else i)[:trials]
        for i in left:
            trial = plan.trial(loss, plan.grid[i], epochs)
            run = Run(run_folder(trial, plan.seed, runs))
            config = dataclasses.replace(trial.config, seed=plan.seed)
            check_same(run, config, split, may_differ=("device", "max_epochs", "patience"))
            failed = ""
            if _epochs_of(run) < epochs:
                try:
                    train_run(config, run.folder)
                except FloatingPointError as error:  # a setting too bold is the last, and no reason to end the search
                    failed = str(error)
                if _epochs_of(run) < epochs and not failed:  # stopped by a person
                    return
            if failed:
                nothing = {"epochs": _epochs_of(run), "validation NDCG@10": 0.0, "best_epoch": 0, "failed": failed}
                tried[i] = {"settings": plan.grid[i], **nothing}
            else:
                tried[i] = {"settings": plan.grid[i], **_result(run, epochs)}
            ended = n == len(plan.rungs) and i == left[-1]
            best = max(left, key=lambda i: tried[i]["validation NDCG@10"]) if ended else None
            record = _record(plan, loss, split, run, repeat, [tried[i] for i in sorted(tried)])
            if best is not None:
                recipe = plan.recipe(loss, plan.grid[best])
                frozen = {"name": recipe.name, "note": recipe.note, "config": _asked(recipe.config)}
                record |= {"chosen": plan.grid[best], "recipe": frozen}
            if ended or _says(record) >= _says(known):
                write_text(path, json.dumps(record, indent=1) + "\n")
            yield record


def search_path(dataset: str, loss: str, results: Path | None = None) -> Path:
    """Where the record of a search is."""
    return (results or results_folder()) / "search" / f"{dataset}-{loss}.json"


def read_searches(results: Path | None = None) -> list[dict[str, Any]]:
    """The records of all searches."""
    files = sorted(((results or results_folder()) / "search").glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


def searched_recipes(dataset: str, results: Path | None = None) -> dict[str, Recipe]:
    """The recipes that finished searches have chosen, by name."""
    frozen = [r["recipe"] for r in read_searches(results) if r["dataset"] == dataset and "recipe" in r]
    configs = [TrainingConfig.read(recipe["config"], f"the recipe {recipe['name']} of a search") for recipe in frozen]
    return {r["name"]: Recipe(dataset, r["name"], config, r["note"]) for r, config in zip(frozen, configs)}


def find_recipe(dataset: str, name: str, results: Path | None = None) -> Recipe:
    """The recipe of ``dataset`` called ``name``: one that is declared, or one that a search has chosen.

    Raises:
        ValueError: there is none; the message says which there are, or which search would choose it.
    """
    searched = name.removesuffix("-searched")
    if searched == name or name in RECIPES.get(dataset, {}):
        return declared_recipe(dataset, name)
    find_search(dataset, searched)
    found = searched_recipes(dataset, results)
    if name not in found:
        raise ValueError(
            f"{dataset} has no recipe {name!r} yet: sce-lab search {dataset} --loss {searched} chooses it, if it ends"
        )
    return found[name]


def _epochs_of(run: Run) -> int:
    """The last epoch that was evaluated."""
    history = run.history
    return 0 if history.empty else max(history["epoch"][history["kind"] == "evaluation"], default=0)


def _result(run: Run, epochs: int) -> dict[str, Any]:
    """What a trial had reached by the end of a rung, whether or not it went on."""
    history = run.history.query("kind == 'evaluation' and epoch <= @epochs")
    best = history.loc[history["NDCG@10"].idxmax()]
    return {
        "epochs": epochs,
        "validation NDCG@10": float(best["NDCG@10"]),
        "best_epoch": int(best["epoch"]),
        "curve": {"epoch": history["epoch"].tolist(), "NDCG@10": history["NDCG@10"].round(5).tolist()},
    }


def _record(
    plan: Search, loss: str, split: Split, run: Run, repeat: str, trials: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "dataset": plan.dataset,
        "loss": loss,
        "repeat": repeat,
        "config": _asked(plan.config_of(loss)),
        "space": plan.space,
        "rungs": [{"trials": trials, "epochs": epochs} for trials, epochs in plan.rungs],
        "budget": plan.budget,
        "seed": plan.seed,
        "split": split.summary(),
        "environment": entries(run, "environment", ("processor", "threads", "system", "python", "versions", "time")),
        "trials": trials,
    }


def _says(record: dict[str, Any]) -> tuple[bool, int]:
    """How much a record of a search says: whether it ended, and the epochs that its trials had."""
    return "recipe" in record, sum(trial["epochs"] for trial in record["trials"])


def _asked(config: TrainingConfig) -> dict[str, Any]:
    """A configuration as records have it: the seed is another matter."""
    asked = dataclasses.asdict(config)
    del asked["seed"]
    return asked

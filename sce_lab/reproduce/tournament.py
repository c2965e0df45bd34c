"""A tournament: on each data set, the same encoder, batches, first weights, trials and seconds for every loss.

Two questions are asked of a loss. *Time*: with its usual settings, how far does it come in the seconds that all have?
*Memory*: with the largest settings that stay below a cap of bytes, how far in the same seconds? A loss that answers
both with the same settings is trained once. What is chosen is chosen on validation (:mod:`.search`), trained with other
seeds (:mod:`.records`) and tested once (:mod:`.opening`). Seconds are those of a quiet machine (:mod:`.calibration`):
they become a number of steps before anything is trained, so how busy the machine is then changes nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sce_lab.data import Split
from sce_lab.memory import predict_memory, typical_length
from sce_lab.reproduce.matches import Match
from sce_lab.reproduce.opening import open_test
from sce_lab.reproduce.recipes import Recipe
from sce_lab.reproduce.records import TrainRun, read_record, record_path, reproduce, run_folder
from sce_lab.reproduce.search import Search, search
from sce_lab.runs import Run
from sce_lab.training import TrainingConfig
from sce_lab.training.config import completed

USED = 0.95
"""Of its seconds that a training is to use."""


@dataclass(frozen=True)
class Entry:
    """A loss with the settings it has for one question, or for both.

    Attributes:
        name: CONTENDER-time, CONTENDER-memory or CONTENDER-both.
        settings: of the loss.
        workspace: bytes that it is predicted to hold beyond its inputs and their gradients.
    """

    name: str
    settings: dict[str, Any] = field(hash=False)
    workspace: int

    @property
    def contender(self) -> str:
        """Whose entry it is."""
        return self.name.rpartition("-")[0]

    def config_of(self, match: Match) -> TrainingConfig:
        """What is trained, before anything is tried."""
        return dataclasses.replace(match.config, loss=self.contender.partition("-")[0], loss_settings=self.settings)


def entries_of(match: Match, split: Split) -> dict[str, Entry]:
    """All entries of a match. A loss that stays below the cap with no settings has none for memory."""
    found = {}
    for name, contender in match.contenders.items():
        of_size = {}
        for size in {contender.usual, *contender.ladder}:
            entry = Entry(f"{name}-time", contender.of_size(size), 0)
            of_size[size] = dataclasses.replace(entry, workspace=_workspace(entry.config_of(match), split))
        below = [size for size in contender.ladder or (contender.usual,) if of_size[size].workspace <= match.cap]
        usual, largest = contender.usual, max(below, default=None)
        if usual == largest:
            found[f"{name}-both"] = dataclasses.replace(of_size[usual], name=f"{name}-both")
            continue
        found[f"{name}-time"] = of_size[usual]
        if largest is not None:
            found[f"{name}-memory"] = dataclasses.replace(of_size[largest], name=f"{name}-memory")
    return found


def _workspace(config: TrainingConfig, split: Split) -> int:
    return predict_memory(config, split.catalog_size, length=typical_length(config, split)).loss_workspace


def plan_of(match: Match, entry: Entry, seconds: float, steps_per_epoch: int) -> Search:
    """The search of one entry, every training of which has as many steps as fit into the seconds of the match.

    Steps come in whole epochs. Where those of the match would leave over more than a twentieth of the seconds, they are
    shorter: the longest that use 95 %, or else every step that fits.

    Args:
        match, entry: whose.
        seconds: of a step.
        steps_per_epoch: of the match on its data.

    Raises:
        ValueError: not one step fits.
    """
    fit = int(match.seconds / seconds)
    if fit < 1:
        raise ValueError(
            f"{match.name}: {entry.name} is left out, for a step of it takes {seconds:.0f} s, and every training has "
            f"{match.seconds:.0f} s"
        )
    enough = min(USED * match.seconds / seconds, fit)
    length = next(k for k in range(min(steps_per_epoch, fit), 0, -1) if fit // k * k >= enough)
    epochs = fit // length
    every = -(-epochs // match.evaluations)
    config = dataclasses.replace(
        match.config, steps_per_epoch=length, max_epochs=epochs, patience=epochs, evaluate_every=every
    )
    steps, used = epochs * length, epochs * length * seconds
    return Search(
        match.name,
        config,
        {entry.name: entry.settings},
        dict(match.space),
        rungs=((match.n_trials, epochs),),
        allowance=f"of {match.seconds:g} s each on a quiet machine, as every loss has: {steps:,} steps of this one, "
        f"which take {used:.3g} s",
        took={"seconds": used, "steps": steps},
    )


def compete(
    match: Match,
    plan: Search,
    split: Split,
    train_run: TrainRun,
    *,
    repeat: str,
    runs: Path,
    results: Path,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[dict[str, Any]]:
    """Take one entry as far as it goes: its search, its seeds, its test; yields the records as they are written.

    What is trained is not trained again, what was interrupted goes on, and what is tested is left alone.

    Args:
        match, plan: what is asked; the plan is that of :func:`plan_of`.
        split, train_run, repeat, runs, results: as in :func:`sce_lab.reproduce.reproduce`.
        say: is told what comes next.

    Raises:
        ValueError: a run folder or a record that is in the way was made with other settings or rules.
    """
    (entry,) = plan.losses
    path = record_path(Recipe(match.name, entry, plan.config, ""), results)
    about = {"rules": match.rules, "took": plan.took}
    if path.exists():
        record = read_record(path)
        _check_rules(record, match, plan.losses[entry], path)
        if "tested_at" in record:
            yield record
            return
    record = {}
    for record in search(plan, entry, split, train_run, repeat=repeat, runs=runs, results=results):
        yield record
    if "recipe" not in record:  # stopped by a person
        return
    for settings in plan.grid:  # of trials nobody asks for the weights
        trial = plan.trial(entry, settings, plan.config.max_epochs)
        Run(run_folder(trial, plan.seed, runs)).checkpoint.unlink(missing_ok=True)
    chosen = TrainingConfig.read(record["recipe"]["config"], f"the recipe of {entry} in the search")
    recipe = Recipe(match.name, entry, chosen, record["recipe"]["note"])
    say(f"{entry}: {recipe.note}")
    seeds = range(match.seeds)
    kept = {"repeat": repeat, "runs": runs, "results": results, "about": about}
    for record in reproduce(recipe, split, seeds, train_run, **kept):
        yield record
    if len(record.get("seeds", ())) == match.seeds:  # nothing is to be chosen any more
        yield open_test(recipe, split, runs=runs, results=results)


def _check_rules(record: dict[str, Any], match: Match, settings: dict[str, Any], path: Path) -> None:
    """Refuse a record of other rules, or of other settings of the loss; the first difference is named."""
    theirs = dict(record.get("rules", {}))
    if "config" in theirs:
        theirs["config"] = completed(theirs["config"])
    theirs |= {"loss_settings": record["config"]["loss_settings"]}
    for name, ours in (match.rules | {"loss_settings": json.loads(json.dumps(settings))}).items():
        if theirs.get(name) != ours:
            raise ValueError(
                f"{path} was made with {name}={theirs.get(name)!r}, but the tournament on {match.name} now says "
                f"{ours!r}: move that record away, or choose another folder with --results"
            )

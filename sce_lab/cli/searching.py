"""The command ``search``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import sce_lab
from sce_lab.cli.options import DeviceOption, ForceOption, OutOption, ResultsOption
from sce_lab.cli.output import say
from sce_lab.cli.running import check_fits, open_data, stop_on_interrupt, train_with_bar

if TYPE_CHECKING:
    from sce_lab.training import TrainingConfig


def search(
    dataset: Annotated[str, typer.Argument(help="A data set that has a search: `amazon_beauty`.")],
    loss: Annotated[str, typer.Option(help="Which losses, separated by commas, or `all`.")] = "all",
    device: DeviceOption = "auto",
    force: ForceOption = False,
    out: OutOption = None,
    results: ResultsOption = None,
) -> None:
    """Choose settings for each loss by the same small search, on validation alone.

    Each loss has the same grid of settings, the same encoder and the same number of epochs. The test is not looked at.
    What was tried is recorded; the recipe that is chosen is called LOSS-searched, and is then trained with seeds of its
    own (`sce-lab reproduce DATASET --loss LOSS-searched --seeds 5`). Called again, it goes on where it was.

    `sce-lab search amazon_beauty --loss sce`
    """
    from sce_lab.reproduce import SEARCHES, find_search
    from sce_lab.reproduce import search as search_for

    device = sce_lab.training.choose_device(device)
    names = list(SEARCHES[dataset].losses) if loss == "all" and dataset in SEARCHES else loss.split(",")
    plans = {name: find_search(dataset, name) for name in map(str.strip, names)}
    source = {"source": dataset}
    split = open_data(source)
    say(sce_lab.training.training_on(device))
    with stop_on_interrupt() as stop:

        def train_run(config: TrainingConfig, folder: Path) -> None:
            say(f"to epoch {config.max_epochs} in {folder}")
            config = dataclasses.replace(config, device=device)
            train_with_bar(config, split, source, folder, stop, when_to_test="never")

        for name, plan in plans.items():
            if not force:
                config = plan.trial(name, plan.grid[0], 1).config
                check_fits(dataclasses.replace(config, device=device), split)
            repeat = f"sce-lab search {dataset} --loss {name} --device {device}"
            record = {}
            for record in search_for(plan, name, split, train_run, repeat=repeat, runs=out, results=results):
                best = max(trial["validation NDCG@10"] for trial in record["trials"])
                say(
                    f"{name}: {len(record['trials'])} of {len(plan.grid)} trials, best NDCG@10 {best:.4f} on validation"
                )
            if "recipe" in record:
                say(f"{record['recipe']['name']} is {record['recipe']['note']}.")
            if stop():
                say("Call the same command again to go on.")
                break

"""Commands about the paper: ``reproduce`` and ``results``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sce_lab
from sce_lab.cli.options import DeviceOption, ForceOption, OutOption
from sce_lab.cli.output import check_writable, say, show
from sce_lab.cli.running import check_fits, open_data, stop_on_interrupt, train_with_bar

if TYPE_CHECKING:
    from sce_lab.reproduce import Recipe
    from sce_lab.training import TrainingConfig


def reproduce(
    dataset: Annotated[str, typer.Argument(help="A data set with published results: `sce-lab results` lists them.")],
    loss: Annotated[str, typer.Option(help="Which recipes: names separated by commas, or `all`.")] = "sce",
    quick: Annotated[
        bool, typer.Option("--quick", help="The recipe that takes minutes; same as --loss quick.")
    ] = False,
    reduced: Annotated[
        bool, typer.Option("--reduced", help="Smaller settings, for a recipe that is meant for a GPU.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Run so many times, with the seeds 0, 1, ...")] = 1,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Try another setting, name=value; recorded under its own name.")
    ] = None,
    watch: Annotated[
        Path | None, typer.Option(help="Keep a page of live figures here; open it in a browser, it follows the run.")
    ] = None,
    device: DeviceOption = "cpu",
    force: ForceOption = False,
    out: OutOption = None,
    results: Annotated[
        Path | None, typer.Option(help="Folder for the records. Default: `benchmarks/results/reproduce`.")
    ] = None,
) -> None:
    """Train a published row again and record what came out.

    Each seed has a run folder of its own: a finished one is not trained again, an interrupted one goes on where it
    was. The record (settings, seeds, mean and standard deviation, time, memory, machine, versions) is rewritten after
    every seed.

    `sce-lab reproduce amazon_beauty --seeds 5`
    """
    from sce_lab.reproduce import RECIPES, find_recipe, parse_setting
    from sce_lab.reproduce import reproduce as reproduce_recipe

    check_writable(watch, "--watch")
    sce_lab.training.check_device(device)
    names = list(RECIPES.get(dataset, {})) if loss == "all" else [name.strip() for name in loss.split(",")]
    recipes = [find_recipe(dataset, name) for name in (["quick"] if quick else names)]
    changes = dict(parse_setting(text) for text in change or [])
    recipes = [(recipe.for_cpu() if reduced else recipe).with_settings(changes) for recipe in recipes]
    for recipe in recipes:
        if recipe.reduced and device == "cpu" and not force:
            raise ValueError(
                f"{dataset} with the paper's settings is meant for a GPU (--device cuda); on a CPU "
                f"--reduced trains it smaller ({', '.join(f'{n} {v}' for n, v in recipe.reduced.items())}), "
                f"--force as it is"
            )
    source = {"source": dataset}
    split = open_data(source)
    with stop_on_interrupt() as stop:
        for recipe in recipes:
            recipe = dataclasses.replace(recipe, config=dataclasses.replace(recipe.config, device=device))
            if not force:
                check_fits(recipe.config, split)

            def train_run(config: TrainingConfig, folder: Path) -> None:
                say(f"seed {config.seed} in {folder}")
                train_with_bar(config, split, source, folder, stop, watch)

            repeat = repeat_command(recipe, seeds, reduced, changes, device)
            for record_ in reproduce_recipe(
                recipe, split, range(seeds), train_run, repeat=repeat, runs=out, results=results
            ):
                mean, done = record_["mean"], len(record_["seeds"])
                say(f"{recipe.name}, {done} of {seeds} seeds: HR@10 {mean['HR@10']:.4f}, NDCG@10 {mean['NDCG@10']:.4f}")
            if stop():
                say("Call the same command again to go on.")
                break


def repeat_command(recipe: Recipe, seeds: int, reduced: bool, changes: dict[str, Any], device: str) -> str:
    """The command that repeats a reproduction."""
    from sce_lab.reproduce import format_setting

    words = ["sce-lab reproduce", recipe.dataset]
    words += ["--loss", recipe.name.split("+")[0].removesuffix("-reduced")]
    words += ["--reduced"] if reduced else []
    words += ["--seeds", str(seeds)] if seeds > 1 else []
    words += [f"--set {format_setting(*change)}" for change in changes.items()]
    return " ".join(words + (["--device", device] if device != "cpu" else []))


def results(
    write: Annotated[
        list[Path] | None, typer.Option(help="Also write the tables into this README or notebook, between its marks.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of the records. Default: `benchmarks/results/reproduce`.")
    ] = None,
) -> None:
    """Show published results and the recorded reproductions beside them.

    `sce-lab results --write README.md --write notebooks/06_paper.ipynb`
    """
    from sce_lab.reproduce import for_readers, read_records, results_table, update_file

    records = read_records(folder)
    for dataset, rows in results_table(records).groupby("dataset", sort=False):
        show(for_readers(rows), sce_lab.DATASETS[dataset].title)
    for path in write or []:
        say(f"{path} {'is written' if update_file(path, records) else 'says so already'}")

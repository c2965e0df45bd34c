"""Commands about the paper: ``reproduce`` and ``results``."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sce_lab
from sce_lab.cli.options import (
    DateOption,
    DeviceOption,
    ForceOption,
    ItemOption,
    OutOption,
    RepeatsOption,
    ResultsOption,
    SplitOption,
    TimeOption,
    UserOption,
    flag,
    source,
)
from sce_lab.cli.output import check_writable, complain, say, show
from sce_lab.cli.running import check_fits, open_data, stop_on_interrupt, train_with_bar
from sce_lab.cli.scores import asked

if TYPE_CHECKING:
    from sce_lab.reproduce import Recipe
    from sce_lab.training import TrainingConfig


def reproduce(
    dataset: Annotated[str, typer.Argument(help="A data set that has recipes: a name that has none is told which do.")],
    loss: Annotated[str, typer.Option(help="Which recipes: names separated by commas, or `all`.")] = "sce",
    quick: Annotated[
        bool, typer.Option("--quick", help="The recipe that takes a minute; same as --loss race.")
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
    device: DeviceOption = "auto",
    force: ForceOption = False,
    out: OutOption = None,
    results: ResultsOption = None,
) -> None:
    """Train a published row again and record what came out on validation.

    Each seed has a run folder of its own: a finished one is not trained again, an interrupted one goes on where it
    was. The record (settings, seeds, mean and standard deviation, time, memory, machine, versions) is rewritten after
    every seed. The test is not looked at: when nothing is to be chosen any more, `sce-lab open-test` does, once.

    `sce-lab reproduce amazon_beauty --seeds 5`
    """
    from sce_lab.reproduce import RECIPES, find_recipe, parse_setting
    from sce_lab.reproduce import reproduce as reproduce_recipe
    from sce_lab.reproduce.records import why_closed

    check_writable(watch, "--watch")
    if quick and loss not in ("sce", "race"):
        raise ValueError(f"--quick is the recipe race, so it does not go with --loss {loss}: leave out one of them")
    device = sce_lab.training.choose_device(device)
    names = list(RECIPES.get(dataset, {})) if loss == "all" else [name.strip() for name in loss.split(",")]
    if not names:
        raise ValueError(f"there is no recipe for {dataset!r}; there are recipes for {', '.join(RECIPES)}")
    recipes = [find_recipe(dataset, name, results) for name in (["race"] if quick else names)]
    changes = dict(parse_setting(text) for text in change or [])
    recipes = [(recipe.for_cpu() if reduced else recipe).with_settings(changes) for recipe in recipes]
    if closed := [recipe for recipe in recipes if loss == "all" and why_closed(recipe, results)]:
        recipes = [recipe for recipe in recipes if recipe not in closed]
        names = ", ".join(recipe.name for recipe in closed)
        complain(
            f"the tests of {names} were looked at, so their records are closed and passed over: to train them again "
            f"choose another folder with --results",
            "yellow",
            "note",
        )
    for recipe in recipes:
        if recipe.reduced and device == "cpu" and not force:
            raise ValueError(
                f"{dataset} with the paper's settings is meant for a GPU (--device cuda); on a CPU "
                f"--reduced trains it smaller ({', '.join(f'{n} {v}' for n, v in recipe.reduced.items())}), "
                f"--force as it is"
            )
    if not recipes:
        return
    data = {"source": dataset}
    split = open_data(data)
    say(sce_lab.training.training_on(device))
    with stop_on_interrupt() as stop:
        for recipe in recipes:
            recipe = dataclasses.replace(recipe, config=dataclasses.replace(recipe.config, device=device))
            if not force:
                check_fits(recipe.config, split)

            def train_run(config: TrainingConfig, folder: Path) -> None:
                say(f"seed {config.seed} in {folder}")
                train_with_bar(config, split, data, folder, stop, watch, when_to_test="never")

            repeat = repeat_command(recipe, seeds, reduced, changes, device)
            for record_ in reproduce_recipe(
                recipe, split, range(seeds), train_run, repeat=repeat, runs=out, results=results
            ):
                mean, done = record_["mean"], len(record_["seeds"])
                say(f"{recipe.name}, {done} of {seeds} seeds: NDCG@10 {mean['validation NDCG@10']:.4f} on validation")
            if stop():
                say("Call the same command again to go on.")
                break


def open_test(
    dataset: Annotated[str, typer.Argument(help="A data set that `sce-lab reproduce` was called with.")],
    loss: Annotated[str, typer.Option(help="Which recipe.")] = "sce",
    reduced: Annotated[bool, typer.Option("--reduced", help="The recipe as it was trained with --reduced.")] = False,
    out: OutOption = None,
    results: ResultsOption = None,
) -> None:
    """Look at the test of a recipe that is trained, once, and record when.

    After that its record is closed: more seeds or other settings are another record. Trials (`reproduce --set`) have no
    test: they are compared on validation.

    `sce-lab open-test amazon_beauty --loss best`
    """
    from sce_lab.reproduce import find_recipe
    from sce_lab.reproduce import open_test as open_test_of

    recipe = find_recipe(dataset, loss, results)
    split = open_data({"source": dataset})
    record_ = open_test_of(recipe.for_cpu() if reduced else recipe, split, runs=out, results=results)
    ends = record_["interval"]
    means = (f"{name} {record_['mean'][name]:.4f} [{low:.4f}, {high:.4f}]" for name, (low, high) in ends.items())
    say(f"{recipe.name}, {len(record_['seeds'])} seeds: {', '.join(means)}; {asked(split, recipe.config.seen)}")


def repeat_command(recipe: Recipe, seeds: int, reduced: bool, changes: dict[str, Any], device: str) -> str:
    """The command that repeats a reproduction."""
    from sce_lab.reproduce import format_setting

    words = ["sce-lab", "reproduce", recipe.dataset]
    words += ["--loss", recipe.name.split("+")[0].removesuffix("-reduced")]
    words += ["--reduced"] if reduced else []
    words += ["--seeds", str(seeds)] if seeds > 1 else []
    for change in changes.items():
        words += ["--set", format_setting(*change)]
    return shlex.join([*words, "--device", device])


def baselines(
    dataset: Annotated[str, typer.Argument(help="`synthetic`, a name from `sce-lab data`, or a path to a file.")],
    user: UserOption = None,
    item: ItemOption = None,
    time: TimeOption = None,
    date_format: DateOption = None,
    drop_repeats: RepeatsOption = False,
    split: SplitOption = None,
    seen: Annotated[
        str | None,
        typer.Option(help="One rule about seen items: `exclude`, `keep` or `new`. Default: those that differ."),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Keep them beside the records, for `sce-lab results`.")
    ] = False,
    folder: ResultsOption = None,
) -> None:
    """Show what needs no training: popularity, what follows the last item, what the user has had before.

    They are ranked and judged like models. A model that is not above them has learned nothing of use.

    `sce-lab baselines amazon_beauty`
    """
    from sce_lab.reproduce import baselines_table, judge_baselines, write_baselines

    options = locals()
    rules = [sce_lab.metrics.check_seen(seen)] if seen else []
    divided = open_data(source(dataset, options | {"seed": 0}))
    known = dataset in (*sce_lab.data.DATASETS, "synthetic")
    judged = judge_baselines(dataset if known else Path(dataset).name, divided, rules, _repeat_baselines(options))
    share = judged["split"]["test targets that repeat"]
    heading = f"{len(divided.test):,} test users, {divided.catalog_size:,} items, {share:.1%} of the targets repeat"
    show(baselines_table(judged), f"{divided.name}: {heading}")
    if record:
        say(f"Recorded in {write_baselines(judged, folder)}")


def _repeat_baselines(options: dict[str, Any]) -> str:
    words = ["sce-lab", "baselines", options["dataset"]]
    for name in ("user", "item", "time", "date_format", "split", "seen"):
        if options[name] is not None:
            words += [flag(name), options[name]]
    words += ["--drop-repeats"] if options["drop_repeats"] else []
    return shlex.join([*words, "--record"])


def results(
    write: Annotated[
        list[Path] | None,
        typer.Option(help="Also write the tables into this Markdown file or notebook, between its marks."),
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Only the difference of two records, DATASET-NAME each, on the same users."),
    ] = None,
    folder: ResultsOption = None,
) -> None:
    """Show published results and the recorded reproductions beside them.

    `sce-lab results --write README.md --write docs/results.md --write notebooks/06_paper.ipynb`

    `sce-lab results --compare amazon_beauty-sce-searched amazon_beauty-cce-searched`
    """
    from sce_lab.reproduce import (
        Evidence,
        compare_records,
        for_readers,
        heading,
        in_words,
        model_name,
        records_called,
        update_file,
        withdrawn,
    )

    if folder is not None and not folder.is_dir():
        raise ValueError(f"--results {folder} is no folder, so there are no records in it")
    if missing := [str(path) for path in write or [] if not path.is_file()]:
        raise ValueError(f"--write fills the marks of a file that is there, and there is no file {', '.join(missing)}")
    if compare:
        ours, theirs = records_called(compare, folder)
        for metric in ("HR@10", "NDCG@10"):
            found = compare_records(ours, theirs, metric, folder)
            say(in_words(model_name(ours), model_name(theirs), found, theirs["mean"][metric], metric))
        say(f"The mean over {found.n_users:,} users, and its 95 % interval over them and over the seeds of both.")
        return
    evidence = Evidence.read(folder)
    for dataset, rows in evidence.table.groupby("dataset", sort=False):
        show(for_readers(rows), heading(dataset, evidence.baselines))
        for sentence in evidence.findings(dataset):
            say(sentence)
    for sentence in withdrawn(evidence.records):
        say(sentence)
    for path in write or []:
        say(f"{path} {'is written' if update_file(path, evidence) else 'says so already'}")

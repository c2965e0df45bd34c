"""``sce-lab``: train, compare and look at data and runs from a shell."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import pandas as pd
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from sce_lab.data import DATASETS, Split, load_dataset, open_split, read_interactions, summarize
from sce_lab.losses import LOSSES
from sce_lab.memory import (
    DEVICES,
    RanOutOfMemoryError,
    check_fits,
    explaining_out_of_memory,
    fits,
    format_bytes,
    free_memory,
    measuring,
    predict_memory,
    suggest_sce,
    typical_length,
)
from sce_lab.reproduce import (
    RECIPES,
    Recipe,
    find_recipe,
    for_readers,
    parse_setting,
    read_records,
    results_table,
    update_file,
)
from sce_lab.reproduce import reproduce as reproduce_recipe
from sce_lab.runs import Run, compare_runs, for_people, list_runs, new_run_folder, record
from sce_lab.training import Evaluated, Finished, Started, StepDone, Trainer, TrainingConfig, takes

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="See what full cross-entropy, sampled softmax and Scalable Cross-Entropy (SCE) cost in memory and time, and "
    "what they give in ranking quality.\n\nStart with `sce-lab compare`: it needs no data and takes about a minute.",
)
console = Console()

DatasetOption = Annotated[
    str,
    typer.Option("--dataset", help="`synthetic`, a name from `sce-lab data`, or a path to a CSV or parquet file."),
]
CatalogOption = Annotated[
    int | None, typer.Option(help="Number of items of the synthetic data; real data have their own.")
]
EpochsOption = Annotated[int, typer.Option(help="Passes over the training data at most.")]
PatienceOption = Annotated[
    int, typer.Option(help="Stop after so many evaluations without a better validation NDCG@10.")
]
BatchOption = Annotated[int, typer.Option(help="Users a step. More is steadier and needs more memory.")]
DropoutOption = Annotated[float, typer.Option(help="Dropout probability. Small data want more.")]
LengthOption = Annotated[int, typer.Option(help="Longest history in items.")]
RateOption = Annotated[float, typer.Option(help="Adam's learning rate.")]
BucketsOption = Annotated[
    int | None,
    typer.Option(help="SCE: number of buckets. Default: the paper's rule, 2 * sqrt(positions in the batch)."),
]
SizeXOption = Annotated[int | None, typer.Option(help="SCE: positions a bucket takes. Default: as many as buckets.")]
SizeYOption = Annotated[int, typer.Option(help="SCE: items a bucket takes.")]
MixOption = Annotated[bool, typer.Option("--mix/--no-mix", help="SCE: draw bucket centres from the model's outputs.")]
NegativesOption = Annotated[int, typer.Option(help="Sampled softmax: random items every target competes with.")]
SamplingOption = Annotated[
    str,
    typer.Option(help="Sampled softmax: how to draw; `uniform`, `log_uniform`, `popularity` or `in_batch`."),
]
SizeOption = Annotated[int, typer.Option(help="Width D of the model.")]
BlocksOption = Annotated[int, typer.Option(help="Attention blocks of the model.")]
DataSeedOption = Annotated[
    int | None, typer.Option(help="Decides the synthetic data. Default: as `--seed`, so another seed is another world.")
]
SeedOption = Annotated[int, typer.Option(help="Decides weights, order, dropout, negatives and bucket centres.")]
DeviceOption = Annotated[str, typer.Option(help="`cpu`, or `cuda` on an NVIDIA GPU.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Train even if the prediction says it will not fit.")]


def configuration(loss: str, options: dict[str, Any]) -> TrainingConfig:
    """What to train, from a command's options."""
    sce = {name: options[name] for name in ("n_buckets", "bucket_size_x", "bucket_size_y")} | {"mix_x": options["mix"]}
    sampled = {"n_negatives": options["n_negatives"], "sampling": options["sampling"]}
    settings = {"sampled": sampled, "sce": sce}
    same = ("hidden_size", "n_blocks", "dropout", "max_length", "batch_size", "learning_rate", "patience", "seed")
    same += ("device",)
    return TrainingConfig(
        loss=loss,
        loss_settings=settings.get(loss, {}),
        max_epochs=options["epochs"],
        **{name: options[name] for name in same},
    )


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into an answer to "stop?"; the second one interrupts as usual."""
    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, previous)
        console.print("[yellow]Stopping after this step; what was trained is kept. Ctrl-C again to leave at once.")

    previous = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, previous)


def train_with_bar(
    config: TrainingConfig,
    split: Split,
    source: dict[str, Any],
    folder: Path,
    stop: Callable[[], bool],
    page: Path | None = None,
) -> Finished:
    """Train to the end under a progress bar, recorded in ``folder``; returns the last event.

    ``page``, if given, is written after every evaluation: the run's figures, in a page that loads itself again.
    """
    trainer = Trainer(config, split, step=measuring(), stop=stop, test_when_stopped=True)
    every = 0.2 if sys.stderr.isatty() else 10.0  # seconds between two updates; a log file wants fewer
    label = LOSSES[config.loss].label
    bar = tqdm(unit="step", desc=label, dynamic_ncols=True, smoothing=0.05, mininterval=every)
    with bar, explaining_out_of_memory(config, split.catalog_size, typical_length(config, split)):
        shown: dict[str, str] = {}
        for event in record(trainer, folder, source):
            match event:
                case Started():
                    bar.reset(event.n_steps_per_epoch * config.max_epochs)
                    bar.update(trainer.step)
                case StepDone():
                    shown["loss"] = f"{event.loss:.3f}"
                    bar.update()
                case Evaluated():
                    shown |= {"epoch": str(event.epoch), "val NDCG@10": f"{event.metrics['NDCG@10']:.4f}"}
                    if page is not None:
                        from sce_lab.figures import write_live_page

                        write_live_page(page, Run(folder))
                case Finished():
                    return event
            bar.set_postfix(shown, refresh=False)
    raise AssertionError("a run ends with Finished")


def show(table: pd.DataFrame, title: str | None = None) -> None:
    """Print a table of text at its natural width: nothing is cut off, whatever the terminal's."""
    out = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title=title, title_justify="left")
    words = ("loss", "model", "run", "data", "name", "data set", "split", "status", "what")
    for name in table.columns:
        out.add_column(str(name), justify="left" if name in words else "right", no_wrap=True)
    for row in table.itertuples(index=False):
        out.add_row(*map(str, row))
    natural = console.measure(out, options=console.options.update(width=1000)).maximum
    Console(width=natural).print(out)


def resume_hint(folder: Path) -> str:
    """How to go on with a stopped run."""
    return f"Continue it with: sce-lab train --resume {folder}"


@app.command()
def compare(
    dataset: DatasetOption = "synthetic",
    losses: Annotated[
        str, typer.Option(help="Which, separated by commas: " + ", ".join(LOSSES) + ".")
    ] = "ce,sampled,sce",
    epochs: EpochsOption = 10,
    catalog_size: CatalogOption = None,
    patience: PatienceOption = 10,
    batch_size: BatchOption = 128,
    hidden_size: SizeOption = 64,
    n_blocks: BlocksOption = 2,
    dropout: DropoutOption = 0.3,
    max_length: LengthOption = 50,
    learning_rate: RateOption = 1e-3,
    n_buckets: BucketsOption = None,
    bucket_size_x: SizeXOption = None,
    bucket_size_y: SizeYOption = 256,
    mix: MixOption = False,
    n_negatives: NegativesOption = 256,
    sampling: SamplingOption = "uniform",
    seed: SeedOption = 0,
    data_seed: DataSeedOption = None,
    device: DeviceOption = "cpu",
    force: ForceOption = False,
    html: Annotated[Path | None, typer.Option(help="Also write the comparison as a page of figures.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the runs. Default: `runs`, or SCE_LAB_RUNS.")] = None,
) -> None:
    """Train the same model once with each loss and print one table: memory, time, ranking quality.

    Everything but the loss is the same: data, order of batches, initial weights, budget. *Loss workspace* is what the
    loss itself allocates, *ms/step* is the median, and the metrics are those of the test items, ranked against the
    whole catalog, at the best validation epoch.

    `sce-lab compare --dataset amazon_beauty --losses ce,sampled,sce --epochs 15`
    """
    options = locals()
    names = [name.strip() for name in losses.split(",") if name.strip()]
    unknown = [name for name in names if name not in LOSSES]
    if unknown or not names:
        raise ValueError(f"--losses takes {', '.join(LOSSES)}, separated by commas, got {losses!r}")
    source = {"source": dataset, "catalog_size": catalog_size, "seed": seed if data_seed is None else data_seed}
    split, _ = open_split(**source)
    runs: list[Run] = []
    with stop_on_interrupt() as stop:
        for name in names:
            config = configuration(name, options)
            if not force:
                check_fits(config, split.catalog_size, typical_length(config, split), n_users=len(split.test.targets))
            runs.append(Run(new_run_folder(out, name)))
            try:
                finished = train_with_bar(config, split, source, runs[-1].folder, stop)
            except RanOutOfMemoryError as error:  # the others may fit, and what is trained already stays
                console.print(f"[red]{name}:[/red] {error}", highlight=False)
                runs.pop()
                continue
            if finished.reason == "stopped":
                console.print(resume_hint(runs[-1].folder))
                break
    if not runs:
        raise RanOutOfMemoryError("memory ran out with every loss: nothing was trained")
    table = compare_runs(runs)
    show(for_people(table), f"{dataset}: {len(split.test.targets):,} test users, {split.catalog_size:,} items")
    console.print(f"Recorded in {runs[0].folder.parent}/")
    if html is not None:
        from sce_lab.figures import write_comparison_page

        write_comparison_page(html, runs)
        console.print(f"Figures in {html}")


@app.command()
def train(
    dataset: DatasetOption = "synthetic",
    loss: Annotated[str, typer.Option(help="One of " + ", ".join(LOSSES) + ".")] = "sce",
    epochs: EpochsOption = 100,
    catalog_size: CatalogOption = None,
    patience: PatienceOption = 10,
    batch_size: BatchOption = 128,
    hidden_size: SizeOption = 64,
    n_blocks: BlocksOption = 2,
    dropout: DropoutOption = 0.3,
    max_length: LengthOption = 50,
    learning_rate: RateOption = 1e-3,
    n_buckets: BucketsOption = None,
    bucket_size_x: SizeXOption = None,
    bucket_size_y: SizeYOption = 256,
    mix: MixOption = False,
    n_negatives: NegativesOption = 256,
    sampling: SamplingOption = "uniform",
    seed: SeedOption = 0,
    data_seed: DataSeedOption = None,
    device: DeviceOption = "cpu",
    force: ForceOption = False,
    resume: Annotated[
        Path | None, typer.Option(help="A run folder to continue with the settings it began with.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the run. Default: `runs`, or SCE_LAB_RUNS.")] = None,
) -> None:
    """Train one model and record the run. Ctrl-C stops cleanly; `--resume` goes on where it stopped.

    `sce-lab train --dataset amazon_beauty --loss sce --dropout 0.5 --epochs 30`
    """
    options = locals()
    if resume is not None:
        run = Run(resume)
        if not run.settings:
            raise ValueError(f"{resume} is no run folder: it has no config.json (see `sce-lab runs`)")
        config, source, folder = run.config, run.settings["source"], resume
    else:
        config = configuration(loss, options)
        source = {"source": dataset, "catalog_size": catalog_size, "seed": seed if data_seed is None else data_seed}
        folder = new_run_folder(out, loss)
    split, _ = open_split(**source)
    if not force:
        check_fits(config, split.catalog_size, typical_length(config, split), n_users=len(split.test.targets))
    with stop_on_interrupt() as stop:
        finished = train_with_bar(config, split, source, folder, stop)
    show(for_people(compare_runs([Run(folder)])))
    console.print(f"Recorded in {folder}")
    if finished.reason == "stopped":
        console.print(resume_hint(folder))


@app.command()
def reproduce(
    dataset: Annotated[str, typer.Argument(help="One of " + ", ".join(RECIPES) + ".")],
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
    out: Annotated[Path | None, typer.Option(help="Folder for the runs. Default: `runs`, or SCE_LAB_RUNS.")] = None,
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
    split, _ = open_split(dataset)
    source = {"source": dataset}
    with stop_on_interrupt() as stop:
        for recipe in recipes:
            recipe = dataclasses.replace(recipe, config=dataclasses.replace(recipe.config, device=device))
            if not force:
                check_fits(
                    recipe.config,
                    split.catalog_size,
                    typical_length(recipe.config, split),
                    n_users=len(split.test.targets),
                )

            def train_run(config: TrainingConfig, folder: Path) -> None:
                console.print(f"seed {config.seed} in {folder}")
                train_with_bar(config, split, source, folder, stop, watch)

            repeat = repeat_command(recipe, seeds, reduced, changes, device)
            for record_ in reproduce_recipe(
                recipe, split, range(seeds), train_run, repeat=repeat, runs=out, results=results
            ):
                mean, done = record_["mean"], len(record_["seeds"])
                console.print(
                    f"{recipe.name}, {done} of {seeds} seeds: HR@10 {mean['HR@10']:.4f}, NDCG@10 {mean['NDCG@10']:.4f}"
                )
            if stop():
                console.print("Call the same command again to go on.")
                break


def repeat_command(recipe: Recipe, seeds: int, reduced: bool, changes: dict[str, Any], device: str) -> str:
    """The command that repeats a reproduction."""
    words = ["sce-lab reproduce", recipe.dataset]
    words += ["--loss", recipe.name.split("+")[0].removesuffix("-reduced")]
    words += ["--reduced"] if reduced else []
    words += ["--seeds", str(seeds)] if seeds > 1 else []
    words += [f"--set {name}={value}" for name, value in changes.items()]
    return " ".join(words + (["--device", device] if device != "cpu" else []))


@app.command()
def memory(
    catalog_size: Annotated[int, typer.Argument(help="Number of items.")] = 1_000_000,
    batch_size: BatchOption = 128,
    max_length: LengthOption = 50,
    hidden_size: Annotated[int, typer.Option(help="Numbers per item.")] = 64,
    n_buckets: BucketsOption = None,
    bucket_size_x: SizeXOption = None,
    bucket_size_y: SizeYOption = 256,
    n_negatives: NegativesOption = 256,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="Row-sparse gradients of the item table, where the loss has them.")
    ] = False,
) -> None:
    """Predict what a training step would take with each loss, and on which machines it would fit. Allocates nothing.

    Every sequence is taken to be as long as `--max-length`. For SCE the figure is the most it can take.

    `sce-lab memory 10000000 --batch-size 256 --max-length 20`
    """
    settings = {"sampled": {"n_negatives": n_negatives}, "sce": {"n_buckets": n_buckets}}
    settings["sce"] |= {"bucket_size_x": bucket_size_x, "bucket_size_y": bucket_size_y}
    uses = {}
    for loss in LOSSES:
        config = TrainingConfig(
            loss=loss,
            loss_settings=settings.get(loss, {}),
            batch_size=batch_size,
            max_length=max_length,
            hidden_size=hidden_size,
            sparse_gradients=sparse and takes(loss, "sparse_grad"),
        )
        uses[loss] = predict_memory(config, catalog_size)
    parts = [{k.replace("_", " "): format_bytes(v) for k, v in use.as_dict().items()} for use in uses.values()]
    rows = [{"loss": LOSSES[loss].label} | part for loss, part in zip(uses, parts)]
    show(pd.DataFrame(rows), f"{catalog_size:,} items, one step")
    devices = pd.DataFrame({"device": [device.name for device in DEVICES.values()]})
    devices["usable"] = [format_bytes(device.usable) for device in DEVICES.values()]
    for loss, use in uses.items():
        left = fits(use)["left"]
        devices[LOSSES[loss].label] = ["fits" if n >= 0 else f"{format_bytes(-n)} short" for n in left]
    console.print()
    show(devices)
    free = free_memory()
    sizes = suggest_sce(free, TrainingConfig(loss="sce", batch_size=batch_size, max_length=max_length), catalog_size)
    found = ", ".join(f"{name}={value}" for name, value in sizes.items()) if sizes else "no settings of SCE"
    console.print(f"\n{format_bytes(free)} is free here; the paper's rule and this memory give {found}.")


@app.command()
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
    records = read_records(folder)
    for dataset, rows in results_table(records).groupby("dataset", sort=False):
        show(for_readers(rows), DATASETS[dataset].title)
    for path in write or []:
        console.print(f"{path} {'is written' if update_file(path, records) else 'says so already'}")


@app.command()
def runs(
    folder: Annotated[Path | None, typer.Argument(help="Folder of runs. Default: `runs`, or SCE_LAB_RUNS.")] = None,
) -> None:
    """List recorded runs and compare them in one table, the best NDCG@10 first."""
    found = list_runs(folder)
    if not found:
        console.print("No runs yet. `sce-lab compare` makes some.")
        return
    table = compare_runs(found).sort_values("NDCG@10", ascending=False)
    people = for_people(table)
    people.insert(0, "run", table["run"])
    people.insert(1, "data", table["dataset"])
    people["status"] = table["status"]
    show(people)


@app.command()
def data(
    dataset: Annotated[str | None, typer.Argument(help="A name below, or a path to a CSV or parquet file.")] = None,
) -> None:
    """List the data sets the lab knows, or summarise one (downloading it with a checksum if it is not here yet)."""
    if dataset is None:
        rows = [{"name": name, "data set": d.title, "split": d.split.replace("_", " ")} for name, d in DATASETS.items()]
        show(pd.DataFrame(rows))
        console.print("`sce-lab data NAME` summarises one; a path to your own file works wherever a name does.")
        return
    interactions = load_dataset(dataset) if dataset in DATASETS else read_interactions(dataset)
    numbers = summarize(interactions)["value"]
    values = [f"{v:,.4g}" if isinstance(v, float) else f"{v:,}" for v in numbers]
    show(pd.DataFrame({"what": numbers.index, dataset: values}))


def main() -> None:
    """Entry point: what is wrong with an input is said in one sentence, not in a traceback."""
    try:
        app(standalone_mode=True)
    except (ValueError, OSError, FloatingPointError, RanOutOfMemoryError) as error:
        Console(stderr=True).print(f"[red]sce-lab:[/red] {error}", highlight=False)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()

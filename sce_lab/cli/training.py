"""Commands that train: ``compare`` and ``train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sce_lab.cli.options import (
    BatchOption,
    BlocksOption,
    BucketsOption,
    CatalogOption,
    DataSeedOption,
    DatasetOption,
    DeviceOption,
    DropoutOption,
    EpochsOption,
    ForceOption,
    LengthOption,
    MixOption,
    NegativesOption,
    OutOption,
    PatienceOption,
    RateOption,
    SamplingOption,
    SeedOption,
    SizeOption,
    SizeXOption,
    SizeYOption,
    configuration,
)
from sce_lab.cli.output import console, show
from sce_lab.cli.running import resume_hint, stop_on_interrupt, train_with_bar
from sce_lab.data import open_split
from sce_lab.losses import LOSSES
from sce_lab.memory import RanOutOfMemoryError, check_fits, typical_length
from sce_lab.runs import Run, compare_runs, for_people, new_run_folder


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
    out: OutOption = None,
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

"""Commands that train: ``compare`` and ``train``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sce_lab
from sce_lab.cli.options import (
    AveragingOption,
    BatchOption,
    BlocksOption,
    BucketsOption,
    CatalogOption,
    DataSeedOption,
    DatasetOption,
    DateOption,
    DeviceOption,
    DropoutOption,
    EncoderOption,
    EpochsOption,
    FollowersOption,
    ForceOption,
    ItemOption,
    LengthOption,
    LowPassOption,
    MixOption,
    NegativesOption,
    OutOption,
    PatienceOption,
    RateOption,
    RepeatsOption,
    SamplingOption,
    SeedOption,
    SeenOption,
    SizeOption,
    SizeXOption,
    SizeYOption,
    SplitOption,
    TimeOption,
    UserOption,
    configuration,
    flag,
    given,
    note_dials,
    source,
)
from sce_lab.cli.output import check_writable, complain, say, show
from sce_lab.cli.running import check_fits, open_data, resume_hint, say_expected, stop_on_interrupt, train_with_bar
from sce_lab.cli.scores import apart, asked, comparisons

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from sce_lab.runs import Run
    from sce_lab.training import TrainingConfig


def compare(
    context: typer.Context,
    dataset: DatasetOption = "synthetic",
    user: UserOption = None,
    item: ItemOption = None,
    time: TimeOption = None,
    date_format: DateOption = None,
    drop_repeats: RepeatsOption = False,
    split: SplitOption = None,
    losses: Annotated[
        str, typer.Option(help="Which, separated by commas: ce, cce, ce_minus, sampled, rece, sce, bce.")
    ] = "ce,cce,sampled,sce",
    epochs: EpochsOption = 10,
    catalog_size: CatalogOption = None,
    patience: PatienceOption = 10,
    batch_size: BatchOption = 128,
    encoder: EncoderOption = "sasrec",
    hidden_size: SizeOption = 64,
    n_blocks: BlocksOption = 2,
    low_pass: LowPassOption = 0.0,
    followers: FollowersOption = 0.0,
    dropout: DropoutOption = 0.3,
    max_length: LengthOption = 50,
    learning_rate: RateOption = 1e-3,
    averaging: AveragingOption = 0.0,
    n_buckets: BucketsOption = None,
    bucket_size_x: SizeXOption = None,
    bucket_size_y: SizeYOption = 256,
    mix: MixOption = False,
    n_negatives: NegativesOption = 256,
    sampling: SamplingOption = "uniform",
    seed: SeedOption = 0,
    data_seed: DataSeedOption = None,
    seen: SeenOption = "exclude",
    device: DeviceOption = "auto",
    force: ForceOption = False,
    html: Annotated[Path | None, typer.Option(help="Also write the comparison as a page of figures.")] = None,
    out: OutOption = None,
) -> None:
    """Train the same model once with each loss and print one table: memory, time, ranking quality.

    Everything but the loss is the same: data, order of batches, initial weights, budget. *Loss workspace* is what the
    loss itself allocates, *ms/step* is the median, and the metrics are those of the test items, ranked against the
    whole catalog, at the best validation epoch; in brackets the 95 % interval over test users. Two losses whose
    difference may be chance are said to be not told apart.

    `sce-lab compare --dataset amazon_beauty --losses ce,cce,sampled,sce --epochs 15`
    """
    options = locals()
    check_writable(html, "--html")
    names = list(dict.fromkeys(name.strip() for name in losses.split(",") if name.strip()))
    unknown = [name for name in names if name not in sce_lab.LOSSES]
    if unknown or not names:
        raise ValueError(f"--losses takes {', '.join(sce_lab.LOSSES)}, separated by commas, got {losses!r}")
    note_dials(names, context)
    configs = [configuration(name, options) for name in names]
    data = source(dataset, options)
    divided = open_data(data)
    done: list[Run] = []
    say(sce_lab.training.training_on(configs[0].device))
    say_expected(configs, divided)
    with stop_on_interrupt() as stop:
        for config in configs:
            if not force:
                check_fits(config, divided)
            run = sce_lab.Run(sce_lab.runs.new_run_folder(out, config.loss))
            try:
                finished = train_with_bar(config, divided, data, run.folder, stop)
            except sce_lab.memory.RanOutOfMemoryError as error:  # others may fit, and what is trained already stays
                complain(str(error), who=config.loss)
                continue
            done.append(run)
            if finished.reason == "stopped":
                say(resume_hint(run.folder))
                break
    if not done:
        raise sce_lab.memory.RanOutOfMemoryError("memory ran out with every loss: nothing was trained")
    table = sce_lab.compare_runs(done)
    show(sce_lab.for_people(table), f"{dataset}: {asked(divided, seen)}")
    for sentence in (*apart(done), *comparisons(done)):
        say(sentence)
    say(f"Recorded in {done[0].folder.parent}/")
    if html is not None:
        sce_lab.figures.write_comparison_page(html, done)
        say(f"Figures in {html}")


def train(
    context: typer.Context,
    dataset: DatasetOption = "synthetic",
    user: UserOption = None,
    item: ItemOption = None,
    time: TimeOption = None,
    date_format: DateOption = None,
    drop_repeats: RepeatsOption = False,
    split: SplitOption = None,
    loss: Annotated[str, typer.Option(help="One of ce, cce, ce_minus, sampled, rece, sce, bce.")] = "sce",
    epochs: EpochsOption = 100,
    catalog_size: CatalogOption = None,
    patience: PatienceOption = 10,
    batch_size: BatchOption = 128,
    encoder: EncoderOption = "sasrec",
    hidden_size: SizeOption = 64,
    n_blocks: BlocksOption = 2,
    low_pass: LowPassOption = 0.0,
    followers: FollowersOption = 0.0,
    dropout: DropoutOption = 0.3,
    max_length: LengthOption = 50,
    learning_rate: RateOption = 1e-3,
    averaging: AveragingOption = 0.0,
    n_buckets: BucketsOption = None,
    bucket_size_x: SizeXOption = None,
    bucket_size_y: SizeYOption = 256,
    mix: MixOption = False,
    n_negatives: NegativesOption = 256,
    sampling: SamplingOption = "uniform",
    seed: SeedOption = 0,
    data_seed: DataSeedOption = None,
    seen: SeenOption = "exclude",
    device: DeviceOption = "auto",
    shard_items: Annotated[
        bool,
        typer.Option("--shard-items", help="Under torchrun: spread the item table and each batch over its processes."),
    ] = False,
    timeout: Annotated[float, typer.Option(help="`--shard-items`: seconds to wait for another process.")] = 600.0,
    force: ForceOption = False,
    resume: Annotated[
        Path | None, typer.Option(help="A run folder to continue with the settings it began with.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the run. Default: `runs`, or SCE_LAB_RUNS.")] = None,
) -> None:
    """Train one model and record the run. Ctrl-C stops cleanly; `--resume` goes on where it stopped.

    `sce-lab train --dataset amazon_beauty --loss sce --dropout 0.5 --epochs 30`

    `torchrun --standalone --nproc-per-node 2 -m sce_lab.cli train --shard-items` (see `docs/distributed.md`)
    """
    options = locals()
    if shard_items:
        from sce_lab.cli.sharding import on_ranks

        with on_ranks(device, timeout, out) as mesh:
            _train(context, options, mesh)
    elif given("timeout", context):
        raise ValueError("--timeout is how long processes wait for each other, so it goes with --shard-items only")
    else:
        _train(context, options)


def _train(context: typer.Context, options: dict[str, Any], mesh: DeviceMesh | None = None) -> None:
    """Train what the options say, here or on the ranks of a mesh."""
    loss, resume = options["loss"], options["resume"]
    if resume is not None:
        config, data, folder = _resumed(resume, context, options)
    else:
        note_dials([loss], context)
        config, folder, data = configuration(loss, options), None, source(options["dataset"], options)
    divided = open_data(data)
    if not options["force"] and mesh is None:
        check_fits(config, divided)
    on = "" if mesh is None else f" Items and batches are spread over {mesh.size()} processes."
    say(sce_lab.training.training_on(config.device) + on)
    if mesh is not None:
        from sce_lab.cli.sharding import common_folder, forget_folder, train_on_ranks

        folder = common_folder(mesh, folder, options["out"], loss)
        with stop_on_interrupt() as stop:
            finished = train_on_ranks(config, divided, data, folder, stop, mesh)
        if mesh.get_local_rank() > 0:
            return
        forget_folder(options["out"])
    else:
        say_expected([config], divided, epochs_done=_epochs_done(folder))
        folder = folder or sce_lab.runs.new_run_folder(options["out"], loss)
        with stop_on_interrupt() as stop:
            finished = train_with_bar(config, divided, data, folder, stop)
    title = f"{divided.name}: {asked(divided, config.seen)}"
    show(sce_lab.for_people(sce_lab.compare_runs([sce_lab.Run(folder)])), title)
    for sentence in apart([sce_lab.Run(folder)]):
        say(sentence)
    say(f"Recorded in {folder}")
    if finished.reason == "stopped":
        say(resume_hint(folder, None if mesh is None else mesh.size()))


def _epochs_done(folder: Path | None) -> int:
    """Whole epochs that are recorded in a folder that is to be continued."""
    history = sce_lab.Run(folder).history if folder is not None else []
    return max(history.loc[history["kind"] == "evaluation", "epoch"], default=0) if len(history) else 0


def _resumed(
    folder: Path, context: typer.Context, options: dict[str, Any]
) -> tuple[TrainingConfig, dict[str, Any], Path]:
    """What was trained and on which data, of a run that is to be continued.

    Raises:
        ValueError: the folder is damaged or none of a run, or an option does not go with ``--resume``.
    """
    run = sce_lab.Run(folder)
    if not run.settings:
        raise ValueError(f"{folder} is no run folder: it has no config.json (see `sce-lab runs`)")
    named = {name for name in options if given(name, context)}
    may_change = {"epochs": "max_epochs", "patience": "patience", "device": "device"}
    if others := sorted(named - set(may_change) - {"resume", "force", "shard_items", "timeout"}):
        words = ", ".join(map(flag, others))
        raise ValueError(
            f"--resume goes on with the settings that the run began with, so leave out {words}; "
            f"--epochs, --patience, --device and --force go with it"
        )
    changes = {field: options[name] for name, field in may_change.items() if name in named}
    config = dataclasses.replace(run.config, **changes)
    sce_lab.training.check_device(config.device)
    return config, run.settings["source"], folder

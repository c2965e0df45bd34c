"""Commands that look and train nothing: ``memory``, ``runs`` and ``data``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import sce_lab
from sce_lab.cli.options import (
    BatchOption,
    BucketsOption,
    DateOption,
    ItemOption,
    LengthOption,
    NegativesOption,
    RepeatsOption,
    SizeXOption,
    SizeYOption,
    TimeOption,
    UserOption,
    columns,
    dialled,
    whole_number,
)
from sce_lab.cli.output import complain, say, show
from sce_lab.cli.running import say_columns

if TYPE_CHECKING:
    from sce_lab.training import TrainingConfig


def memory(
    catalog_size: Annotated[
        int, typer.Argument(help="Number of items; `1e6` will do.", parser=whole_number)
    ] = 1_000_000,
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
    devices: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="Spread items and batch over so many devices: what each of them takes."),
    ] = None,
    machines: Annotated[
        bool, typer.Option("--machines", help="With which machine, and how long a step takes at least (half a minute).")
    ] = False,
) -> None:
    """Predict what a training step would take with each loss, and on which machines it would fit. Allocates nothing.

    Memory is the first wall. Beside it stands the second: the operations of a step, and an estimate of the least time
    they take on this machine.

    Every sequence is taken to be as long as `--max-length`. For SCE the figure is the most it can take.

    `sce-lab memory 10000000 --batch-size 256 --max-length 20`

    `sce-lab memory 1e8 --devices 64` (see `docs/distributed.md`)
    """
    import pandas as pd

    options = {"n_negatives": n_negatives, "n_buckets": n_buckets}
    options |= {"bucket_size_x": bucket_size_x, "bucket_size_y": bucket_size_y}
    uses, configs = {}, []
    for loss in sce_lab.LOSSES:
        config = sce_lab.TrainingConfig(
            loss=loss,
            loss_settings=dialled(loss, options),
            batch_size=batch_size,
            max_length=max_length,
            hidden_size=hidden_size,
            sparse_gradients=sparse and sce_lab.training.takes(loss, "sparse_grad"),
        )
        configs.append(config)
    if devices is not None or machines:
        _on_devices(configs, catalog_size, devices, machines)
        return
    for config in configs:
        uses[config.loss] = sce_lab.predict_memory(config, catalog_size)
    parts = [{k.replace("_", " "): sce_lab.format_bytes(v) for k, v in use.as_dict().items()} for use in uses.values()]
    rows = [{"loss": sce_lab.LOSSES[loss].label} | part for loss, part in zip(uses, parts)]
    show(pd.DataFrame(rows), f"{catalog_size:,} items, one step")
    work = sce_lab.memory.tables.work(configs, catalog_size)
    work["loss"] = [sce_lab.LOSSES[loss].label for loss in work["loss"]]
    work["operations"] = work["operations"].map(sce_lab.memory.format_count)
    work["seconds"] = work["seconds"].map(lambda t: f"≥ {sce_lab.memory.format_seconds(t)}")
    say()
    show(work.rename(columns={"seconds": "time here (estimate)"}))
    devices = pd.DataFrame({"device": [device.name for device in sce_lab.memory.DEVICES.values()]})
    devices["usable"] = [sce_lab.format_bytes(device.usable) for device in sce_lab.memory.DEVICES.values()]
    for loss, use in uses.items():
        left = sce_lab.memory.fits(use)["left"]
        devices[sce_lab.LOSSES[loss].label] = ["fits" if n >= 0 else f"{sce_lab.format_bytes(-n)} short" for n in left]
    say()
    show(devices)
    free = sce_lab.free_memory()
    config = next(config for config in configs if config.loss == "sce")
    sizes = sce_lab.memory.suggest_sce(free, config, catalog_size)
    found = ", ".join(f"{name}={value}" for name, value in sizes.items()) if sizes else "no settings of SCE"
    say(f"\n{sce_lab.format_bytes(free)} is free here; the paper's rule and this memory give {found}.")


def _on_devices(configs: list[TrainingConfig], catalog_size: int, n: int | None, machines: bool) -> None:
    """What each of several devices takes, with the losses that can be spread over them."""
    import pandas as pd

    from sce_lab.distributed.machines import which_machine
    from sce_lab.distributed.predict import predict_rank
    from sce_lab.distributed.traffic import SHARDED

    configs = [config for config in configs if config.loss in SHARDED]
    if n is not None:
        rows = []
        for config in configs:
            use = predict_rank(config, catalog_size, n)
            parts = {k.replace("_", " "): sce_lab.format_bytes(v) for k, v in use.memory.as_dict().items()}
            rows.append({"loss": sce_lab.LOSSES[config.loss].label} | parts | {"sent": sce_lab.format_bytes(use.sent)})
        show(pd.DataFrame(rows), f"{catalog_size:,} items, one step, on each of {n:,} devices")
    if machines:
        chosen = [config for config in configs if config.loss in ("cce", "sampled", "sce")]
        show(which_machine(chosen, catalog_size), f"{catalog_size:,} items: an estimate, from makers' numbers")


def runs(
    folder: Annotated[Path | None, typer.Argument(help="Folder of runs. Default: `runs`, or SCE_LAB_RUNS.")] = None,
) -> None:
    """List recorded runs and compare them in one table, the best NDCG@10 first."""
    found = sce_lab.list_runs(folder)
    if not found:
        say(f"No runs in {folder or sce_lab.runs.runs_root()} yet. `sce-lab compare` makes some.")
        return
    table = sce_lab.compare_runs(found).sort_values("NDCG@10", ascending=False)
    people = sce_lab.for_people(table)
    people.insert(0, "run", table["run"])
    people.insert(1, "data", table["dataset"])
    people["seen items"] = table["seen"]
    people["status"] = table["status"]
    show(people)
    problems = [problem for problem in table["problem"] if problem]
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(1)


def data(
    dataset: Annotated[str | None, typer.Argument(help="A name below, or a path to a file.")] = None,
    user: UserOption = None,
    item: ItemOption = None,
    time: TimeOption = None,
    date_format: DateOption = None,
    drop_repeats: RepeatsOption = False,
) -> None:
    """List the data sets the lab knows, or describe one or a file of yours before anything is trained on it.

    Users, items, the long tail, the span of time, repeats, and for each rule of dividing how many users it tests and
    what popularity alone reaches there. A known data set is downloaded with a checksum if it is not here yet.

    `sce-lab data ratings.csv --item parent_asin`
    """
    import pandas as pd

    options = columns(locals())
    if dataset is None:
        rows = [
            {
                "name": name,
                "data set": d.title,
                "split": d.split.replace("_", " "),
                "where": sce_lab.data.fetching.whereabouts(d),
            }
            for name, d in sce_lab.DATASETS.items()
        ]
        show(pd.DataFrame(rows))
        say("`sce-lab data NAME` describes one; a path to your own file works wherever a name does.")
        return
    say_columns({"source": dataset} | options)
    found = sce_lab.describe(dataset, **options)
    numbers = found.numbers["value"]
    values = [v if isinstance(v, str) else f"{v:,.4g}" if isinstance(v, float) else f"{v:,}" for v in numbers]
    show(pd.DataFrame({"what": numbers.index, dataset: values}))
    say()
    rows = found.splits.drop(columns="problem")
    for name in rows.columns[1:]:
        whole = name in ("training sequences", "validation users", "test users", "items")
        form = "{:,}" if whole else "{:.1%}" if name in ("unseen", "repeats") else "{:.4f}"
        rows[name] = ["" if pd.isna(v) else form.format(v) for v in rows[name]]
    names = {"unseen": "unseen targets", "repeats": "repeating targets"}
    names |= {metric: f"{metric} of popularity" for metric in ("HR@10", "NDCG@10")}
    show(rows.rename(columns=names))
    for name, problem in zip(found.splits["split"], found.splits["problem"]):
        if problem:
            complain(f"{name}: {problem}", "yellow", "note")

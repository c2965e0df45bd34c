"""The options that commands share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sce_lab
from sce_lab.cli.output import complain

if TYPE_CHECKING:
    from sce_lab.training import TrainingConfig


def whole_number(text: str) -> int:
    """A number of items as people write it: ``1000000``, ``1_000_000``, ``1,000,000`` or ``1e6``.

    Raises:
        typer.BadParameter: it is none, or lies outside 1 to 10 ** 10.
    """
    try:
        value = float(str(text).replace(",", "").replace("_", ""))
    except ValueError:
        value = 0.0
    if not (1 <= value <= MOST_ITEMS and value == int(value)):
        raise typer.BadParameter(f"{text!r} is no whole number from 1 to {MOST_ITEMS:,}, such as 1000000 or 1e6")
    return int(value)


#: In a catalog. Far beyond what there is, and near enough for a prediction to answer.
MOST_ITEMS = 10**10

DatasetOption = Annotated[
    str,
    typer.Option("--dataset", help="`synthetic`, a name from `sce-lab data`, or a path to a file."),
]
UserOption = Annotated[
    str | None,
    typer.Option(help="Column of a file that says who; a number from 1 if there is no header. Default: by its name."),
]
ItemOption = Annotated[str | None, typer.Option(help="Column that says what, likewise.")]
TimeOption = Annotated[
    str | None, typer.Option(help="Column that says when, likewise; `''` if the lines stand oldest first.")
]
DateOption = Annotated[str | None, typer.Option(help="How dates in a file are written, as `%d/%m/%Y`.")]
RepeatsOption = Annotated[
    bool, typer.Option("--drop-repeats", help="Of a user's interactions with one item keep the first.")
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        help="`leave_one_out`, `temporal` or `published_temporal`. Default: the data set's own; for a file the first."
    ),
]
CatalogOption = Annotated[
    int | None,
    typer.Option(min=2, max=10**9, help="Number of items of the synthetic data; real data have their own."),
]
EpochsOption = Annotated[int, typer.Option(min=1, help="Passes over the training data at most.")]
PatienceOption = Annotated[
    int, typer.Option(help="Stop after so many evaluations without a better validation NDCG@10.")
]
BatchOption = Annotated[int, typer.Option(help="Users a step. More is steadier and needs more memory.")]
DropoutOption = Annotated[float, typer.Option(help="Dropout probability. Small data want more.")]
LowPassOption = Annotated[float, typer.Option(help="Share of a running mean beside attention, in each block.")]
FollowersOption = Annotated[
    float, typer.Option(help="Weight of counts of what followed what, added to the scores when items are ranked.")
]
LengthOption = Annotated[int, typer.Option(help="Longest history in items.")]
RateOption = Annotated[float, typer.Option(help="Adam's learning rate.")]
AveragingOption = Annotated[
    float, typer.Option(help="Evaluate and keep a moving average of the weights: its share of itself each step.")
]
BucketsOption = Annotated[
    int | None,
    typer.Option(help="SCE, RECE: number of buckets. Default: the paper's rule, 2 * sqrt(positions)."),
]
SizeXOption = Annotated[int | None, typer.Option(help="SCE: positions a bucket takes. Default: as many as buckets.")]
SizeYOption = Annotated[int, typer.Option(help="SCE: items a bucket takes.")]
MixOption = Annotated[bool, typer.Option("--mix/--no-mix", help="SCE: draw bucket centres from the model's outputs.")]
NegativesOption = Annotated[int, typer.Option(help="Sampled softmax, CE-: random items every target competes with.")]
SamplingOption = Annotated[
    str,
    typer.Option(help="Sampled softmax: how to draw; `uniform`, `log_uniform`, `popularity`, `in_batch` or `mixed`."),
]
EncoderOption = Annotated[str, typer.Option(help="`sasrec`, `sasrec_gated` or `sasrec_published`.")]
SizeOption = Annotated[int, typer.Option(help="Width D of the model.")]
BlocksOption = Annotated[int, typer.Option(help="Attention blocks of the model.")]
DataSeedOption = Annotated[
    int | None, typer.Option(help="Decides the synthetic data. Default: as `--seed`, so another seed is another world.")
]
SeedOption = Annotated[int, typer.Option(help="Decides weights, order, dropout, negatives and bucket centres.")]
SeenOption = Annotated[
    str,
    typer.Option(
        help="Items that a user has had: `exclude` (left out; a target that repeats is a miss), `keep` (they compete), "
        "or `new` (left out; only users whose target is new are asked)."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="`auto` (a GPU if one can be used), `cpu`, `cuda`, `cuda:1` or `mps`.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Train even if the prediction says it will not fit.")]
ResultsOption = Annotated[
    Path | None,
    typer.Option(
        "--results",
        "--folder",
        help="Folder of the recipes' records; those of tournaments, races, variants and language models have their own "
        "folders in it. Default: SCE_LAB_RESULTS, or `benchmarks/results/reproduce` of the repository.",
    ),
]
OutOption = Annotated[Path | None, typer.Option(help="Folder for the runs. Default: `runs`, or SCE_LAB_RUNS.")]


def dialled(loss: str, options: dict[str, Any]) -> dict[str, Any]:
    """Those of a command's options that the loss of this name has a dial for."""
    dials = sce_lab.LOSSES[loss].dials if loss in sce_lab.LOSSES else ()
    return {name: options[name] for name in dials if name in options}


def note_dials(losses: Sequence[str], context: typer.Context) -> None:
    """Say which options are of losses that are none of these: they change nothing."""
    known = _options_of(losses)
    if strange := sorted(name for name in _options_of(sce_lab.LOSSES) - known if given(name, context)):
        of = ", ".join(losses)
        has = f"with {of} go {', '.join(map(flag, sorted(known)))}" if known else "it has no such settings"
        complain(f"{', '.join(map(flag, strange))}: changes nothing of {of}; {has}", "yellow", "note")


def _options_of(losses: Iterable[str]) -> set[str]:
    dials = (dial for loss in losses if loss in sce_lab.LOSSES for dial in sce_lab.LOSSES[loss].dials)
    return {"mix" if dial == "mix_x" else dial for dial in dials}


def given(option: str, context: typer.Context) -> bool:
    """Whether a person said it on the command line."""
    return getattr(context.get_parameter_source(option), "name", "") == "COMMANDLINE"


def flag(option: str) -> str:
    """An option as people write it."""
    return "--" + option.replace("_", "-")


def columns(options: dict[str, Any]) -> dict[str, Any]:
    """What a command was told about the columns of a file, as :func:`sce_lab.data.open_interactions` takes it."""
    named = {"user": "user", "item": "item", "time": "timestamp", "date_format": "date_format"}
    named |= {"drop_repeats": "drop_repeats"}
    return {ours: options[name] for name, ours in named.items() if options[name] not in (None, False)}


def source(dataset: str, options: dict[str, Any]) -> dict[str, Any]:
    """On which data, from a command's options, as :func:`sce_lab.data.open_split` takes it.

    Raises:
        ValueError: a seed of synthetic data where there are none.
    """
    if options.get("data_seed") is not None and dataset != "synthetic":
        raise ValueError(f"--data-seed decides the synthetic data, and {dataset} is what it is: leave it out")
    seed = options["seed"] if options.get("data_seed") is None else options["data_seed"]
    rule = {} if options["split"] is None else {"split": options["split"]}
    return {"source": dataset, "catalog_size": options.get("catalog_size"), "seed": seed} | rule | columns(options)


def configuration(loss: str, options: dict[str, Any]) -> TrainingConfig:
    """What to train, from a command's options.

    Raises:
        ValueError: a setting cannot be, or the device is not there.
    """
    same = ("encoder", "hidden_size", "n_blocks", "low_pass", "dropout", "max_length", "batch_size", "learning_rate")
    same += ("averaging", "followers", "patience", "seed", "device", "seen")
    config = sce_lab.TrainingConfig(
        loss=loss,
        loss_settings=dialled(loss, options | {"mix_x": options["mix"]}),
        max_epochs=options["epochs"],
        **{name: options[name] for name in same},
    )
    sce_lab.training.check_device(config.device)
    return config

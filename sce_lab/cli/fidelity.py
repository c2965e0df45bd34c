"""The command ``fidelity``: the referee."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import sce_lab
from sce_lab.cli.options import (
    DatasetOption,
    DateOption,
    ItemOption,
    RepeatsOption,
    SeedOption,
    SplitOption,
    TimeOption,
    UserOption,
    source,
)
from sce_lab.cli.output import check_writable, say, show
from sce_lab.cli.running import open_data

if TYPE_CHECKING:
    import pandas as pd


def fidelity(
    dataset: DatasetOption = "synthetic",
    user: UserOption = None,
    item: ItemOption = None,
    time: TimeOption = None,
    date_format: DateOption = None,
    drop_repeats: RepeatsOption = False,
    split: SplitOption = None,
    losses: Annotated[str, typer.Option(help="Names separated by commas, or `all`.")] = "all",
    train_with: Annotated[str, typer.Option(help="The loss that the model is trained with.")] = "cce",
    epochs: Annotated[
        str, typer.Option(help="After which epochs to look, separated by commas; 0 is before training.")
    ] = "0,5,15",
    positions: Annotated[int, typer.Option(min=2, help="Positions that are looked at, about so many.")] = 512,
    draws: Annotated[int, typer.Option(min=2, help="How often each loss is drawn.")] = 8,
    dropout: Annotated[float, typer.Option(help="Dropout probability of the training.")] = 0.5,
    seed: SeedOption = 0,
    csv: Annotated[Path | None, typer.Option(help="Also write all numbers as a table.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write the figures as a page.")] = None,
    record: Annotated[
        Path | None, typer.Option(help="Also write a record: all numbers, how they came about, and where.")
    ] = None,
) -> None:
    """Compare the gradient of each loss with that of full cross-entropy, on one model at several moments.

    *Error* is the length of the difference, as a part of cross-entropy's gradient: 0 is exact, 1 as far off as no
    gradient at all. It has two parts: what is always wrong (*bias*), and what is chance (*spread*). *Mass* is the share
    of the softmax that the loss looks at, *hardest* that of the ten wrong items with the largest logits. Losses that
    have a budget are there with several.

    `sce-lab fidelity --dataset amazon_beauty --epochs 0,5,15`
    """
    options = locals()
    import numpy as np
    import pandas as pd

    from sce_lab.data.batches import mean_length, training_batches
    from sce_lab.fidelity import fidelity_while_training, ways
    from sce_lab.figures.fidelity import write_page
    from sce_lab.reproduce.refereed import fidelity_record, write_fidelity

    for path, option in ((csv, "--csv"), (html, "--html"), (record, "--record")):
        check_writable(path, option)
    try:
        moments = sorted({int(text) for text in epochs.split(",")})
    except ValueError:
        moments = [-1]
    if moments[0] < 0:
        raise ValueError(f"--epochs takes whole numbers from 0 on, separated by commas, such as 0,5,15, got {epochs!r}")
    names = list(sce_lab.LOSSES) if losses == "all" else [name.strip() for name in losses.split(",")]
    judged = ways(names)
    divided = open_data(source(dataset, options))
    config = sce_lab.TrainingConfig(
        loss=train_with,
        batch_size=128,
        max_length=50,
        dropout=dropout,
        max_epochs=max(*moments, 1),
        patience=max(*moments, 1),
        seed=seed,
    )
    trainer = sce_lab.Trainer(config, divided, when_to_test="never")
    users = max(2, round(positions / mean_length(divided.train, config.max_length)))
    batch = next(training_batches(divided.train, users, config.max_length, np.random.default_rng(seed)))
    tables = []
    for table in fidelity_while_training(trainer, judged, batch, epochs=moments, draws=draws):
        tables.append(table)
        heading = (
            f"{divided.name}, {divided.catalog_size:,} items, after {table['epoch'].iloc[0]} epochs of {train_with}"
        )
        show(_for_people(table), f"{heading}: the item table's gradient, {batch.n_positions} positions")
        say()
    everything = pd.concat(tables, ignore_index=True)
    if csv is not None:
        sce_lab.files.write_text(csv, everything.to_csv(index=False))
        say(f"Numbers in {csv}")
    if html is not None:
        write_page(html, divided.name, tables)
        say(f"Figures in {html}")
    if record is not None:
        made = {"n_positions": batch.n_positions, "draws": draws, "repeat": _repeat(options)}
        write_fidelity(record, fidelity_record(tables, config, divided, **made))
        say(f"Recorded in {record}")


def _repeat(options: dict[str, Any]) -> str:
    """The command that finds the same numbers: all that was asked for, but not where to write it."""
    words = ["sce-lab", "fidelity"]
    for name, value in options.items():
        if name not in ("csv", "html", "record") and value is not None and value is not False:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words)


def _for_people(table: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    rows = table[table["of"] == "items"]
    numbers = {
        name: [f"{value:.3f} ± {(high - value):.3f}" for value, high in zip(rows[column], rows[f"{column} high"])]
        for name, column in {"error": "error", "cosine": "cosine", "length": "length"}.items()
    }
    numbers |= {name: [f"{value:.3f}" for value in rows[name]] for name in ("bias", "spread")}
    shares = {"mass": "captured mass", "hardest": "hardest seen", "coverage": "coverage"}
    numbers |= {name: [f"{value:.1%}" for value in rows[column]] for name, column in shares.items()}
    numbers["holds"] = [sce_lab.format_bytes(value) for value in rows["workspace"]]
    numbers["ms"] = [f"{1000 * value:.1f}" for value in rows["seconds"]]
    return pd.DataFrame({"loss": rows["loss"], **numbers})

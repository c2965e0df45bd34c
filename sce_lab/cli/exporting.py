"""The command that takes a model home."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from sce_lab.cli.output import say


def export(
    run: Annotated[Path, typer.Argument(help="A run folder; see `sce-lab runs`.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
) -> None:
    """Write a run's best model into a folder that needs nothing of this lab.

    safetensors, the labels of the items, the configuration, the encoder as a program of `torch.export`, and
    `recommend.py`, a script that needs torch and safetensors only.

    `sce-lab export runs/20250101-120000-sce-1a2b my_model`
    """
    from sce_lab.recommending import export as write

    recommender = write(run, folder)
    epoch, example = recommender.about["epoch"], recommender.item_labels[0]
    say(f"{len(recommender):,} items, the weights of epoch {epoch}, in {folder}")
    say(f"Try it: {shlex.join(['python', str(folder / 'recommend.py'), str(example)])}")

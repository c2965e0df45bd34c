"""A model in a folder that needs nothing of this lab."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from sce_lab import __version__
from sce_lab.data.labels import write_labels
from sce_lab.files import new_folder
from sce_lab.followers import FILE
from sce_lab.losses import LOSSES
from sce_lab.recommending.program import encoder_program, save_program
from sce_lab.recommending.reading import ABOUT, LABELS, WEIGHTS
from sce_lab.recommending.recommender import Recommender
from sce_lab.runs import Run

_README = """\
# {loss} on {dataset}

A SASRec that recommends {count:,} items, of epoch {epoch}{quality}.

    python recommend.py ITEM ITEM ...        # ten items after this history; needs torch and safetensors only

- `model.safetensors`: item table `item_embedding` (items, {width}) and encoder.
- `items.json`: the item of each row of the table, in order.
- `config.json`: what was trained, on what, and what it reached.
- `encoder.pt2`: the encoder as a program of `torch.export`, written by torch {torch}: rows of the table of a history,
  at most {longest}, oldest first, to one vector ({width},). Its inner product with a row is that item's score{plus}.
{followers}
With sce-lab: `sce_lab.Recommender.load(FOLDER).recommend(history, k)`, for any catalog in bounded memory.
"""

_FOLLOWERS = """\
- `followers.safetensors`: how often each item came soon after each other one, in rows: those of row j are `items` and
  `counts` from `offsets[j]` to `offsets[j + 1]`. `recommend.py` shows how they are added.
"""


def export(source: Recommender | Run | str | os.PathLike[str], folder: str | os.PathLike[str]) -> Recommender:
    """Write a model into a new folder: safetensors, labels, configuration, a program, a script and a page about them.

    Nothing in it is pickled, nothing is written unless all is, and ``recommend.py`` in it needs torch and safetensors
    only.

    Args:
        source: a recommender, or a run (see :meth:`Recommender.from_run`).
        folder: a new or empty one.

    Returns:
        What was written.

    Raises:
        ValueError: the run has no model to write, or the folder is not empty or cannot be there.
        OSError: it could not be written; then there is no such folder.
    """
    recommender = source if isinstance(source, Recommender) else Recommender.from_run(source)
    with new_folder(folder) as partial:
        weights = {name: tensor.contiguous() for name, tensor in recommender.model.state_dict().items()}
        try:
            save_file(weights, partial / WEIGHTS, {"format": "pt"})
        except SafetensorError as error:  # what it says of a full disk
            raise OSError(str(error)) from error
        if recommender.model.followers is not None:
            recommender.model.followers.save(partial / FILE)
        write_labels(partial / LABELS, recommender.item_labels, always_list=True)
        about = recommender.about | {"config": dataclasses.asdict(recommender.config)}
        about |= {"versions": {"sce-lab": __version__, "torch": torch.__version__}}
        about = {"dataset": "", "epoch": 0} | about
        (partial / ABOUT).write_text(json.dumps(about, indent=2), encoding="utf-8")
        save_program(encoder_program(recommender.config, recommender.model), partial / "encoder.pt2")
        shutil.copy(Path(__file__).with_name("recommend.py"), partial)
        (partial / "README.md").write_text(_readme(recommender, about), encoding="utf-8")
    return recommender


def _readme(recommender: Recommender, about: dict) -> str:
    scores = about.get("test") or about.get("validation") or {}
    known = ", ".join(f"{name} {scores[name]:.4f}" for name in ("HR@10", "NDCG@10") if name in scores)
    quality = f": {known} on {'test' if about.get('test') else 'validation'} users" if known else ""
    config = recommender.config
    return _README.format(
        loss=LOSSES[config.loss].label,
        dataset=about["dataset"] or "own data",
        count=len(recommender),
        epoch=about["epoch"],
        quality=quality,
        width=config.hidden_size,
        plus=", but for what the counts add" if config.followers else "",
        followers=_FOLLOWERS if config.followers else "",
        longest=config.max_length,
        torch=torch.__version__,
    )

"""What a recommender is made of, read from the folder of a run or of an exported model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sce_lab.data import open_split
from sce_lab.data.labels import read_labels
from sce_lab.followers import FILE, Followers
from sce_lab.runs import Run
from sce_lab.training import TrainingConfig
from sce_lab.training.checkpoint import Checkpoint

#: Names of the files of an exported folder.
WEIGHTS, LABELS, ABOUT = "model.safetensors", "items.json", "config.json"


class Parts(NamedTuple):
    """The arguments of :class:`.Recommender`, in its order."""

    config: TrainingConfig
    weights: Mapping[str, Tensor]
    item_labels: np.ndarray
    about: dict[str, Any]
    followers: Followers | None


def read_run(run: Run) -> Parts:
    """The model of a run's best epoch so far.

    Raises:
        ValueError: as :meth:`.Recommender.from_run`.
    """
    settings = run.settings
    if not settings:
        raise ValueError(f"{run.folder} is no run folder: it has no config.json (see `sce-lab runs`)")
    if not run.checkpoint.exists():
        raise ValueError(_no_weights(run))
    saved = Checkpoint.read(run.checkpoint, "cpu", "best.")
    if not saved.counters.get("best_epoch"):
        raise ValueError(f"{run.folder} has not been evaluated yet: its weights are those it began with")
    fingerprint = settings.get("fingerprint", "")
    if saved.data and fingerprint and saved.data != fingerprint:
        raise ValueError(
            f"{run.folder} is damaged: its checkpoint was trained on other data (fingerprint {saved.data}) than "
            f"its config.json says ({fingerprint})"
        )
    weights = {name.removeprefix("best."): tensor for name, tensor in saved.tensors.items()}
    about = {
        "dataset": settings["dataset"],
        "fingerprint": fingerprint,
        "epoch": saved.counters["best_epoch"],
        "validation": saved.counters.get("best_metrics") or {},
        "test": run.summary.get("test") or {},
    }
    labels = _labels_of(run, settings)
    return Parts(saved.config, weights, labels, about, _followers_in(run.folder, saved.config, labels, "train again"))


def read_folder(folder: Path) -> Parts:
    """What was exported.

    Raises:
        ValueError: as :meth:`.Recommender.load`.
    """
    about = _read_about(folder)
    config = TrainingConfig.read(about.pop("config"), f"the configuration in {folder / ABOUT}")
    path = folder / WEIGHTS
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is missing or damaged ({error}): export the run again") from error
    try:
        labels = read_labels(folder / LABELS, len(weights.get("item_embedding", ())))
    except FileNotFoundError:
        raise ValueError(f"{folder / LABELS} is missing: export the run again") from None
    return Parts(config, weights, labels, about, _followers_in(folder, config, labels, "export the run again"))


def _no_weights(run: Run) -> str:
    """Why a run has no checkpoint that could be read here, and what to do."""
    if (run.folder / "checkpoint").is_dir():  # see sce_lab.distributed.trainer
        return (
            f"{run.folder} was trained with --shard-items, and its checkpoint is in parts, which cannot be exported; "
            f"train again without it, with `sce-lab train`"
        )
    if not run.settings.get("checkpoint", True):
        reason = "it was recorded without checkpoints"
    elif run.summary:
        reason = "it has ended and they were not kept"
    else:
        return (
            f"{run.folder} has no weights: it has not come to its first evaluation; go on with it, "
            f"with `sce-lab train --resume`"
        )
    return f"{run.folder} has no weights: {reason}; train again, with `sce-lab train`"


def _labels_of(run: Run, settings: Mapping[str, Any]) -> np.ndarray:
    labels = run.item_labels
    if labels is not None:
        return labels
    unlabelled = f"{run.folder} does not know which items its rows are (it is of an earlier version), and its data"
    if not settings.get("fingerprint"):
        raise ValueError(f"{unlabelled} are not known for certain: train again")
    try:
        split, _ = open_split(**settings["source"], progress=False)
    except (ValueError, OSError, TypeError) as error:
        raise ValueError(f"{unlabelled} cannot be opened ({error}): put them back, or train again") from error
    if split.fingerprint != settings["fingerprint"]:
        raise ValueError(f"{unlabelled} are others by now: put back the file as it was, or train again")
    return split.item_labels


def _followers_in(folder: Path, config: TrainingConfig, labels: np.ndarray, advice: str) -> Followers | None:
    """The counts in the folder of a run or of an exported model, if there is a weight for them."""
    try:
        return Followers.load(folder / FILE, len(labels)) if config.followers else None
    except ValueError as error:
        raise ValueError(f"{error}: {advice}") from error


def _read_about(folder: Path) -> dict[str, Any]:
    path = folder / ABOUT
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ValueError(f"{folder} is no exported model: it has no {ABOUT} (`sce-lab export RUN FOLDER`)") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): export the run again") from error
    if not (isinstance(about, dict) and "config" in about and "epoch" in about):
        raise ValueError(f"{path} is not of an exported model (`sce-lab export RUN FOLDER` makes one)")
    return about

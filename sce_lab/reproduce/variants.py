"""SCE's options beside the paper's SCE: what each changes in quality, gradient, softmax, memory and time.

All are trained alike: the same encoder, batches, first weights and epochs. Then they are asked about one model, that of
the paper's SCE: how far is their gradient from cross-entropy's, and how far their softmax's sum from the catalog's. The
test is never looked at.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sce_lab.data import Split
from sce_lab.data.batches import history_batches, mean_length, training_batches
from sce_lab.fidelity import gradient_fidelity, log_sum_bias
from sce_lab.files import write_text
from sce_lab.losses import make_loss
from sce_lab.metrics import calibration_error
from sce_lab.model import SASRec
from sce_lab.reproduce.recipes import Recipe
from sce_lab.reproduce.records import TrainRun, best_model, read_record, reproduce, run_folder
from sce_lab.runs import Run
from sce_lab.training import TrainingConfig

PLAIN = "sce"
SIZES = {"n_buckets": 100, "bucket_size_x": 100, "bucket_size_y": 100, "mix_x": False}  # the quick recipe's
_DRAWN = {"n_negatives": 256}

OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    PLAIN: ("as in the paper", {}),
    "sce-mix": ("centres mixed from the outputs (the paper's Mix)", {"mix_x": True}),
    "sce-kmeans": ("two steps of k-means for the centres", {"kmeans_steps": 2}),
    "sce-near": ("items near the bucket's positions", {"items_near": "positions"}),
    "sce-logsumexp": ("all of a position's buckets, items as often as they come", {"combine": "logsumexp"}),
    "sce-union": ("all of a position's buckets, each item once", {"combine": "union"}),
    "sce-negatives": ("256 shared negatives for positions in no bucket", _DRAWN),
    "sce-union-all": (
        "union, and 256 shared negatives that stand for the rest",
        {"combine": "union", "negatives_for": "all", **_DRAWN},
    ),
}
"""By name: in words, and the settings besides :data:`SIZES`."""

CONFIG = TrainingConfig(
    loss="sce", batch_size=256, dropout=0.6, max_length=50, averaging=0.995, learning_rate=3e-3,
    max_epochs=10, patience=10, evaluate_every=2,
)  # fmt: skip
POSITIONS, DRAWS = 600, 8  # of the batch that is asked about, and how often each loss is drawn there


def recipes(dataset: str, config: TrainingConfig = CONFIG) -> dict[str, Recipe]:
    """What is trained: exact cross-entropy, and SCE with each of :data:`OPTIONS`."""
    shared = {**asdict(config), "loss_settings": {}}
    found = {"cce": Recipe(dataset, "cce", TrainingConfig(**shared | {"loss": "cce"}), "exact cross-entropy")}
    for name, (words, settings) in OPTIONS.items():
        config = TrainingConfig(**shared | {"loss_settings": SIZES | settings})
        found[name] = Recipe(dataset, name, config, words)
    return found


def measure_variants(
    dataset: str,
    split: Split,
    train_run: TrainRun,
    *,
    seeds: int,
    repeat: str,
    runs: Path,
    path: Path,
    config: TrainingConfig = CONFIG,
) -> Iterator[dict[str, Any]]:
    """Train every variant with ``seeds`` seeds, ask it, and yield its row; with the last, the record is in ``path``.

    What is trained is not trained again, and what was interrupted goes on: until the last row is there, an earlier
    record stays as it is.

    Raises:
        ValueError: the record has more seeds.
    """
    recorded = len(read_record(path)["rows"][0]["by seed"]) if path.exists() else 0
    if recorded > seeds:
        raise ValueError(
            f"{path} has {recorded} seeds, and {seeds} would take their place: ask for {recorded} or more, or choose "
            f"another folder with --results"
        )
    rows: dict[str, dict[str, Any]] = {}
    for name, recipe in recipes(dataset, config).items():
        kept = {"runs": runs, "results": runs / "records"}
        found = list(reproduce(recipe, split, range(seeds), train_run, repeat=repeat, **kept))
        if len(found) < seeds:  # stopped by a person
            return
        record = found[-1]
        rows[name] = {"name": name, "words": recipe.note, "settings": recipe.config.loss_settings, **_trained(record)}
        models = [_trained_model(recipe, seed, split, runs) for seed in range(seeds)]
        rows[name] |= statistics_of([calibration_of(model, split) for model in models], "calibration error")
        if PLAIN in rows:
            _ask(rows, recipes(dataset, config), split, runs)
        yield rows[name]
    made = {"dataset": dataset, "repeat": repeat, "config": asdict(config), "fingerprint": split.fingerprint}
    made |= {"environment": record["environment"], "draws": DRAWS, "rows": list(rows.values())}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(made, indent=1) + "\n")


def _trained_model(recipe: Recipe, seed: int, split: Split, runs: Path) -> SASRec:
    """The best of a training, on the CPU, where it is asked whatever it was trained on."""
    return best_model(Run(run_folder(recipe, seed, runs)), split).cpu()


def _trained(record: dict[str, Any]) -> dict[str, Any]:
    """Of a record of :func:`reproduce`, what the table of variants shows."""
    seeds = record["seeds"]
    reached = [seed["validation"]["NDCG@10"] for seed in seeds]
    epochs = [seed["cpu_seconds"] / seed["epoch"] for seed in seeds]
    workspace = max((seed["memory"] or {}).get("loss_workspace", 0) for seed in seeds)
    return {
        **statistics_of(reached, "validation NDCG@10"),
        "by seed": reached,
        **statistics_of(epochs, "CPU seconds an epoch"),
        "workspace": workspace,
    }


def statistics_of(values: list[float], name: str) -> dict[str, float | None]:
    """The mean of some values and their standard deviation, under this name; of no values None, which JSON has."""
    if not values:
        return {name: None, f"{name} sd": None}
    return {name: statistics.fmean(values), f"{name} sd": statistics.stdev(values) if len(values) > 1 else 0.0}


def _ask(rows: dict[str, dict[str, Any]], known: dict[str, Recipe], split: Split, runs: Path) -> None:
    """Add to the rows that lack it what their losses make of the plain SCE's model."""
    left = [name for name, row in rows.items() if "error" not in row]
    config = known[PLAIN].config
    model = _trained_model(known[PLAIN], 0, split, runs)
    users = max(2, round(POSITIONS / mean_length(split.train, config.max_length)))
    batch = next(training_batches(split.train, users, config.max_length, np.random.default_rng(0)))
    losses = {name: make_loss(known[name].config.loss, **known[name].config.loss_settings) for name in left}
    table = gradient_fidelity(losses, model, batch, draws=DRAWS)
    for row in table[table["of"] == "items"].to_dict("records"):
        kept = ("error", "cosine", "direction", "length", "bias", "spread", "captured mass", "hardest seen", "coverage")
        rows[row["loss"]] |= {measure: row[measure] for measure in kept}
    for name, loss in losses.items():
        rows[name] |= statistics_of(log_sum_bias(loss, model, batch, DRAWS), "log sum bias")


@torch.no_grad()
def calibration_of(model: SASRec, split: Split) -> float:
    """Expected calibration error of the model's softmax over the catalog, at the most likely item, on validation."""
    confidence, hit = [], []
    for packed, users in history_batches(split.validation.histories, len(model.position_embedding), 1024):
        mass = (model.eval()(packed)[packed.last] @ model.item_embedding.T).softmax(dim=1)
        best = mass.max(dim=1)
        confidence.append(best.values.numpy())
        hit.append(best.indices.numpy() == split.validation.targets[users])
    return calibration_error(np.concatenate(confidence), np.concatenate(hit))

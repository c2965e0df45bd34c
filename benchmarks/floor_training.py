"""How far a whole training step is from what the machine allows.

    python benchmarks/floor_training.py                      # the last entry of the race on Amazon Beauty, on this CPU
    python benchmarks/floor_training.py --entry 'running mean' --steps 200

As ``floor.py`` does it for the loss: operations and bytes that each phase cannot do without, every input read once,
every result written once, divided by what the machine does in a second. What is kept for backward, and random numbers,
are not in the floor. Results go to ``benchmarks/results/floor-training-<device>.json``.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from floor import FLOAT, INDEX, Ceilings, Needs, needs, phases
from peers import Problem
from plain import RESULTS, environment, show, write

from sce_lab.data import Batch, open_split, training_batches
from sce_lab.reproduce.races import find_race
from sce_lab.training import StepDone, Trainer, TrainingConfig


def needed(trainer: Trainer, batch: Batch) -> dict[str, Needs]:
    """What each phase of a step on this batch cannot do without."""
    model, config, n = trainer.model, trainer.config, batch.n_positions
    dim, table = config.hidden_size, model.item_embedding
    pairs = sum(count * length * (length + 1) // 2 for count, length in batch.inputs.runs)
    each_block = 12 * n * dim**2 + 4 * dim * pairs + (2 * n * dim if config.low_pass else 0)
    operations = config.n_blocks * each_block
    rows, of_encoder = FLOAT * n * dim, FLOAT * (trainer.n_parameters - table.numel())
    with torch.no_grad():
        outputs = model(batch.inputs)
    sizes = config.loss_settings["n_buckets"], config.loss_settings["bucket_size_y"]
    problem = Problem(outputs.requires_grad_(), table, batch.targets, *sizes)
    _, items, winning_slot = phases(problem, "torch", config.sparse_gradients, rounds=1)
    loss = needs(problem, items, winning_slot, config.sparse_gradients)
    gradients = loss.pop("gradients")
    state = FLOAT * trainer.n_parameters
    return {
        "forward": Needs(operations, 2 * rows + of_encoder + 2 * INDEX * n),  # rows of the table in, outputs out
        "loss_forward": Needs(sum(p.operations for p in loss.values()), sum(p.bytes for p in loss.values())),
        "loss_backward": gradients,
        # gradients of outputs and the inputs in; those of weights, and of the table's rows on top of what is there, out
        "backward": Needs(2 * operations, 4 * rows + 2 * of_encoder + INDEX * n),
        # weights, gradients and two moments in, all but the gradients out
        "optimizer": Needs(0, 7 * state),
        "average": Needs(0, 3 * state if config.averaging else 0),
    }


def measured(config: TrainingConfig, n_steps: int, warm_up: int = 20) -> tuple[dict[str, float], Trainer]:
    """Median seconds of each phase, the average of the weights as the rest of a step, and the trainer after them."""
    endless = dataclasses.replace(config, max_epochs=10**6, evaluate_every=10**6)
    trainer = Trainer(endless, open_split("amazon_beauty", progress=False)[0], when_to_test="never")
    taken: list[dict[str, float]] = []
    clock = 0.0
    for event in trainer.events():
        if isinstance(event, StepDone):
            taken.append(event.seconds | {"average": trainer.seconds - clock - sum(event.seconds.values())})
        clock = trainer.seconds
        if len(taken) == n_steps + warm_up:
            break
    return {name: statistics.median(step[name] for step in taken[warm_up:]) for name in taken[0]}, trainer


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entry", help="of the race on Amazon Beauty; default: the last")
    parser.add_argument("--steps", type=int, default=150, help="timed; the median counts")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/floor-training-cpu.json")
    args = parser.parse_args()
    entry = find_race("amazon_beauty").entry(args.entry)
    ceilings = Ceilings.measured("cpu")
    seconds, trainer = measured(entry.config, args.steps)
    sizes = trainer.config.batch_size, trainer.config.max_length
    batch = next(training_batches(trainer.split.train, *sizes, np.random.default_rng(0))).to("cpu")
    rows: list[dict[str, Any]] = []
    for phase, need in needed(trainer, batch).items():
        floor = need.floor(ceilings.float32, ceilings.bandwidth)
        rows.append({"phase": phase, **dataclasses.asdict(need), "seconds": seconds[phase], "floor": floor})
    sums = {name: sum(row[name] for row in rows) for name in ("operations", "bytes", "seconds", "floor")}
    rows.append({"phase": "all", **sums})
    show(
        f"{entry.name}: {batch.n_positions:,} positions, {len(trainer.model.item_embedding):,} items",
        ("phase", "Gop", "MiB", "measured ms", "floor ms", "times the floor"),
        [
            [row["phase"], *(f"{v:,.2f}" for v in (
                row["operations"] / 1e9, row["bytes"] / 2**20, 1e3 * row["seconds"], 1e3 * row["floor"]
            )), f"{row['seconds'] / row['floor']:.1f}"]
            for row in rows
        ],
    )  # fmt: skip
    result = {"environment": environment(), "ceilings": vars(ceilings), "entry": entry.name, "phases": rows}
    write(args.out or RESULTS / "floor-training-cpu.json", result)


if __name__ == "__main__":
    main()

"""Where the time of a training step goes, what it asks of a GPU, and how long some epochs take.

    python benchmarks/training.py                     # the strongest device here; Amazon Beauty, the paper's settings
    python benchmarks/training.py --device cpu --quick --synthetic
    python benchmarks/training.py --epochs 100 --seconds 600

*Outside* is what the wall clock says beyond the phases: batches, events, the average of the weights. On CUDA phases are
the device's own time, launches, waits and *GPU busy* are what ``torch.profiler`` has seen; elsewhere launches are those
that the same step would have on CUDA, counted by operations, the loss apart. Where Amazon Beauty is not to be had, a
synthetic world of its size stands for it. Results go to ``benchmarks/results/training-<device>.json``, with hardware,
versions and the command.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from sce_lab.data import Split, open_split
from sce_lab.data.batches import n_batches, training_batches
from sce_lab.reproduce import find_recipe
from sce_lab.runs import environment, write_text
from sce_lab.training import (
    Evaluated,
    Event,
    Finished,
    StepDone,
    Trainer,
    TrainingConfig,
    make_model,
    make_optimizer,
    make_training_loss,
    training_on,
    training_step,
)
from sce_lab.training.launches import FusedAttention, Launches

RESULTS = Path(__file__).parent / "results"
console = Console(width=120)


def data(synthetic: bool) -> Split:
    """Amazon Beauty if it is here, or a synthetic world of its size."""
    if not synthetic:
        try:
            return open_split("amazon_beauty", progress=False)[0]
        except (OSError, ValueError) as error:
            console.print(f"Amazon Beauty is not here ({str(error).splitlines()[0]}): a synthetic world stands for it")
    return open_split("synthetic", catalog_size=12_101, progress=False)[0]


def wait(device: str) -> None:
    """Until the device has done what it was asked for."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def some_steps(events: Iterator[Event], n: int) -> list[StepDone]:
    """The next ``n`` steps, evaluations between them passed over."""
    done: list[StepDone] = []
    while len(done) < n:
        event = next(events)
        if isinstance(event, StepDone):
            done.append(event)
    return done


def step_times(config: TrainingConfig, split: Split, n: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of a step after warm-up: by phase (medians), outside of them, and by the wall clock."""
    endless = dataclasses.replace(config, max_epochs=10**6, evaluate_every=10**6, patience=10**6)
    events = Trainer(endless, split, when_to_test="never").events()
    some_steps(events, 3)
    wait(config.device)
    start, steps = time.perf_counter(), []
    while len(steps) < n and time.perf_counter() - start < seconds:
        steps += some_steps(events, min(10, n))
    wait(config.device)
    n = len(steps)
    wall = 1e3 * (time.perf_counter() - start) / n
    phases = {name: 1e3 * statistics.median(step.seconds[name] for step in steps) for name in steps[0].seconds}
    found = {"steps": n, "positions": statistics.fmean(step.n_positions for step in steps), "wall": wall}
    found |= {"phases": phases, "outside": wall - 1e3 * statistics.fmean(sum(step.seconds.values()) for step in steps)}
    if torch.device(config.device).type == "cuda":
        found["profile"] = attempted(lambda: profile(events, config.device))
    return found


def profile(events: Iterator[Event], device: str, n: int = 10) -> dict[str, float]:
    """Launches, waits and milliseconds that the GPU is busy, a step."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as seen:
        some_steps(events, n)
        wait(device)
    counts: dict[str, float] = {"launches": 0, "waits": -1 / n, "GPU busy": 0.0}  # the last wait is ours
    for entry in seen.key_averages():
        if entry.key.startswith(("cudaLaunchKernel", "cuLaunchKernel", "cudaMemcpyAsync", "cudaMemsetAsync")):
            counts["launches"] += entry.count / n
        if "Synchronize" in entry.key and entry.key.startswith("cuda"):
            counts["waits"] += entry.count / n
        if entry.device_type == torch.autograd.DeviceType.CUDA:
            counts["GPU busy"] += entry.self_device_time_total / 1e3 / n
    return counts


def counted_launches(config: TrainingConfig, split: Split) -> dict[str, Any]:
    """Launches of a step on a padded layout, by phase, counted by operations on a CPU; the loss is this machine's."""
    config = dataclasses.replace(config, device="cpu")
    model = make_model(config, split.catalog_size).train()
    loss, optimizer = make_training_loss(config, torch.from_numpy(split.item_counts)), make_optimizer(config, model)
    batches = training_batches(split.train, config.batch_size, config.max_length, np.random.default_rng(0))
    batch = next(batches)
    batch = dataclasses.replace(batch, inputs=batch.inputs.padded(config.max_length))
    mode, waits, phases = Launches(), {}, {}

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        before, waited = mode.total, mode.waits.total()
        yield
        phases[name], waits[name] = mode.total - before, mode.waits.total() - waited

    for _ in range(2):  # the first makes the optimizer's state
        with FusedAttention(), mode:
            training_step(model, loss, optimizer, batch, phase)
    of_loss = {name: phases.pop(name) for name in ("loss_forward", "loss_backward")}
    waits = sum(n for name, n in waits.items() if not name.startswith("loss"))
    return {"phases": phases, "all but the loss": sum(phases.values()), "waits of all but the loss": waits} | {
        "the loss, by the backend of a CPU": sum(of_loss.values())
    }


def epochs(config: TrainingConfig, split: Split, n: int, at_most: float) -> dict[str, Any]:
    """Seconds of so many epochs, each evaluated; fewer if they take longer than ``at_most`` seconds."""
    start, best = time.perf_counter(), 0.0
    evaluating = 0.0
    config = dataclasses.replace(config, max_epochs=n, patience=10**6)
    over = lambda: time.perf_counter() - start > at_most  # noqa: E731
    for event in Trainer(config, split, when_to_test="never", stop=over).events():
        if isinstance(event, Evaluated):
            evaluating += event.seconds
            best = max(best, event.metrics["NDCG@10"])
        if isinstance(event, Finished):
            seconds = time.perf_counter() - start
    done = event.step / n_batches(split.train, config.batch_size)
    return {"epochs": done, "seconds": seconds, "of them evaluating": evaluating, "best NDCG@10 on validation": best}


def attempted(what: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What comes out, or why nothing did: one part that fails leaves the others."""
    try:
        return what()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Measure and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--loss", default="sce", help="a recipe of Amazon Beauty")
    parser.add_argument("--epochs", type=int, help="how many to time; default: 100, quick 1")
    parser.add_argument("--quick", action="store_true", help="few steps, one epoch")
    parser.add_argument("--synthetic", action="store_true", help="not Amazon Beauty, even if it is here")
    parser.add_argument("--seconds", type=float, default=40.0, help="for both together, about")
    parser.add_argument("--out", type=Path, help="file for the result; default: in benchmarks/results")
    arguments = parser.parse_args()
    config = dataclasses.replace(find_recipe("amazon_beauty", arguments.loss).config, device=arguments.device)
    split = data(arguments.synthetic)
    console.print(training_on(config.device), f"{len(split.train):,} users, {split.catalog_size:,} items")
    path = arguments.out or RESULTS / f"training-{torch.device(config.device).type}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    n, end = 10 if arguments.quick else 100, time.perf_counter() + arguments.seconds
    n_epochs = arguments.epochs or (1 if arguments.quick else 100)
    parts = {
        "launches on CUDA, counted by operations": lambda: counted_launches(config, split),
        "milliseconds": lambda: step_times(config, split, n, arguments.seconds / 3),
        "training": lambda: epochs(config, split, n_epochs, end - time.perf_counter()),
    }
    found = {"environment": environment(), "data": split.name, "config": dataclasses.asdict(config)}
    for name, part in parts.items():
        found[name] = attempted(part)
        console.print({name: found[name]})
        write_text(path, json.dumps(found, indent=2))  # whoever runs out of time keeps what there is
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()

"""A run under a progress bar, which Ctrl-C ends after a step."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from sce_lab.cli.output import console
from sce_lab.data import Split
from sce_lab.losses import LOSSES
from sce_lab.memory import explaining_out_of_memory, measuring, typical_length
from sce_lab.runs import Run, record
from sce_lab.training import Evaluated, Finished, Started, StepDone, Trainer, TrainingConfig


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into an answer to "stop?"; the second one interrupts as usual."""
    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, previous)
        console.print("[yellow]Stopping after this step; what was trained is kept. Ctrl-C again to leave at once.")

    previous = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, previous)


def train_with_bar(
    config: TrainingConfig,
    split: Split,
    source: dict[str, Any],
    folder: Path,
    stop: Callable[[], bool],
    page: Path | None = None,
) -> Finished:
    """Train to the end under a progress bar, recorded in ``folder``; returns the last event.

    ``page``, if given, is written after every evaluation: the run's figures, in a page that loads itself again.
    """
    trainer = Trainer(config, split, step=measuring(), stop=stop, test_when_stopped=True)
    every = 0.2 if sys.stderr.isatty() else 10.0  # seconds between two updates; a log file wants fewer
    label = LOSSES[config.loss].label
    bar = tqdm(unit="step", desc=label, dynamic_ncols=True, smoothing=0.05, mininterval=every)
    with bar, explaining_out_of_memory(config, split.catalog_size, typical_length(config, split)):
        shown: dict[str, str] = {}
        for event in record(trainer, folder, source):
            match event:
                case Started():
                    bar.reset(event.n_steps_per_epoch * config.max_epochs)
                    bar.update(trainer.step)
                case StepDone():
                    shown["loss"] = f"{event.loss:.3f}"
                    bar.update()
                case Evaluated():
                    shown |= {"epoch": str(event.epoch), "val NDCG@10": f"{event.metrics['NDCG@10']:.4f}"}
                    if page is not None:
                        from sce_lab.figures import write_live_page

                        write_live_page(page, Run(folder))
                case Finished():
                    return event
            bar.set_postfix(shown, refresh=False)
    raise AssertionError("a run ends with Finished")


def resume_hint(folder: Path) -> str:
    """How to go on with a stopped run."""
    return f"Continue it with: sce-lab train --resume {folder}"

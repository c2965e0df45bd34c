"""A run under a progress bar, which Ctrl-C ends after a step."""

from __future__ import annotations

import inspect
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import sce_lab
from sce_lab.cli.output import complain, say

if TYPE_CHECKING:
    from sce_lab.data import Split
    from sce_lab.training import Finished, Trainer, TrainingConfig


def open_data(source: dict[str, Any]) -> Split:
    """The split that ``source`` describes; says so if few users are tested.

    Raises:
        ValueError: it describes none.
    """
    try:
        inspect.signature(sce_lab.data.open_split).bind(**source)
    except TypeError as error:
        raise ValueError(f"{source} does not say which data ({error})") from error
    say_columns(source)
    split, _ = sce_lab.data.open_split(**source)
    if split.few_test_users:
        complain(split.few_test_users, "yellow", "note")
    return split


def say_columns(source: dict[str, Any]) -> None:
    """Say which columns of a file are taken for what, if nobody has said so; then it is read.

    Raises:
        ValueError, FileNotFoundError: see :func:`sce_lab.data.columns_of`.
    """
    name = str(source["source"])
    known = name in sce_lab.DATASETS or name == sce_lab.data.SYNTHETIC
    if known or not Path(name).expanduser().exists():  # what is not there is somebody else's to say
        return
    chosen, _ = sce_lab.columns_of(name, **{key: source.get(key) for key in ("user", "item", "timestamp")})
    if chosen.guessed:
        say(f"{Path(name).name}: {chosen.sentence}")


def check_fits(config: TrainingConfig, split: Split) -> None:
    """Refuse what would not fit into memory: see :func:`sce_lab.memory.check_fits`."""
    length = sce_lab.memory.typical_length(config, split)
    sce_lab.memory.check_fits(config, split.catalog_size, length, n_users=len(split.test.targets))


def say_expected(configs: Sequence[TrainingConfig], split: Split, *, epochs_done: int = 0) -> None:
    """Say how long runs one after the other will take, and a word more if that is long: see :mod:`sce_lab.timing`."""
    timing = sce_lab.timing
    runs = {sce_lab.LOSSES[c.loss].label: timing.predict_time(c, split, epochs_done=epochs_done) for c in configs}
    say(timing.expected(runs))
    epochs = max(config.max_epochs for config in configs) - epochs_done
    if long := timing.too_long(sum(run.seconds for run in runs.values()), epochs):
        complain(f"{long}. Ctrl-C stops after a step and keeps what was trained.", "yellow", "note")


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into an answer to "stop?"; the second one interrupts as usual."""
    asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, previous)
        say("Stopping after this step; what was trained is kept. Ctrl-C again to leave at once.", "yellow")

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
    when_to_test: Literal["always", "never"] = "always",
    trainer: Trainer | None = None,
) -> Finished:
    """Train to the end under a progress bar, recorded in ``folder``; returns the last event.

    ``page``, if given, is written after every evaluation: the run's figures, in a page that loads itself again. So may
    a ``trainer`` of this configuration be given that is not the usual one.
    """
    from tqdm import tqdm

    if trainer is None:
        trainer = sce_lab.Trainer(config, split, step=sce_lab.measuring(), stop=stop, when_to_test=when_to_test)
    every = 0.2 if sys.stderr.isatty() else 10.0  # seconds between two updates; a log file wants fewer
    length = sce_lab.memory.typical_length(config, split)
    with ExitStack() as stack, sce_lab.memory.explaining_out_of_memory(config, split.catalog_size, length):
        shown: dict[str, str] = {}
        for event in sce_lab.record(trainer, folder, source):
            match event:
                case sce_lab.Started():  # what is said before does not meet the bar
                    bar = stack.enter_context(
                        tqdm(
                            total=event.n_steps_per_epoch * config.max_epochs,
                            initial=trainer.step,
                            unit="step",
                            desc=sce_lab.LOSSES[config.loss].label,
                            dynamic_ncols=True,
                            smoothing=0.05,
                            mininterval=every,
                        )
                    )
                case sce_lab.StepDone():
                    shown["loss"] = f"{event.loss:.3f}"
                    bar.update()
                case sce_lab.Evaluated():
                    shown |= {"epoch": str(event.epoch), "val NDCG@10": f"{event.metrics['NDCG@10']:.4f}"}
                    if page is not None:
                        sce_lab.figures.write_live_page(page, sce_lab.Run(folder))
                case sce_lab.Finished():
                    return event
            bar.set_postfix(shown, refresh=False)
    raise AssertionError("a run ends with Finished")


def resume_hint(folder: Path, n_processes: int | None = None) -> str:
    """How to go on with a stopped run, of one process or of several with sharded items."""
    command = "sce-lab train"
    if n_processes is not None:
        command = f"torchrun --standalone --nproc-per-node {n_processes} -m sce_lab.cli train --shard-items"
    return f"Continue it with: {command} --resume {shlex.quote(str(folder))}"

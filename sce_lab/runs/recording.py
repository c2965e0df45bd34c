"""Writing a run down while it happens, and going on with one that was interrupted."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pandas as pd

from sce_lab.data.labels import write_labels
from sce_lab.files import remove_partial, replacing, write_text
from sce_lab.followers import FILE
from sce_lab.runs.environment import environment
from sce_lab.runs.folder import CHECKPOINTS, Run
from sce_lab.runs.history import history_row, summarize_history, thinned
from sce_lab.runs.ranks import Ranks
from sce_lab.training import Evaluated, Event, Finished, Started, Trainer


def record(
    trainer: Trainer,
    folder: str | os.PathLike[str],
    source: dict[str, Any] | None = None,
    *,
    checkpoint: bool = True,
    max_rows: int | None = None,
) -> Iterator[Event]:
    """The events of ``trainer``, written to ``folder`` as they pass. A checkpoint already there is resumed.

    The folder is locked until the events end or are dropped; the lock of a process that was killed is nobody's.

    Args:
        trainer: what is trained.
        folder: of the run; made if it is not there.
        source: the arguments of :func:`sce_lab.data.open_split` that made the trainer's split, so that the run can be
            continued from its folder alone.
        checkpoint: keep the weights too: four times the model on disk. Without them the run cannot be continued.
        max_rows: of steps in the history, about; beyond it every second one is dropped. Default: keep all.

    Raises:
        ValueError: the folder is being written by somebody else, is damaged, holds a run that kept no weights, or its
            checkpoint belongs to another configuration or other data. Then nothing in it is changed.
        OSError: something could not be written; what was there before still is, and the run can be continued.
    """
    run = Run(folder)
    run.folder.mkdir(parents=True, exist_ok=True)
    with _locked(run.folder):
        checkpoint_path = run.folder / trainer.checkpoint_name
        rows = _go_on(run, trainer, checkpoint_path)
        remove_partial(run.folder)
        _write_settings(run, trainer, source, checkpoint)
        for name in ("summary.json", "ranks.npz"):  # they told of the end that is none now
            (run.folder / name).unlink(missing_ok=True)

        def save() -> None:
            with replacing(run.folder / "history.parquet") as partial:
                pd.DataFrame(rows).to_parquet(partial, index=False)
            if checkpoint:
                trainer.save(checkpoint_path)

        for event in trainer.events():
            if isinstance(event, Finished):
                save()
                if event.ranking is not None:
                    Ranks.of(event.ranking).write(run.folder / "ranks.npz")
                summary = dataclasses.asdict(dataclasses.replace(event, ranking=None))
                del summary["ranking"]
                summary |= summarize_history(pd.DataFrame(rows))
                write_text(run.folder / "summary.json", json.dumps(summary, indent=2))
            elif not isinstance(event, Started):
                rows.append(history_row(event))
                if max_rows is not None and len(rows) > 2 * max_rows:
                    rows = thinned(rows)
                if isinstance(event, Evaluated):
                    save()
            yield event


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # Not of a thread: events may be dropped in another one than they were begun in.
    lock = filelock.FileLock(folder / ".lock", thread_local=False)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise ValueError(
            f"{folder} is being recorded by another process or cell: wait for its end, stop it, or take another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def is_recorded_now(folder: str | os.PathLike[str]) -> bool:
    """Is somebody writing this run now?"""
    lock = Path(folder) / ".lock"
    if not lock.exists():
        return False
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except filelock.Timeout:
        return True


def _go_on(run: Run, trainer: Trainer, checkpoint: Path) -> list[dict[str, Any]]:
    """Put the trainer where the run's checkpoint is, if there is one; returns the history up to there."""
    history = run.history
    for name, how in CHECKPOINTS.items():
        if name != checkpoint.name and os.path.lexists(run.folder / name):
            raise ValueError(
                f"{run.folder} has the checkpoint {name!r}, of a run that goes on {how}: resume it so, or take "
                "another folder"
            )
    if checkpoint.exists():
        trainer.load(checkpoint)
        known = 0 if history.empty else int(history["step"].max())
        if known < trainer.step:
            warnings.warn(
                f"{run.folder / 'history.parquet'} is missing or ends early: the run goes on, but steps "
                f"{known + 1} to {trainer.step} are not in its history",
                stacklevel=3,
            )
        return [] if history.empty else history.query("step <= @trainer.step").to_dict("records")
    settings = run.settings  # refuses a config.json that is damaged or somebody else's
    begun = not history.empty or bool(run.summary)
    if begun and not settings.get("checkpoint", False):
        raise ValueError(
            f"{run.folder} holds a run that kept no checkpoint, so it cannot be continued: take another one"
        )
    if begun:
        warnings.warn(f"{checkpoint} is missing: the run begins again", stacklevel=3)
    return []


def _write_settings(run: Run, trainer: Trainer, source: dict[str, Any] | None, checkpoint: bool) -> None:
    split = trainer.split
    settings = {
        "dataset": split.name,
        "catalog_size": split.catalog_size,
        "source": source or {"source": split.name},
        "fingerprint": split.fingerprint,
        "test_users": len(split.test.targets),
        "checkpoint": checkpoint,
        "config": dataclasses.asdict(trainer.config),
    }
    write_labels(run.folder / "items.json", split.item_labels)
    if trainer.model.followers is not None:
        trainer.model.followers.save(run.folder / FILE)
    write_text(run.folder / "config.json", json.dumps(settings, indent=2))
    write_text(run.folder / "environment.json", json.dumps(environment(), indent=2))

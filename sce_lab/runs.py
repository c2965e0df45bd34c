"""A run is a folder: what was asked, what happened, where, and how it ended. Files are written whole or not at all.

``config.json``, ``environment.json``: written first. ``history.parquet``, ``checkpoint.safetensors``: after every
evaluation. ``summary.json``: at the end; a folder without it was interrupted and can be resumed.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import secrets
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch

from sce_lab.losses import LOSSES
from sce_lab.memory import format_bytes
from sce_lab.training import Changed, Evaluated, Event, Finished, Started, StepDone, Trainer, TrainingConfig


def runs_root() -> Path:
    """Where runs are kept: ``SCE_LAB_RUNS``, or ``runs`` in the working directory."""
    return Path(os.environ.get("SCE_LAB_RUNS", "runs"))


def write_text(path: Path, text: str) -> None:
    """Write ``path`` whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def environment() -> dict[str, Any]:
    """Hardware, versions and command: what a figure needs beside it to be worth quoting."""
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    names = ("sce-lab", "torch", "numpy", "pandas")
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "memory": psutil.virtual_memory().total,
        "gpus": cuda,
        "system": platform.system() + " " + platform.machine(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in names},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def history_row(event: StepDone | Changed | Evaluated) -> dict[str, Any]:
    """One event as a flat row: ``kind`` is "step", "evaluation" or "change"; ``seconds_*`` per phase, ``memory_*`` in
    bytes, ``changed_*`` the new values of settings."""
    row: dict[str, Any] = {"step": event.step, "epoch": event.epoch}
    if isinstance(event, Changed):
        return row | {"kind": "change"} | {f"changed_{name}": float(value) for name, value in event.settings.items()}
    if isinstance(event, Evaluated):
        return row | {"kind": "evaluation", "is_best": event.is_best, "seconds": event.seconds} | event.metrics
    row |= {"kind": "step", "loss": event.loss, "n_positions": event.n_positions}
    row |= {f"seconds_{phase}": seconds for phase, seconds in event.seconds.items()}
    if event.memory is not None:
        row |= {f"memory_{part}": nbytes for part, nbytes in event.memory.as_dict().items()}
    if event.statistics is not None:
        row |= {name: float(value) for name, value in dataclasses.asdict(event.statistics).items()}
    return row


def summarize_history(history: pd.DataFrame) -> dict[str, Any]:
    """Median milliseconds per step and phase, and the largest measured memory, of a run's history.

    Steps whose memory was measured are left out of the times (measuring slows them), and so is the first.
    """
    if history.empty:  # stopped before its first step
        return {"ms": {}, "memory": {}}
    steps = history[history["kind"] == "step"].iloc[1:]
    measured = [c for c in history.columns if c.startswith("memory_")]
    timed = steps[steps["memory_peak"].isna()] if measured else steps
    phases = [c for c in history.columns if c.startswith("seconds_")]
    ms = {c.removeprefix("seconds_"): 1e3 * float(timed[c].median()) for c in phases} if len(timed) else {}
    memory = {c.removeprefix("memory_"): int(history[c].max()) for c in measured if history[c].notna().any()}
    return {"ms": ms, "memory": memory}


class Run:
    """A recorded run, read from its folder when asked."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def _json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def settings(self) -> dict[str, Any]:
        """``dataset``, ``catalog_size`` and ``source`` beside the configuration."""
        return self._json("config.json")

    @property
    def config(self) -> TrainingConfig:
        """What was trained."""
        return TrainingConfig(**self.settings["config"])

    @property
    def environment(self) -> dict[str, Any]:
        """Hardware, versions and command."""
        return self._json("environment.json")

    @property
    def history(self) -> pd.DataFrame:
        """One row an event (:func:`history_row`), up to the last evaluation or the end."""
        path = self.folder / "history.parquet"
        return pd.read_parquet(path) if path.exists() else pd.DataFrame()

    @property
    def summary(self) -> dict[str, Any]:
        """How it ended; empty if it did not."""
        return self._json("summary.json")

    @property
    def checkpoint(self) -> Path:
        """The latest checkpoint's path, which may not exist yet."""
        return self.folder / "checkpoint.safetensors"


def new_run_folder(root: str | os.PathLike[str] | None = None, label: str = "run") -> Path:
    """Create an empty run folder with a name that sorts by time."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path(root or runs_root()) / f"{stamp}-{label}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    return folder


def record(
    trainer: Trainer,
    folder: str | os.PathLike[str],
    source: dict[str, Any] | None = None,
    *,
    checkpoint: bool = True,
    max_rows: int | None = None,
) -> Iterator[Event]:
    """The events of ``trainer``, written to ``folder`` as they pass. A checkpoint already there is resumed.

    Args:
        trainer: what is trained.
        folder: of the run; made if it is not there.
        source: the arguments of :func:`sce_lab.data.open_split` that made the trainer's split, so that the run can be
            continued from its folder alone.
        checkpoint: keep the weights too: four times the model on disk. Without them the run cannot be continued.
        max_rows: of steps in the history, about; beyond it every second one is dropped. Default: keep all.

    Raises:
        ValueError: the folder's checkpoint belongs to another configuration.
    """
    run = Run(folder)
    run.folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    if run.checkpoint.exists():
        trainer.load(run.checkpoint)
        rows = run.history.query("step <= @trainer.step").to_dict("records")
    split = trainer.split
    settings = {
        "dataset": split.name,
        "catalog_size": split.catalog_size,
        "source": source or {"source": split.name},
    }
    settings["config"] = dataclasses.asdict(trainer.config)
    write_text(run.folder / "config.json", json.dumps(settings, indent=2))
    write_text(run.folder / "environment.json", json.dumps(environment(), indent=2))

    def save() -> None:
        partial = run.folder / "history.parquet.partial"
        pd.DataFrame(rows).to_parquet(partial, index=False)
        os.replace(partial, run.folder / "history.parquet")
        if checkpoint:
            trainer.save(run.checkpoint)

    for event in trainer.events():
        if isinstance(event, Finished):
            save()
            summary = dataclasses.asdict(event) | summarize_history(pd.DataFrame(rows))
            write_text(run.folder / "summary.json", json.dumps(summary, indent=2))
        elif not isinstance(event, Started):
            rows.append(history_row(event))
            if max_rows is not None and len(rows) > 2 * max_rows:
                rows = _thinned(rows)
            if isinstance(event, Evaluated):
                save()
        yield event


def _thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every second step, of the measured ones the largest, and whatever is not a step."""
    steps = [row for row in rows if row["kind"] == "step"]
    kept = {id(row) for row in steps[::2]}
    if measured := [row for row in steps if "memory_peak" in row]:
        kept.add(id(max(measured, key=lambda row: row["memory_peak"])))
    return [row for row in rows if row["kind"] != "step" or id(row) in kept]


def list_runs(root: str | os.PathLike[str] | None = None) -> list[Run]:
    """Every run below ``root``, the oldest first."""
    return [Run(path.parent) for path in sorted(Path(root or runs_root()).glob("*/config.json"))]


def compare_runs(runs: list[Run]) -> pd.DataFrame:
    """One row a run: loss, data set, memory in bytes, milliseconds, epochs and test metrics of the best epoch.

    ``forward_ms`` is the encoder's and the loss's forward, ``backward_ms`` likewise; ``ms`` also has the optimizer.
    A run without a summary shows what is known: its status is "interrupted".
    """
    return pd.DataFrame([_row(run) for run in runs])


def _row(run: Run) -> dict[str, Any]:
    settings, summary = run.settings, run.summary
    ms, memory = summary.get("ms", {}), summary.get("memory", {})
    metrics = summary.get("test") or {}
    nan = float("nan")
    return {
        "run": run.name,
        "dataset": settings["dataset"],
        "loss": settings["config"]["loss"],
        "status": summary.get("reason", "interrupted"),
        "peak_memory": memory.get("peak", nan),
        "loss_workspace": memory.get("loss_workspace", nan),
        "ms": sum(ms.values()) if ms else nan,
        "forward_ms": ms["forward"] + ms["loss_forward"] if ms else nan,
        "backward_ms": ms["backward"] + ms["loss_backward"] if ms else nan,
        "epochs": summary.get("epoch", nan),
        "best_epoch": summary.get("best_epoch", nan),
        "seconds": summary.get("seconds", nan),
        **{name: metrics.get(name, nan) for name in ("HR@10", "NDCG@10", "COV@10")},
    }


def for_people(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of :func:`compare_runs` that a person compares, with units and rounded, all as text."""

    def text(value: float, form: str) -> str:
        return "" if pd.isna(value) else form.format(value)

    def size(value: float) -> str:
        return "" if pd.isna(value) else format_bytes(value)

    def times(row: dict[str, float]) -> str:
        return "" if pd.isna(row["ms"]) else "{ms:.0f} ({forward_ms:.0f}/{backward_ms:.0f})".format(**row)

    return pd.DataFrame(
        {
            "loss": [LOSSES[name].label for name in table["loss"]],
            "peak memory": [size(v) for v in table["peak_memory"]],
            "loss workspace": [size(v) for v in table["loss_workspace"]],
            "ms/step (fwd/bwd)": [times(row) for row in table.to_dict("records")],
            "epochs": [text(v, "{:.0f}") for v in table["epochs"]],
            **{name: [text(v, "{:.4f}") for v in table[name]] for name in ("HR@10", "NDCG@10", "COV@10")},
        },
        index=table.index,
    )

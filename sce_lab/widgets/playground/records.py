"""The runs of the playground, each a folder as those of ``sce-lab`` are: a kernel that ends loses none of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from sce_lab.data import Split
from sce_lab.figures import LOOKS, METRICS, Curves
from sce_lab.figures.curves import epoch_length
from sce_lab.memory import MemoryUse, explaining_out_of_memory, typical_length
from sce_lab.runs import Run, is_recorded_now, list_runs, new_run_folder, record, write_text
from sce_lab.training import Event, Finished, Trainer, looking_inside
from sce_lab.widgets.kit.progress import FINISHED, FOLLOWED, INTERRUPTED, RUNNING, STOPPED, Snapshot
from sce_lab.widgets.kit.turns import Moments, measuring_moments
from sce_lab.widgets.playground.settings import WORLD_SEED, Settings, read_line

#: What the playground adds to a run's folder.
FILE = "playground.json"
#: So many runs are read back at most, the newest; the others stay in their folders.
ON_SCREEN = 60
#: Weights of a run are kept while it trains, so that it can go on if its kernel ends, up to this many bytes.
MAX_CHECKPOINT = 2**26
#: Steps kept of a run's history, about: an hour of short steps would be hundreds of thousands.
MAX_ROWS = 4000


@dataclass
class RunRecord:
    """One run: what was asked, what was expected, and how far it came."""

    number: int
    settings: Settings
    loss: str
    predicted: dict[str, int] = field(default_factory=dict)
    catalog_size: int | None = None
    ceiling: dict[str, float] = field(default_factory=dict)
    snapshot: Snapshot = field(default_factory=Snapshot)
    folder: Path | None = None
    live: dict[str, Any] = field(default_factory=dict)  # the loss's settings as they are now
    moments: Moments | None = None  # of the last measured step

    def __post_init__(self) -> None:
        self.live = self.live or self.settings.loss_settings(self.loss)

    @property
    def metrics(self) -> tuple[dict[str, float], bool]:
        """On the test items if there are any yet (True), otherwise on the validation items."""
        finished = self.snapshot.finished
        return (dict(finished.test), True) if finished and finished.test else (self.snapshot.metrics, False)

    @property
    def data(self) -> tuple[Any, ...]:
        """What it learned from. Quality means something only beside that of runs on the same."""
        return *self.settings.source, self.catalog_size

    @property
    def loss_memory(self) -> int | None:
        """Measured bytes of the loss alone."""
        return self.snapshot.memory.loss_workspace if self.snapshot.memory else None

    def as_dict(self) -> dict[str, Any]:
        """Everything that is known of it, JSON-able."""
        shot = self.snapshot
        steps, followed = shot.curves.loss, shot.followed
        return {
            "number": self.number,
            "loss": self.loss,
            "settings": {**asdict(self.settings), "losses": list(self.settings.losses)},
            "catalog_size": self.catalog_size,
            "state": shot.state,
            "error": str(shot.error) if shot.error else "",
            "steps": shot.step,
            "epochs": shot.epochs,
            "seconds": shot.seconds,
            "loss_first": float(steps[0]) if len(steps) else None,
            "loss_last": float(steps[-1]) if len(steps) else None,
            "milliseconds": dict(shot.milliseconds),
            "predicted_memory": dict(self.predicted),
            "measured_memory": shot.memory.as_dict() if shot.memory else None,
            "validation": shot.metrics,
            "test": dict(shot.finished.test) if shot.finished else {},
            "ceiling": dict(self.ceiling),
            "changes": [{"epochs": epochs, **settings} for epochs, settings in shot.changes],
            **{name: float(followed[name].mean()) if len(followed[name]) else None for name in FOLLOWED},
            "folder": str(self.folder) if self.folder else "",
        }

    def events(
        self, split: Split, stop: Callable[[], bool], wanted: Callable[[RunRecord], Mapping[str, Any]]
    ) -> Iterable[Event]:
        """Train it, and write down what happens.

        Args:
            split: the data.
            stop: asked before every step.
            wanted: asked after every event for settings of the loss to change; mostly none.

        Raises:
            OSError: its folder cannot be written.
            RanOutOfMemoryError: memory ran out all the same; the message says what would fit.
        """
        large = split.catalog_size > 100_000
        config = self.settings.config(self.loss)
        seldom = large or config.device != "cpu"  # to be looked into, a GPU has to be waited for
        step = looking_inside(measuring_moments(self._keep_moments), every=50 if seldom else 10)
        with explaining_out_of_memory(config, split.catalog_size, typical_length(config, split)):
            yield from self._events(Trainer(config, split, step=step, stop=stop), wanted)

    def _keep_moments(self, moments: Moments) -> None:
        self.moments = moments

    def _events(self, trainer: Trainer, wanted: Callable[[RunRecord], Mapping[str, Any]]) -> Iterable[Event]:
        events: Iterable[Event] = trainer.events()
        if self.folder is not None:
            self.keep()
            made_of = {"catalog_size": None, "seed": WORLD_SEED} | self.settings.source.arguments
            cells = trainer.split.catalog_size * self.settings.hidden_size
            small = 4 * 4 * cells <= MAX_CHECKPOINT  # weights, the best ones, and Adam's state
            events = record(trainer, self.folder, made_of, checkpoint=small, max_rows=MAX_ROWS)
        for event in events:
            yield event
            if change := wanted(self):
                trainer.change(**change)
                self.live |= change
        if self.folder is not None:  # it has ended, and nothing goes on from there
            Run(self.folder).checkpoint.unlink(missing_ok=True)

    def make_folder(self) -> None:
        """Give it a folder below the place of runs.

        Raises:
            OSError: it cannot be made.
        """
        self.folder = new_run_folder(label=self.loss)

    def keep(self, shown: bool = True) -> None:
        """Write what the run's own files do not say. ``shown``: does the playground show it when it is opened?"""
        if self.folder is None or not self.folder.exists():
            return
        content = {
            "number": self.number,
            "settings": asdict(self.settings),
            "loss": self.loss,
            "predicted_memory": self.predicted,
            "catalog_size": self.catalog_size,
            "ceiling": self.ceiling,
            "shown": shown,
        }
        write_text(self.folder / FILE, json.dumps(content, indent=2))


def beside(run: RunRecord | None, runs: Iterable[RunRecord]) -> list[RunRecord]:
    """Those of ``runs`` that learned from the same data as ``run``."""
    return [other for other in runs if run is not None and other.data == run.data]


def seeds_of(run: RunRecord, runs: Iterable[RunRecord]) -> list[RunRecord]:
    """Those of ``runs`` that differ from ``run`` in nothing but the seed, the newest of each seed, ``run`` the last."""
    if run.snapshot.changes:
        return [run]
    recipe = run.settings.recipe(run.loss)
    same = [
        each
        for each in beside(run, runs)
        if each.loss == run.loss and each.settings.recipe(run.loss) == recipe and not each.snapshot.changes
    ]
    by_seed = {each.settings.seed: each for each in same} | {run.settings.seed: run}
    return [*(each for each in by_seed.values() if each is not run), run]


def restore(
    root: str | os.PathLike[str] | None = None,
    limit: int = ON_SCREEN,
    passed_over: Callable[[str], None] = lambda sentence: None,
) -> list[RunRecord]:
    """The runs that playgrounds have left below ``root``, the oldest first.

    What cannot be read is passed over, and ``passed_over`` is called with a sentence that says which and why: it is of
    another version, half copied or edited by hand, and must not keep the page from opening.
    """
    found: list[RunRecord] = []
    for run in reversed(list_runs(root)):
        path = run.folder / FILE
        if len(found) == limit:
            break
        if not path.exists():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["shown"]:
                found.append(_read(run, content))
        except Exception as error:  # whatever stands in a file
            passed_over(f"{run.name} cannot be read ({type(error).__name__}: {error}) and is passed over.")
    found.reverse()
    taken: set[int] = set()
    for each in found:  # pages side by side may have given a number twice, and old ones wrote none
        if each.number in taken or each.number < 1:
            each.number = max(taken, default=0) + 1
        taken.add(each.number)
    return sorted(found, key=lambda each: each.number)


def _read(run: Run, content: Mapping[str, Any]) -> RunRecord:
    """The run as its files say; all that will be drawn is taken to be what it should be, or refused, here."""
    if content["loss"] not in LOOKS:
        raise ValueError(f"losses are {', '.join(LOOKS)}, got {content['loss']!r}")
    catalog_size = content["catalog_size"]
    return RunRecord(
        number=int(content.get("number", 0)),
        settings=read_line({"device": run.config.device, **content["settings"]}),  # it was "cpu" once
        loss=content["loss"],
        predicted={part: int(nbytes) for part, nbytes in content["predicted_memory"].items()},
        catalog_size=None if catalog_size is None else int(catalog_size),
        ceiling=_numbers(content["ceiling"]),
        snapshot=snapshot_of(run),
        folder=run.folder,
    )


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def _metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as numbers; none, or those that are shown among them."""
    if len(values) and (missing := [name for name in METRICS if name not in values]):
        raise ValueError(f"{missing[0]} is missing")
    return _numbers(values)


def snapshot_of(run: Run) -> Snapshot:
    """A recorded run as it ended, or as far as it is written if it did not: its kernel did, or is still at it."""
    summary, history = dict(run.summary), run.history
    if history.empty and summary:
        return Snapshot(state=STOPPED, config=run.config)
    ending = FINISHED if summary else RUNNING if is_recorded_now(run.folder) else INTERRUPTED
    if history.empty:
        error = InterruptedError("it ended before its first evaluation") if ending == INTERRUPTED else None
        return Snapshot(state=ending, config=run.config, error=error)
    scored = history[(history["kind"] == "evaluation") & (history["epoch"] > 0)]
    every = epoch_length(history)
    history = history.assign(epochs=history["step"] / every)
    followed = {}
    if set(FOLLOWED) <= set(history):
        looked = history.dropna(subset=list(FOLLOWED))
        followed = {"followed": {name: looked[name].to_numpy(float) for name in ("epochs", *FOLLOWED)}}
    changed = [name for name in history if name.startswith("changed_")]
    changes = [
        (row["epochs"], {name.removeprefix("changed_"): row[name] for name in changed if pd.notna(row[name])})
        for row in history[history["kind"] == "change"].to_dict("records")
    ]
    ms, memory = _numbers(summary.pop("ms", {})), summary.pop("memory", {})
    for metrics in ("validation", "test"):
        if metrics in summary:
            summary[metrics] = _metrics(summary[metrics])
    return Snapshot(
        state=STOPPED if summary.get("reason") == "stopped" else ending,
        config=run.config,
        step=int(history["step"].max()),
        epochs=float(history["epochs"].max()),
        steps_per_epoch=int(every),
        positions=float(history["n_positions"].mean()),
        seconds=float(summary.get("seconds", history.filter(like="seconds").sum().sum())),
        curves=Curves.of(history),
        milliseconds=ms,
        memory=MemoryUse(**{part: int(nbytes) for part, nbytes in memory.items()}) if memory else None,
        **followed,
        changes=tuple(changes),
        metrics=_metrics(scored.iloc[-1].filter(regex="@|^users$|^repeats$")) if len(scored) else {},
        finished=Finished(**summary) if summary else None,
    )


__all__ = ["RUNNING", "RunRecord", "restore", "snapshot_of"]

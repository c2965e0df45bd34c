"""Many trainings that differ in a setting or two: one after the other, kept on the disk, gone on with where they ended.

A trial's folder has a name made of all that decides the trial. So a trial that was trained once is never trained again,
by whatever page or command it is asked for, and one that was interrupted goes on. Trials look at validation only,
unless their sweep is said to be tested.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sce_lab.data import open_split, written
from sce_lab.data.splits import Split
from sce_lab.memory import DoesNotFitError, check_fits, explaining_out_of_memory, measuring, typical_length
from sce_lab.runs import CURVES, Run, curve_of, record, runs_root
from sce_lab.training import Event, StepFunction, Trainer, TrainingConfig, looking_inside, training_step

#: How a trial stands.
WAITING, BEGUN, DONE = "waiting", "begun", "done"


@dataclass(frozen=True)
class Trial:
    """One training of a sweep.

    Attributes:
        config: what is trained.
        source: on which data, the arguments of :func:`sce_lab.data.open_split`.
        variant: says in a word what ``step`` does in place of a plain step; it is part of what decides the trial.
        step: makes a step of training.
        label: what people call it; it decides nothing.
    """

    config: TrainingConfig
    source: Mapping[str, Any] = field(default_factory=lambda: {"source": "synthetic"})
    variant: str = ""
    step: StepFunction = training_step
    label: str = ""

    @property
    def name(self) -> str:
        """Of its folder: the same for the same trial, today and tomorrow."""
        config = dataclasses.asdict(self.config)
        for late in ("steps_per_epoch", "followers"):  # there are folders of trials from before these could be set
            if not config[late]:
                del config[late]
        decides = [config, dict(self.source), self.variant]
        decides += written(str(self.source["source"]))  # a person's own file may be another tomorrow
        digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
        return f"{self.variant or self.config.loss}-{digest[:12]}"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything that can be varied, flat: the configuration, the settings of its loss, and the data."""
        config = dataclasses.asdict(self.config)
        own, (config["beta1"], config["beta2"]) = config.pop("loss_settings"), config.pop("betas")
        return {**self.source, **config, **own, "variant": self.variant, "label": self.label}


def vary(config: TrainingConfig, **values: Any) -> TrainingConfig:
    """``config`` with other values; a name that is no field of it is a setting of its loss.

    Raises:
        ValueError: the configuration or its loss refuses a value.
    """
    fields = {f.name for f in dataclasses.fields(config)}
    own = {name: value for name, value in values.items() if name in fields}
    rest = {name: value for name, value in values.items() if name not in fields}
    return dataclasses.replace(config, **{"loss_settings": config.loss_settings | rest, **own})


def grid(config: TrainingConfig, source: Mapping[str, Any] | None = None, **axes: Iterable[Any]) -> list[Trial]:
    """A trial for every combination of the values of the axes: ``grid(config, n_negatives=[16, 64], seed=range(3))``.

    Args:
        config: everything else.
        source: the data; an axis ``catalog_size`` is of the data, too.
        axes: values by name, see :func:`vary`.
    """
    trials = []
    for values in product(*map(tuple, axes.values())):
        named, data = dict(zip(axes, values)), dict(source or {"source": "synthetic"})
        if "catalog_size" in named:
            data["catalog_size"] = named.pop("catalog_size")
        trials.append(Trial(vary(config, **named), data))
    return trials


def bucket_grid(
    config: TrainingConfig,
    n_logits: int,
    n_buckets: Sequence[int],
    bucket_size_y: Sequence[int],
    source: Mapping[str, Any] | None = None,
    *,
    most: int | None = None,
    **axes: Iterable[Any],
) -> list[Trial]:
    """SCE with buckets of several numbers and sizes that all compute ``n_logits`` logits.

    From the budget follows ``bucket_size_x = n_logits / (n_buckets * bucket_size_y)``.

    Args:
        config: everything else.
        n_logits: the budget of a step.
        n_buckets, bucket_size_y: values to cross.
        source: the data.
        most: positions that a batch has; buckets of more, or of none, are left out.
        axes: further values to cross, as in :func:`grid`.
    """
    trials = []
    for n, items in product(n_buckets, bucket_size_y):
        positions = n_logits // (n * items)
        if 1 <= positions <= (most or positions):
            sizes = {"n_buckets": n, "bucket_size_x": positions, "bucket_size_y": items}
            trials += grid(vary(config, **sizes), source, **axes)
    return trials


class Sweep:
    """Trials, and where they stand.

    Args:
        trials: what is to be trained, in this order.
        root: folder of the trials' folders; default: ``sweeps`` among the runs.
        tested: whether a trial that has ended looks at the test, too, and its model is kept. Not for trials that are
            chosen among: those look at validation only.

    Raises:
        ValueError: there is no trial.
    """

    def __init__(self, trials: Iterable[Trial], root: str | Path | None = None, *, tested: bool = False) -> None:
        self._tested = tested
        self.trials = list({trial.name: trial for trial in trials}.values())
        if not self.trials:
            raise ValueError("a sweep needs at least one trial")
        self.root = Path(root) if root is not None else runs_root() / "sweeps"
        self._known: dict[tuple[str, Any], tuple[Any, Any]] = {}  # what was read of a trial, and as of when

    def run(self, trial: Trial) -> Run:
        """What is recorded of a trial."""
        return Run(self.root / trial.name)

    def state(self, trial: Trial) -> str:
        """``"waiting"``, ``"begun"`` or ``"done"``."""
        run = self.run(trial)
        if run.summary and run.summary["reason"] != "stopped":
            return DONE
        return BEGUN if run.folder.exists() else WAITING

    @property
    def left(self) -> list[Trial]:
        """Those that are not done."""
        return [trial for trial in self.trials if self.state(trial) != DONE]

    def events(self, stop: Callable[[], bool] = lambda: False) -> Iterator[tuple[Trial, Event]]:
        """Train what is left, one after the other, and yield what happens, and to which trial.

        Args:
            stop: asked before every step; when it answers True the trial at hand can be gone on with later.

        Raises:
            ValueError: a trial is being trained by another page, or what is recorded of it is damaged.
            DoesNotFitError, FloatingPointError: trials would not fit into memory, or their loss became no number; said
                when the others are trained.
        """
        source, split, failed = None, None, []
        for trial in self.trials:
            if stop():
                return
            if self.state(trial) == DONE:
                continue
            if split is None or trial.source != source:
                source, split = trial.source, open_split(**trial.source)[0]
            try:
                for event in self._train(trial, split, stop):
                    yield trial, event
            except (DoesNotFitError, FloatingPointError) as error:
                failed.append(error)
        if failed:
            raise type(failed[0])("; ".join(dict.fromkeys(map(str, failed))))

    def _train(self, trial: Trial, split: Split, stop: Callable[[], bool]) -> Iterator[Event]:
        length = typical_length(trial.config, split)
        check_fits(trial.config, split.catalog_size, length, n_users=len(split.validation.targets))
        step = measuring(looking_inside(trial.step))
        trainer = Trainer(trial.config, split, step=step, stop=stop, when_to_test="ended" if self._tested else "never")
        with explaining_out_of_memory(trial.config, split.catalog_size, length):
            yield from record(trainer, self.run(trial).folder, dict(trial.source))
        if self.state(trial) == DONE and not self._tested:
            self.run(trial).checkpoint.unlink(missing_ok=True)  # four models of which nobody asks again

    def table(self) -> pd.DataFrame:
        """A row a trial: its settings, its ``state``, and of what is recorded the best epoch.

        ``HR@10``, ``NDCG@10`` and ``COV@10`` are of validation; ``seconds`` of training alone, and ``ms`` of a step;
        ``peak_memory`` in bytes; ``coverage`` and ``captured_mass`` are means over the last epoch. NaN: not known.
        """
        rows = [trial.settings | {"state": self.state(trial)} | self._read(trial, _outcome) for trial in self.trials]
        return pd.DataFrame(rows)

    def curves(self) -> pd.DataFrame:
        """A row an evaluation: the settings of its trial, ``epoch``, ``seconds`` and the metrics."""
        rows = [trial.settings | row for trial in self.trials for row in self._read(trial, _curve)]
        nothing = pd.DataFrame(columns=["epoch", "seconds", *CURVES, *self.trials[0].settings])
        return pd.DataFrame(rows) if rows else nothing

    def _read(self, trial: Trial, make: Callable[[Run], Any]) -> Any:
        """What ``make`` finds in a trial's folder. A page asks at every evaluation; only what is new is read."""
        run, key = self.run(trial), (trial.name, make)
        written = [_version(run.folder / name) for name in ("history.parquet", "summary.json")]
        if key not in self._known or self._known[key][0] != written:
            self._known[key] = written, make(run)
        return self._known[key][1]


def _version(file: Path) -> tuple[int, ...] | None:
    """Another one whenever the file was written; None if there is none."""
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _curve(run: Run) -> list[dict[str, Any]]:
    return curve_of(run.history).to_dict("records")


def _outcome(run: Run) -> dict[str, Any]:
    history, summary = run.history, run.summary
    row: dict[str, Any] = {"epochs": 0}
    row |= dict.fromkeys((*CURVES, "seconds", "ms", "peak_memory", "coverage", "captured_mass"), np.nan)
    scored = curve_of(history)
    if scored.empty:
        return row
    best = scored.loc[scored["NDCG@10"].idxmax()]
    row |= {"epochs": int(scored["epoch"].max()), "seconds": scored["seconds"].iloc[-1]}
    row |= {name: best[name] for name in CURVES if name in best}
    last = history[(history["kind"] == "step") & (history["epoch"] == history["epoch"].max() - 1)]
    row |= {name: last[name].mean() for name in ("coverage", "captured_mass") if name in last}
    if "memory_peak" in history:
        row["peak_memory"] = history["memory_peak"].max()
    return row | ({"ms": sum(summary["ms"].values())} if summary.get("ms") else {})


def only(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The rows with these values."""
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def reached(curves: pd.DataFrame, seconds: float, value: str) -> pd.Series:
    """``value`` of each loss after so many seconds of training, a straight line between two evaluations; 0 at 0 s."""
    found = {}
    for loss, rows in curves.groupby("loss", sort=False):
        rows = rows.sort_values("seconds")
        found[loss] = float(np.interp(seconds, [0.0, *rows["seconds"]], [0.0, *rows[value]]))
    return pd.Series(found, dtype=float)


def told_apart(table: pd.DataFrame, value: str, by: Sequence[str]) -> float:
    """How far apart the means of two cells must be to be told apart from one another by seeds alone, at 95 %.

    Two cells of S seeds each differ by chance with a standard deviation of ``sd * sqrt(2 / S)``, and the standard
    deviation of a seed is pooled over all cells; twice that is returned. NaN with one seed a cell.
    """
    groups = table.dropna(subset=[value]).groupby(list(by))[value]
    size, variance = groups.size(), groups.var(ddof=1)
    if not (size > 1).any():
        return float("nan")
    pooled = (variance * (size - 1)).sum() / (size - 1).sum()
    return float(2 * np.sqrt(2 * pooled / size[size > 1].mean()))

"""What a choice of settings comes to, before anything is trained: no widgets, no drawing, only answers."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from sce_lab.data import DATASETS, SYNTHETIC, Split, SyntheticProcess, open_split
from sce_lab.data.batches import mean_length, n_batches
from sce_lab.figures import LOOKS, label
from sce_lab.memory import format_bytes, predict_memory
from sce_lab.training import TrainingConfig

OWN_FILE = "file"
#: The synthetic world is the same whatever the training seed is, so that runs stay comparable.
WORLD_SEED = 0


@dataclass(frozen=True)
class Settings:
    """Everything the playground's controls say."""

    dataset: str = SYNTHETIC
    catalog_size: int = 10_000
    path: str = ""
    loss: str = "sce"
    n_negatives: int = 256
    n_buckets: int = 64
    bucket_size_x: int = 64
    bucket_size_y: int = 256
    mix_x: bool = True
    batch_size: int = 64
    epochs: int = 12
    seed: int = 0

    def config(self, loss: str) -> TrainingConfig:
        """The training these settings mean for ``loss``."""
        return TrainingConfig(
            loss=loss,
            loss_settings=self.loss_settings(loss),
            batch_size=self.batch_size,
            max_epochs=self.epochs,
            seed=self.seed,
        )

    def loss_settings(self, loss: str) -> dict[str, Any]:
        """Those of the settings that ``loss`` takes."""
        names = {"sampled": ("n_negatives",), "sce": ("n_buckets", "bucket_size_x", "bucket_size_y", "mix_x")}
        return {name: getattr(self, name) for name in names.get(loss, ())}

    @property
    def source(self) -> tuple[str, int | None]:
        """What :func:`open_data` takes: the data, and the catalog size where it is free to choose."""
        if self.dataset == SYNTHETIC:
            return SYNTHETIC, self.catalog_size
        return (self.path.strip() if self.dataset == OWN_FILE else self.dataset), None


@functools.lru_cache(maxsize=2)
def _open(source: str, catalog_size: int | None, changed: float) -> tuple[Split, SyntheticProcess | None]:
    return open_split(source, catalog_size=catalog_size, seed=WORLD_SEED, progress=False)


def open_data(source: str, catalog_size: int | None) -> tuple[Split, SyntheticProcess | None]:
    """:func:`sce_lab.data.open_split`, remembering the last two; a file that was written to is read again.

    Raises:
        ValueError, OSError: the data cannot be had; the message says why.
    """
    if source in DATASETS or source == SYNTHETIC:
        return _open(source, catalog_size, 0.0)
    path = os.path.expanduser(source)
    return _open(path, catalog_size, Path(path).stat().st_mtime if Path(path).is_file() else 0.0)


@dataclass(frozen=True)
class Facts:
    """What must be known of a data set to say what a step over it takes."""

    catalog_size: int
    n_users: int
    positions_per_user: float
    n_trained: int

    @classmethod
    def of(cls, settings: Settings) -> Facts:
        """The facts of the chosen data, which are opened for it, except that a synthetic catalog need not be.

        Raises:
            ValueError, OSError: as :func:`open_data`.
        """
        source, catalog_size = settings.source
        if settings.dataset == OWN_FILE and not source:
            raise ValueError("type the path of a CSV, TSV or parquet file with the columns user, item, timestamp")
        if settings.dataset == OWN_FILE and not Path(os.path.expanduser(source)).exists():
            raise FileNotFoundError(f"there is no file {source!r}; a path is relative to {Path.cwd()}")
        if source == SYNTHETIC:  # how many users there are and how much they do does not depend on the catalog
            facts = cls._read(SYNTHETIC, min(settings.catalog_size, 1000))
            return cls(**{**asdict(facts), "catalog_size": settings.catalog_size})
        return cls._read(source, catalog_size)

    @classmethod
    def _read(cls, source: str, catalog_size: int | None) -> Facts:
        split, _ = open_data(source, catalog_size)
        usable = n_batches(split.train, 1)
        if usable == 0:
            raise ValueError("nobody in these data has enough interactions to learn from: each user needs four or more")
        config = TrainingConfig()
        return cls(split.catalog_size, len(split.train), mean_length(split.train, config.max_length), usable)


@dataclass(frozen=True)
class Note:
    """A sentence at the foot of a card. ``level`` is "", "warning" (it will run) or "problem" (it cannot)."""

    text: str
    level: str = ""


@dataclass(frozen=True)
class Assessment:
    """The answer to settings.

    Attributes:
        memory: a row a loss, columns ``loss`` and the fields of :class:`sce_lab.memory.MemoryUse`; empty if unknown.
        notes: by card ("data", "loss", "sce", "training").
        problem: why it cannot be trained; empty if it can.
    """

    settings: Settings
    facts: Facts | None
    memory: pd.DataFrame
    notes: Mapping[str, Note] = field(default_factory=dict)
    problem: str = ""


def assess(settings: Settings, free: int) -> Assessment:
    """Say what ``settings`` come to on a machine with ``free`` bytes. Never raises for what a person may choose."""
    try:
        facts = Facts.of(settings)
    except (ValueError, OSError) as error:
        sentence = _sentence(error, settings)
        return Assessment(settings, None, pd.DataFrame(), {"data": Note(sentence, "problem")}, sentence)
    n_sequences = min(settings.batch_size, facts.n_trained)
    length = max(1, math.ceil(facts.positions_per_user))
    rows = []
    for loss in LOOKS:
        use = predict_memory(settings.config(loss), facts.catalog_size, n_sequences=n_sequences, length=length)
        rows.append({"loss": loss, **use.as_dict()})
    memory = pd.DataFrame(rows)
    problem = _too_large(settings, facts, memory, free)
    positions = n_sequences * length
    notes = {
        "data": Note(f"{facts.n_users:,} users, {facts.catalog_size:,} items"),
        "loss": _loss_note(settings, facts, positions) if not problem else _needs_note(settings, memory, free),
        "sce": _sce_note(settings, facts, positions),
        "training": Note(
            f"N ≈ {n_sequences:,} × {length} = {positions:,} positions, "
            f"{math.ceil(facts.n_trained / settings.batch_size):,} steps an epoch"
        ),
    }
    return Assessment(settings, facts, memory, notes, problem)


def _sentence(error: BaseException, settings: Settings) -> str:
    if isinstance(error, ConnectionError):  # its own message is long and for a shell
        file = DATASETS[settings.dataset].path
        return f"The download failed. Go online, or put {file} into a folder and set SCE_LAB_DATA to that folder."
    message = str(error) or type(error).__name__
    return message[0].upper() + message[1:]


def needed(use: Mapping[str, float]) -> float:
    """Bytes a run takes: its largest step, and a copy of the best weights so far."""
    return float(use["peak"] + use["parameters"])


def _needs(memory: pd.DataFrame) -> dict[str, float]:
    return {row["loss"]: needed(row) for row in memory.to_dict("records")}


def _needs_note(settings: Settings, memory: pd.DataFrame, free: int) -> Note:
    need = format_bytes(_needs(memory)[settings.loss])
    return Note(f"Needs {need}, and {format_bytes(free)} are free", "problem")


def _too_large(settings: Settings, facts: Facts, memory: pd.DataFrame, free: int) -> str:
    needs = _needs(memory)
    if needs[settings.loss] <= free:
        return ""
    advice = f"Try {'fewer items' if settings.dataset == SYNTHETIC else 'smaller data'} or a smaller batch."
    if fitting := [label(loss) for loss, need in needs.items() if need <= free]:
        advice = f"{' and '.join(fitting)} would fit."
    return (
        f"{label(settings.loss)} over {facts.catalog_size:,} items needs {format_bytes(needs[settings.loss])}; "
        f"{format_bytes(free)} are free. {advice}"
    )


def _scores(n: float) -> str:
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return f"{n:,.0f}"


# The cards have room for two lines of about thirty characters.


def _loss_note(settings: Settings, facts: Facts, positions: int) -> Note:
    catalog, negatives = facts.catalog_size, settings.n_negatives
    match settings.loss:
        case "ce":
            return Note(f"N × C = {positions:,} × {catalog:,} = {_scores(positions * catalog)} scores a step")
        case "sampled" if negatives >= catalog:
            return Note("More negatives than items: cross-entropy costs less", "warning")
        case "sampled":
            return Note(f"{positions:,} × {negatives:,} = {_scores(positions * negatives)} scores a step")
        case _:
            return Note("Scores only the items of a position's buckets")


def _sce_note(settings: Settings, facts: Facts, positions: int) -> Note:
    buckets, x, y = settings.n_buckets, settings.bucket_size_x, settings.bucket_size_y
    if x > positions:
        return Note(f"A step has {positions:,} positions: a bucket takes all of them", "warning")
    if y > facts.catalog_size:
        return Note(f"There are {facts.catalog_size:,} items: a bucket takes all of them", "warning")
    if buckets * x < positions:
        return Note(f"At most {buckets * x / positions:.0%} of the positions learn in a step", "warning")
    scores, all_scores = buckets * x * y, positions * facts.catalog_size
    product = f"{buckets:,} × {x:,} × {y:,} = {_scores(scores)} scores"
    if scores > all_scores:
        return Note(f"{product}, more than CE's", "warning")
    share = 100 * scores / all_scores
    return Note(f"{product}, {f'{share:.0f}' if share >= 10 else f'{share:.2g}'}% of CE's")

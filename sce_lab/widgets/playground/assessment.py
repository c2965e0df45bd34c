"""What a choice of settings comes to, before anything is trained: no widgets, no drawing, only answers."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from sce_lab.data import DATASETS, SYNTHETIC, ColumnsError, Split, SyntheticProcess, columns_of, open_split, written
from sce_lab.data.batches import mean_length, n_batches
from sce_lab.figures import LOOKS, label
from sce_lab.memory import format_bytes, format_count, predict_memory, tables
from sce_lab.timing import Duration, with_catalog
from sce_lab.widgets.kit.words import capitalised, counted, listed
from sce_lab.widgets.playground.settings import COLUMNS, OWN_FILE, Settings, Source


@functools.lru_cache(maxsize=2)
def _open(source: Source, version: str) -> tuple[Split, SyntheticProcess | None]:
    return open_split(**source.arguments, progress=False)


def open_data(source: Source) -> tuple[Split, SyntheticProcess | None]:
    """:func:`sce_lab.data.open_split`, remembering the last two; what was written to is read again.

    Raises:
        ValueError, OSError: the data cannot be had; the message says why.
    """
    return _open(source._replace(source=os.path.expanduser(source.source)), str(written(source.source)))


@dataclass(frozen=True)
class FileColumns:
    """The columns of a person's file.

    Attributes:
        names: of all.
        found: by role, the one that is meant if none is chosen; empty if that cannot be told.
        sentence: which were taken for what.
    """

    names: tuple[str, ...] = ()
    found: Mapping[str, str] = field(default_factory=dict)
    sentence: str = ""


@functools.lru_cache(maxsize=8)
def _columns(source: Source, version: str) -> FileColumns:
    chosen = {name: getattr(source, name) for name in COLUMNS}
    try:
        taken, names = columns_of(source.source, **chosen)
    except ColumnsError as error:
        return FileColumns(tuple(error.names))
    except (OSError, ValueError):  # which is said when it is read
        return FileColumns()
    return FileColumns(tuple(names), {name: getattr(taken, name) for name in COLUMNS}, taken.sentence)


def _file_columns(settings: Settings) -> FileColumns:
    """What there is to choose from in the file that is meant; nothing of other data."""
    source = settings.source
    return _columns(source, str(written(source.source))) if settings.dataset == OWN_FILE else FileColumns()


#: Of what a training needs, why it is more than the peak of a step that the bars show.
WITH_THE_COPY = "a step and a copy of the best weights"


def _similar(catalog_size: int) -> int:
    """The catalog of a synthetic world with as many users who do as much.

    That depends on the catalog only while it is too small for the longest of histories: one world need not be made for
    each place of the slider.
    """
    return 1000 if catalog_size >= 4 * SyntheticProcess.max_length else catalog_size


@functools.lru_cache(maxsize=1)
def _spread(catalog_size: int) -> Split:
    return with_catalog(open_data(Source(SYNTHETIC, _similar(catalog_size)))[0], catalog_size)


def typical_split(settings: Settings) -> Split:
    """The chosen data; instead of a synthetic world one that is made sooner, and trained on for as long."""
    source = settings.source
    return _spread(source.catalog_size) if source.source == SYNTHETIC else open_data(source)[0]


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
        source, path = settings.source, settings.source.source
        if settings.dataset == OWN_FILE and not path:
            raise ValueError(
                "type the path of a file with a row for each time that somebody had something: who, what, when"
            )
        if settings.dataset == OWN_FILE and not Path(os.path.expanduser(path)).exists():
            raise FileNotFoundError(f"there is no file {path!r}; a path is relative to {Path.cwd()}")
        if path == SYNTHETIC:
            facts = cls._read(Source(SYNTHETIC, _similar(settings.catalog_size)), settings.max_length)
            return replace(facts, catalog_size=settings.catalog_size)
        return cls._read(source, settings.max_length)

    @classmethod
    def _read(cls, source: Source, max_length: int) -> Facts:
        split, _ = open_data(source)
        usable = n_batches(split.train, 1)
        if usable == 0:
            raise ValueError("nobody in these data has enough interactions to learn from: each user needs four or more")
        return cls(split.catalog_size, len(split.train), mean_length(split.train, max_length), usable)

    def step(self, settings: Settings) -> tuple[int, int]:
        """Sequences in a batch, and positions of each as a rule."""
        return min(settings.batch_size, self.n_trained), max(1, math.ceil(self.positions_per_user))


@dataclass(frozen=True)
class Note:
    """A sentence at the foot of a card. ``level`` is "", "warning" (it will run) or "problem" (it cannot)."""

    text: str
    level: str = ""


@dataclass(frozen=True)
class Assessment:
    """The answer to settings.

    Attributes:
        settings: those that were asked about, bucket sizes as in the paper if ``paper_rule`` says so.
        memory: a row a loss, columns ``loss`` and the fields of :class:`sce_lab.memory.MemoryUse`; empty if unknown.
        work: a row a loss, as :func:`sce_lab.memory.tables.work` makes them; empty if unknown.
        scores: by loss, inner products of a position with an item that its forward pass takes; empty if unknown.
        fitting: of the chosen losses those that would be trained: each has room, and all have it together.
        notes: by card ("data", "loss", "sce", "model", "training").
        problem: why nothing can be trained; empty if something can.
        left_out: why some of the chosen losses would not be trained; empty if all would.
        free: bytes that were free for it.
        durations: by loss, how long a run would take; empty as long as nobody has tried.
        columns: what there is to choose from in a person's file.
    """

    settings: Settings
    facts: Facts | None
    memory: pd.DataFrame
    work: pd.DataFrame = field(default_factory=pd.DataFrame)
    scores: Mapping[str, int] = field(default_factory=dict)
    fitting: tuple[str, ...] = ()
    notes: Mapping[str, Note] = field(default_factory=dict)
    problem: str = ""
    left_out: str = ""
    free: int = 0
    durations: Mapping[str, Duration] = field(default_factory=dict)
    columns: FileColumns = FileColumns()

    @property
    def seconds(self) -> float:
        """How long Start would take, all losses and seeds together; 0 as long as nobody has tried."""
        return self.settings.n_seeds * sum(each.seconds for each in self.durations.values())


def assess(settings: Settings, free: int) -> Assessment:
    """Say what ``settings`` come to on a machine with ``free`` bytes. Never raises for what a person may choose."""
    columns = _file_columns(settings)
    try:
        facts = Facts.of(settings)
    except (ValueError, OSError) as error:
        sentence = _sentence(error, settings)
        note = {"data": Note(sentence, "problem")}
        return Assessment(settings, None, pd.DataFrame(), notes=note, problem=sentence, free=free, columns=columns)
    n_sequences, length = facts.step(settings)
    positions = n_sequences * length
    settings = settings.as_in_the_paper(positions, facts.catalog_size)
    memory = predict(settings, facts)
    scores = {loss: count_scores(settings, loss, positions, facts.catalog_size) for loss in LOOKS}
    needs = {row["loss"]: needed(row) for row in memory.to_dict("records")}
    fitting = tuple(loss for loss in settings.losses if needs[loss] <= free)
    problem = capitalised(settings.device_problem) or _problem(settings, facts, memory, fitting, free)
    refused = [f"{label(loss)} needs {format_bytes(needs[loss])}" for loss in settings.losses if loss not in fitting]
    left_out = ""
    if refused and not problem:
        left_out = f"{' and '.join(refused)} ({WITH_THE_COPY}), {format_bytes(free)} are free: left out."
    counts = f"{counted(facts.n_users, 'user')}, {counted(facts.catalog_size, 'item')}"
    notes = {
        "data": Note(f"{counts}. {columns.sentence}" if columns.sentence else counts),
        "loss": _loss_note(settings, facts, positions, scores),
        "sce": _sce_note(settings, facts, positions),
        "model": _model_note(settings, facts),
        "training": Note(
            f"N ≈ {n_sequences:,} × {length} = {positions:,} positions, "
            f"{counted(math.ceil(facts.n_trained / settings.batch_size), 'step')} an epoch"
        ),
    }
    if settings.device_problem:
        notes["training"] = Note(capitalised(settings.device_problem), "problem")
    elif settings.losses and (problem or left_out):
        short = (
            refused[0] if refused else f"Together {format_bytes(needed_together(memory, fitting, settings.n_seeds))}"
        )
        notes["loss"] = Note(f"{short}, and {format_bytes(free)} are free", "problem")
    shape = {"n_sequences": n_sequences, "length": length}
    work = tables.work([settings.config(loss) for loss in LOOKS], facts.catalog_size, **shape)
    known = {"notes": notes, "problem": problem, "left_out": left_out, "free": free, "columns": columns}
    return Assessment(settings, facts, memory, work, scores, fitting, **known)


def predict(settings: Settings, facts: Facts) -> pd.DataFrame:
    """Predicted memory of a typical step, a row a loss."""
    n_sequences, length = facts.step(settings)
    rows = []
    for loss in LOOKS:
        use = predict_memory(settings.config(loss), facts.catalog_size, n_sequences=n_sequences, length=length)
        rows.append({"loss": loss, **use.as_dict()})
    return pd.DataFrame(rows)


#: What can be done here where a message says what to type in a shell and in Python.
_CHOOSE = "Here: choose it in Who, What and When, below the path."
_DATES = "Here dates are as 2024-05-01; page 07 takes others."


def _sentence(error: BaseException, settings: Settings) -> str:
    if isinstance(error, ConnectionError):  # its own message is long and for a shell
        file = DATASETS[settings.dataset].path
        return f"The download failed. Go online, or put {file} into a folder and set SCE_LAB_DATA to that folder."
    if isinstance(error, FileNotFoundError) and settings.dataset in DATASETS and "cannot be downloaded" in str(error):
        dataset = DATASETS[settings.dataset]
        return (
            f"It cannot be downloaded as it is; it is from {dataset.source}. Put {dataset.path} into a folder and set "
            f"SCE_LAB_DATA to that folder."
        )
    if isinstance(error, ValueError) and settings.dataset == OWN_FILE:
        here = _CHOOSE if isinstance(error, ColumnsError) else _DATES if "date_format=" in str(error) else ""
        return f"{capitalised(str(error))}. {here}".strip()
    return capitalised(str(error) or type(error).__name__)


def needed(use: Mapping[str, float]) -> float:
    """:attr:`sce_lab.memory.MemoryUse.needed` of a row of a table."""
    return float(use["peak"] + use["parameters"])


def needed_together(memory: pd.DataFrame, losses: tuple[str, ...], n_seeds: int = 1) -> float:
    """Bytes that runs side by side take: each keeps its weights, their best copy and Adam's state; one does a step."""
    rows = memory[memory["loss"].isin(losses)]
    kept = n_seeds * (2 * rows["parameters"] + rows["optimizer_state"])
    step = rows["peak"] - rows["parameters"] - rows["optimizer_state"]
    return float(kept.sum() + step.max()) if len(rows) else 0.0


def _problem(settings: Settings, facts: Facts, memory: pd.DataFrame, fitting: tuple[str, ...], free: int) -> str:
    if not settings.losses:
        return "Choose at least one loss."
    together = needed_together(memory, fitting, settings.n_seeds)
    if fitting and together <= free:
        return ""
    if fitting:
        return (
            f"{' and '.join(label(loss) for loss in fitting)} side by side need {format_bytes(together)}; "
            f"{format_bytes(free)} are free. Choose fewer at a time."
        )
    needs = {row["loss"]: needed(row) for row in memory.to_dict("records")}
    advice = f"Try {'fewer items' if settings.dataset == SYNTHETIC else 'smaller data'} or a smaller batch."
    others = [loss for loss, need in needs.items() if need <= free]
    if names := listed([label(loss) for loss in others if loss != "cce"]):
        advice = f"{names} would fit."
    if "cce" in others:  # the same loss
        advice = f"Its logits never held, it would fit{f'; and so would {names}' if names else ''}."
    least = min(settings.losses, key=needs.__getitem__)
    return (
        f"{label(least)} over {facts.catalog_size:,} items needs {format_bytes(needs[least])} ({WITH_THE_COPY}); "
        f"{format_bytes(free)} are free. {advice}"
    )


def count_scores(settings: Settings, loss: str, n_positions: int, catalog_size: int) -> int:
    """Inner products of an output with an item that a step takes, or of either with a bucket's centre."""
    match loss:
        case "sampled" | "ce_minus":
            return n_positions * (settings.n_negatives + 1)
        case "bce":
            return n_positions * 2
        case "rece":
            n_chunks = min(settings.n_buckets, n_positions, catalog_size)
            near = min(3 * catalog_size // n_chunks, catalog_size)
            return n_chunks * (n_positions + catalog_size) + n_positions * near
        case "sce":
            x, y = min(settings.bucket_size_x, n_positions), min(settings.bucket_size_y, catalog_size)
            return settings.n_buckets * (n_positions + catalog_size + x * y)
        case _:  # cross-entropy, and what is not known to look at less
            return n_positions * catalog_size


# The cards have room for two lines of about thirty characters.


def _loss_note(settings: Settings, facts: Facts, positions: int, scores: Mapping[str, int]) -> Note:
    catalog, negatives = facts.catalog_size, settings.n_negatives
    match settings.losses:
        case ():
            return Note("Choose at least one", "problem")
        case ("ce",) | ("cce",):
            return Note(f"N × C = {positions:,} × {catalog:,} = {format_count(scores['ce'])} scores a step")
        case ("sampled",) if negatives >= catalog:
            return Note("More negatives than items: cross-entropy costs less", "warning")
        case ("sampled",):
            return Note(f"{positions:,} × {negatives:,} = {format_count(positions * negatives)} scores a step")
        case ("sce",):
            return Note("Scores only the items of a position's buckets")
        case several:
            return Note(f"{len(several)} at once: the same batches, a step each in turn")


def _sce_note(settings: Settings, facts: Facts, positions: int) -> Note:
    buckets, x, y = settings.n_buckets, settings.bucket_size_x, settings.bucket_size_y
    if x > positions:
        return Note(f"A step has {positions:,} positions: a bucket takes all of them", "warning")
    if y > facts.catalog_size:
        return Note(f"There are {facts.catalog_size:,} items: a bucket takes all of them", "warning")
    if buckets * x < positions:
        return Note(f"Coverage at most {buckets * x / positions:.0%}: the others do not learn in a step", "warning")
    scores, all_scores = buckets * x * y, positions * facts.catalog_size
    product = f"{buckets:,} × {x:,} × {y:,} = {format_count(scores)} scores"
    if scores > all_scores:
        return Note(f"{product}, more than CE's", "warning")
    share = 100 * scores / all_scores
    return Note(f"{product}, {f'{share:.0f}' if share >= 10 else f'{share:.2g}'}% of CE's")


def _model_note(settings: Settings, facts: Facts) -> Note:
    table, all_cells = facts.catalog_size * settings.hidden_size, 4 * facts.catalog_size * settings.hidden_size
    return Note(f"C × D = {format_count(table)} weights for the items alone, {format_bytes(all_cells)}")

"""One word for any data: a registered name, ``synthetic``, or the path of a person's own file."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pandas as pd

from sce_lab.data.datasets import DATASETS, load_dataset
from sce_lab.data.parquet_files import parts
from sce_lab.data.reading import existing, read_interactions, without_repeats
from sce_lab.data.sequences import Split
from sce_lab.data.splits import SPLITS, drop_rare, leave_one_out
from sce_lab.data.synthetic import SyntheticProcess

SYNTHETIC = "synthetic"


def written(source: str) -> list:
    """Another value whenever a person's own file was written, or a part of a folder; for all other sources empty.

    Of a file its size and when it was written, of a folder its parts with both.
    """
    try:
        path = None if source in DATASETS or source == SYNTHETIC else existing(source)
        if path is None:
            return []
        found = [(part, part.stat()) for part in parts(path)]
    except OSError:  # opening it will say what is wrong
        return []
    if path.is_dir():
        return [[str(part.relative_to(path)), stat.st_size, stat.st_mtime_ns] for part, stat in found]
    return [found[0][1].st_size, found[0][1].st_mtime_ns]


def open_interactions(
    source: str,
    *,
    user: str | None = None,
    item: str | None = None,
    timestamp: str | None = None,
    date_format: str | None = None,
    drop_repeats: bool = False,
    progress: bool = True,
) -> pd.DataFrame:
    """Load the interactions of ``source``, a key of :data:`DATASETS` or a path.

    Args:
        source: which.
        user, item, timestamp, date_format: of a file, see :func:`read_interactions`.
        drop_repeats: of a user's interactions with one item keep the first in time.
        progress: show a progress bar.

    Raises:
        ValueError: an unknown name, or columns for data that know their own.
        FileNotFoundError: there is no such file.
    """
    named = {"user": user, "item": item, "timestamp": timestamp, "date_format": date_format}
    if source in DATASETS or source == SYNTHETIC:
        if given := [name for name, value in named.items() if value is not None]:
            raise ValueError(f"{', '.join(given)} say which columns of a file are meant; {source!r} has its own")
        interactions = SyntheticProcess().interactions() if source == SYNTHETIC else None
        interactions = load_dataset(source, progress=progress) if interactions is None else interactions
        return without_repeats(interactions) if drop_repeats else interactions
    if not (Path(source).suffix or os.path.exists(source)):
        raise ValueError(f"unknown data set {source!r}: use {', '.join([SYNTHETIC, *DATASETS])}, or a path to a file")
    return read_interactions(source, **named, drop_repeats=drop_repeats, progress=progress)


def open_split(
    source: str,
    *,
    catalog_size: int | None = None,
    seed: int = 0,
    split: str | None = None,
    user: str | None = None,
    item: str | None = None,
    timestamp: str | None = None,
    date_format: str | None = None,
    drop_repeats: bool = False,
    progress: bool = True,
) -> tuple[Split, SyntheticProcess | None]:
    """Load ``source`` and divide it by a rule, by default the one that belongs to it.

    Args:
        source: a key of :data:`DATASETS`, ``"synthetic"``, or a path to a file of interactions.
        catalog_size: items of the synthetic process; no other source takes it.
        seed: of the synthetic process.
        split: a key of :data:`SPLITS`. Default: that of the data set's published results; for a file leave-one-out.
        user, item, timestamp, date_format, drop_repeats: of a file, see :func:`open_interactions`.
        progress: show a progress bar.

    Returns:
        The split, and for synthetic data the process that made it, which knows the best reachable metrics.

    Raises:
        ValueError: an unknown name or rule, or ``catalog_size`` or columns for data that have their own.
    """
    columns = {"user": user, "item": item, "timestamp": timestamp, "date_format": date_format}
    columns |= {"drop_repeats": drop_repeats}
    if split is not None and split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if source == SYNTHETIC:
        if given := [name for name, value in (columns | {"split": split}).items() if value not in (None, False)]:
            raise ValueError(f"{', '.join(given)} cannot be chosen for synthetic data, which are what they are")
        process = SyntheticProcess(**({} if catalog_size is None else {"catalog_size": catalog_size}), seed=seed)
        interactions = process.interactions()
        return leave_one_out(interactions, catalog_size=process.catalog_size, name=SYNTHETIC), process
    if catalog_size is not None:
        raise ValueError(f"catalog_size applies to synthetic data only; {source!r} has the items it has")
    interactions = open_interactions(source, progress=progress, **columns)
    if source in DATASETS:
        dataset = DATASETS[source]
        if dataset.counts and (difference := dataset.difference(drop_rare(interactions))):
            warnings.warn(f"{difference}: its figures cannot be compared exactly", stacklevel=2)
        return SPLITS[split or dataset.split](interactions, name=source), None
    return SPLITS[split or "leave_one_out"](interactions, name=Path(source).name), None

"""One word for any data: a registered name, ``synthetic``, or the path of a person's own file."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from sce_lab.data.datasets import DATASETS, load_dataset
from sce_lab.data.reading import read_interactions
from sce_lab.data.sequences import Split
from sce_lab.data.splits import SPLITS, drop_rare, leave_one_out
from sce_lab.data.synthetic import SyntheticProcess

SYNTHETIC = "synthetic"


def open_split(
    source: str, *, catalog_size: int | None = None, seed: int = 0, progress: bool = True
) -> tuple[Split, SyntheticProcess | None]:
    """Load ``source`` and divide it by the rule that belongs to it.

    Args:
        source: a key of :data:`DATASETS`, ``"synthetic"``, or a path to a CSV, TSV or parquet file with the columns
            ``user, item, timestamp`` (divided leave-one-out).
        catalog_size: items of the synthetic process; no other source takes it.
        seed: of the synthetic process.
        progress: show a progress bar while downloading.

    Returns:
        The split, and for synthetic data the process that made it, which knows the best reachable metrics.

    Raises:
        ValueError: an unknown name, or ``catalog_size`` for data that have their own.
    """
    if source == SYNTHETIC:
        process = SyntheticProcess(**({} if catalog_size is None else {"catalog_size": catalog_size}), seed=seed)
        interactions = process.interactions()
        return leave_one_out(interactions, catalog_size=process.catalog_size, name=SYNTHETIC), process
    if catalog_size is not None:
        raise ValueError(f"catalog_size applies to synthetic data only; {source!r} has the items it has")
    if source in DATASETS:
        dataset, interactions = DATASETS[source], load_dataset(source, progress=progress)
        if dataset.counts and (difference := dataset.difference(drop_rare(interactions))):
            warnings.warn(f"{difference}: its figures cannot be compared exactly", stacklevel=2)
        return SPLITS[dataset.split](interactions, name=source), None
    if not (Path(source).suffix or os.path.exists(source)):
        raise ValueError(f"unknown data set {source!r}: use {', '.join([SYNTHETIC, *DATASETS])}, or a path to a file")
    return leave_one_out(read_interactions(source), name=Path(source).name), None

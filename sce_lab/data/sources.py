"""One word for any data: a registered name, ``synthetic``, or the path of a person's own file."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pandas as pd

from sce_lab.data.datasets import DATASETS, load_dataset
from sce_lab.data.reading import read_interactions
from sce_lab.data.sequences import Split
from sce_lab.data.splits import SPLITS, drop_rare, leave_one_out
from sce_lab.data.synthetic import SyntheticProcess

SYNTHETIC = "synthetic"


def open_split(
    source: str, *, catalog_size: int | None = None, seed: int = 0, split: str = "", progress: bool = True
) -> tuple[Split, SyntheticProcess | None]:
    """Load ``source`` and divide it by the rule that belongs to it.

    Args:
        source: a key of :data:`DATASETS`, ``"synthetic"``, or a path to a CSV, TSV or parquet file with the columns
            ``user, item, timestamp`` (divided leave-one-out).
        catalog_size: items of the synthetic process; no other source takes it.
        seed: of the synthetic process.
        split: the rule by which a person's own file is divided, a key of :data:`.SPLITS`; default: leave-one-out.
            Without the paper's filters: nobody and nothing is left out for being rare.
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
    if split and (source in DATASETS or split not in SPLITS):
        known = ", ".join(SPLITS)
        raise ValueError(f"split is one of {known}, of a file of your own; got {split!r} for {source!r}")
    if source in DATASETS:
        dataset, interactions = DATASETS[source], load_dataset(source, progress=progress)
        if dataset.counts and (difference := dataset.difference(drop_rare(interactions))):
            warnings.warn(f"{difference}: its figures cannot be compared exactly", stacklevel=2)
        return SPLITS[dataset.split](interactions, name=source), None
    if not (Path(source).suffix or os.path.exists(source)):
        raise ValueError(f"unknown data set {source!r}: use {', '.join([SYNTHETIC, *DATASETS])}, or a path to a file")
    return divide(read_interactions(source), split or "leave_one_out", Path(source).name), None


def divide(interactions: pd.DataFrame, rule: str, name: str = "") -> Split:
    """Interactions of a person's own, divided by a rule of :data:`.SPLITS` without its filters."""
    everyone = {} if rule == "leave_one_out" else {"min_users_per_item": None, "min_items_per_user": None}
    return SPLITS[rule](interactions, name=name, **everyone)

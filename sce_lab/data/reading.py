"""A person's own interactions, from a file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from sce_lab.data.columns import ids, times
from sce_lab.data.interactions import check_interactions
from sce_lab.data.tables import read_columns


def read_interactions(
    path: str | Path, *, user: str = "user", item: str = "item", timestamp: str | None = "timestamp"
) -> pd.DataFrame:
    """Read a person's own interactions from CSV, TSV (both may be gzipped) or parquet.

    The first line of a text file names the columns, which are separated by comma, tab or semicolon; columns that are
    not asked for are ignored, but every row has as many fields as there are names. Ids are taken as they are written:
    "007" and "7" are two users ("1" and "1.0" in one column are refused), and ids become integers only where nothing is
    lost by it. Times may be numbers, which stay as they are, or dates such as 2024-05-01 or 2024-05-01T13:30:00Z, which
    become Unix seconds (UTC unless the date says otherwise): whole numbers if all of them are, else float64, which
    tells microseconds apart. Finer times are refused where their order would be lost.

    Args:
        path: the file.
        user: the column that says who.
        item: the column that says what.
        timestamp: the column that says when. None if the rows already stand in order, oldest first; the timestamp is
            then the number of the row.

    Returns:
        A DataFrame with the columns ``user, item, timestamp``, rows in the order of the file: the order of equal
        timestamps.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown suffix, a file that is empty, damaged or not of its format, a row with other than the
            named fields, a column that is missing or there twice, a missing id, a time that cannot be read, times of
            several units, or data in which every user has a single interaction. The message says which and where;
            rows are counted from 1, without the header.
    """
    path = Path(os.path.expanduser(path))
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path} (searched from {Path.cwd()})")
    names = {"user": user, "item": item} | ({} if timestamp is None else {"timestamp": timestamp})
    if len(set(names.values())) < len(names):
        raise ValueError(f"user, item and timestamp must be different columns, got {', '.join(names.values())}")

    columns = read_columns(path, names)
    n = len(columns["user"])
    if not n:
        raise ValueError(f"{path.name} has column names but no rows: there is nothing to learn from")
    interactions = pd.DataFrame({"user": ids(columns["user"], user), "item": ids(columns["item"], item)})
    interactions["timestamp"] = np.arange(n) if timestamp is None else times(columns["timestamp"], timestamp)
    check_interactions(interactions, names)
    if interactions["user"].is_unique:
        raise ValueError(
            f"{'the only user' if n == 1 else f'every one of the {n:,} users'} in {path.name} has a single "
            f"interaction, so there are no sequences to learn from; is {user!r} really the column that says who?"
        )
    return interactions

"""A person's own interactions, from a file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from sce_lab.data.columns import ids, times
from sce_lab.data.interactions import check_interactions
from sce_lab.data.naming import Columns
from sce_lab.data.tables import READABLE, look_at, read_columns


def read_interactions(
    path: str | Path,
    *,
    user: str | None = None,
    item: str | None = None,
    timestamp: str | None = None,
    date_format: str | None = None,
    drop_repeats: bool = False,
    progress: bool = False,
) -> pd.DataFrame:
    """Read a person's own interactions: delimited text, JSON lines, parquet, or a folder of parquet.

    Text has commas, tabs, semicolons, bars, blanks or double colons between its fields, and is called ``.csv``,
    ``.tsv``, ``.txt``, ``.dat``, ``.data`` or ``.inter`` (RecBole's, with ``user_id:token`` for a name); JSON lines
    ``.jsonl``, ``.ndjson`` or ``.json``. Both may be packed: ``.gz``, ``.zip``, ``.zst``. Every row of text has as many
    fields as the first line, which names the columns or, where it looks like a row, does not: then columns have
    numbers, from 1. Columns that are not asked for are ignored.

    Ids are taken as they are written: "007" and "7" are two users ("1" and "1.0" in one column are refused), and ids
    become integers only where nothing is lost by it. Times may be numbers, which stay as they are, or dates such as
    2024-05-01 or 2024-05-01T13:30:00Z, which become Unix seconds (UTC unless the date says otherwise): whole numbers if
    all of them are, else float64, which tells microseconds apart. Finer times are refused where their order would be
    lost.

    A file of whole numbers is read in less than three times its size of memory, packed or not.

    Args:
        path: the file, or a folder of parquet files, which are read in the order of their names.
        user: the column that says who. By default the one that has a usual name for that, such as ``user_id``,
            ``reviewerID`` or ``visitorid``, if there is just one: see :data:`sce_lab.data.naming.USUAL`.
        item: the column that says what, likewise.
        timestamp: the column that says when, likewise; ``""`` if the rows already stand in order, oldest first, as they
            are taken to if no column can be one of times. The timestamp is then the number of the row.
        date_format: how dates are written, as ``strftime`` has it: ``"%d/%m/%Y"``.
        drop_repeats: of a user's interactions with one item keep the first in time.
        progress: show a progress bar.

    Returns:
        A DataFrame with the columns ``user, item, timestamp``, rows in the order of the file: the order of equal
        timestamps. ``.attrs["columns"]`` says in a sentence which column was taken for what.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown suffix, a file that is empty, damaged or not of its format, a row with other than the
            named fields, a column that is missing, there twice or not to be told, a missing id, a time that cannot be
            read, times of several units, or data in which every user has a single interaction. The message says which
            and where; rows are counted from 1, without the header.
    """
    path = existing(path)
    _check_format(date_format)
    asked = {"user": user, "item": item, "timestamp": timestamp}
    chosen, columns = read_columns(path, asked, progress, date_format)
    names = chosen.names
    n = len(columns["user"])
    if not n:
        raise ValueError(f"{path.name} has column names but no rows: there is nothing to learn from")
    interactions = pd.DataFrame(index=pd.RangeIndex(n))
    for key, name in names.items():  # one at a time: what was read of a column goes before the next one is converted
        column = columns.pop(key)
        found = times(column, name, date_format) if key == "timestamp" else ids(column, name)
        interactions[key] = pd.Series(found, copy=False)
        del column, found
        pa.default_memory_pool().release_unused()
    if "timestamp" not in names:
        interactions["timestamp"] = np.arange(n)
    check_interactions(interactions, names)
    if _each_once(interactions["user"]):
        raise ValueError(
            f"{'the only user' if n == 1 else f'every one of the {n:,} users'} in {path.name} has a single "
            f"interaction, so there are no sequences to learn from; is {names['user']!r} "
            f"really the column that says who?"
        )
    if drop_repeats:
        interactions = without_repeats(interactions)
    interactions.attrs["columns"] = chosen.sentence
    return interactions


def columns_of(
    path: str | Path, *, user: str | None = None, item: str | None = None, timestamp: str | None = None
) -> tuple[Columns, list[str]]:
    """Which columns of a file :func:`read_interactions` would take, and the names of all; only its head is read.

    Raises:
        FileNotFoundError: there is no such file.
        ColumnsError: the columns cannot be told; it has the names of all.
        ValueError: as :func:`read_interactions`.
    """
    return look_at(existing(path), {"user": user, "item": item, "timestamp": timestamp})


def without_repeats(interactions: pd.DataFrame) -> pd.DataFrame:
    """Of each user's interactions with one item the first in time, of equal times the first row; rows stay in order."""
    first = interactions.sort_values("timestamp", kind="stable").drop_duplicates(["user", "item"]).index
    return interactions.loc[first.sort_values()].reset_index(drop=True)


def existing(path: str | Path) -> Path:
    """The path of a file or folder that is there.

    Raises:
        FileNotFoundError: it is not, or is a folder with a name of a file.
    """
    path = Path(os.path.expanduser(path))
    of_a_file = str(path) == "." or path.name.lower().endswith(tuple(set(READABLE) - {".parquet"}))
    if os.path.isfile(path) or (os.path.isdir(path) and not of_a_file):
        return path
    raise FileNotFoundError(f"there is no file {path} (searched from {Path.cwd()})")


def _each_once(ids: pd.Series) -> bool:
    """Whether no id is there twice; seen in the first rows, as a rule, so that a table of them all need not be made."""
    return ids.iloc[:1000].is_unique and ids.is_unique


def _check_format(date_format: str | None) -> None:
    if date_format is not None:
        try:
            pd.to_datetime(pd.Series(["2024"]), format=date_format, errors="coerce")
        except ValueError as error:
            raise ValueError(
                f"date_format={date_format!r} is no format of dates ({error}); one is '%d/%m/%Y'"
            ) from error

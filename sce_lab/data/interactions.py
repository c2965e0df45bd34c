"""Interactions: a DataFrame with one row for each time a user met an item, columns `user`, `item`, `timestamp`.

Users and items may be anything hashable; the timestamp is a number that grows with time, usually Unix seconds, but any
order will do (a position, a page number).
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ["user", "item", "timestamp"]
_TEXT_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_SEPARATORS = (",", "\t", ";")


def read_interactions(
    path: str | Path, *, user: str = "user", item: str = "item", timestamp: str | None = "timestamp"
) -> pd.DataFrame:
    """Read a person's own interactions from CSV, TSV (also gzipped) or parquet.

    The first line of a text file names the columns; columns may be separated by comma, tab or semicolon. Further
    columns are ignored. Ids are taken as they are written: "007" and "7" are two different users; ids become integers
    only where nothing is lost by it. Times may be numbers, which are taken as they are, or dates ("2024-05-01",
    "2024-05-01T13:30:00Z"), which become Unix seconds (UTC unless the date says otherwise).

    Args:
        path: the file.
        user: name of the column that says who.
        item: name of the column that says what.
        timestamp: name of the column that says when; None if the rows already stand in order, oldest first (the
            timestamp is then the row number).

    Returns a DataFrame with the columns user, item, timestamp, in the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown suffix, an empty file, a missing column, a missing id, a time that cannot be read, or
            data in which every user has a single interaction.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} (looked for it from {Path.cwd()})")
    columns = {"user": user, "item": item} | ({} if timestamp is None else {"timestamp": timestamp})
    if len(set(columns.values())) < len(columns):
        raise ValueError(
            f"user, item and timestamp must be different columns, got {', '.join(columns.values())}"
        )

    name = path.name.lower()
    if name.endswith(".parquet"):
        raw = pd.read_parquet(path)
    elif name.endswith(_TEXT_SUFFIXES):
        raw = _read_text(path)
    else:
        raise ValueError(
            f"cannot tell the format of {path.name}; known are {', '.join(_TEXT_SUFFIXES)} and .parquet"
        )
    for argument, column in columns.items():
        if column not in raw.columns:
            raise ValueError(
                f"{path.name} has no column {column!r}; it has {', '.join(map(repr, raw.columns))}. "
                f"Say which one is meant: read_interactions(path, {argument}={str(raw.columns[0])!r})"
            )
    if raw.empty:
        raise ValueError(f"{path.name} has a header but no rows: there is nothing to read")

    ids = {argument: _as_ids(raw[columns[argument]], columns[argument]) for argument in ("user", "item")}
    when = np.arange(len(raw)) if timestamp is None else _as_timestamps(raw[timestamp], timestamp)
    interactions = pd.DataFrame({**ids, "timestamp": when})
    if interactions["user"].is_unique:
        raise ValueError(
            f"every one of the {len(interactions)} users in {path.name} has a single interaction, so there is no "
            f"sequence to learn from. Is {user!r} really the column that says who?"
        )
    return interactions


def check_interactions(interactions: pd.DataFrame) -> pd.DataFrame:
    """Return `interactions`, or explain what keeps it from being interactions.

    Raises:
        ValueError: a column is missing, there are no rows, an id or a time is missing, or times are not numbers.
    """
    missing = [column for column in COLUMNS if column not in interactions.columns]
    if missing:
        raise ValueError(
            f"interactions need the columns user, item and timestamp; {', '.join(missing)} is missing from "
            f"{', '.join(map(str, interactions.columns))}"
        )
    if interactions.empty:
        raise ValueError("there are no interactions: the DataFrame has no rows")
    if not pd.api.types.is_numeric_dtype(interactions["timestamp"]):
        raise ValueError(
            f"timestamps must be numbers, got {interactions['timestamp'].dtype}; "
            f"for dates use .astype('datetime64[s]').astype('int64')"
        )
    for column in COLUMNS:
        if (absent := interactions[column].isna()).any():
            raise ValueError(
                f"column {column!r} has {absent.sum()} missing values, the first in row {int(absent.argmax()) + 1}; "
                f"drop those rows with interactions.dropna()"
            )
    return interactions


def summarize(interactions: pd.DataFrame) -> pd.DataFrame:
    """Describe a data set by one column of numbers, for a table.

    Density is the share of all pairs of user and item that occur. The span is in days if the timestamps are Unix
    seconds, otherwise in the data's own time steps.
    """
    interactions = check_interactions(interactions)
    n = len(interactions)
    per_user = interactions["user"].value_counts()
    per_item = interactions["item"].value_counts()
    first, last = interactions["timestamp"].min(), interactions["timestamp"].max()
    unix_seconds = first >= 631_152_000 and last < 4_102_444_800  # 1990 to 2100
    distinct = n - int(interactions.duplicated(["user", "item"]).sum())
    numbers = {
        "users": len(per_user),
        "items": len(per_item),
        "interactions": n,
        "interactions per user, mean": n / len(per_user),
        "interactions per user, median": float(per_user.median()),
        "interactions per user, least": int(per_user.min()),
        "interactions per user, most": int(per_user.max()),
        "interactions per item, mean": n / len(per_item),
        "interactions per item, median": float(per_item.median()),
        "items that occur once": int((per_item == 1).sum()),
        "share of the most popular 1 % of items": per_item.iloc[: max(1, len(per_item) // 100)].sum() / n,
        "repeated (user, item) pairs": n - distinct,
        "density": distinct / (len(per_user) * len(per_item)),
        "span (days)" if unix_seconds else "span (time steps)": (last - first)
        / (86_400 if unix_seconds else 1),
    }
    # dtype object: counts stay whole numbers next to averages.
    return pd.DataFrame({"value": pd.Series(numbers, dtype=object)})


def _read_text(path: Path) -> pd.DataFrame:
    """Read every column as text; what the values are is decided later, whole columns at a time."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8-sig", errors="replace") as file:
        header = file.readline()
    if not header.strip():
        raise ValueError(
            f"{path.name} is empty: the first line must name the columns, for example user,item,timestamp"
        )
    separator = max(_SEPARATORS, key=header.count)
    return pd.read_csv(path, sep=separator, dtype=str, encoding="utf-8-sig", skipinitialspace=True)


def _as_ids(values: pd.Series, column: str) -> pd.Series:
    if (absent := values.isna()).any():
        raise ValueError(
            f"column {column!r} has {absent.sum()} missing ids, the first in row {int(absent.argmax()) + 1} "
            f"(the header not counted); fill them in or delete those rows"
        )
    if pd.api.types.is_string_dtype(values):
        numbers = pd.to_numeric(values, errors="coerce")
        if pd.api.types.is_integer_dtype(numbers) and (numbers.astype(str) == values).all():
            return numbers
    return values


def _as_timestamps(values: pd.Series, column: str) -> np.ndarray:
    if pd.api.types.is_datetime64_any_dtype(values):
        times = _unix_seconds(pd.to_datetime(values, utc=True))
    elif pd.api.types.is_numeric_dtype(values):
        times = values
    else:
        times = pd.to_numeric(values, errors="coerce")
        if times.isna().any():
            times = _unix_seconds(pd.to_datetime(values, utc=True, errors="coerce", format="ISO8601"))
    if (bad := times.isna().to_numpy()).any():
        row = int(bad.argmax())
        raise ValueError(
            f"column {column!r} has {bad.sum()} times that cannot be read, the first is {values.iloc[row]!r} in row "
            f"{row + 1} (the header not counted); write times as numbers or as 2024-05-01T13:30:00Z, not both"
        )
    return times.to_numpy()


def _unix_seconds(dates: pd.Series) -> pd.Series:
    seconds = (dates - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    whole = seconds.notna().all() and (seconds % 1 == 0).all()
    return seconds.astype("int64") if whole else seconds

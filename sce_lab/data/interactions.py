"""Interactions: a DataFrame with one row for each time a user met an item, columns ``user, item, timestamp``.

Users and items may be anything hashable. The timestamp is a number that grows with time, usually Unix seconds, but
any order will do: a position, a page number.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ("user", "item", "timestamp")

_TEXT_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_SEPARATORS = (",", "\t", ";")


def read_interactions(
    path: str | Path, *, user: str = "user", item: str = "item", timestamp: str | None = "timestamp"
) -> pd.DataFrame:
    """Read a person's own interactions from CSV, TSV (both may be gzipped) or parquet.

    The first line of a text file names the columns, which are separated by comma, tab or semicolon; columns that are
    not asked for are ignored. Ids are taken as they are written: "007" and "7" are two users, and ids become integers
    only where nothing is lost by it. Times may be numbers, which stay as they are, or dates such as 2024-05-01 or
    2024-05-01T13:30:00Z, which become Unix seconds (UTC unless the date says otherwise).

    Args:
        path: the file.
        user: the column that says who.
        item: the column that says what.
        timestamp: the column that says when. None if the rows already stand in order, oldest first; the timestamp is
            then the number of the row.

    Returns:
        A DataFrame with the columns ``user, item, timestamp``, rows in the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown suffix, a file that is empty or not of its format, a missing column or id, a time that
            cannot be read, or data in which every user has a single interaction. The message says which and where;
            rows are counted from 1, without the header.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} (searched from {Path.cwd()})")
    columns = {"user": user, "item": item, "timestamp": timestamp}
    if timestamp is None:
        del columns["timestamp"]
    if len(set(columns.values())) < len(columns):
        raise ValueError(f"user, item and timestamp must be different columns, got {', '.join(columns.values())}")

    raw = _read_table(path)
    for argument, column in columns.items():
        if column not in raw.columns:
            raise ValueError(_missing_column(path, argument, column, list(raw.columns)))
    if raw.empty:
        raise ValueError(f"{path.name} has column names but no rows: there is nothing to learn from")

    interactions = pd.DataFrame({"user": _ids(raw[user], user), "item": _ids(raw[item], item)})
    interactions["timestamp"] = np.arange(len(raw)) if timestamp is None else _times(raw[timestamp], timestamp)
    if interactions["user"].is_unique:
        raise ValueError(
            f"every one of the {len(interactions)} users in {path.name} has a single interaction, so there are no "
            f"sequences to learn from; is {user!r} really the column that says who?"
        )
    return interactions


def check_interactions(interactions: pd.DataFrame) -> pd.DataFrame:
    """Return ``interactions`` unchanged, or say what keeps them from being interactions.

    Raises:
        ValueError: a column is missing, there are no rows, an id or a time is missing, or times are not numbers.
    """
    missing = [column for column in COLUMNS if column not in interactions.columns]
    if missing:
        raise ValueError(
            f"interactions need the columns user, item and timestamp, but {', '.join(missing)} is not among "
            f"{', '.join(map(str, interactions.columns))}; rename with interactions.rename(columns={{...}})"
        )
    if interactions.empty:
        raise ValueError("there are no interactions: the DataFrame has no rows")
    if not pd.api.types.is_numeric_dtype(interactions["timestamp"]):
        raise ValueError(
            f"timestamps must be numbers, got {interactions['timestamp'].dtype}; dates become Unix seconds with "
            f"interactions['timestamp'].astype('datetime64[s]').astype('int64')"
        )
    for column in COLUMNS:
        if (absent := interactions[column].isna().to_numpy()).any():
            raise ValueError(
                f"column {column!r} has {absent.sum()} missing values, the first in row {absent.argmax() + 1}; "
                f"drop such rows with interactions.dropna()"
            )
    return interactions


def summarize(interactions: pd.DataFrame) -> pd.DataFrame:
    """Describe a data set by one column of numbers, ``value``; the index says of what.

    Density is the share of all (user, item) pairs that occur. The span is in days if the timestamps look like Unix
    seconds (1990 to 2100), otherwise in the data's own steps.
    """
    interactions = check_interactions(interactions)
    n = len(interactions)
    per_user = np.bincount(pd.factorize(interactions["user"])[0])
    per_item = np.sort(np.bincount(pd.factorize(interactions["item"])[0]))
    n_pairs = n - int(interactions.duplicated(["user", "item"]).sum())
    first, last = interactions["timestamp"].min(), interactions["timestamp"].max()
    in_seconds = first >= 631_152_000 and last < 4_102_444_800
    numbers = {
        "users": len(per_user),
        "items": len(per_item),
        "interactions": n,
        "interactions per user, mean": n / len(per_user),
        "interactions per user, median": float(np.median(per_user)),
        "interactions per user, least": int(per_user.min()),
        "interactions per user, most": int(per_user.max()),
        "interactions per item, mean": n / len(per_item),
        "interactions per item, median": float(np.median(per_item)),
        "items that occur once": int((per_item == 1).sum()),
        "share of the most popular 1 % of items": float(per_item[-max(1, len(per_item) // 100) :].sum() / n),
        "repeated (user, item) pairs": n - n_pairs,
        "density": n_pairs / (len(per_user) * len(per_item)),
        "span (days)" if in_seconds else "span (steps)": float((last - first) / (86_400 if in_seconds else 1)),
    }
    return pd.DataFrame({"value": pd.Series(numbers, dtype=object)})  # object: counts stay whole numbers


def _read_table(path: Path) -> pd.DataFrame:
    """The raw columns. Text stays text: what a column holds is decided by looking at all of it."""
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            return pd.read_parquet(path)
        if name.endswith(_TEXT_SUFFIXES):
            with (gzip.open if name.endswith(".gz") else open)(path, "rt", encoding="utf-8") as file:
                header = file.readline()
            return pd.read_csv(
                path,
                sep=max(_SEPARATORS, key=header.count),
                dtype=str,
                keep_default_na=False,  # a user may be called NA; only an empty field is missing
                na_values=[""],
            )
    except pd.errors.EmptyDataError:
        raise ValueError(
            f"{path.name} is empty: its first line must name the columns, for example user,item,timestamp"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 text ({error}); save it again with that encoding") from error
    except (ValueError, OSError) as error:  # pandas and pyarrow: the content is not what the suffix promises
        raise ValueError(f"{path.name} cannot be read: {error}") from error
    raise ValueError(f"the suffix of {path.name} is unknown; known are {', '.join(_TEXT_SUFFIXES)} and .parquet")


def _missing_column(path: Path, argument: str, column: str, found: list[str]) -> str:
    alike = next((name for name in found if argument in str(name).lower()), found[0])
    return (
        f"{path.name} has no column {column!r}, it has {', '.join(map(repr, found))}; "
        f"say which one is meant, for example read_interactions(path, {argument}={alike!r})"
    )


def _ids(values: pd.Series, column: str) -> pd.Series:
    if (absent := values.isna().to_numpy()).any():
        raise ValueError(
            f"column {column!r} has {absent.sum()} missing ids, the first in row {absent.argmax() + 1}; "
            f"fill them in or delete those rows"
        )
    if pd.api.types.is_string_dtype(values):
        numbers = pd.to_numeric(values, errors="coerce")
        if pd.api.types.is_integer_dtype(numbers) and (numbers.astype(str) == values).all():
            return numbers
    return values


def _times(values: pd.Series, column: str) -> np.ndarray:
    if pd.api.types.is_datetime64_any_dtype(values):
        times = _unix_seconds(pd.to_datetime(values, utc=True))
    else:
        times = pd.to_numeric(values, errors="coerce")
        if times.isna().any():
            dates = _unix_seconds(pd.to_datetime(values.astype(str), utc=True, errors="coerce", format="ISO8601"))
            times = dates if dates.notna().sum() > times.notna().sum() else times  # report what is the exception
    bad = ~np.isfinite(times.to_numpy(dtype=float))
    if bad.any():
        row = bad.argmax()
        raise ValueError(
            f"column {column!r} has {bad.sum()} times that cannot be read, the first is {str(values.iloc[row])!r} in "
            f"row {row + 1}; write all times as numbers, or all as dates like 2024-05-01T13:30:00Z"
        )
    return times.to_numpy()


def _unix_seconds(dates: pd.Series) -> pd.Series:
    seconds = (dates - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    return seconds.astype("int64") if (seconds % 1 == 0).all() else seconds

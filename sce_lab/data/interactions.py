"""Interactions: a DataFrame with one row for each time a user met an item, columns ``user, item, timestamp``.

Users and items may be anything hashable. The timestamp is a number that grows with time, usually Unix seconds, but
any order will do: a position, a page number.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

COLUMNS = ("user", "item", "timestamp")

_SECONDS = (631_152_000, 4_102_444_800)  # 1990 and 2100 in Unix seconds
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


def unix_unit(times: np.ndarray) -> str | None:
    """In which of the :data:`UNITS` all of these numbers are Unix times of 1990 to 2100; None if in none."""
    if not len(times):
        return None
    first, last = times.min().item(), times.max().item()
    inside = (
        u for u, per_second in UNITS.items() if _SECONDS[0] <= first / per_second and last / per_second < _SECONDS[1]
    )
    return next(inside, None)


def check_interactions(interactions: pd.DataFrame, names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return ``interactions`` unchanged, or say what keeps them from being interactions.

    Args:
        interactions: what claims to be interactions.
        names: what the columns are called where they come from, for the message.

    Raises:
        ValueError: a column is missing or there twice, there are no rows, an id or a time is missing, ids are not
            hashable or the same number written in two ways, or times are not finite numbers of one unit.
    """
    if not isinstance(interactions, pd.DataFrame):
        raise ValueError(f"interactions must be a pandas DataFrame, got {type(interactions).__name__}")
    found = list(interactions.columns)
    if missing := [column for column in COLUMNS if column not in found]:
        raise ValueError(
            f"interactions need the columns user, item and timestamp, but {', '.join(missing)} is not among "
            f"{', '.join(map(str, found))}; rename with interactions.rename(columns={{...}})"
        )
    if twice := [column for column in COLUMNS if found.count(column) > 1 or interactions[column].ndim > 1]:
        raise ValueError(f"interactions have several columns {twice[0]!r}; keep the one that is meant")
    if interactions.empty:
        raise ValueError("there are no interactions: the DataFrame has no rows")
    names = dict(zip(COLUMNS, COLUMNS)) | dict(names or {})
    for column in COLUMNS:
        if (absent := interactions[column].isna().to_numpy()).any():
            raise ValueError(
                f"column {names[column]!r} has {count(absent.sum(), 'missing value')}, the first in row "
                f"{absent.argmax() + 1}; drop such rows with interactions.dropna()"
            )
    for column in ("user", "item"):
        _check_ids(interactions[column], names[column])
    _check_times(interactions["timestamp"], names["timestamp"])
    return interactions


def _check_ids(ids: pd.Series, name: str) -> None:
    if pd.api.types.is_numeric_dtype(ids):
        return
    try:
        distinct = pd.Series(pd.unique(ids))
    except TypeError as error:  # lists, dictionaries, sets
        raise ValueError(f"column {name!r} holds values that are no ids ({error}); ids are numbers or text") from None
    written = distinct.astype(str)
    numbers = written.str.extract(r"^\s*(-?\d+)(?:\.0*)?\s*$", expand=False)
    again = (numbers.notna() & numbers.duplicated()).to_numpy()
    if again.any():
        second = again.argmax()
        first = (numbers == numbers[second]).to_numpy().argmax()
        raise ValueError(
            f"column {name!r} has both {distinct[first]!r} and {distinct[second]!r}, and ids are taken as they are "
            f"written, so these would be two; write all ids in one way"
        )


def _check_times(times: pd.Series, name: str) -> None:
    values = times.to_numpy()
    if values.dtype.kind not in "iuf":
        raise ValueError(
            f"timestamps must be numbers, got {times.dtype}; dates become Unix seconds with "
            f"interactions['timestamp'].astype('datetime64[s]').astype('int64')"
        )
    values = values.astype(np.float64) if values.dtype.kind == "f" else values  # half precision ends at 65,504
    if not np.isfinite(values).all():
        bad = ~np.isfinite(values)
        raise ValueError(
            f"column {name!r} has {count(bad.sum(), 'time')} that {'is' if bad.sum() == 1 else 'are'} not finite, the "
            f"first is {values[bad.argmax()]} in row {bad.argmax() + 1}; correct or drop such rows"
        )
    if unix_unit(values):  # as a rule: nothing more need be made of them
        return
    rows = {}
    for unit, per_second in UNITS.items():
        inside = (values >= _SECONDS[0] * per_second) & (values < _SECONDS[1] * per_second)
        if inside.any():
            rows[unit] = inside.argmax()
    if len(rows) > 1:
        (unit, row), (other, other_row) = list(rows.items())[:2]
        raise ValueError(
            f"column {name!r} mixes units of time: row {row + 1} has {values[row]}, which are Unix {unit}, and row "
            f"{other_row + 1} has {values[other_row]}, which are {other}; write all times in one unit"
        )


def count(n: int, what: str) -> str:
    """Words for messages: ``1 user``, ``2 users``, ``1,234 users``."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def summarize(interactions: pd.DataFrame) -> pd.DataFrame:
    """Describe a data set by one column of numbers, ``value``; the index says of what.

    Density is the share of all (user, item) pairs that occur. The span is in days if the timestamps look like Unix
    times (1990 to 2100, in seconds, milliseconds, microseconds or nanoseconds), otherwise in the data's own steps.
    """
    interactions = check_interactions(interactions)
    n = len(interactions)
    per_user = np.bincount(pd.factorize(interactions["user"])[0])
    per_item = np.sort(np.bincount(pd.factorize(interactions["item"])[0]))
    n_pairs = n - int(interactions.duplicated(["user", "item"]).sum())
    times = interactions["timestamp"].to_numpy()
    first, last = times.min().item(), times.max().item()
    unit = unix_unit(times)
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
        "span (days)" if unit else "span (steps)": float((last - first) / (86_400 * UNITS[unit] if unit else 1)),
    }
    return pd.DataFrame({"value": pd.Series(numbers, dtype=object)})  # object: counts stay whole numbers

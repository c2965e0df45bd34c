"""What a column of a file says: ids as they are written, and times that keep their order.

A time becomes a whole number if it is one, and else a float64, which tells apart Unix times of a microsecond. Where two
different times would become the same float64 their order would be lost, so that they are refused.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from sce_lab.data.interactions import count

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DATE = r"^\d{4}[^.,]*([.,]\d{1,9}(\D.*)?)?$"  # what begins like a date, and is not finer than a nanosecond
_TIMES = (
    "write all times as numbers, or all as dates like 2024-05-01T13:30:00Z, or say how they are written: "
    "--date-format '%d/%m/%Y', in Python date_format='%d/%m/%Y'"
)


def ids(column: pa.ChunkedArray, name: str) -> pd.Series:
    """The ids of a column as they are written; text becomes integers only where nothing is lost by it.

    Raises:
        ValueError: an id is missing, or the column holds something that is no id.
    """
    column = _plain(column)
    kind = column.type
    if types.is_large_string(kind):
        numbers = _integers(column)
        if numbers is not None and pc.all(pc.equal(numbers.cast(kind), column)).as_py():
            return numbers.to_pandas()
        column = _without_blanks(column)
    elif not (_is_number(kind) or types.is_boolean(kind) or types.is_large_binary(kind) or types.is_null(kind)):
        raise ValueError(f"column {name!r} holds {kind}, which says neither who nor what; ids are numbers or text")
    _refuse_missing(column, name, "id")
    if types.is_floating(kind):
        _refuse_rounded(column.to_numpy(), name)
    return column.to_pandas()


def as_whole_numbers(text: pa.Array) -> pa.Array:
    """Text as int64 if all of it is whole numbers, written in the one way that numbers are printed; else as it is."""
    numbers = _integers(text)
    return text if numbers is None or not pc.all(pc.equal(numbers.cast(text.type), text)).as_py() else numbers


def as_times(text: pa.Array, date_format: str | None = None) -> pa.Array:
    """Text as int64, or as timestamps, if all of it is such; else as it is. :func:`times` makes the same of both."""
    if date_format is None:
        numbers = as_whole_numbers(text)
        if types.is_int64(numbers.type) or not pc.all(pc.match_substring_regex(text, r"^\s*\d{4}-\d")).as_py():
            return numbers
    dates = _dates(pc.utf8_trim_whitespace(text), date_format)
    if dates.isna().any():
        return text
    return pa.array(dates.astype("int64").to_numpy(), pa.timestamp(dates.dt.unit, "UTC"))


def times(column: pa.ChunkedArray, name: str, date_format: str | None = None) -> np.ndarray:
    """The times of a column: numbers as they are, dates as Unix seconds (UTC unless the date says otherwise).

    Args:
        column: the values.
        name: of the column, for messages.
        date_format: how dates are written, as ``strftime`` has it; by default as ISO 8601 has it. It says nothing to
            a column that holds dates as such.

    Raises:
        ValueError: a time is missing or cannot be read, or different times would become the same number.
    """
    column = _plain(column)
    as_written = date_format is not None and not (types.is_date(column.type) or types.is_timestamp(column.type))
    if types.is_decimal(column.type) or (as_written and _is_number(column.type)):
        column = column.cast(pa.large_string())
    if written := types.is_large_string(column.type):
        column = _without_blanks(pc.utf8_trim_whitespace(column))
    elif types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    _refuse_missing(column, name, "time")
    if written and date_format is not None:
        dates = _dates(column, date_format)
        _refuse_unread(dates.isna().to_numpy(), column.to_pandas(), name, f"they are not written as {date_format}")
        return _unix_seconds(dates.astype("int64").to_numpy(), dates.dt.unit, name)
    if written:
        return _written_times(column, name)
    if types.is_timestamp(column.type):
        return _unix_seconds(column.cast(pa.int64()).to_numpy(), column.type.unit, name)
    if not _is_number(column.type):
        raise ValueError(f"column {name!r} holds {column.type}, which says no time; {_TIMES}")
    return column.to_numpy()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values, stored in one way for each kind."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_float16(column.type):
        return column.cast(pa.float32())
    if str(column.type) in ("string", "string_view"):
        return column.cast(pa.large_string())
    if str(column.type) in ("binary", "binary_view") or types.is_fixed_size_binary(column.type):
        return column.cast(pa.large_binary())
    return column


def _is_number(kind: pa.DataType) -> bool:
    return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)


def _integers(text: pa.ChunkedArray) -> pa.ChunkedArray | None:
    try:
        return text.cast(pa.int64())
    except pa.ArrowInvalid:
        return None


def _without_blanks(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """With null for what has no letter, no digit and no sign."""
    if not any(pc.any(pc.equal(pc.utf8_trim_whitespace(chunk), "")).as_py() for chunk in text.chunks):
        return text
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(text), ""), pa.scalar(None, text.type), text)


def _refuse_rounded(ids: np.ndarray, name: str) -> None:
    """Refuse floats so large that different ids may have become one of them."""
    bits = np.finfo(ids.dtype).nmant + 1
    if (large := np.abs(ids) >= 2.0**bits).any():
        row = large.argmax()
        raise ValueError(
            f"column {name!r} holds numbers of {bits} bits, and {count(large.sum(), 'id')} from 2^{bits} on, where "
            f"different ids become one, the first in row {row + 1}: {ids[row].item()!r}; write ids as whole numbers or "
            f"as text"
        )


def _refuse_missing(column: pa.ChunkedArray, name: str, what: str) -> None:
    absent = pc.is_null(column, nan_is_null=True).to_numpy()
    if absent.any():
        raise ValueError(
            f"column {name!r} has {count(absent.sum(), f'missing {what}')}, the first in row {absent.argmax() + 1}; "
            f"fill in what is missing or delete those rows"
        )


def _written_times(text: pa.ChunkedArray, name: str) -> np.ndarray:
    integers = _integers(text)
    if integers is not None and not pc.any(pc.match_substring(text, "x", ignore_case=True)).as_py():  # 0x1f is none
        return integers.to_numpy()
    written = text.to_pandas()
    numbers = pd.to_numeric(written, errors="coerce")
    if numbers.isna().any():
        dates = _dates(text)
        if dates.notna().sum() > numbers.notna().sum():  # report what is the exception
            _refuse_unread(dates.isna().to_numpy(), written, name)
            return _unix_seconds(dates.astype("int64").to_numpy(), dates.dt.unit, name)
    numbers = numbers.to_numpy()
    _refuse_unread(~np.isfinite(numbers), written, name)
    if numbers.dtype.kind == "f":
        _refuse_lost_order(numbers, written, name)
    return numbers


def _dates(text: pa.Array | pa.ChunkedArray, date_format: str | None = None) -> pd.Series:
    """What text says as dates; NaT where it says none."""
    if date_format is None:
        text = pc.if_else(pc.match_substring_regex(text, _DATE), text, pa.scalar(None, text.type))
    return pd.to_datetime(text.to_pandas(), utc=True, errors="coerce", format=date_format or "ISO8601")


def _unix_seconds(counts: np.ndarray, unit: str, name: str) -> np.ndarray:
    whole, rest = np.divmod(counts, _PER_SECOND[unit])
    if not rest.any():
        return whole
    seconds = whole + rest / _PER_SECOND[unit]
    _refuse_lost_order(seconds, pd.Series(counts), name)
    return seconds


def _refuse_unread(bad: np.ndarray, written: pd.Series, name: str, advice: str = _TIMES) -> None:
    if bad.any():
        row = bad.argmax()
        raise ValueError(
            f"column {name!r} has {count(bad.sum(), 'time')} that cannot be read, the first is {written.iloc[row]!r} "
            f"in row {row + 1}; {advice}"
        )


def _refuse_lost_order(times: np.ndarray, exact: pd.Series, name: str) -> None:
    """Refuse floats that are equal for times that are not; ``exact`` holds whole numbers, or numbers as text."""
    shared = pd.Series(times).duplicated(keep=False).to_numpy()
    twins = pd.DataFrame({"time": times[shared], "exact": exact[shared], "row": np.flatnonzero(shared) + 1})
    twins = twins.drop_duplicates(["time", "exact"])
    twins["exact"] = twins["exact"].map(Decimal)  # 1.5 and 1.50 are the same time
    twins = twins.drop_duplicates(["time", "exact"])
    lost = twins["time"].duplicated().to_numpy()
    if lost.any():
        second = twins.iloc[lost.argmax()]
        first = twins[twins["time"] == second["time"]].iloc[0]
        raise ValueError(
            f"column {name!r} has times too fine to be told apart: rows {first['row']} and {second['row']} differ, and "
            f"as numbers of 53 bits both are {second['time']!r}; round them, or write whole numbers below 2^63"
        )

"""Columns of a person's file, exactly as they stand there. What is not a table is refused, never read another way.

Text files are strict: every row has as many fields as the first line names columns, and a quotation mark that opens a
field is closed at the end of a field. A row that is cut, shifted or swallowed would be read as somebody else's.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from sce_lab.data.interactions import count

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")

_SEPARATORS = (",", "\t", ";")
_SHOWN = {",": "comma", "\t": "tab", ";": "semicolon"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # spreadsheets put it in front
_LIKE_A_TIME = re.compile(r'"?[-+]?\d[-+.:\dTZ ]*"?')
_BLOCK = 2**24  # bytes; a longer row is refused


def read_columns(path: Path, wanted: Mapping[str, str]) -> dict[str, pa.ChunkedArray]:
    """Read some columns of a CSV, TSV (both may be gzipped) or parquet file; text stays text.

    Args:
        path: the file.
        wanted: the name of the column in the file for each of "user", "item" and, if there is one, "timestamp".

    Returns:
        The columns under the keys of ``wanted``, rows in the order of the file.

    Raises:
        ValueError: an unknown suffix, a file that is empty, damaged or not of its format, or a column that is missing
            or there twice. The message says which and where; rows are counted from 1, without the header.
    """
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise ValueError(f"the suffix of {path.name} is unknown; known are {', '.join(SUFFIXES[:-1])} and .parquet")
    try:
        if name.endswith(".parquet"):
            return _from_parquet(path, wanted)
        content = path.read_bytes()
        return _from_text(path.name, gzip.decompress(content) if name.endswith(".gz") else content, wanted)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} ends early or is damaged ({error}); get the file again") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 text ({error}); save it again with that encoding") from error
    except (pa.ArrowException, OSError) as error:  # the content is not what the suffix promises
        raise ValueError(f"{path.name} cannot be read: {' '.join(str(error).split())}") from error


def _from_parquet(path: Path, wanted: Mapping[str, str]) -> dict[str, pa.ChunkedArray]:
    with parquet.ParquetFile(path) as file:
        _find(path.name, file.schema_arrow.names, wanted)
        table = file.read(columns=list(wanted.values()))
    table.validate(full=True)  # damaged text would be found much later
    return {key: table.column(column) for key, column in wanted.items()}


def _from_text(name: str, content: bytes, wanted: Mapping[str, str]) -> dict[str, pa.ChunkedArray]:
    content = content.removeprefix(_BYTE_ORDER_MARK).lstrip(b"\r\n")
    first = re.match(rb"[^\r\n]*", content).group()
    header = first.decode()
    if not header.strip():
        raise ValueError(f"{name} is empty: its first line must name the columns, for example user,item,timestamp")
    separator = max(_SEPARATORS, key=header.count)
    try:
        (names,) = csv.reader([header], delimiter=separator, strict=True)
    except csv.Error as error:
        raise ValueError(_stray_quote(name, "the first line", error)) from None
    position = _find(name, names, wanted)
    if not re.compile(rb"[^\r\n]").search(content, len(first)):
        raise ValueError(f"{name} has column names but no rows: there is nothing to learn from")
    if b'"' in content:
        _check_quotes(name, content[len(first) :], separator, names, position)

    used = list(map(str, position.values()))
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(pa.py_buffer(memoryview(content)[len(first) :])),
            read_options=arrow_csv.ReadOptions(
                column_names=list(map(str, range(len(names)))),
                use_threads=False,  # else a wrong row has no number
                block_size=_BLOCK,
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=used, column_types=dict.fromkeys(used, pa.large_string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        if wrong := re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", str(error), re.DOTALL):
            raise ValueError(_wrong_fields(name, *map(int, wrong.groups()[:3]), wrong[4], separator)) from None
        if "UTF8" in str(error):
            raise ValueError(f"{name} is not UTF-8 text ({error}); save it again with that encoding") from None
        raise
    return {key: table.column(column) for key, column in zip(position, used)}


# ------------------------------------------------------------------------------------------------------- what is wrong


def _find(name: str, found: list[str], wanted: Mapping[str, str]) -> dict[str, int]:
    """Where the wanted columns stand."""
    times = Counter(found)
    for key, column in wanted.items():
        if times[column] > 1:
            raise ValueError(
                f"{name} has {times[column]} columns {column!r}, and which of them says the {key} cannot be known; "
                f"give them different names"
            )
        if not times[column]:
            raise ValueError(_missing_column(name, found, wanted, key))
    return {key: found.index(column) for key, column in wanted.items()}


def _missing_column(name: str, found: list[str], wanted: Mapping[str, str], key: str) -> str:
    lacks = f"{name} has no column {wanted[key]!r}, it has {', '.join(map(repr, found))}"
    if any(_LIKE_A_TIME.fullmatch(column.strip()) for column in found):  # no column is called 17 or 2024-05-01
        return (
            f"{lacks}, which look like a row; add a first line that names the columns, as {','.join(wanted.values())}"
        )
    hints = {"user": ("user",), "item": ("item",), "timestamp": ("time", "date")}[key]
    free = [column for column in found if column not in wanted.values()]
    alike = [column for hint in hints for column in free if hint in column.lower()]
    advice = f"call the column that says the {key} {wanted[key]!r}"
    if alike:
        advice += f", or in Python name it: read_interactions(path, {key}={alike[0]!r})"
    elif key == "timestamp":
        advice += ", or in Python say that the rows stand oldest first: read_interactions(path, timestamp=None)"
    return f"{lacks}; {advice}"


def _wrong_fields(name: str, row: int, expected: int, found: int, text: str, separator: str) -> str:
    text = text if len(text) <= 60 else text[:57] + "..."
    return (
        f"row {row} of {name} has {count(found, 'field')}, but the first line names {count(expected, 'column')}: "
        f"{text!r}; give every row as many fields, and quote values that contain a {_SHOWN[separator]}"
    )


def _stray_quote(name: str, where: str, reason: object) -> str:
    return (
        f'{where} of {name} has a stray quotation mark ({reason}): delete it, or quote the whole value and write "" '
        f"for a quotation mark in it"
    )


def _check_quotes(name: str, rows: bytes, separator: str, names: list[str], position: Mapping[str, int]) -> None:
    """Refuse quotation marks that are not those of a quoted field, and quoted fields that have swallowed rows.

    A field may have line breaks, but not an id or a time; and if each of the lines it makes of a row would pass for a
    row, with as many fields and something like a time in its place, then the quotation marks are not meant so.
    """
    lines = []

    def recorded() -> Iterator[str]:
        for line in io.TextIOWrapper(io.BytesIO(rows), encoding="utf-8", errors="replace", newline=""):
            lines.append(line)
            yield line

    def like_a_row(line: str) -> bool:
        fields = line.strip("\r\n").split(separator)
        time = position.get("timestamp")
        return len(fields) == len(names) and (time is None or bool(_LIKE_A_TIME.fullmatch(fields[time].strip())))

    row = 0
    try:
        for fields in csv.reader(recorded(), delimiter=separator, strict=True):
            row += bool(fields)  # empty lines are no rows
            if len(lines) > 1:
                ours = [fields[at] for at in position.values() if at < len(fields)]
                if any(re.search("[\r\n]", field) for field in ours) or all(map(like_a_row, lines)):
                    raise ValueError(_stray_quote(name, f"row {row}", f"which makes one row of {len(lines)} lines"))
            lines.clear()
    except csv.Error as error:
        raise ValueError(_stray_quote(name, f"row {row + 1}", error)) from None

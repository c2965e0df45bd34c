"""Columns of a person's file, exactly as they stand there. What is not a table is refused, never read another way.

Delimited text: :mod:`sce_lab.data.text`. Here are the formats that know their columns themselves, and what all have in
common: packing, and which columns are meant.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.json as arrow_json
import pyarrow.parquet as parquet
from pyarrow import types

from sce_lab.data.gathering import Gathered
from sce_lab.data.naming import Columns, choose
from sce_lab.data.opening import PACKED, bar, content_name, unpacked
from sce_lab.data.text import Head, look, read_text

TEXT = (".csv", ".tsv", ".txt", ".dat", ".data", ".inter")
LINES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (*TEXT, *LINES, ".parquet")
"""Suffixes of files that can be read; text and lines may be packed."""

READABLE = (*SUFFIXES, *(suffix + packed for suffix in (*TEXT, *LINES) for packed in PACKED))
"""All of them, packed ones too."""

_BLOCK = 2**22  # bytes; a longer line is refused
_SAMPLE = 20  # rows of parquet that are looked at
_ROWS = 1000  # of JSON lines, likewise

Asked = Mapping[str, str | None]
T = TypeVar("T")


def parts(path: Path) -> list[Path]:
    """The files that are read: the file itself, or the parquet files of a folder, in the order of their names."""
    if not path.is_dir():
        return [path]
    return sorted(part for part in path.rglob("*.parquet") if part.is_file() and not part.name.startswith((".", "_")))


def look_at(path: Path, asked: Asked) -> tuple[Columns, list[str]]:
    """Which columns of a file say who, what and when, and the names of all; the file is not read.

    Args:
        path: a text file, JSON lines, parquet, or a folder of parquet.
        asked: see :func:`sce_lab.data.naming.choose`.

    Raises:
        ValueError: as :func:`read_columns`.
    """
    return _guarded(path, lambda: _look(path, asked)[:2])


def read_columns(
    path: Path, asked: Asked, progress: bool = False, date_format: str | None = None
) -> tuple[Columns, dict[str, pa.ChunkedArray]]:
    """Read the columns that say who, what and when.

    Returns:
        Which they are, and the columns under "user", "item" and, if there is one, "timestamp"; rows in the order of the
        file. Of a text file a column of whole numbers is int64, one of dates timestamps, any other text.

    Raises:
        ValueError: an unknown suffix, a file that is empty, damaged or not of its format, or columns that are missing,
            there twice or not to be told. The message says which and where; rows are counted from 1, without the
            header.
    """

    def read() -> tuple[Columns, dict[str, pa.ChunkedArray]]:
        columns, _, head = _look(path, asked)
        if head is not None:
            return columns, read_text(path.name, partial(unpacked, path, progress), head, date_format)
        if content_name(path).endswith(LINES):
            return columns, _from_lines(path, columns, progress)
        return columns, _from_parquet(path, columns, progress)

    return _guarded(path, read)


def _guarded(path: Path, read: Callable[[], T]) -> T:
    """What ``read`` returns; what is wrong with a file is said in one way, whoever finds it."""
    try:
        return read()
    except (EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name} ends early or is damaged ({error}); get the file again") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 text ({error}); save it again with that encoding") from error
    except (pa.ArrowException, OSError) as error:  # the content is not what the suffix promises
        raise ValueError(f"{path.name} cannot be read: {' '.join(str(error).split())}") from error


def _look(path: Path, asked: Asked) -> tuple[Columns, list[str], Head | None]:
    """Columns and names, and how it begins if it is text."""
    if path.is_dir():
        names, rows = _parquet_sample(_parts(path)[0])
        return choose(path.name, names, asked, rows, named=True), names, None
    name = content_name(path)
    if not name.endswith(SUFFIXES) or (name.endswith(".parquet") and path.name.lower().endswith(PACKED)):
        raise ValueError(
            f"the suffix of {path.name} is unknown; known are {', '.join(SUFFIXES)}, a folder of parquet files, and of "
            f"all but parquet {', '.join(PACKED)}"
        )
    if name.endswith(".parquet"):
        names, rows = _parquet_sample(path)
    elif name.endswith(LINES):
        names, rows = _lines_sample(path)
    else:
        head = look(path.name, partial(unpacked, path), asked)
        return head.columns, head.names, head
    return choose(path.name, names, asked, rows, named=True), names, None


# ------------------------------------------------------------------------------------------------------------- parquet


def _parquet_sample(path: Path) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and some rows as text, "" for what is no plain value."""
    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        plain = [field.name for field in schema if _is_plain(field.type) and schema.names.count(field.name) == 1]
        batch = next(file.iter_batches(batch_size=_SAMPLE, columns=plain), None) if plain else None
    found = {} if batch is None else {name: list(map(_as_text, _pythonic(batch.column(name)))) for name in plain}
    n = 0 if batch is None else len(batch)
    return schema.names, [[found[name][row] if name in found else "" for name in schema.names] for row in range(n)]


def _is_plain(kind: pa.DataType) -> bool:
    dated = types.is_date(kind) or types.is_timestamp(kind)
    return dated or types.is_integer(kind) or types.is_floating(kind) or str(kind) in ("string", "large_string")


def _pythonic(column: pa.Array) -> list:
    if types.is_timestamp(column.type):  # text needs no zone, and no year that Python knows
        column = column.cast(pa.timestamp(column.type.unit)).cast(pa.string())
    try:
        return column.to_pylist()
    except UnicodeDecodeError:  # which is said if the column is read
        return [None] * len(column)


def _as_text(value: object) -> str:
    return "" if value is None else str(value)


def _parts(folder: Path) -> list[Path]:
    if not (found := parts(folder)):
        raise ValueError(f"the folder {folder.name} has no parquet files: name a file in it, or another folder")
    return found


def _from_parquet(path: Path, columns: Columns, progress: bool) -> dict[str, pa.ChunkedArray]:
    files = _parts(path) if path.is_dir() else [path]
    names = list(columns.names.values())
    gathered, first = {key: Gathered() for key in columns.names}, None
    with bar(path, sum(part.stat().st_size for part in files), progress) as shown:
        for part in files:
            with parquet.ParquetFile(part, pre_buffer=False) as file:
                schema = file.schema_arrow
                if missing := [name for name in names if name not in schema.names]:
                    raise ValueError(f"{part.name} in {path.name} has no column {missing[0]!r}, which others have")
                kinds = [schema.field(name) for name in names]
                first = first or kinds
                if [field.type for field in kinds] != [field.type for field in first]:
                    raise ValueError(
                        f"{part.name} in {path.name} has columns of other kinds ({_said(kinds)}) than {files[0].name} "
                        f"({_said(first)}): write all in one way"
                    )
                for batch in file.iter_batches(columns=names, use_threads=False):
                    batch.validate(full=True)  # damaged text would be found much later
                    for key, name in columns.names.items():
                        gathered[key].append(batch.column(name))
            shown.update(part.stat().st_size)
    kinds = {key: field.type for key, field in zip(columns.names, first)}
    return {key: pa.chunked_array(gathered.pop(key).blocks, kind) for key, kind in kinds.items()}


def _said(fields: list[pa.Field]) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in fields)


# ---------------------------------------------------------------------------------------------------------- JSON lines


def _lines_sample(path: Path) -> tuple[list[str], list[list[str]]]:
    """The names in the first block of a file, and some rows as text."""
    lines = _first_lines(path)
    names = list(dict.fromkeys(name for line in lines for name in line))
    return names, [[_as_text(line.get(name)) for name in names] for line in lines[:_ROWS]]


def _first_lines(path: Path) -> list[dict]:
    """The objects in the first block of a file.

    Raises:
        ValueError: it is empty, or its first line is no object.
    """
    with unpacked(path) as stream:
        content = stream.read(_BLOCK)
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start:
        raise ValueError(f'{path.name} is empty: each line must be an object, as {{"user": 1, "item": 2}}')
    line, *more = re.split(rb"[\r\n]+", start)
    if not isinstance(first := _loaded(line), dict):
        raise ValueError(
            f"{path.name} is no file of JSON lines: its first line is {line[:60].decode(errors='replace')!r}, and each "
            f'must be an object, as {{"user": 1, "item": 2}}'
        )
    return [first, *(found for found in map(_loaded, more) if isinstance(found, dict))]


def _loaded(line: bytes) -> object:
    """What a line of JSON says; None if it is none, as the last of a block may be."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _from_lines(path: Path, columns: Columns, progress: bool) -> dict[str, pa.ChunkedArray]:
    """The columns that are meant: text as it is written, and numbers as exactly as they can be.

    Whether a column is text or numbers the first block says; Arrow would take text that looks like dates for dates.
    """
    lines = _first_lines(path)
    kinds = {name: _kind([line.get(name) for line in lines]) for name in columns.names.values()}
    try:
        found = _read_lines(path, columns.names, kinds, progress)
    except pa.ArrowInvalid as error:
        if "Failed to convert" not in str(error):
            raise
        found = {}
        for key, name in columns.names.items():
            found |= _read_numbers(path, key, name, kinds[name], progress)
    return found


def _kind(values: list) -> pa.DataType | None:
    """Of a column of JSON; None if Arrow should say."""
    found = {type(value) for value in values if value is not None}
    if found and found <= {int, float}:
        return pa.int64()
    return pa.large_string() if found == {str} else None


def _read_numbers(
    path: Path, key: str, name: str, kind: pa.DataType | None, progress: bool
) -> dict[str, pa.ChunkedArray]:
    """A column whose numbers may not be integers of 64 bits: exact decimals where these are long enough."""
    exact = pa.decimal128(38, 9 if key == "timestamp" else 0)
    kinds = [kind] if kind != pa.int64() else [kind, exact, pa.float64()]
    for kind in kinds:
        try:
            found = _read_lines(path, {key: name}, {name: kind}, progress)
        except pa.ArrowInvalid as error:
            if kind == kinds[-1] or ("Failed to convert" not in str(error) and "ecimal" not in str(error)):
                raise
            continue
        if kind == exact and key != "timestamp":
            found = {key: found[key].cast(pa.large_string())}
        return found
    raise AssertionError("the last kind was read or refused")


def _read_lines(
    path: Path, names: Mapping[str, str], kinds: Mapping[str, pa.DataType | None], progress: bool
) -> dict[str, pa.ChunkedArray]:
    known = {name: kind for name, kind in kinds.items() if kind is not None}
    parsing = arrow_json.ParseOptions(
        explicit_schema=pa.schema(list(known.items())),
        unexpected_field_behavior="ignore" if len(known) == len(kinds) else "infer",
    )
    found = {key: Gathered() for key in names}
    with unpacked(path, progress) as stream:
        reader = arrow_json.open_json(
            pa.PythonFile(stream, "r"),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=_BLOCK),
            parse_options=parsing,
        )
        for batch in reader:
            for key, name in names.items():
                if name not in batch.schema.names:
                    raise ValueError(f"{path.name} has lines without {name!r}, which says the {key}")
                found[key].append(batch.column(name))
    return {key: pa.chunked_array(found.pop(key).blocks) for key in names}

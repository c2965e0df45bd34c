"""Columns of JSON lines: an object in each line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.json as arrow_json

from sce_lab.data.gathering import Gathered
from sce_lab.data.naming import Columns
from sce_lab.data.opening import unpacked

_BLOCK = 2**22  # bytes; a longer line is refused
_ROWS = 1000  # that are looked at


def lines_sample(path: Path) -> tuple[list[str], list[list[str]]]:
    """The names in the first block of a file, and some rows as text."""
    lines = _first_lines(path)
    names = list(dict.fromkeys(name for line in lines for name in line))
    return names, [["" if line.get(name) is None else str(line[name]) for name in names] for line in lines[:_ROWS]]


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


def read_lines(path: Path, columns: Columns, progress: bool) -> dict[str, pa.ChunkedArray]:
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

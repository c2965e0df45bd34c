"""Columns of parquet: of one file, or of a folder of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
from pyarrow import types

from sce_lab.data.gathering import Gathered
from sce_lab.data.naming import Columns
from sce_lab.data.opening import bar

_SAMPLE = 20  # rows that are looked at


def parts(path: Path) -> list[Path]:
    """The files that are read: the file itself, or the parquet files of a folder, in the order of their names."""
    if not path.is_dir():
        return [path]
    return sorted(part for part in path.rglob("*.parquet") if part.is_file() and not part.name.startswith((".", "_")))


def parquet_sample(path: Path) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and some rows as text, "" for what is no plain value; of a folder those of its first.

    Raises:
        ValueError: a folder without parquet files.
    """
    part = _parts(path)[0]
    with _naming(part, path), parquet.ParquetFile(part) as file:
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


def _parts(path: Path) -> list[Path]:
    if not (found := parts(path)):
        raise ValueError(f"the folder {path.name} has no parquet files: name a file in it, or another folder")
    return found


@contextmanager
def _naming(part: Path, path: Path) -> Iterator[None]:
    """Say which file of a folder it is that cannot be read."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if part == path:
            raise
        raise ValueError(f"{part.name} in {path.name} cannot be read: {' '.join(str(error).split())}") from error


def read_parquet(path: Path, columns: Columns, progress: bool) -> dict[str, pa.ChunkedArray]:
    """The columns that are meant, rows in the order of the files.

    Raises:
        ValueError: a file lacks a column, or has it of another kind.
    """
    files, names = _parts(path), list(columns.names.values())
    gathered, first = {key: Gathered() for key in columns.names}, None
    with bar(path, sum(part.stat().st_size for part in files), progress) as shown:
        for part in files:
            with _naming(part, path), parquet.ParquetFile(part, pre_buffer=False) as file:
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

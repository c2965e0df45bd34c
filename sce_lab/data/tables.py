"""Columns of a person's file, exactly as they stand there. What is not a table is refused, never read another way.

Each format has a file of its own: :mod:`~sce_lab.data.text`, :mod:`~sce_lab.data.json_lines`,
:mod:`~sce_lab.data.parquet_files`. Here is which one a file has, and what all have in common.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from sce_lab.data.json_lines import lines_sample, read_lines
from sce_lab.data.naming import Columns, choose
from sce_lab.data.opening import PACKED, content_name, unpacked
from sce_lab.data.parquet_files import parquet_sample, read_parquet
from sce_lab.data.text import Head, look, read_text

TEXT = (".csv", ".tsv", ".txt", ".dat", ".data", ".inter")
LINES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (*TEXT, *LINES, ".parquet")
"""Suffixes of files that can be read; text and lines may be packed."""

READABLE = (*SUFFIXES, *(suffix + packed for suffix in (*TEXT, *LINES) for packed in PACKED))
"""All of them, packed ones too."""

Asked = Mapping[str, str | None]
T = TypeVar("T")


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
            return columns, read_lines(path, columns, progress)
        return columns, read_parquet(path, columns, progress)

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
        names, rows = parquet_sample(path)
        return choose(path.name, names, asked, rows, named=True), names, None
    name = content_name(path)
    if not name.endswith(SUFFIXES) or (name.endswith(".parquet") and path.name.lower().endswith(PACKED)):
        raise ValueError(
            f"the suffix of {path.name} is unknown; known are {', '.join(SUFFIXES)}, a folder of parquet files, and of "
            f"all but parquet {', '.join(PACKED)}"
        )
    if name.endswith(".parquet"):
        names, rows = parquet_sample(path)
    elif name.endswith(LINES):
        names, rows = lines_sample(path)
    else:
        head = look(path.name, partial(unpacked, path), asked)
        return head.columns, head.names, head
    return choose(path.name, names, asked, rows, named=True), names, None

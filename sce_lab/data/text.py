"""Columns of delimited text, exactly as they stand there, read a block at a time.

Strict: every row has as many fields as the first line, and a quotation mark that opens a field is closed at the end of
a field. A row that is cut, shifted or swallowed would be read as somebody else's.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv as arrow_csv

from sce_lab.data.columns import as_times, as_whole_numbers
from sce_lab.data.gathering import Gathered
from sce_lab.data.interactions import count
from sce_lab.data.naming import LIKE_A_TIME, Columns, called, choose

SEPARATORS = {"::": "double colon", ",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "blank"}

_UNIT = "\x1f"  # what a separator of two characters becomes: Arrow takes one
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # spreadsheets put it in front
_HEAD = 2**20  # bytes that are looked at first; a longer first line is refused
_BLOCK = 2**18  # bytes; with larger ones some dozens of megabytes of scraps are left lying between them
_LONG = 2**22  # of a file with rows longer than that; a longer row is refused
_SAMPLE = 20  # rows that are looked at
_TYPED = re.compile(r"(.+):(token|float|token_seq|float_seq)")  # RecBole's

Opener = Callable[[], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True)
class Head:
    """How a text file begins.

    names: of its columns; numbers from 1 if it does not name them.
    separator: between fields.
    columns: which say who, what and when.
    skipped: bytes before the rows.
    rows: some of them, as fields.
    """

    names: list[str]
    separator: str
    columns: Columns
    skipped: int
    rows: list[list[str]]


def look(name: str, opened: Opener, asked: Mapping[str, str | None]) -> Head:
    """How a file begins, and which of its columns are meant.

    Raises:
        ValueError: it is empty, its first line is none of a table, or the columns cannot be told.
    """
    with opened() as stream:
        start = _read(stream, _HEAD)
    content = start.removeprefix(_BYTE_ORDER_MARK).lstrip(b"\r\n")
    before = len(start) - len(content)
    first = re.match(rb"[^\r\n]*", content).group()
    if len(first) == _HEAD:
        raise ValueError(f"the first line of {name} does not end within {_HEAD:,} bytes: it is no table")
    header = first.decode()
    if not header.strip():
        raise ValueError(f"{name} is empty: its first line must name the columns, for example user,item,timestamp")
    separator = max(list(SEPARATORS)[:-1], key=header.count)  # of equals the first
    if separator not in header and " " in header.strip():
        separator = " "
    found = _fields(name, "the first line", header, separator)
    typed = [_TYPED.fullmatch(field) for field in found]
    if all(typed):
        found = [match[1] for match in typed]
    rows = [found, *_split(_more_lines(content[len(first) :]), separator)]
    columns = choose(name, found, asked, rows)
    if columns.header and not re.compile(rb"[^\r\n]").search(content, len(first)):
        raise ValueError(f"{name} has column names but no rows: there is nothing to learn from")
    names = called(found, columns.header)
    return Head(names, separator, columns, before + (len(first) if columns.header else 0), rows[columns.header :])


def _split(lines: list[str], separator: str) -> list[list[str]]:
    """The fields of some lines; what is wrong with them is found when they are read."""
    if len(separator) > 1:
        return [line.split(separator) for line in lines]
    try:
        return list(csv.reader(lines, delimiter=separator))
    except csv.Error:
        return [line.split(separator) for line in lines]


def _more_lines(content: bytes) -> list[str]:
    """Some whole lines."""
    text = content[: _HEAD // 8].decode(errors="replace")
    lines = [line for line in re.split(r"[\r\n]+", text) if line]
    cut = len(content) > _HEAD // 8 and not text.endswith(("\r", "\n"))
    return lines[: len(lines) - cut][:_SAMPLE]


def read_text(name: str, opened: Opener, head: Head, date_format: str | None = None) -> dict[str, pa.ChunkedArray]:
    """The columns that are meant. Numbers and dates are stored as such if the whole column is of them, else as text.

    Raises:
        ValueError: a row with another number of fields, a stray quotation mark, or what is not UTF-8.
    """
    try:
        return _read_text(name, opened, head, date_format, _BLOCK)
    except _LongRowError:
        return _read_text(name, opened, head, date_format, _LONG)


class _LongRowError(ValueError):
    """A row does not end within a block."""


def _read_text(
    name: str, opened: Opener, head: Head, date_format: str | None, block: int
) -> dict[str, pa.ChunkedArray]:
    position = {key: head.names.index(column) for key, column in head.columns.names.items()}
    gathered = {key: Gathered() for key in position}
    for batch in _blocks(name, opened, head, position, block):
        for key, found in gathered.items():
            text = batch.column(str(position[key]))
            found.append(as_times(text, date_format) if key == "timestamp" else as_whole_numbers(text))
        pa.default_memory_pool().release_unused()  # else what the blocks took stays with Arrow
    columns = {}
    for key in list(gathered):
        columns[key] = _together(gathered.pop(key).blocks)
    if again := {key: position[key] for key, column in columns.items() if column is None}:
        found = {key: [] for key in again}
        for batch in _blocks(name, opened, head, position, block):
            for key in again:
                found[key].append(batch.column(str(position[key])))
        columns |= {key: pa.chunked_array(parts, pa.large_string()) for key, parts in found.items()}
    return columns


def _together(chunks: list[pa.Array]) -> pa.ChunkedArray | None:
    """The chunks of a column as one kind; None if that needs the text they were."""
    kinds = {chunk.type for chunk in chunks}
    if kinds == {pa.int64(), pa.large_string()}:
        chunks = [chunk.cast(pa.large_string()) for chunk in chunks]  # numbers were written as they are
        kinds = {pa.large_string()}
    return pa.chunked_array(chunks, *(kinds or {pa.large_string()})) if len(kinds) < 2 else None


def _blocks(name: str, opened: Opener, head: Head, position: Mapping[str, int], block: int) -> Iterator[pa.RecordBatch]:
    """The rows, about ``block`` bytes at a time; the columns that are meant, under their places, as text."""
    used = list(map(str, position.values()))
    double = len(head.separator) > 1
    with opened() as stream:
        rows = _Rows(stream, head.skipped, head.separator if double else "")
        try:
            reader = arrow_csv.open_csv(
                pa.PythonFile(rows, "r"),
                read_options=arrow_csv.ReadOptions(
                    column_names=list(map(str, range(len(head.names)))),
                    use_threads=False,  # else a wrong row has no number
                    block_size=block,
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=_UNIT if double else head.separator,
                    quote_char=False if double else '"',
                    newlines_in_values=not double,
                ),
                convert_options=arrow_csv.ConvertOptions(
                    include_columns=used, column_types=dict.fromkeys(used, pa.large_string()), strings_can_be_null=False
                ),
            )
            yield from reader
        except pa.ArrowInvalid as error:
            if rows.quoted and not double:
                _check_quotes(name, opened, head, position)
            if wrong := re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+): (.*)", str(error), re.DOTALL):
                raise ValueError(_wrong_fields(name, *map(int, wrong.groups()[:3]), wrong[4], head)) from None
            if "straddl" in str(error) and block < _LONG:
                raise _LongRowError(f"{name} has a row of more than {block:,} bytes") from error
            if "UTF8" in str(error):
                raise ValueError(f"{name} is not UTF-8 text ({error}); save it again with that encoding") from None
            raise
    if rows.quoted and not double:
        _check_quotes(name, opened, head, position)


class _Rows(io.RawIOBase):
    """A stream without its first bytes, and with a separator of two characters as one."""

    def __init__(self, stream: BinaryIO, skipped: int, separator: str = "") -> None:
        super().__init__()
        self._stream, self._separator, self._kept = stream, separator.encode(), b""
        self.quoted = False
        _read(stream, skipped)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(size)
        self.quoted = self.quoted or b'"' in content
        if not self._separator:
            return content
        content = self._kept + content
        self._kept = b""
        if content.endswith(self._separator[:1]) and (more := self._stream.read(1)):
            content += more
        return content.replace(self._separator, _UNIT.encode())


def _read(stream: BinaryIO, size: int) -> bytes:
    """``size`` bytes, or what there is."""
    parts = []
    while size and (part := stream.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


# ------------------------------------------------------------------------------------------------------- what is wrong


def _fields(name: str, where: str, line: str, separator: str) -> list[str]:
    if len(separator) > 1:
        return line.split(separator)
    try:
        (fields,) = csv.reader([line], delimiter=separator, strict=True)
    except csv.Error as error:
        raise ValueError(_stray_quote(name, where, error)) from None
    return fields


def _wrong_fields(name: str, row: int, expected: int, found: int, text: str, head: Head) -> str:
    text = text.replace(_UNIT, head.separator)
    text = text if len(text) <= 60 else text[:57] + "..."
    first = f"the first line {'names' if head.columns.header else 'has'} "
    first += count(expected, "column" if head.columns.header else "field")
    return (
        f"row {row} of {name} has {count(found, 'field')}, but {first}: "
        f"{text!r}; give every row as many fields, and quote values that contain a {SEPARATORS[head.separator]}"
    )


def _stray_quote(name: str, where: str, reason: object) -> str:
    return (
        f'{where} of {name} has a stray quotation mark ({reason}): delete it, or quote the whole value and write "" '
        f"for a quotation mark in it; an id or a time has no line break"
    )


def _check_quotes(name: str, opened: Opener, head: Head, position: Mapping[str, int]) -> None:
    """Refuse quotation marks that are not those of a quoted field, and quoted fields that have swallowed rows.

    A field may have line breaks, but not an id or a time; and if each of the lines it makes of a row would pass for a
    row, with as many fields and something like a time in its place, then the quotation marks are not meant so.
    """
    lines = []

    def recorded(stream: BinaryIO) -> Iterator[str]:
        rows = io.BufferedReader(_Rows(stream, head.skipped))
        for line in io.TextIOWrapper(rows, encoding="utf-8", errors="replace", newline=""):
            lines.append(line)
            yield line

    def like_a_row(line: str) -> bool:
        fields = line.strip("\r\n").split(head.separator)
        time = position.get("timestamp")
        return len(fields) == len(head.names) and (time is None or bool(LIKE_A_TIME.fullmatch(fields[time].strip())))

    row = 0
    with opened() as stream:
        try:
            for fields in csv.reader(recorded(stream), delimiter=head.separator, strict=True):
                row += bool(fields)  # empty lines are no rows
                if len(lines) > 1:
                    ours = [fields[at] for at in position.values() if at < len(fields)]
                    if any(re.search("[\r\n]", field) for field in ours) or all(map(like_a_row, lines)):
                        raise ValueError(_stray_quote(name, f"row {row}", f"which makes one row of {len(lines)} lines"))
                lines.clear()
        except csv.Error as error:
            raise ValueError(_stray_quote(name, f"row {row + 1}", error)) from None

"""A file's bytes, whatever it is packed in, as a stream: the whole of it is never held."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from tqdm import tqdm

PACKED = (".gz", ".zip", ".zst")
"""Suffixes of compressed files."""

_PATIENCE = 1.0  # seconds before a progress bar appears


@contextmanager
def bar(path: Path, nbytes: int, progress: bool) -> Iterator[tqdm]:
    """A progress bar for reading a file; none for what is done within a second."""
    with tqdm(
        total=nbytes, unit="B", unit_scale=True, desc=path.name, delay=_PATIENCE, disable=not progress, leave=False
    ) as shown:
        yield shown


@contextmanager
def unpacked(path: Path, progress: bool = False) -> Iterator[BinaryIO]:
    """The content of a file that may be gzipped, zipped (one file inside) or compressed with Zstandard.

    Raises:
        ValueError: a zip that holds other than one file.
        EOFError, zlib.error, OSError: it is damaged, sometimes found while reading.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(path.open("rb"))
        shown = stack.enter_context(bar(path, path.stat().st_size, progress))
        counted = _Counted(raw, shown)
        match path.suffix.lower():
            case ".gz":
                yield stack.enter_context(gzip.GzipFile(fileobj=counted))
            case ".zst":
                yield stack.enter_context(pa.CompressedInputStream(pa.PythonFile(counted, "r"), "zstd"))
            case ".zip":
                try:
                    archive = stack.enter_context(zipfile.ZipFile(counted))
                except zipfile.BadZipFile as error:
                    raise OSError(str(error)) from error
                yield stack.enter_context(archive.open(_only(path.name, archive)))
            case _:
                yield counted


def content_name(path: Path) -> str:
    """What the file is called without its packing, in lower case; of a zip, what the file in it is called."""
    name = path.name.lower()
    if name.endswith(".zip"):
        try:
            with zipfile.ZipFile(path) as archive:
                return _only(path.name, archive).lower()
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path.name} is no zip file, or a damaged one ({error}); get the file again") from error
    return next((name.removesuffix(suffix) for suffix in PACKED if name.endswith(suffix)), name)


def _only(name: str, archive: zipfile.ZipFile) -> str:
    inside = [info.filename for info in archive.infolist() if not info.is_dir()]
    inside = [file for file in inside if not file.startswith("__MACOSX/") and not Path(file).name.startswith(".")]
    if len(inside) != 1:
        listed = ", ".join(inside[:5]) + (", ..." if len(inside) > 5 else "")
        raise ValueError(f"{name} holds {len(inside)} files ({listed}): unpack it, and name the one that is meant")
    return inside[0]


class _Counted:
    """A file that moves a bar while it is read."""

    def __init__(self, file: BinaryIO, shown: tqdm) -> None:
        self._file, self._shown = file, shown

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._shown.update(max(0, self._file.tell() - self._shown.n))
        return content

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

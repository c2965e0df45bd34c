"""A text with a vocabulary of a given size, divided by files into training, validation and test."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sce_lab.language.reading import Words, standard_library, text_at

UNKNOWN, FILE = "<unk>", "<file>"
"""What stands for every word that is not in the vocabulary, and what stands before each file."""
PARTS = ("train", "validation", "test")
#: Of ten files one is for validation and one for the test, which is which a hash of the name decides.
_OF_TEN = {0: "test", 1: "validation"}
_LEAST = 200  # tokens of a part, below which nothing can be said of it


@dataclass(frozen=True)
class Corpus:
    """A text as numbers of words.

    Attributes:
        name: of the text.
        vocabulary: V words, ``<unk>`` and ``<file>`` first, then the most frequent ones of the training part.
        train, validation, test: ``(T,)`` int64, files behind one another, each after a ``<file>``.
        fingerprint: of files, rule and vocabulary size.
        statistics: what :func:`read_corpus` counted, JSON-able.
    """

    name: str
    vocabulary: tuple[str, ...]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    fingerprint: str
    statistics: dict[str, Any]

    @property
    def counts(self) -> np.ndarray:
        """``(V,)`` how often each word is in the training part."""
        return np.bincount(self.train, minlength=len(self.vocabulary))


def read_corpus(vocabulary_size: int = 16_384, text: str | Path | None = None) -> Corpus:
    """Read this Python's standard library, or a text of one's own, with so many words.

    A file goes to training, validation or test by a hash of its name: it stays where it is, whatever other files there
    are. The vocabulary is the most frequent words of the training part, ties in the alphabet's order. A word that is
    there once only is never in it: without such words ``<unk>`` would not be learned. If that leaves less than asked
    for, the vocabulary is smaller. Two readings of the same files are equal, on every machine.

    Args:
        vocabulary_size: V, with the two signs ``<unk>`` and ``<file>``.
        text: a file (cut into pieces that are divided like files) or a folder; default: the standard library.

    Raises:
        ValueError: a size below 4, or a text that is not there, cannot be read, or is too short to be divided.
    """
    if vocabulary_size < 4:
        raise ValueError(f"the vocabulary must have at least 4 words, got {vocabulary_size}")
    found = standard_library() if text is None else text_at(Path(text))
    streams = _divided(found)
    for part, tokens in streams.items():
        if len(tokens) < _LEAST:
            raise ValueError(
                f"the {part} part of {found.name} has {len(tokens)} tokens, and {_LEAST} are needed: name one longer "
                f"text, of some {10 * _LEAST:,} words or more, or a folder of more files, which are divided as they are"
            )
    counts = np.bincount(streams["train"][streams["train"] >= 0], minlength=len(found.words))
    there = np.flatnonzero(counts > 1)
    order = there[np.lexsort((np.array(found.words)[there], -counts[there]))][: vocabulary_size - 2]
    number = np.zeros(len(found.words) + 1, dtype=np.int64)  # 0: <unk>
    number[order] = np.arange(2, len(order) + 2)
    number[-1] = 1  # <file>, which streams have as -1
    ids = {part: number[tokens] for part, tokens in streams.items()}
    vocabulary = (UNKNOWN, FILE, *(found.words[word] for word in order))
    fingerprint = hashlib.sha256(f"{found.fingerprint} {vocabulary_size}".encode()).hexdigest()[:32]
    statistics = {
        "licence": found.licence,
        "files": {part: int((tokens == 1).sum()) for part, tokens in ids.items()},
        "tokens": {part: len(tokens) for part, tokens in ids.items()},
        "unknown": {part: float((tokens == 0).mean()) for part, tokens in ids.items()},
        "unreadable files": found.unreadable,
        "words": len(found.words),
        "words in training": int((counts > 0).sum()),
        "vocabulary": len(vocabulary),
    }
    return Corpus(found.name, vocabulary, **ids, fingerprint=fingerprint, statistics=statistics)


def part_of(file: str) -> str:
    """Where a file of this name belongs."""
    return _OF_TEN.get(int.from_bytes(hashlib.sha256(file.encode()).digest()[:4], "big") % 10, "train")


def _divided(found: Words) -> dict[str, np.ndarray]:
    """The tokens of each part, each file after a -1."""
    streams: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    for file, tokens in zip(found.files, np.split(found.tokens, found.ends[:-1])):
        streams[part_of(file)] += [np.array([-1], dtype=np.int32), tokens]
    empty = np.array([], dtype=np.int32)
    return {part: np.concatenate([empty, *tokens]) for part, tokens in streams.items()}

"""What training and evaluation are given: item sequences without padding, held-out users, and the two as a split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from sce_lab.data.interactions import count

KS = (1, 5, 10, 20, 50)
"""Cut-offs at which a held-out target is looked for, unless others are asked for."""

_FEW_USERS = 100  # test users below which ``few_test_users`` warns


@dataclass(frozen=True, eq=False)
class Sequences:
    """Many item sequences of different lengths, stored without padding.

    items: (total,) int64, all sequences one after the other.
    offsets: (n + 1,) int64; sequence i is items[offsets[i] : offsets[i + 1]].
    """

    items: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        """Refuse items that are not whole numbers, and offsets that do not describe them."""
        offsets = self.offsets
        if self.items.ndim != 1 or self.items.dtype.kind not in "iu":
            raise ValueError(
                f"items must be one row of whole numbers, got {self.items.ndim} axes of {self.items.dtype}"
            )
        if len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != len(self.items) or (np.diff(offsets) < 0).any():
            raise ValueError(f"offsets must rise from 0 to the number of items, {len(self.items)}; got {offsets}")

    @classmethod
    def from_lists(cls, sequences: Iterable[ArrayLike]) -> Sequences:
        """Pack a list of item lists or arrays; empty ones are allowed."""
        arrays = [np.asarray(sequence).reshape(-1) for sequence in sequences]
        items = np.concatenate([np.empty(0, dtype=np.int64), *(array for array in arrays if len(array))])
        return cls(items, offsets_of(np.array([len(array) for array in arrays], dtype=np.int64)))

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one sequence, oldest item first (a view, not a copy)."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        index %= len(self)
        return self.items[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Go through the sequences in order."""
        return (self[index] for index in range(len(self)))

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64, the number of items in each sequence."""
        return np.diff(self.offsets)

    def take(self, rows: ArrayLike | slice) -> Sequences:
        """Return the sequences of the given rows, in that order."""
        rows = np.arange(len(self))[rows]  # whatever selects: indices, a mask, a slice
        return self._pieces(self.offsets[rows], self.lengths[rows])

    def heads(self, lengths: np.ndarray) -> Sequences:
        """Return the first ``lengths[i]`` items of every sequence i."""
        return self._pieces(self.offsets[:-1], lengths)

    def _pieces(self, starts: np.ndarray, lengths: np.ndarray) -> Sequences:
        offsets = offsets_of(lengths)
        position = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Sequences(self.items[position], offsets)


@dataclass(frozen=True, eq=False)
class Holdout:
    """What is known of some users, and the item that came next.

    histories: U sequences, oldest item first, never empty.
    targets: (U,) int64.
    """

    histories: Sequences
    targets: np.ndarray

    def __post_init__(self) -> None:
        """Refuse histories and targets that do not correspond."""
        if len(self.histories) != len(self.targets):
            raise ValueError(
                f"{len(self.histories):,} histories but {count(len(self.targets), 'target')}; they must correspond"
            )

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self.targets)

    @cached_property
    def repeats(self) -> np.ndarray:
        """(U,) bool, whether the user has had the target before: it is in the history."""
        user = np.repeat(np.arange(len(self)), self.histories.lengths)
        again = user[self.histories.items == self.targets[user]]
        return np.bincount(again, minlength=len(self)) > 0

    def take(self, rows: ArrayLike | slice) -> Holdout:
        """Return the given users only, in that order."""
        return Holdout(self.histories.take(rows), self.targets[rows])


@dataclass(frozen=True, eq=False)
class Split:
    """A data set ready for training: items are rows 0..catalog_size-1 of the catalog and nothing else.

    train: sequences to learn from.
    validation, test: what is held out. The history of a test user includes the validation item.
    item_labels: (catalog_size,) the id that each row has in the data.
    name: for people.

    Raises:
        ValueError: items or targets outside the catalog, or other than one label for each row.
    """

    train: Sequences
    validation: Holdout
    test: Holdout
    catalog_size: int
    item_labels: np.ndarray
    name: str = ""

    def __post_init__(self) -> None:
        """Refuse what is not of this catalog."""
        if np.shape(self.item_labels) != (self.catalog_size,):
            raise ValueError(
                f"a catalog of {count(self.catalog_size, 'item')} needs as many item_labels, got an array of shape "
                f"{np.shape(self.item_labels)}"
            )
        for part, rows in {
            "train": self.train.items,
            "validation": self.validation.histories.items,
            "validation.targets": self.validation.targets,
            "test": self.test.histories.items,
            "test.targets": self.test.targets,
        }.items():
            if len(rows) and not 0 <= rows.min() <= rows.max() < self.catalog_size:
                held, catalog = f"{rows.min()}..{rows.max()}", f"0..{self.catalog_size - 1}"
                raise ValueError(f"{part} holds items {held}, but the catalog has rows {catalog}")

    @cached_property
    def item_counts(self) -> np.ndarray:
        """(catalog_size,) int64, how often each item occurs in training."""
        return np.bincount(self.train.items, minlength=self.catalog_size)

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits that say which data this is: equal for equal splits, on any machine, and for no others.

        It covers what a model is trained on and judged by: the label of each row of the catalog, the sequences in
        their order, the held-out histories and targets. A table learnt with one fingerprint means nothing with another:
        its rows belong to other items. The name is not covered (a file may be renamed), nor are users and times beyond
        the order they give. Ten million interactions take about half a second, once.

        The hash is BLAKE2b of 16 bytes, over little-endian int64 with every length in front.
        """
        digest = hashlib.blake2b(digest_size=16)
        for sequences in (self.train, self.validation.histories, self.test.histories):
            _update(digest, sequences.offsets)
            _update(digest, sequences.items)
        for values in (self.validation.targets, self.test.targets, self.item_labels):
            _update(digest, values)
        return digest.hexdigest()

    @property
    def few_test_users(self) -> str:
        """A sentence for people if the test users are too few to tell models apart, otherwise empty.

        How many there are is ``len(split.test)``. The error in the sentence is twice the standard error of a share of
        one in ten, 2 sqrt(0.1 * 0.9 / users).
        """
        n = len(self.test)
        if n >= _FEW_USERS:
            return ""
        if not n:
            return "no user is tested: there is nothing to score"
        return (
            f"only {count(n, 'user')} {'is' if n == 1 else 'are'} tested: each counts {1 / n:.2g} in HR@k, and a share "
            f"of 0.1 may be off by {2 * (0.09 / n) ** 0.5:.1g}; such scores cannot tell models apart"
        )

    def summary(self) -> dict[str, float]:
        """Return the sizes of the parts, and the shares of test targets that training has never seen or their user has.

        Targets unseen in training stay in: a model has no way to learn them, and the metrics count them as the misses
        they are. What targets that repeat count as, is a rule of the metrics (:data:`sce_lab.metrics.SEEN`).
        """
        unseen = int((self.item_counts[self.test.targets] == 0).sum())
        return {
            "catalog": self.catalog_size,
            "items in training": int((self.item_counts > 0).sum()),
            "training sequences": len(self.train),
            "training interactions": len(self.train.items),
            "validation users": len(self.validation),
            "test users": len(self.test),
            "test targets unseen in training": unseen / max(1, len(self.test)),
            "test targets that repeat": int(self.test.repeats.sum()) / max(1, len(self.test)),
        }


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Where sequences of these lengths start when they lie one behind the other, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _update(digest: hashlib.blake2b, values: np.ndarray) -> None:
    """Add an array with its length and kind in front: whole numbers as int64, other labels as Python shows them."""
    if values.dtype.kind in "iu":
        kind, content = "numbers", np.ascontiguousarray(values, dtype="<i8").data
    else:
        kind, content = "labels", "\n".join(map(repr, values.tolist())).encode("utf-8", "backslashreplace")
    digest.update(f"{len(values)} {kind}\n".encode())
    digest.update(content)

"""Batches without padding.

A user's history has two items or two hundred. Padded to a common length, most of a batch is padding (on Amazon
Beauty, 89 % at a length of 50). Here all positions of a batch lie behind one another in one *packed* row of N, and
sequences of equal length stand together. Everything that looks at one position at a time (embeddings, layer norms,
feed-forward, the loss) runs on the packed row. No padding is stored, or able to leak into a loss.

Attention alone could take each run of equal lengths as a plain ``(n, length)`` view of it. But a batch has some 25
lengths, and so many calls cost more than what they compute. So a batch that goes to a device is told where its
positions stand in rows (:mod:`sce_lab.data.rows`): on a CPU several sequences side by side, on a GPU one a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sce_lab.data.rows import Rows, one_each, side_by_side
from sce_lab.data.sequences import Sequences
from sce_lab.transfer import pinned


@dataclass(frozen=True)
class Packed:
    """Sequences behind one another, the shortest first.

    Attributes:
        items: ``(N,)`` catalog rows, N = sum of all lengths.
        positions: ``(N,)`` rows of the position embedding. The last item of every sequence has ``max_length - 1``:
            positions count from the end, so that "the most recent item" is one embedding however long the history is.
        runs: ``(n_sequences, length)`` of each run of equal lengths; ``sum(n * length) = N``.
        rows: if they are there, attention is one call a table of rows, otherwise one call a run.
    """

    items: Tensor
    positions: Tensor
    runs: tuple[tuple[int, int], ...]
    rows: Rows | None = None

    @property
    def lengths(self) -> Tensor:
        """``(n_sequences,)`` positions of each sequence: on the CPU, and without content if the items have none."""
        device = "meta" if self.items.is_meta else "cpu"
        return torch.cat([torch.full((n,), length, device=device) for n, length in self.runs])

    @property
    def last(self) -> Tensor:
        """``(n_sequences,)`` indices of each sequence's last position in the packed row."""
        return self.lengths.cumsum(0) - 1

    def padded(self, width: int | None = None) -> Packed:
        """The same sequences, a row of ``width`` each, by default as wide as the longest of them: as a GPU wants it."""
        lengths = self._lengths
        rows = one_each(lengths, width or int(lengths[-1]))
        return replace(self, rows=rows._replace(slots=rows.slots.to(self.items.device)))

    def side_by_side(self) -> Packed:
        """The same sequences, several to a row: as a CPU wants it. Those of one length stay as they are."""
        return self if self.rows or len(self.runs) == 1 else replace(self, rows=side_by_side(self._lengths))

    @property
    def _lengths(self) -> np.ndarray:
        counts, lengths = np.array(self.runs).T
        return np.repeat(lengths, counts)

    def to(self, device: torch.device | str, width: int | None = None) -> Packed:
        """The same sequences on ``device``, in rows as it wants them; they may still be on their way."""
        return self.ready_for(device, width)()

    def ready_for(self, device: torch.device | str, width: int | None = None) -> Callable[[], Packed]:
        """See :meth:`Batch.ready_for`."""
        ready = Batch(self, self.items).ready_for(device, width)
        return lambda: ready().inputs


@dataclass(frozen=True)
class Batch:
    """What one training step sees: packed inputs and, for each position, the item that came next ``(N,)``."""

    inputs: Packed
    targets: Tensor

    @property
    def n_positions(self) -> int:
        """N, the number of positions the loss is computed at."""
        return self.targets.numel()

    def to(self, device: torch.device | str, width: int | None = None) -> Batch:
        """The same batch on ``device``, in rows as it wants them; it may still be on its way."""
        return self.ready_for(device, width)()

    def ready_for(self, device: torch.device | str, width: int | None = None) -> Callable[[], Batch]:
        """What the host can do of :meth:`to` ahead, and a function that does the rest."""
        if torch.device(device).type == "cpu":
            packed = self.inputs
            inputs = replace(packed, items=packed.items.to(device), positions=packed.positions.to(device))
            batch = Batch(inputs.side_by_side(), self.targets.to(device))
            return lambda: batch
        asked, here = torch.device(device), self.targets.device
        if self.inputs.rows and here.type == asked.type and asked.index in (None, here.index):
            return lambda: self
        inputs = self.inputs.padded(width)
        parts = inputs.items, inputs.positions, self.targets, inputs.rows.slots
        together = pinned(torch.stack([part.long() for part in parts]), device)  # one copy for all

        def sent() -> Batch:
            items, positions, targets, slots = together.to(device, non_blocking=True)
            return Batch(Packed(items, positions, inputs.runs, inputs.rows._replace(slots=slots)), targets)

        return sent


def pack(starts: np.ndarray, lengths: np.ndarray, items: np.ndarray, max_length: int) -> tuple[Packed, np.ndarray]:
    """Pack ``items[start : start + length]`` of every sequence, ordered by length (stable).

    Returns the packed sequences and the indices into ``items`` they were read from ``(N,)``, so that a caller can read
    neighbours (the next items) in the same order. ``lengths`` must lie in ``1..max_length``.
    """
    order = np.argsort(lengths, kind="stable")
    starts, lengths = starts[order], lengths[order]
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)  # where a position's sequence starts in the packed row
    offset = np.arange(lengths.sum()) - first  # 0, 1, ... inside each sequence
    index = np.repeat(starts, lengths) + offset
    positions = max_length - np.repeat(lengths, lengths) + offset
    distinct, counts = np.unique(lengths, return_counts=True)
    runs = tuple((int(n), int(length)) for n, length in zip(counts, distinct))
    return Packed(torch.from_numpy(items[index]), torch.from_numpy(positions), runs), index


def training_batches(
    sequences: Sequences, batch_size: int, max_length: int, rng: np.random.Generator, item_dropout: float = 0.0
) -> Iterator[Batch]:
    """One epoch: every sequence once, in an order drawn from ``rng``, ``batch_size`` sequences a batch.

    A sequence ``i_1 .. i_T`` gives the positions ``i_1 .. i_{T-1}`` with targets ``i_2 .. i_T``; only the last
    ``max_length`` positions of a longer one are used. Sequences with fewer than two items have nothing to predict and
    are left out. ``item_dropout``: see :func:`without_some_items`.

    Raises:
        ValueError: a batch size or a length below 1, or a dropout that is no probability below 1.
    """
    for name, value in (("batch_size", batch_size), ("max_length", max_length)):
        if not (isinstance(value, (int, np.integer)) and value >= 1):
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    if not 0 <= item_dropout < 1:
        raise ValueError(f"item_dropout must be at least 0 and below 1, got {item_dropout!r}")
    if item_dropout:
        sequences = without_some_items(sequences, item_dropout, rng)
    usable = np.flatnonzero(sequences.lengths >= 2)
    order = rng.permutation(usable)
    for at in range(0, len(order), batch_size):
        users = order[at : at + batch_size]
        lengths = np.minimum(sequences.lengths[users] - 1, max_length)
        starts = sequences.offsets[users + 1] - 1 - lengths
        inputs, index = pack(starts, lengths, sequences.items, max_length)
        yield Batch(inputs, torch.from_numpy(sequences.items[index + 1]))


def without_some_items(sequences: Sequences, probability: float, rng: np.random.Generator) -> Sequences:
    """The sequences, each item left out with ``probability``, so that no epoch shows the same histories again.

    A sequence of which fewer than two items would be left stays whole: it would have nothing to predict.
    """
    owner = np.repeat(np.arange(len(sequences)), sequences.lengths)
    keep = rng.random(len(owner)) >= probability
    keep |= (np.bincount(owner, keep, len(sequences)) < 2)[owner]
    lengths = np.bincount(owner[keep], minlength=len(sequences))
    return Sequences(sequences.items[keep], np.concatenate([[0], np.cumsum(lengths)]))


def n_batches(sequences: Sequences, batch_size: int) -> int:
    """The number of batches :func:`training_batches` yields for an epoch."""
    return -(-int(np.count_nonzero(sequences.lengths >= 2)) // batch_size)


def mean_length(sequences: Sequences, max_length: int) -> float:
    """Positions that a sequence brings into a batch of :func:`training_batches`, on average."""
    lengths = np.minimum(sequences.lengths - 1, max_length)
    return float(lengths[lengths > 0].mean()) if (lengths > 0).any() else 0.0


def history_batches(
    histories: Sequences, max_length: int, n_positions: int = 8192
) -> Iterator[tuple[Packed, np.ndarray]]:
    """Every history once, packed, about ``n_positions`` positions at a time, with the indices of its users.

    The users come in the order of the packed sequences: ``users[j]`` owns ``packed.last[j]``. Histories are cut to
    their last ``max_length`` items. Where there are none, there are no batches.
    """
    if not len(histories):
        return
    lengths = np.minimum(histories.lengths, max_length)
    order = np.argsort(lengths, kind="stable")
    batch = (np.cumsum(lengths[order]) - 1) // n_positions
    for users in np.split(order, np.flatnonzero(np.diff(batch)) + 1):
        starts = histories.offsets[users + 1] - lengths[users]
        yield pack(starts, lengths[users], histories.items, max_length)[0], users

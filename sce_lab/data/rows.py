"""Rows that whole sequences stand in, side by side, so that attention to sequences of many lengths is a few calls."""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

#: Positions of the shortest rows. Longer ones are for sequences that do not fit, each twice as long as the one before.
LEAST_WIDTH = 32


class Rows(NamedTuple):
    """Where packed positions stand in tables of rows.

    Attributes:
        slots: ``(N,)``, the flat index of each position in all tables, one behind the other; None: as they are packed.
        shapes: ``(n_rows, width)`` of each table.
        seen: for each table ``(n_rows, width, width)`` bool, at which positions of a row each of them may look: those
            of its own sequence up to itself. None: a row is one sequence, and what stands behind it comes later.
        fused: whether attention, and dropout everywhere, is one operation each, as on a GPU, where launches take time.
    """

    slots: Tensor | None
    shapes: tuple[tuple[int, int], ...]
    seen: tuple[Tensor, ...] | None = None
    fused: bool = False


def one_each(lengths: np.ndarray, width: int) -> Rows:
    """One table, one sequence a row, at its left; fused."""
    first = np.arange(len(lengths)) * width - (np.cumsum(lengths) - lengths)
    slots = np.arange(lengths.sum()) + np.repeat(first, lengths)
    return Rows(torch.from_numpy(slots), ((len(lengths), width),), fused=True)


def side_by_side(lengths: np.ndarray) -> Rows:
    """Sequences of ascending ``lengths``, as many in a row as have room.

    Rows are :data:`LEAST_WIDTH` positions long, and for sequences that are longer twice that, and so on, or as long as
    the longest. So a position meets as many others as its sequence may have, twice as many, or some thirty.
    """
    slots, shapes, seen = [], [], []
    done, width, place = 0, LEAST_WIDTH, 0
    while done < len(lengths):
        fit = int(np.searchsorted(lengths, width, side="right"))
        if fit > done:
            table_slots, table_seen = _table(lengths[done:fit], min(width, int(lengths[-1])))
            slots.append(table_slots + place)
            shapes.append(tuple(table_seen.shape[:2]))
            seen.append(torch.from_numpy(table_seen))
            place += table_seen.shape[0] * table_seen.shape[1]
        done, width = fit, 2 * width
    return Rows(torch.from_numpy(np.concatenate(slots)), tuple(shapes), tuple(seen))


def _table(lengths: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of the positions, and which positions each may look at ``(n_rows, width, width)``."""
    ends = np.cumsum(lengths)
    before = [0, *ends.tolist()]  # positions before each sequence, and in all
    first = [0]  # sequence of each row
    while (after := bisect_right(before, before[first[-1]] + width) - 1) < len(lengths):
        first.append(after)
    row = np.repeat(np.arange(len(first)), np.diff([*first, len(lengths)]))  # of each sequence
    shift = row * width - (ends - lengths)[first][row]  # from the packed place to the one here
    slots = np.arange(ends[-1]) + np.repeat(shift, lengths)
    owner = np.full(len(first) * width, -1)
    owner[slots] = np.repeat(np.arange(len(lengths)), lengths)
    owner = owner.reshape(len(first), width)
    return slots, (owner[:, :, None] == owner[:, None, :]) & np.tri(width, dtype=bool)

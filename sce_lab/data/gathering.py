"""A column that comes a block at a time, and is there once when all of it is there."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_ROOM = 64  # of what is there already one part in so many is made ready for more


class Gathered:
    """The blocks of a column, one after the other.

    Whole numbers are copied into one array that grows where it stands: as blocks they would be there a second time
    while they are put together. All else stays as it came.
    """

    def __init__(self) -> None:
        self._numbers, self._n = np.empty(0, np.int64), 0
        self._others: list[pa.Array] = []

    def append(self, block: pa.Array) -> None:
        """Take the next block."""
        if self._others or block.type != pa.int64() or block.null_count:
            self._others.append(block)
            return
        end = self._n + len(block)
        if end > len(self._numbers):
            self._numbers.resize(end + end // _ROOM, refcheck=False)  # nobody else knows this array
        self._numbers[self._n : end] = block.to_numpy()
        self._n = end

    @property
    def blocks(self) -> list[pa.Array]:
        """What was taken, in order; whole numbers that came first as one. Nothing more can be appended."""
        if not self._n:
            return self._others
        self._numbers.resize(self._n, refcheck=False)
        return [pa.array(self._numbers), *self._others]

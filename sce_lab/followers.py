"""How often one item came soon after another in training: counts that recommend by themselves, or beside a model."""

from __future__ import annotations

import os

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy import sparse
from torch import Tensor

from sce_lab.data.sequences import Sequences
from sce_lab.files import replacing
from sce_lab.transfer import send

REACH = 3
"""How many places behind an item another one still follows it, and how many of a history's last items are asked."""

DECAY = 0.5
"""What a place further away is worth of a nearer one."""

MOST_WEIGHT = 1000.0
"""Far beyond it float32 would end; a model says nothing long before."""

FILE = "followers.safetensors"
"""Where the counts lie in the folder of a run or of an exported model."""

_KINDS = {"counts": np.float32, "items": np.int64, "offsets": np.int64}


class Followers:
    """Counts of what follows what, and what they add to the score of a model.

        n[j, i]     = sum_b DECAY^(b-1) #{i stands b places behind j},  b = 1 ... reach, over training
        after[h, i] = sum_a DECAY^a n[h[-1-a], i],                      a = 0 ... reach - 1
        score[h, i] = <encoder(h), E[i]> + weight * log(1 + after[h, i])

    With a weight of 1 the model's odds of an item are multiplied by one more than the times it has followed. Item
    vectors of D numbers cannot keep every such pair of a large catalog; a sparse table can. Nothing of it is learned,
    and the loss does not see it: in training the very pair that is to be predicted is among those that were counted.

    Args:
        table: n, ``(C, C)``.
        reach: how many of a history's last items are asked.
        weight: as above.
    """

    def __init__(self, table: sparse.csr_array, *, reach: int = REACH, weight: float = 1.0) -> None:
        self.table, self.reach, self.weight = table, reach, weight

    @classmethod
    def counted(cls, sequences: Sequences, catalog_size: int, *, reach: int = REACH, weight: float = 1.0) -> Followers:
        """Count what followed in ``sequences``, those of training, up to ``reach`` places behind."""
        items, sequence = sequences.items, np.repeat(np.arange(len(sequences)), sequences.lengths)
        table = sparse.csr_array((catalog_size, catalog_size), dtype=np.float32)
        for places in range(1, reach + 1):
            near = np.flatnonzero(sequence[places:] == sequence[:-places])
            worth = np.full(len(near), DECAY ** (places - 1), np.float32)
            pairs = (items[near], items[near + places])
            table = table + sparse.coo_array((worth, pairs), shape=table.shape).tocsr()
        table.sum_duplicates()  # sorted: as they are written
        return cls(table, reach=reach, weight=weight)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the counts, whole or not at all; neither reach nor weight."""
        parts = {"counts": self.table.data, "items": self.table.indices, "offsets": self.table.indptr}
        with replacing(path) as partial:
            save_file({name: values.astype(_KINDS[name]) for name, values in parts.items()}, partial)

    @classmethod
    def load(cls, path: str | os.PathLike[str], catalog_size: int, *, weight: float = 1.0) -> Followers:
        """What :meth:`save` wrote.

        Raises:
            ValueError: the file is missing, damaged, or of another catalog.
        """
        try:
            with safe_open(path, "np") as file:
                parts = {name: file.get_tensor(name) for name in _KINDS}
            if any(parts[name].dtype != kind for name, kind in _KINDS.items()):
                raise ValueError(f"not all of {', '.join(_KINDS)} are of their kind")
            table = sparse.csr_array(tuple(parts.values()), shape=(catalog_size, catalog_size))
            table.check_format()
            if not (table.has_canonical_format and np.isfinite(table.data).all() and (table.data >= 0).all()):
                raise ValueError("these are no counts")
        except (SafetensorError, OSError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is missing or damaged ({error})") from error
        return cls(table, weight=weight)

    def after(self, histories: Sequences) -> sparse.coo_array:
        """How often each item has followed the last ones of each history, ``(n, C)``; 0 after an empty one."""
        users, items, worth = [], [], []
        for back in range(self.reach):
            long_enough = np.flatnonzero(histories.lengths > back)
            users.append(long_enough)
            items.append(histories.items[histories.offsets[long_enough + 1] - 1 - back])
            worth.append(np.full(len(long_enough), DECAY**back, np.float32))
        entries = (np.concatenate(worth), (np.concatenate(users), np.concatenate(items)))
        asked = sparse.coo_array(entries, shape=(len(histories), self.table.shape[0])).tocsr()
        return (asked @ self.table).tocoo()

    def bonus(self, history: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Items that have followed the last ones of a history, and what that adds to their scores."""
        found = self.after(Sequences.from_lists([history]))
        return found.coords[1].astype(np.int64), self.weight * np.log1p(found.data)

    def add_to(self, scores: Tensor, histories: Sequences) -> None:
        """Add ``weight * log(1 + after)`` to scores ``(n, C)``, in place."""
        found = self.after(histories)
        row, column = (send(torch.from_numpy(index.astype(np.int64)), scores.device) for index in found.coords)
        bonus = send(torch.from_numpy(self.weight * np.log1p(found.data)), scores.device)
        scores[row, column] += bonus.to(scores.dtype)

"""Approximate search of an item table, by a library: ``pip install "sce-lab[search]"`` brings faiss."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

_ROWS = 2**16  # of the table, added at a time
#: Share of the cells that are gone through for an answer.
SHARE = 0.1


class Cells:
    """A table ``(C, D)`` cut into about sqrt(C) cells; for an answer the nearest of them are gone through.

    It holds a copy of the table in float32, 4 C D bytes.

    Raises:
        ValueError: faiss is not there.
    """

    def __init__(self, table: Tensor, share: float = SHARE) -> None:
        try:
            import faiss
        except ImportError as error:
            raise ValueError(
                "search='approximate' needs faiss, which is not installed: pip install 'sce-lab[search]'; "
                "search='exact' needs nothing"
            ) from error
        n_items, width = table.shape
        n_cells = max(1, round(math.sqrt(n_items)))
        centroids = faiss.IndexFlatIP(width)
        self._index = faiss.IndexIVFFlat(centroids, width, n_cells, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.min_points_per_centroid = 1  # else it complains of small catalogs
        sample = np.linspace(0, n_items - 1, min(n_items, 64 * n_cells)).astype(int)
        self._index.train(table[sample].float().numpy())
        for start in range(0, n_items, _ROWS):
            self._index.add(table[start : start + _ROWS].float().numpy())
        self._index.nprobe = max(1, math.ceil(share * n_cells))

    def best(self, output: Tensor, left_out: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k highest inner products with ``output`` ``(D,)`` that were found, and their rows, without some rows."""
        n = min(k + len(left_out), self._index.ntotal)
        scores, found = self._index.search(output[None].numpy(), n)
        kept = (found[0] >= 0) & ~np.isin(found[0], left_out)
        return scores[0][kept][:k], found[0][kept][:k]

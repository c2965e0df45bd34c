"""Where each test target came out, kept beside what that came to: without it nobody knows how sure a mean is."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass

import numpy as np
import torch

from sce_lab.files import replacing
from sce_lab.metrics import MISS, Ranking, gains


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of test targets, a row a run of the same recipe; some 30 KB for 22,000 users and one run on the disk.

    ranks: (S, U) int32; :data:`sce_lab.metrics.MISS` for a target that could not be recommended.
    repeats: (U,) bool, whether the target is in the user's history.
    """

    ranks: np.ndarray
    repeats: np.ndarray

    @classmethod
    def of(cls, *rankings: Ranking) -> Ranks:
        """Those of several rankings of the same users."""
        ranks = torch.stack([ranking.ranks for ranking in rankings]).clamp(max=MISS)
        return cls(ranks.to(torch.int32).numpy(), rankings[0].repeats.numpy())

    def gains(self, metric: str) -> np.ndarray:
        """What each target gains in each run, ``(S, U)``: see :func:`sce_lab.metrics.gains`."""
        return gains(torch.from_numpy(self.ranks), metric).numpy()

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write them, compressed, whole or not at all.

        Raises:
            OSError: they could not be written; what was there before is still there.
        """
        with replacing(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, ranks=self.ranks, repeats=self.repeats)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Ranks:
        """Read what :meth:`write` wrote.

        Raises:
            ValueError: the file is damaged, or something else.
            OSError: there is none, or it cannot be read.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                ranks, repeats = file["ranks"], file["repeats"]
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
            raise ValueError(f"{path} holds no ranks, or is damaged ({error}): move it away") from error
        if ranks.ndim != 2 or ranks.shape[1:] != repeats.shape or ranks.dtype != np.int32 or (ranks < 1).any():
            raise ValueError(
                f"{path} is damaged: ranks of shape {ranks.shape} and kind {ranks.dtype} for {repeats.shape} users"
            )
        return cls(ranks, repeats)

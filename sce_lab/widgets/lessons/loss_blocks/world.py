"""Worlds small enough to see all of: a few positions and items, and the plane they are drawn in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: More rows or columns than these would be thinner than a pixel.
MOST_POSITIONS, MOST_ITEMS = 150, 500


@dataclass(frozen=True)
class World:
    """Outputs of an encoder, item embeddings and the true next items, rounded to what a page is sent.

    Attributes:
        positions: ``(N, D)``.
        items: ``(C, D)``.
        targets: ``(N,)`` rows of ``items``.
    """

    positions: np.ndarray
    items: np.ndarray
    targets: np.ndarray

    def __post_init__(self) -> None:
        positions, items = (np.round(np.asarray(a, dtype=np.float64), 5) for a in (self.positions, self.items))
        targets = np.asarray(self.targets, dtype=np.int64)
        if positions.ndim != 2 or items.ndim != 2 or positions.shape[1] != items.shape[1] or positions.shape[1] < 2:
            raise ValueError(
                f"a world needs positions (N, D) and items (C, D) with one D of at least 2, got shapes "
                f"{positions.shape} and {items.shape}"
            )
        if not 1 <= len(positions) <= MOST_POSITIONS or not 2 <= len(items) <= MOST_ITEMS:
            raise ValueError(
                f"a world has 1 to {MOST_POSITIONS} positions and 2 to {MOST_ITEMS} items, got {len(positions)} and "
                f"{len(items)}; World.part_of takes a part of a larger one"
            )
        if targets.shape != (len(positions),) or targets.min() < 0 or targets.max() >= len(items):
            raise ValueError(
                f"targets must name one of the {len(items)} items for each of the {len(positions)} positions"
            )
        if not (np.isfinite(positions).all() and np.isfinite(items).all()):
            raise ValueError("positions and items must be finite numbers")
        for name, value in (("positions", positions), ("items", items), ("targets", targets)):
            object.__setattr__(self, name, value)

    @classmethod
    def small(cls, n_positions: int = 60, n_items: int = 200, seed: int = 4) -> World:
        """People of five tastes and items between them, in two dimensions; targets follow the softmax."""
        rng = np.random.default_rng(seed)
        tastes = np.array([0.35, 1.45, 2.75, 3.8, 5.35])
        angle = tastes[rng.choice(5, n_positions, p=[0.32, 0.24, 0.2, 0.14, 0.1])] + rng.normal(0, 0.24, n_positions)
        positions = _polar(angle, rng.uniform(2.0, 3.2, n_positions))
        angle = np.where(rng.random(n_items) < 0.25, rng.uniform(0, 2 * np.pi, n_items), rng.choice(tastes, n_items))
        items = _polar(angle + rng.normal(0, 0.4, n_items), np.minimum(rng.lognormal(-0.05, 0.5, n_items), 2.4))
        logits = positions @ items.T
        chance = np.exp(logits - logits.max(1, keepdims=True))
        chance = chance.cumsum(1) / chance.sum(1, keepdims=True)
        targets = (rng.random((n_positions, 1)) > chance).sum(1).clip(max=n_items - 1)
        return cls(positions, items, targets)

    @classmethod
    def part_of(
        cls, outputs: Tensor, items: Tensor, target: Tensor, n_positions: int = 60, n_items: int = 200, seed: int = 0
    ) -> World:
        """Some positions of a real batch, their targets, and others of its items.

        Args:
            outputs: ``(N, D)`` of an encoder.
            items: ``(C, D)`` item embeddings.
            target: ``(N,)`` true next items.
            n_positions, n_items: how many to take, at most.
            seed: decides which.
        """
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.permutation(len(outputs))[:n_positions])
        wanted = target.detach().cpu().numpy()[chosen]
        own = np.unique(wanted)
        others = np.setdiff1d(np.arange(len(items)), own)
        kept = np.sort(np.concatenate([own, rng.permutation(others)[: max(n_items - len(own), 0)]]))
        take = torch.from_numpy(chosen), torch.from_numpy(kept)
        x, w = (table.detach().cpu()[rows].numpy() for table, rows in zip((outputs, items), take))
        return cls(x, w, np.searchsorted(kept, wanted))

    def plane(self) -> np.ndarray:
        """``(D, 2)``: what the vectors are multiplied by to be drawn; the two directions in which they reach farthest.

        Positions and items count alike, whatever their lengths. In two dimensions nothing is turned.
        """
        if self.positions.shape[1] == 2:
            return np.eye(2)
        both = [a / np.sqrt((a**2).sum(1).mean() * len(a)) for a in (self.positions, self.items)]
        return np.round(np.linalg.svd(np.concatenate(both), full_matrices=False)[2][:2].T, 6)

    def as_dict(self) -> dict[str, Any]:
        """As a page is sent it."""
        return {
            "positions": self.positions.tolist(),
            "items": self.items.tolist(),
            "targets": self.targets.tolist(),
            "plane": self.plane().tolist(),
        }


def _polar(angle: np.ndarray, radius: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)

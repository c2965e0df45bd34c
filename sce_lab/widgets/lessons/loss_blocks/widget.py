"""The matrix of positions and items, with what a loss looks at: a widget that needs no kernel to react."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import torch
import traitlets

from sce_lab.losses import (
    cross_entropy,
    reduced_cross_entropy,
    sampled_softmax,
    scalable_cross_entropy_reference,
    scalable_cross_entropy_statistics,
)
from sce_lab.losses.rece import chunk_blocks
from sce_lab.widgets.lessons.loss_blocks import draws
from sce_lab.widgets.lessons.loss_blocks.steps import LOSSES, STEPS, texts
from sce_lab.widgets.lessons.loss_blocks.world import World

_HERE = Path(__file__).parent


class LossBlocks(anywidget.AnyWidget):
    """Which part of the matrix does a loss look at? A plane and a matrix, computed in the page while sliders move.

    Everything that can be set in the page is an attribute here, and the other way round.

    Args:
        world: what is looked at; without one, :meth:`World.small`.
        settings: first values of the attributes.

    Attributes:
        loss: "ce", "sampled", "in_batch", "sce" or "rece".
        n_buckets, bucket_size_x, bucket_size_y, mix_x: of SCE; RECE takes as many chunks as ``n_buckets``.
        n_negatives: of sampled softmax.
        seed: of directions and negatives.
        bucket: the chosen one, -1 for none.
        step: 0 is the whole picture, 1 to 8 are the steps of SCE.

    Raises:
        ValueError: a value out of range.
    """

    # One module: the parts stand behind one another and import nothing.
    _esm = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in ("core.js", "picture.js", "page.js"))
    _css = (_HERE / "loss_blocks.css").read_text(encoding="utf-8")

    world = traitlets.Dict().tag(sync=True)
    texts = traitlets.Dict().tag(sync=True)
    loss = traitlets.Unicode("sce").tag(sync=True)
    n_buckets = traitlets.Int(8).tag(sync=True)
    bucket_size_x = traitlets.Int(1).tag(sync=True)
    bucket_size_y = traitlets.Int(1).tag(sync=True)
    mix_x = traitlets.Bool(False).tag(sync=True)
    n_negatives = traitlets.Int(1).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    bucket = traitlets.Int(-1).tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)

    def __init__(self, world: World | None = None, **settings: Any) -> None:
        self._world = World.small() if world is None else world
        n_positions, n_items = len(self._world.positions), len(self._world.items)
        fitting = {
            "bucket_size_x": min(10, n_positions),
            "bucket_size_y": min(20, n_items),
            "n_negatives": min(20, n_items),
        }
        super().__init__(world=self._world.as_dict(), texts=texts(), **fitting | settings)

    @traitlets.validate("loss")
    def _check_loss(self, proposal: Any) -> str:
        if proposal["value"] not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {proposal['value']!r}")
        return proposal["value"]

    @traitlets.validate("n_buckets", "bucket_size_x", "bucket_size_y", "n_negatives", "seed", "bucket", "step")
    def _check_range(self, proposal: Any) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        n_positions, n_items = len(self._world.positions), len(self._world.items)
        low, high = {
            "n_buckets": (1, 24),
            "bucket_size_x": (1, n_positions),
            "bucket_size_y": (1, n_items),
            "n_negatives": (1, n_items),
            "seed": (0, 99),
            "bucket": (-1, self.n_buckets - 1),
            "step": (0, len(STEPS) - 1),
        }[name]
        if not low <= value <= high:
            raise ValueError(f"{name} must be {low} to {high} here, got {value}")
        return value

    @traitlets.observe("n_buckets")
    def _forget_bucket(self, change: Any) -> None:
        if self.bucket >= change["new"]:
            self.bucket = -1

    def evaluate(self) -> dict[str, float]:
        """Loss, coverage and captured mass of the shown settings, by the library itself."""
        x, w, target = (torch.from_numpy(a) for a in (self._world.positions, self._world.items, self._world.targets))
        looked_at, centers = torch.arange(len(w)), self._centers()
        match self.loss:
            case "ce":
                value = cross_entropy(x, w, target)
            case "sampled":
                looked_at = torch.from_numpy(draws.negatives(len(w), self.n_negatives, self.seed))
                value = sampled_softmax(x, w, target, negatives=looked_at)
            case "in_batch":
                looked_at = target
                value = sampled_softmax(x, w, target, sampling="in_batch", n_negatives=len(x))
            case "sce":
                settings = {name: getattr(self, name) for name in ("n_buckets", "bucket_size_x", "bucket_size_y")}
                settings["centers"] = centers
                value = scalable_cross_entropy_reference(x, w, target, **settings)
                statistics = scalable_cross_entropy_statistics(x, w, target, **settings)
                shares = {name: float(getattr(statistics, name)) for name in ("coverage", "captured_mass")}
                return {"loss": float(value), **shares}
            case _:
                directions = centers.unsqueeze(0)
                value = reduced_cross_entropy(x, w, target, n_buckets=self.n_buckets, centers=directions)
                everywhere = torch.ones(len(x), dtype=torch.bool)
                rows, near, bias = chunk_blocks(x, w, everywhere, directions, 1, 2**20)
                looked_at = torch.zeros(len(x), len(w), dtype=torch.bool)
                for chunk, items, there in zip(rows, near, bias > -torch.inf):
                    looked_at[chunk[chunk >= 0].unsqueeze(1), items[there]] = True
                mass = (x @ w.T).softmax(dim=1)[looked_at].sum() / len(x)
                return {"loss": float(value), "coverage": 1.0, "captured_mass": float(mass)}
        mass = (x @ w.T).softmax(dim=1)[:, looked_at.unique()].sum(dim=1).mean()
        return {"loss": float(value), "coverage": 1.0, "captured_mass": float(mass)}

    def _centers(self) -> torch.Tensor:
        return torch.from_numpy(draws.centers(self._world.positions, self.n_buckets, self.mix_x, self.seed))

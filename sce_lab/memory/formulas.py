"""The workspace of each loss as a formula, to be taught from and to check the prediction with.

The predictions of the lab come from running the code, not from here. A formula names the terms that grow, and leaves
out the small change: what has one number per position, say.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sce_lab.losses import make_loss
from sce_lab.losses.buckets import BucketSizes
from sce_lab.losses.engine.tiles import Plan, tile_shape
from sce_lab.losses.engine.torch_search import BLOCK
from sce_lab.losses.sce import DEFAULT_WORKSPACE_BYTES, TILE_SHARE
from sce_lab.training import TrainingConfig


@dataclass(frozen=True)
class Formula:
    """A loss's workspace in float32.

    Attributes:
        terms: (formula, what it is, bytes), one after the other; they are there together.
        note: what the formula does not say.
    """

    terms: tuple[tuple[str, str, float], ...]
    note: str = ""

    @property
    def bytes(self) -> float:
        """The sum of the terms."""
        return sum(nbytes for _, _, nbytes in self.terms)

    @property
    def text(self) -> str:
        """The sum as a person writes it."""
        return " + ".join(formula for formula, _, _ in self.terms)


def workspace_formula(config: TrainingConfig, catalog_size: int, n_positions: int) -> Formula:
    """The formula of ``config``'s loss over C = ``catalog_size`` items at N = ``n_positions`` positions.

    Raises:
        KeyError: the loss is none of the three that the lab teaches.
    """
    return _FORMULAS[config.loss](config, catalog_size, n_positions)


def _ce(config: TrainingConfig, C: int, N: int) -> Formula:
    return Formula(
        (
            ("4 N C", "log-probabilities, kept for the backward pass", 4.0 * N * C),
            ("4 N C", "their gradient", 4.0 * N * C),
            ("4 N C", "the gradient of the logits", 4.0 * N * C),
        ),
        "Every term has the catalog in it, multiplied by the positions. That product is the wall.",
    )


def _sampled(config: TrainingConfig, C: int, N: int) -> Formula:
    loss = make_loss("sampled", **config.loss_settings)
    k, D = loss.n_negatives, config.hidden_size
    one = 4.0 * N * (k + 1)
    terms = [
        ("4 N (k + 1)", "logits of the target and the k negatives, kept for the backward pass", one),
        ("3 x 4 N (k + 1)", "their differences, exponentials and gradient", 3 * one),
        ("N k", "which negatives are the target itself, one byte each", 1.0 * N * k),
        ("4 (N + k) D", "rows of the targets and the negatives", 4.0 * (N + k) * D),
    ]
    if not loss.shared_negatives:
        terms.append(("4 N k D", "rows of each position's own negatives", 4.0 * N * k * D))
    return Formula(tuple(terms), "No C: the catalog may grow as it likes.")


def _sce(config: TrainingConfig, C: int, N: int) -> Formula:
    loss = make_loss("sce", **config.loss_settings)
    asked = BucketSizes.asked(loss.n_buckets, loss.bucket_size_x, loss.bucket_size_y, N, C)
    sizes = asked.clamped(N, C, warn=False)
    n_b, n_x, n_y, D = sizes.n_buckets, sizes.bucket_size_x, sizes.bucket_size_y, config.hidden_size
    budget = loss.workspace_bytes or DEFAULT_WORKSPACE_BYTES["cpu"]

    def search(rows: int, k: int) -> tuple[tuple[str, str, float], ...]:
        c = min(rows, budget / (4 * (n_b + n_b / BLOCK + D)))
        blocks = 4.0 * n_b * min(BLOCK * k, c / 4) if c < rows else 0.0
        return (
            ("4 n_b c (1 + 1/8)", "scores of a chunk of c rows, and the largest of every eight", 4.5 * n_b * c),
            ("4 n_b min(8 k, c/4)", "the blocks of eight that are looked into", blocks),
            ("60 n_b k", "the k best so far of every bucket, several times", 60.0 * n_b * k),
        )

    touched = min(n_b * n_y + N, C)
    plan = Plan(torch.float32, budget // TILE_SHARE, False)
    n_x, n_y_tile, bytes_per_bucket = tile_shape(n_x, n_y, D, plan)
    n_t = min(n_b, max(plan.tile_bytes // bytes_per_bucket, 1))
    backward = (
        ("4 T D", "gradients of the T items that have one, at most n_b b_y + N", 4.0 * touched * D),
        (
            "8 n_t (b_x b_y + (b_x + b_y) D)",
            "a tile: n_t buckets at a time",
            8.0 * n_t * (n_x * n_y_tile + (n_x + n_y_tile) * D),
        ),
        ("16 (n_b b_y + N)", "the items of the buckets, and where each finds its gradient", 16.0 * (n_b * n_y + N)),
    )
    terms = max(search(N, sizes.bucket_size_x), search(C, n_y), backward, key=lambda terms: sum(t[2] for t in terms))
    return Formula(
        terms,
        "The largest of three: the search for positions, the search for items, both in chunks cut to a budget, and the "
        "backward pass. C counts only until it fills the budget. How many items have a gradient depends on the data.",
    )


_FORMULAS = {"ce": _ce, "sampled": _sampled, "sce": _sce}

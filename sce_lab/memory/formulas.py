"""The workspace of each loss as a formula, to be taught from and to check the prediction with.

The predictions of the lab come from running the code, not from here. A formula names the terms that grow, and leaves
out the small change: what has one number per position, say.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sce_lab.losses import make_loss
from sce_lab.losses.buckets import BucketSizes
from sce_lab.losses.engine import DEFAULT_WORKSPACE_BYTES
from sce_lab.losses.engine.tiles import Plan, tile_bytes, tile_shape
from sce_lab.losses.engine.torch_search import BLOCK
from sce_lab.losses.engine.torch_whole import LEAST_POSITIONS
from sce_lab.losses.sce import DEFAULT_WORKSPACE_BYTES as SCE_WORKSPACE_BYTES
from sce_lab.losses.sce import TILE_SHARE
from sce_lab.training import TrainingConfig

#: (formula, what it is, bytes), one after the other.
Terms = tuple[tuple[str, str, float], ...]


@dataclass(frozen=True)
class Formula:
    """A loss's workspace in float32.

    Attributes:
        terms: what is there together.
        note: what the formula does not say.
    """

    terms: Terms
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
        KeyError: the loss is none of those that the lab teaches.
    """
    return _FORMULAS[config.loss](config, catalog_size, n_positions)


def _ce(config: TrainingConfig, C: int, N: int) -> Formula:
    return Formula(
        (
            ("4 N C", "log-probabilities, kept for the backward pass", 4.0 * N * C),
            ("4 N C", "their gradient", 4.0 * N * C),
            ("4 N C", "the gradient of the logits", 4.0 * N * C),
        ),
        "Every term has the catalog in it, multiplied by the positions. That product is the first wall.",
    )


#: Bytes of some numbers that are kept of every position: its target, loss, weight, and which have a target.
_OF_A_POSITION = 48


def _cce(config: TrainingConfig, C: int, N: int) -> Formula:
    D, plan = config.hidden_size, _plan(make_loss("cce", **config.loss_settings).workspace_bytes)
    note = "A tile of logits, cut to a budget of some MiB. Neither C nor N has a say in that: this wall is down."
    at_once = plan.tile_bytes // 4 // (C + 4 * D)
    if at_once >= min(LEAST_POSITIONS, N):
        return _one_block(min(at_once, N), C, N, D, "C", note)
    n, m, _ = tile_shape(N, C, D, plan)
    terms = (
        ("4 n m", "logits of a tile: n positions by m items", 4.0 * n * m),
        ("8 n D", "outputs of a tile, and their gradient", 8.0 * n * D),
        (f"{_OF_A_POSITION} N", "some numbers of every position", float(_OF_A_POSITION * N)),
    )
    return Formula(terms, note)


def _sampled(config: TrainingConfig, C: int, N: int) -> Formula:
    loss = make_loss(config.loss, **config.loss_settings)
    k, D, plan = loss.n_negatives, config.hidden_size, _plan(loss.workspace_bytes)
    note = "No C: the catalog may grow as it likes."
    if not loss.shared_negatives:
        n = min(max(plan.tile_bytes // tile_bytes(1, k, D, plan), 1), N)
        drawing = (("72 N k", "the draws of every position while they are sorted and weighed", 72.0 * N * k),)
        computing = (
            ("28 N k", "the draws of every position, kept", 28.0 * N * k),
            ("8 n k D", "a tile: rows of the negatives of n positions, and their gradient", 8.0 * n * k * D),
        )
        return Formula(_larger(drawing, computing), note)
    n = min(max((plan.tile_bytes // 4 - 2 * k * D) // (k + 4 * D), 1), N)
    return _one_block(n, k, N, D, "k", note)


def _one_block(n: int, m: int, N: int, D: int, name: str, note: str) -> Formula:
    """A tile has room for all items of n positions: ``name`` says what their number m is called."""
    rows = () if name == "C" else (("8 k D", "rows of the negatives, and their gradient", 8.0 * m * D),)
    terms = (
        (f"4 n {name}", "logits of a tile of n positions, cut to a budget of some MiB", 4.0 * n * m),
        ("12 n D", "its outputs, the rows of its targets, and their products", 12.0 * n * D),
        *rows,
        (f"{_OF_A_POSITION} N", "some numbers of every position", float(_OF_A_POSITION * N)),
    )
    return Formula(terms, note)


def _larger(*alternatives: Terms) -> Terms:
    """Of what is never there together, what takes the most."""
    return max(alternatives, key=lambda terms: sum(nbytes for _, _, nbytes in terms))


def _plan(workspace_bytes: int | None) -> Plan:
    return Plan(torch.float32, workspace_bytes or DEFAULT_WORKSPACE_BYTES["cpu"], False)


def _sce(config: TrainingConfig, C: int, N: int) -> Formula:
    loss = make_loss("sce", **config.loss_settings)
    asked = BucketSizes.asked(loss.n_buckets, loss.bucket_size_x, loss.bucket_size_y, N, C)
    sizes = asked.clamped(N, C, warn=False)
    n_b, n_x, n_y, D = sizes.n_buckets, sizes.bucket_size_x, sizes.bucket_size_y, config.hidden_size
    budget = loss.workspace_bytes or SCE_WORKSPACE_BYTES["cpu"]

    def search(rows: int, b: int) -> Terms:
        c = min(rows, budget / (4 * (n_b + n_b / BLOCK + D)))
        blocks = 4.0 * n_b * min(BLOCK * b, c / 4) if c < rows else 0.0
        return (
            ("4 n_b c (1 + 1/8)", "scores of a chunk of c rows, and the largest of every eight", 4.5 * n_b * c),
            ("4 n_b min(8 b, c/4)", "the blocks of eight that are looked into", blocks),
            ("60 n_b b", "the b best so far of every bucket, several times", 60.0 * n_b * b),
        )

    plan = _plan(budget // TILE_SHARE)
    n_x, n_y_tile, bytes_per_bucket = tile_shape(n_x, n_y, D, plan)
    n_t = min(n_b, max(plan.tile_bytes // bytes_per_bucket, 1))
    backward = (
        ("4 n_t b_x b_y", "logits of a tile of n_t buckets", 4.0 * n_t * n_x * n_y_tile),
        (
            "4 n_t (3 b_x + 2 b_y) D",
            "its outputs and items, and their gradients",
            4.0 * n_t * (3 * n_x + 2 * n_y_tile) * D,
        ),
        ("16 (n_b b_y + N)", "the items of the buckets, and some numbers of every position", 16.0 * (n_b * n_y + N)),
    )
    return Formula(
        _larger(search(N, sizes.bucket_size_x), search(C, n_y), backward),
        "The largest of three: the search for positions and that for items, both in chunks cut to a budget, and the "
        "backward pass, in tiles cut to another. C counts only until it fills the budget.",
    )


def _rece(config: TrainingConfig, C: int, N: int) -> Formula:
    loss = make_loss("rece", **config.loss_settings)
    n_r, near, D, plan = loss.n_rounds, 2 * loss.n_extra_chunks + 1, config.hidden_size, _plan(loss.workspace_bytes)
    n_c = min(loss.n_buckets or BucketSizes.paper_rule(N, C).n_buckets, N, C)
    c_x, c_y = -(-N // n_c), min(-(-near * C // n_c), C)
    n_x, n_y, bytes_per_chunk = tile_shape(c_x, c_y, D, plan)
    n_t = min(n_r * n_c, -(-plan.tile_bytes // bytes_per_chunk))
    sorting = (
        ("32 n_r (2 n_ec + 1) C", "the items of the chunks, while they are sorted", 32.0 * n_r * n_c * c_y),
        ("8 n_r C", "the items in the order of their hashes", 8.0 * n_r * C),
    )
    computing = (
        ("12 n_r (2 n_ec + 1) C", "the items of the chunks and their bias, kept", 12.0 * n_r * n_c * c_y),
        ("4 n_t c_x c_y", "logits of a tile of n_t chunks", 4.0 * n_t * n_x * n_y),
        ("4 n_t (3 c_x + 2 c_y) D", "its outputs and items, and their gradients", 4.0 * n_t * (3 * n_x + 2 * n_y) * D),
        (f"{_OF_A_POSITION} N", "some numbers of every position", float(_OF_A_POSITION * N)),
    )
    return Formula(_larger(sorting, computing), "C, but not multiplied by the positions: every item is in some chunks.")


_FORMULAS = {"ce": _ce, "cce": _cce, "ce_minus": _sampled, "sampled": _sampled, "rece": _rece, "sce": _sce}

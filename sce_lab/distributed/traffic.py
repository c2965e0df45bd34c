"""How many bytes a rank sends in a step, as a formula and as counted.

A collective is counted as what a rank sends if it runs around a ring of R ranks, which nothing beats by much: of b
bytes of its own ``(R - 1) b`` to gather them everywhere, ``(R - 1) / R`` of the b bytes that it has for a sum of which
each keeps a part or for an exchange, and twice that for a sum that everybody keeps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sce_lab.losses import make_loss
from sce_lab.losses.buckets import BucketSizes
from sce_lab.memory.formulas import Formula
from sce_lab.training import TrainingConfig, make_model

_c10d = torch.ops.c10d


class Sent(TorchDispatchMode):
    """Adds up the bytes that this rank sends while it is active, as described above.

    Attributes:
        nbytes: all of them.
        calls: (collective, bytes), one after the other.
    """

    def __init__(self, n_ranks: int) -> None:
        super().__init__()
        self._n = n_ranks
        self.calls: list[tuple[str, float]] = []

    @property
    def nbytes(self) -> float:
        """All bytes sent."""
        return sum(nbytes for _, nbytes in self.calls)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count the operation if it is a collective, and run it."""
        n, packet = self._n, func._overloadpacket
        if packet is _c10d.allreduce_:
            self._add(packet, 2 * (n - 1) / n * _nbytes(args[0]))
        elif packet in (_c10d._allgather_base_, _c10d.allgather_):
            self._add(packet, (n - 1) * _nbytes(args[1]))
        elif packet in (_c10d._reduce_scatter_base_, _c10d.alltoall_base_):
            self._add(packet, (n - 1) / n * _nbytes(args[1]))
        return func(*args, **(kwargs or {}))

    def _add(self, packet: Any, nbytes: float) -> None:
        self.calls.append((packet.__name__, nbytes))


def _nbytes(tensors: Tensor | list[Tensor]) -> int:
    tensors = [tensors] if isinstance(tensors, Tensor) else tensors
    return sum(t.numel() * t.element_size() for t in tensors)


def loss_traffic(config: TrainingConfig, catalog_size: int, n_positions: int, n_ranks: int) -> Formula:
    """Bytes that a rank sends for the loss of ``config``, forward and backward, with n = ``n_positions`` of its own.

    Raises:
        ValueError: a loss that takes no sharded table.
    """
    if config.loss not in _SLOTS:
        raise ValueError(f"there is no sharded {config.loss!r}; known are {', '.join(_SLOTS)}")
    R, n, D, s = n_ranks, n_positions, config.hidden_size, torch.finfo(getattr(torch, config.dtype)).bits // 8
    slots, search = _SLOTS[config.loss](config, catalog_size, n, R)
    every, part = R - 1, (R - 1) / R
    n_checks = {"ce": 0, "cce": 0}.get(config.loss, 1) + _with_negatives(config)
    terms = (
        (f"{2 * s} n D (R-1)", "outputs, gathered in the forward and in the backward pass", 2.0 * s * n * D * every),
        ("4 n D (R-1)", "gradients of the outputs, summed where the positions are", 4.0 * n * D * every),
        ("16 S (R-1)/R", "sums of exponentials of S slots: the largest, then the sum", 16.0 * slots * part),
        ("20 n (R-1)", "targets, their logits, and gradients of the losses", (8 + 8 + 4.0) * n * every),
        *search,
        ("8 (R-1) ...", "sizes, checksums of draws, the mean", 8.0 * every * (1 + n_checks) + 2 * (4 + 8) * part),
    )
    note = "R ranks; S = R n, with SCE n_b b_x, and ceil(R n / b_x) b_x more if it has negatives."
    return Formula(tuple(term for term in terms if term[2]), note)


def step_traffic(config: TrainingConfig, catalog_size: int, n_positions: int, n_ranks: int) -> Formula:
    """Bytes that a rank sends in a whole step: the loss, the rows it looks up, and the encoder's parameters.

    As if the items looked up were spread evenly over the ranks.
    """
    encoder_parameters = _padded_parameters(config, n_ranks)
    R, n, D, s = n_ranks, n_positions, config.hidden_size, torch.finfo(getattr(torch, config.dtype)).bits // 8
    loss, part = loss_traffic(config, catalog_size, n_positions, n_ranks), (R - 1) / R
    terms = (
        (f"{2 * s} n D (R-1)/R", "rows of the inputs, and their gradients", 2.0 * s * n * D * part),
        ("8 n (R-1)/R", "which rows", 8.0 * (n + R) * part),
        (f"{2 * s} P (R-1)/R", "the encoder's P parameters, and their gradients", 2.0 * s * encoder_parameters * part),
    )
    return Formula((*loss.terms, *terms), loss.note)


def _padded_parameters(config: TrainingConfig, n_ranks: int) -> int:
    """Numbers of the encoder as FSDP2 sends them: first dimensions filled up to a multiple of the ranks."""
    model = make_model(dataclasses.replace(config, device="meta"), 1)
    shapes = [p.shape for p in model.parameters() if p is not model.item_embedding]
    return sum(-(-shape[0] // n_ranks) * n_ranks * shape[1:].numel() for shape in shapes)


def _with_negatives(config: TrainingConfig) -> bool:
    """Whether SCE draws negatives, too."""
    return config.loss == "sce" and make_loss("sce", **config.loss_settings).n_negatives > 0


def _all_positions(config: TrainingConfig, C: int, n: int, R: int) -> tuple[int, tuple]:
    return R * n, ()


def _buckets(config: TrainingConfig, C: int, n: int, R: int) -> tuple[int, tuple]:
    loss = make_loss("sce", **config.loss_settings)
    sizes = BucketSizes.asked(loss.n_buckets, loss.bucket_size_x, loss.bucket_size_y, R * n, C).clamped(
        R * n, C, warn=False
    )
    n_b, b_x, b_y = sizes.n_buckets, sizes.bucket_size_x, sizes.bucket_size_y
    found = n_b * (min(b_x, n) + min(b_y, -(-C // R)))
    more = [("12 n_b (b_x + b_y) (R-1)", "each rank's candidates for the buckets", 12.0 * found * (R - 1))]
    centers = 4.0 * n_b * config.hidden_size * 2 * (R - 1) / R
    if moves := int(loss.mix_x) + loss.kmeans_steps + (loss.items_near == "positions"):
        more.append(("8 n_b D (R-1)/R a move", "sums of centres", moves * centers))
    n_blocks = n_b + (-(-R * n // b_x) if _with_negatives(config) else 0)
    return n_blocks * b_x, tuple(more)


_SLOTS = {
    "ce": _all_positions,
    "cce": _all_positions,
    "sampled": _all_positions,
    "ce_minus": _all_positions,
    "sce": _buckets,
}
SHARDED = ("cce", "sampled", "ce_minus", "sce")
"""Losses that take a sharded table; ``ce`` does, too, and is ``cce`` then."""

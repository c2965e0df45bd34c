"""A row-sharded item table: a DTensor, and which of its rows are here."""

from __future__ import annotations

import sys
from typing import NamedTuple

from torch import Tensor

from .ranks import Ranks


class Shard(NamedTuple):
    """Rows ``start`` to ``stop`` of the table, on the ranks that share it."""

    rows: Tensor  # (stop - start, D), whose gradient stays here
    start: int
    stop: int
    ranks: Ranks


def is_sharded(table: Tensor) -> bool:
    """Whether it is a DTensor. PyTorch's module is asked only if somebody has imported it: before, there is none."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(table, module.DTensor)


def shard_of(table: Tensor, sparse_grad: bool = False) -> Shard:
    """The rows of a DTensor ``(C, D)`` that this rank owns.

    They have the DTensor's gradient, or their own where it was made of them: ``DTensor.from_local(rows, mesh,
    [Shard(0)])`` for a parameter ``rows``. That is the way to a row-sparse gradient, and to an optimizer that sees
    plain tensors.

    Raises:
        ValueError: the table is sharded in another way, its shards are not those of ``torch.chunk``, or ``sparse_grad``
            with rows that are no parameter.
    """
    from torch.distributed.tensor import Shard as ByDimension

    mesh, placements = table.device_mesh, table.placements
    if mesh.ndim != 1 or placements != (ByDimension(0),):
        raise ValueError(
            f"linear_weight must be sharded by rows, [Shard(0)] on a mesh of one dimension, got {list(placements)} on "
            f"a mesh of shape {tuple(mesh.shape)}: redistribute it"
        )
    if mesh.get_coordinate() is None:
        raise ValueError(f"this rank is not in the mesh of linear_weight, {mesh.mesh.tolist()}: call the loss in those")
    rows, ranks = rows_of(table), Ranks(mesh.get_group(), mesh.get_local_rank(), mesh.size())
    start, stop = bounds(len(table), ranks)
    if len(rows) != stop - start:
        raise ValueError(
            f"rank {ranks.rank} has {len(rows)} rows of linear_weight, where items {start} to {stop - 1} belong "
            f"({stop - start} of {len(table)}): shards are cut as torch.chunk and distribute_tensor cut them"
        )
    if sparse_grad and rows.requires_grad and not rows.is_leaf:
        raise ValueError(
            "sparse_grad=True needs the rows of each rank to be a parameter of its own: "
            "linear_weight = DTensor.from_local(rows, mesh, [Shard(0)])"
        )
    return Shard(rows, start, stop, ranks)


def bounds(catalog_size: int, ranks: Ranks, rank: int | None = None) -> tuple[int, int]:
    """First row of a rank (default: one's own) and the first that is no longer its own, as ``torch.chunk`` cuts."""
    per_rank = -(-catalog_size // ranks.n)
    rank = ranks.rank if rank is None else rank
    return min(rank * per_rank, catalog_size), min((rank + 1) * per_rank, catalog_size)


def rows_of(table: Tensor) -> Tensor:
    """The local tensor, such that gradients find their way."""
    made_by = table.grad_fn
    if made_by is not None and made_by.name() == "_FromTorchTensorBackward":
        parameter = getattr(made_by.next_functions[0][0], "variable", None)
        if parameter is not None:
            return parameter
    return table.to_local()

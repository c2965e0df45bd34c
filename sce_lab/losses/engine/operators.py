"""The engine as operators of PyTorch: each is one node to ``torch.compile``, with shapes known beforehand.

A mode that looks into a step, such as one that counts its bytes, finds what an operator runs in :data:`IMPLEMENTATIONS`
and can run it piece by piece. Autograd comes on top of them, in ``autograd.py``.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .backend import Backend, choose
from .problem import Blocks, Found, Problem
from .tiles import Plan, chunks, compute_dtype, without_autocast

#: What each operator runs.
IMPLEMENTATIONS: dict[Any, Callable[..., Any]] = {}
_library = torch.library.Library("sce_lab", "FRAGMENT")
_PROBLEM = "Tensor outputs, Tensor table, Tensor labels, Tensor valid, Tensor? rows, Tensor? items, Tensor? bias"
_HOW = "SymInt tile_bytes, bool deterministic, str backend"


def _operator(schema: str, shapes: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Make a function an operator of this schema; ``shapes`` returns empty tensors like its results."""

    def register(function: Callable[..., Any]) -> Any:
        def run(*args: Any) -> Any:
            """As an operator does: in the dtypes it is given, below autograd."""
            with torch.no_grad(), without_autocast(args[0]):
                return function(*args)

        name = schema.split("(")[0]
        _library.define(schema)
        _library.impl(name, run, "CompositeExplicitAutograd")
        torch.library.register_fake(f"sce_lab::{name}", shapes, lib=_library)
        operator = getattr(torch.ops.sce_lab, name).default
        IMPLEMENTATIONS[operator] = run
        return operator

    return register


@_operator(
    "topk(Tensor queries, Tensor table, SymInt k, Tensor? allowed, SymInt workspace_bytes, bool deterministic, "
    "str backend) -> Tensor",
    lambda queries, table, k, *_: queries.new_empty((queries.shape[0], k), dtype=torch.int64),
)
def topk(
    queries: Tensor,
    table: Tensor,
    k: int,
    allowed: Tensor | None,
    workspace_bytes: int,
    deterministic: bool,
    backend: str,
) -> Tensor:
    """See :meth:`.backend.Backend.topk`; no gradient: it is a choice."""
    plan = Plan(queries.dtype, workspace_bytes, deterministic)
    return choose(backend, queries, table, plan).topk(queries, table, k, allowed, workspace_bytes)


@_operator(
    "best_direction(Tensor vectors, Tensor directions, SymInt workspace_bytes) -> Tensor",
    lambda vectors, directions, *_: vectors.new_empty((directions.shape[0], vectors.shape[0]), dtype=torch.int64),
)
def best_direction(vectors: Tensor, directions: Tensor, workspace_bytes: int) -> Tensor:
    """For each of the ``vectors (N, D)`` the one of ``directions (S, n, D)`` with the largest product: a hash.

    ``(S, N)`` int64; of equals the first. No gradient: it is a choice.
    """
    n_sets, n, dim = directions.shape
    found = torch.empty(n_sets, len(vectors), dtype=torch.int64, device=vectors.device)
    for part in chunks(len(vectors), workspace_bytes // (directions.element_size() * (n_sets * n + dim)), vectors):
        found[:, part] = (directions @ vectors[part].to(directions.dtype).T).argmax(dim=1)
    return found


def _like_losses(outputs: Tensor, table: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    losses = outputs.new_empty((outputs.shape[0],), dtype=compute_dtype(outputs, table))
    return losses, torch.empty_like(losses, dtype=torch.int64), torch.empty_like(losses)


@_operator(
    f"block_losses({_PROBLEM}, Tensor? target_bias, float? softcap, str combine, {_HOW}) -> (Tensor, Tensor, Tensor)",
    _like_losses,
)
def block_losses(
    outputs: Tensor,
    table: Tensor,
    labels: Tensor,
    valid: Tensor,
    rows: Tensor | None,
    items: Tensor | None,
    bias: Tensor | None,
    target_bias: Tensor | None,
    softcap: float | None,
    combine: str,
    tile_bytes: int,
    deterministic: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each position ``(N,)``: its loss, 0 for none; the slot it comes from, -1 for none; and its log-sum-exp."""
    how = tile_bytes, deterministic, backend
    problem, plan, engine = _asked(outputs, table, labels, valid, rows, items, bias, target_bias, softcap, *how)
    return tuple(engine.losses(problem, combine, plan))


@_operator(
    "mean_of_counted(Tensor losses, Tensor slot, str backend) -> (Tensor, Tensor)",
    lambda losses, slot, _: (losses.new_empty(()), slot.new_empty(())),
)
def mean_of_counted(losses: Tensor, slot: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """See :meth:`.backend.Backend.mean`."""
    plan = Plan(losses.dtype, 1, False)
    one_column = losses.unsqueeze(1)
    return choose(backend, one_column, one_column, plan).mean(losses, slot)


def _like_gradients(grad_losses: Tensor, outputs: Tensor, table: Tensor, *others: Any) -> tuple[Tensor, ...]:
    bias, needs, sparse = others[4], others[-5], others[-4]
    if sparse:
        raise NotImplementedError(
            "sparse_grad=True does not go with torch.compile: how many rows there are, data decide"
        )
    empty = outputs.new_empty(0)
    return (
        torch.empty_like(outputs, memory_format=torch.contiguous_format) if needs[0] else empty,
        torch.empty_like(table, memory_format=torch.contiguous_format) if needs[1] else empty.clone(),
        empty.clone(),
        torch.empty_like(bias, memory_format=torch.contiguous_format) if needs[2] else empty.clone(),
    )


@_operator(
    f"block_gradients(Tensor grad_losses, {_PROBLEM}, Tensor? target_bias, Tensor losses, Tensor slot, Tensor log_z, "
    f"float? softcap, str combine, bool[] needs, bool sparse, {_HOW}) -> (Tensor, Tensor, Tensor, Tensor)",
    _like_gradients,
)
def block_gradients(
    grad_losses: Tensor,
    outputs: Tensor,
    table: Tensor,
    labels: Tensor,
    valid: Tensor,
    rows: Tensor | None,
    items: Tensor | None,
    bias: Tensor | None,
    target_bias: Tensor | None,
    losses: Tensor,
    slot: Tensor,
    log_z: Tensor,
    softcap: float | None,
    combine: str,
    needs: list[bool],
    sparse: bool,
    tile_bytes: int,
    deterministic: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of outputs, table and bias, given those of the losses ``(N,)`` and what :func:`block_losses` found."""
    how = tile_bytes, deterministic, backend
    problem, plan, engine = _asked(outputs, table, labels, valid, rows, items, bias, target_bias, softcap, *how)
    found = Found(losses, slot, log_z)
    return _without_none(engine.gradients(problem, found, grad_losses, combine, plan, needs, sparse), outputs)


@_operator(
    f"losses_and_gradients(Tensor weights, {_PROBLEM}, bool[] needs, bool sparse, {_HOW}) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    lambda weights, outputs, *others: (
        _like_losses(outputs, others[0])[0],
        *_like_gradients(weights, outputs, *others)[:3],
    ),
)
def losses_and_gradients(
    weights: Tensor,
    outputs: Tensor,
    table: Tensor,
    labels: Tensor,
    valid: Tensor,
    rows: Tensor | None,
    items: Tensor | None,
    bias: Tensor | None,
    needs: list[bool],
    sparse: bool,
    tile_bytes: int,
    deterministic: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Losses ``(N,)`` and the gradients of their sum, weighted ``(N,)``, for one block of all positions."""
    how = tile_bytes, deterministic, backend
    problem, plan, engine = _asked(outputs, table, labels, valid, rows, items, bias, None, None, *how)
    weights = weights.where(valid, 0.0)
    losses, gradients = engine.losses_and_gradients(problem, weights, plan, needs, sparse)
    return losses, *_without_none(gradients[:3], outputs)


def _asked(*args: Any) -> tuple[Problem, Plan, Backend]:
    *inputs, rows, items, bias, target_bias, softcap, tile_bytes, deterministic, backend = args
    problem = Problem(*inputs, Blocks(rows, items, bias), target_bias, softcap)
    plan = Plan(compute_dtype(problem.outputs, problem.table), tile_bytes, deterministic)
    return problem, plan, choose(backend, problem.outputs, problem.table, plan)


def _without_none(gradients: tuple[Tensor | None, ...], like: Tensor) -> tuple[Tensor, ...]:
    """An operator returns tensors: an empty one stands for none."""
    return tuple(like.new_empty(0) if one is None else one for one in gradients)

"""The engine as operators of PyTorch: each is one node to ``torch.compile``, with shapes known beforehand.

A mode that looks into a step, such as one that counts its bytes, finds what an operator runs in :data:`IMPLEMENTATIONS`
and can run it piece by piece. Autograd comes on top of them, in ``autograd.py``.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .backend import Backend, choose
from .problem import Blocks, PositionGradients, Problem, Slots
from .tiles import Plan, chunks, without_autocast
from .torch_parts import softplus

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
    f"block_losses({_PROBLEM}, Tensor? target_bias, str combine, {_HOW}) -> (Tensor, Tensor, Tensor)", _like_losses
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
    combine: str,
    tile_bytes: int,
    deterministic: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each position ``(N,)``: its loss, 0 for none; the slot it comes from, -1 for none; and its log-sum-exp."""
    special, distinct = _special(target_bias, combine)
    how = tile_bytes, deterministic, backend
    problem, plan, engine = _asked(outputs, table, labels, valid, rows, items, bias, *how, special=special)
    log_negatives = engine.log_negatives(problem, plan, *distinct)  # (n_blocks, n_x) or (N,)
    positive = engine.target_logits(problem, plan)  # (N,)
    if target_bias is not None:
        positive = positive + target_bias
    if rows is None:
        slot = valid.long() - 1
    else:
        log_negatives, slot = (keep_largest if combine == "max" else add_up)(log_negatives, rows, valid)
    losses = softplus(log_negatives - positive).where(slot >= 0, 0.0)
    return losses, slot, positive + losses


def keep_largest(log_negatives: Tensor, rows: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """A position in several blocks keeps the one with the largest loss, and remembers the slot it comes from.

    Of the slots of one position the largest loss is where the negatives are largest.

    Returns:
        Log-sum-exp of the negatives ``(N,)``, -inf for a position in no block, and slot ``(N,)``, -1 for none. Among
        equals the first slot wins. A block that ran out of positions with a target holds others as well; these never
        win.
    """
    n_positions, n_slots = len(valid), rows.numel()
    usable = _usable(rows, valid).flatten()
    rows, log_negatives = rows.clamp(min=0).flatten(), log_negatives.flatten()  # (n_slots,)
    log_negatives = log_negatives.masked_fill(~usable, -torch.inf)
    largest = log_negatives.new_full((n_positions,), -torch.inf)
    largest = largest.scatter_reduce(0, rows, log_negatives, "amax")  # (N,)

    wins = usable & ~(log_negatives < largest[rows])  # so that NaN wins: it should be seen
    slot = torch.arange(n_slots, device=rows.device)
    first = torch.full_like(valid, n_slots, dtype=torch.int64)
    first = first.scatter_reduce(0, rows, slot.masked_fill(~wins, n_slots), "amin")  # (N,)
    return largest, first.where(first < n_slots, -1)


def add_up(log_negatives: Tensor, rows: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """A position in several blocks takes its softmax over all of them: what is in two of them counts twice.

    Returns:
        As :func:`keep_largest`; the slot is any of the position's.
    """
    log_negatives = log_negatives.masked_fill(~_usable(rows, valid), -torch.inf)
    largest, slot = keep_largest(log_negatives, rows, valid)
    shift, rows = largest.clamp(min=torch.finfo(largest.dtype).min), rows.clamp(min=0)
    weight = (log_negatives - shift[rows]).exp().flatten()
    total = torch.zeros_like(largest).scatter_add(0, rows.flatten(), weight)
    return shift + total.log(), slot


def _usable(rows: Tensor, valid: Tensor) -> Tensor:
    """Slots that hold a position with a target."""
    return valid[rows.clamp(min=0)] & (rows >= 0)


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
    f"block_gradients(Tensor grad_losses, {_PROBLEM}, Tensor? target_bias, Tensor losses, Tensor slot, "
    f"Tensor log_z, str combine, bool[] needs, bool sparse, {_HOW}) -> (Tensor, Tensor, Tensor, Tensor)",
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
    combine: str,
    needs: list[bool],
    sparse: bool,
    tile_bytes: int,
    deterministic: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of outputs, table and bias, given those of the losses ``(N,)`` and what :func:`block_losses` found."""
    counted = slot >= 0
    if items is not None:  # the row of a target that does not count is not to be touched
        labels = labels.where(counted, items.flatten()[:1])
    special, distinct = _special(target_bias, combine)
    how = tile_bytes, deterministic, backend
    problem, plan, engine = _asked(outputs, table, labels, valid, rows, items, bias, *how, special=special)
    g = grad_losses.to(losses.dtype).where(counted, 0.0)
    at = PositionGradients(g, torch.expm1(-losses), log_z)  # p_t - 1, exact where p_t is nearly 1, too
    slots = None if rows is None else _slots_with_gradient(rows, slot, valid, combine)
    return _without_none(engine.gradients(problem, slots, at, plan, needs, sparse, *distinct), outputs)


def _slots_with_gradient(rows: Tensor, slot: Tensor, valid: Tensor, combine: str) -> Slots:
    """Under the maximum the winners, one a position; in a sum all."""
    n_blocks, size_x = rows.shape
    if combine == "max":
        block = slot.div(max(size_x, 1), rounding_mode="floor")  # -1 stays -1
        return Slots(block, torch.arange(len(slot), device=slot.device), most=min(size_x, len(slot)), once=True)
    block = torch.arange(n_blocks, device=rows.device).unsqueeze(1).where(_usable(rows, valid), -1)
    return Slots(block.flatten(), rows.clamp(min=0).flatten(), most=size_x, once=False)


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
    if items is not None:
        labels = labels.where(valid, items.flatten()[:1])
    problem, plan, engine = _asked(outputs, table, labels, valid, rows, items, bias, tile_bytes, deterministic, backend)
    weights = weights.where(valid, 0.0)
    losses, gradients = engine.losses_and_gradients(problem, weights, plan, needs, sparse)
    return losses, *_without_none(gradients[:3], outputs)


def compute_dtype(outputs: Tensor, table: Tensor) -> torch.dtype:
    """What to compute and add up in: float32 for half precision."""
    return torch.float64 if torch.float64 in (outputs.dtype, table.dtype) else torch.float32


def _asked(*args: Any, special: bool = False) -> tuple[Problem, Plan, Backend]:
    *inputs, rows, items, bias, tile_bytes, deterministic, backend = args
    if rows is not None and not special:  # a backend that knows of no empty slots finds somebody in them
        rows = rows.clamp(min=0)
    problem = Problem(*inputs, Blocks(rows, items, bias))
    plan = Plan(compute_dtype(problem.outputs, problem.table), tile_bytes, deterministic)
    return problem, plan, choose(backend, problem.outputs, problem.table, plan, special=special)


def _special(target_bias: Tensor | None, combine: str) -> tuple[bool, tuple[bool, ...]]:
    """Whether :func:`.backend.choose` is to be told, and what more a backend is then given."""
    distinct = combine == "union"
    return distinct or target_bias is not None, (True,) if distinct else ()


def _without_none(gradients: tuple[Tensor | None, ...], like: Tensor) -> tuple[Tensor, ...]:
    """An operator returns tensors: an empty one stands for none."""
    return tuple(like.new_empty(0) if one is None else one for one in gradients)

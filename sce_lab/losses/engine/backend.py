"""Who computes: one protocol, and the one place where its implementation is chosen.

A third backend is one more file with such a class, and one more line in :data:`BACKENDS`.
"""

from typing import Protocol

import torch
from torch import Tensor

from .problem import Blocks, Combine, Found, Gradients, Problem
from .tiles import Plan, compute_dtype
from .torch_backend import TorchBackend
from .triton_backend import TritonBackend


class Backend(Protocol):
    """What the engine's operators are made of. Tensors come in any floating dtype; ``plan.dtype`` is computed in."""

    name: str

    def serves(self, outputs: Tensor, table: Tensor, plan: Plan) -> bool:
        """Whether it computes with such tensors here."""

    def pays(self, outputs: Tensor) -> bool:
        """Whether it is to be preferred to those after it in :data:`BACKENDS`, where it serves."""

    def blocks(self, rows: Tensor | None, items: Tensor, bias: Tensor | None) -> Blocks:
        """Blocks of items in any order and, with a bias, with repetitions: as this backend wants them."""

    def topk(self, queries: Tensor, table: Tensor, k: int, allowed: Tensor | None, workspace_bytes: int) -> Tensor:
        """Rows of ``table (C, D)`` with the k largest products with each of the ``queries (Q, D)``: ``(Q, k)`` int64.

        In any order, ties broken either way; rows that are not ``allowed (C,)`` are taken when no others are left.
        """

    def losses(self, problem: Problem, combine: Combine, plan: Plan) -> Found:
        """The loss of each position over its blocks, and what its gradient follows from."""

    def mean(self, losses: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of those losses that have a slot, 0 if none has one; and of how many, at least 1; both 0-d."""

    def gradients(
        self,
        problem: Problem,
        found: Found,
        grad_losses: Tensor,
        combine: Combine,
        plan: Plan,
        needs: list[bool],
        sparse: bool,
    ) -> Gradients:
        """Gradients of outputs, table and bias, of those that are needed, given those of the losses ``(N,)``.

        With ``sparse``, rows of the table that have one, and which they are.
        """

    def fits_at_once(self, problem: Problem, plan: Plan) -> bool:
        """Whether :meth:`losses_and_gradients` serves, and is quicker than one after the other."""

    def losses_and_gradients(
        self, problem: Problem, g: Tensor, plan: Plan, needs: list[bool], sparse: bool
    ) -> tuple[Tensor, Gradients]:
        """For one block of all positions: losses ``(N,)``, and gradients of their sum weighted with g ``(N,)``."""


BACKENDS: dict[str, Backend] = {"triton": TritonBackend(), "torch": TorchBackend()}


def choose(name: str, outputs: Tensor, table: Tensor, plan: Plan) -> Backend:
    """The backend of this name, or of "auto" the first that serves.

    Raises:
        ValueError: no such backend, or it does not serve such tensors here.
    """
    if name == "auto":
        found = (one for one in BACKENDS.values() if one.pays(outputs) and one.serves(outputs, table, plan))
        return next(found)
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of auto, {', '.join(BACKENDS)}, got {name!r}")
    if not BACKENDS[name].serves(outputs, table, plan):
        raise ValueError(
            f"backend={name!r} does not serve {outputs.dtype} with {outputs.shape[1]} dimensions on {outputs.device} "
            'here; backend="auto" takes one that does'
        )
    return BACKENDS[name]


def resolved(name: str, outputs: Tensor, table: Tensor, deterministic: bool, *, special: bool = False) -> str:
    """The name of the backend that :func:`choose` takes; one that is compiled chooses when it runs.

    A ``special`` problem, one with distinct items, empty slots, capped logits, or a bias that has a gradient, is
    PyTorch's whatever the name: no other backend has kernels for it yet.
    """
    if special and name in (*BACKENDS, "auto"):
        return "torch"
    if torch.compiler.is_compiling():
        return name
    return choose(name, outputs, table, Plan(compute_dtype(outputs, table), 1, deterministic)).name


def blocks_for(how_backend: str, rows: Tensor | None, items: Tensor, bias: Tensor | None = None) -> Blocks:
    """Blocks as the backend of this name wants them; those of "auto" suit every backend."""
    return BACKENDS["torch" if how_backend == "auto" else how_backend].blocks(rows, items, bias)

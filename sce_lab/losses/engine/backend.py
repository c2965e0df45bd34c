"""Who computes: one protocol, and the one place where its implementation is chosen.

A third backend is one more file with such a class, and one more line in :data:`BACKENDS`.
"""

from typing import Protocol

from torch import Tensor

from .problem import Gradients, PositionGradients, Problem, Slots
from .tiles import Plan
from .torch_backend import TorchBackend
from .triton_backend import TritonBackend


class Backend(Protocol):
    """What the engine's operators are made of. Tensors come in any floating dtype; ``plan.dtype`` is computed in."""

    name: str

    def serves(self, outputs: Tensor, table: Tensor, plan: Plan) -> bool:
        """Whether it computes with such tensors here."""

    def pays(self, outputs: Tensor) -> bool:
        """Whether it is to be preferred to those after it in :data:`BACKENDS`, where it serves."""

    def topk(self, queries: Tensor, table: Tensor, k: int, allowed: Tensor | None, workspace_bytes: int) -> Tensor:
        """Rows of ``table (C, D)`` with the k largest products with each of the ``queries (Q, D)``: ``(Q, k)`` int64.

        In any order, ties broken either way; rows that are not ``allowed (C,)`` are taken when no others are left.
        """

    def target_logits(self, problem: Problem, plan: Plan) -> Tensor:
        """Inner product of each position with its own target, ``(N,)``."""

    def log_negatives(self, problem: Problem, plan: Plan, distinct: bool = False) -> Tensor:
        """Log-sum-exp of every slot's logits (plus bias) over the items of its block, its target left out.

        With ``distinct``, items in an earlier block of the position are left out, too. ``(n_blocks, n_x)``, or ``(N,)``
        for one block of all positions; -inf where nothing is left.
        """

    def gradients(
        self,
        problem: Problem,
        slots: Slots | None,
        at: PositionGradients,
        plan: Plan,
        needs: list[bool],
        sparse: bool,
        distinct: bool = False,
    ) -> Gradients:
        """Gradients of outputs, table and bias, of those that are needed, through these slots (None: all positions').

        With ``sparse``, rows of the table that have one, and which they are.
        """

    def losses_and_gradients(
        self, problem: Problem, g: Tensor, plan: Plan, needs: list[bool], sparse: bool
    ) -> tuple[Tensor, Gradients]:
        """For one block of all positions: losses ``(N,)``, and gradients of their sum weighted with g ``(N,)``."""


BACKENDS: dict[str, Backend] = {"triton": TritonBackend(), "torch": TorchBackend()}


def choose(name: str, outputs: Tensor, table: Tensor, plan: Plan, *, special: bool = False) -> Backend:
    """The backend of this name, or of "auto" the first that serves.

    A ``special`` problem, one with distinct items, empty slots beside them, or a bias that has a gradient, is PyTorch's
    whatever the name: no other backend has kernels for it yet. They need know nothing of ``distinct`` and ``needs[2]``.

    Raises:
        ValueError: no such backend, or it does not serve such tensors here.
    """
    if name == "auto" and not special:
        found = (one for one in BACKENDS.values() if one.pays(outputs) and one.serves(outputs, table, plan))
        return next(found)
    if name not in (*BACKENDS, "auto"):
        raise ValueError(f"backend must be one of auto, {', '.join(BACKENDS)}, got {name!r}")
    if special:
        return BACKENDS["torch"]
    if not BACKENDS[name].serves(outputs, table, plan):
        raise ValueError(
            f"backend={name!r} does not serve {outputs.dtype} with {outputs.shape[1]} dimensions on {outputs.device} "
            'here; backend="auto" takes one that does'
        )
    return BACKENDS[name]

"""The engine in Triton, for an NVIDIA GPU: the search for buckets, and their softmax, in kernels of our own.

It computes what the PyTorch backend computes, which does whatever there is no kernel for: one block of all positions,
a bias, a sum over blocks, more than 256 dimensions. Predicted memory is that of the PyTorch code.
"""

import torch
from torch import Tensor

from . import triton
from .problem import Gradients, PositionGradients, Problem, Slots
from .tiles import Plan, is_fake
from .torch_backend import TorchBackend

LARGEST_DIM = 256  # one row of outputs or items must fit into the registers of a program


class TritonBackend(TorchBackend):
    """See :class:`.backend.Backend`."""

    name = "triton"

    def serves(self, outputs: Tensor, table: Tensor, plan: Plan) -> bool:
        """On an NVIDIA GPU since Ampere, or in Triton's interpreter, for what is computed in float32.

        Not in deterministic mode: the kernels add gradients up in any order.
        """
        return (
            triton.INSTALLED
            and not (plan.deterministic or torch.are_deterministic_algorithms_enabled() or is_fake(outputs))
            and (
                triton.interpreted() or (outputs.is_cuda and torch.cuda.get_device_capability(outputs.device) >= (8, 0))
            )
            and outputs.device == table.device
            and plan.dtype == torch.float32
            and len(outputs) > 0
            and 0 < outputs.shape[1] <= LARGEST_DIM
        )

    def pays(self, outputs: Tensor) -> bool:
        """On a GPU; the interpreter is for tests."""
        return outputs.is_cuda

    def topk(self, queries: Tensor, table: Tensor, k: int, allowed: Tensor | None, workspace_bytes: int) -> Tensor:
        """By a bound and candidates, where there are many more items than are wanted."""
        from .triton.search import threshold_topk

        chosen = threshold_topk(queries, table, k, allowed=allowed, workspace_bytes=workspace_bytes)
        return super().topk(queries, table, k, allowed, workspace_bytes) if chosen is None else chosen

    def log_negatives(self, problem: Problem, plan: Plan) -> Tensor:
        """A program takes some slots of a block."""
        if problem.blocks.rows is None or problem.blocks.bias is not None:
            return super().log_negatives(problem, plan)
        from .triton.softmax import log_negatives

        return log_negatives(problem)

    def gradients(
        self, problem: Problem, slots: Slots | None, at: PositionGradients, plan: Plan, needs: list[bool], sparse: bool
    ) -> Gradients:
        """A program takes some winners of a block, another some of its items."""
        if slots is None or not slots.once or problem.blocks.bias is not None:
            return super().gradients(problem, slots, at, plan, needs, sparse)
        from .triton.softmax import winner_gradients

        return winner_gradients(problem, slots, at, sparse)

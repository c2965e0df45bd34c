"""The engine in Triton, for an NVIDIA GPU: the search for buckets, softmax and gradients in kernels of our own.

It computes what the PyTorch backend computes, and leaves to it what no loss asks for: a sum over blocks.
"""

import torch
from torch import Tensor

from . import triton
from .problem import Blocks, Combine, Found, Gradients, Problem
from .tiles import Plan, is_fake
from .torch_backend import TorchBackend

LARGEST_DIM = 4096


class TritonBackend(TorchBackend):
    """See :class:`.backend.Backend`. Nothing in it waits for the GPU."""

    name = "triton"

    def serves(self, outputs: Tensor, table: Tensor, plan: Plan) -> bool:
        """On an NVIDIA GPU since Ampere, or in Triton's interpreter, for what is computed in float32.

        Not in deterministic mode: the kernels add gradients up in any order.
        """
        return (
            triton.INSTALLED
            and not (plan.deterministic or torch.are_deterministic_algorithms_enabled())
            and (_on_ampere(outputs) or (triton.interpreted() and not is_fake(outputs)))
            and outputs.device == table.device
            and plan.dtype == torch.float32
            and outputs.dtype in _DTYPES
            and table.dtype in _DTYPES
            and len(outputs) > 0
            and 0 < outputs.shape[1] <= LARGEST_DIM
        )

    def pays(self, outputs: Tensor) -> bool:
        """On a GPU; the interpreter is for tests."""
        return outputs.device.type == "cuda"

    def blocks(self, rows: Tensor | None, items: Tensor, bias: Tensor | None) -> Blocks:
        """As they come: the kernels compare every item with the target."""
        return Blocks(*(None if one is None else one.contiguous() for one in (rows, items, bias)))

    def topk(self, queries: Tensor, table: Tensor, k: int, allowed: Tensor | None, workspace_bytes: int) -> Tensor:
        """By all scores, or by groups and their maxima."""
        from .triton.search import largest_products

        return largest_products(queries, table, k, allowed=allowed, workspace_bytes=workspace_bytes)

    def losses(self, problem: Problem, combine: Combine, plan: Plan) -> Found:
        """A program takes some positions of a block."""
        if _is_sum(problem, combine):
            return super().losses(_sorted(problem), combine, plan)
        from .triton.softmax import losses

        return losses(problem)

    def mean(self, losses: Tensor, slot: Tensor) -> tuple[Tensor, Tensor]:
        """In one program."""
        from .triton.softmax import mean

        return mean(losses, slot)

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
        """With logits computed again."""
        if _is_sum(problem, combine):
            return super().gradients(_sorted(problem), found, grad_losses, combine, plan, needs, sparse)
        if problem.blocks.rows is None:
            from .triton.whole import whole_gradients

            return whole_gradients(problem, found, grad_losses, plan, needs, sparse)
        from .triton.gradients import block_gradients

        return block_gradients(problem, found, grad_losses, needs, sparse)

    def fits_at_once(self, problem: Problem, plan: Plan) -> bool:
        """Never: logits that are not held are as cheap to compute again."""
        return False


_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _on_ampere(outputs: Tensor) -> bool:
    """A memory prediction for CUDA on a machine without takes it as new enough."""
    if outputs.device.type != "cuda":
        return False
    return not torch.cuda.is_available() or torch.cuda.get_device_capability(outputs.device) >= (8, 0)


def _is_sum(problem: Problem, combine: Combine) -> bool:
    return problem.blocks.rows is not None and combine == "logsumexp"


def _sorted(problem: Problem) -> Problem:
    return problem._replace(blocks=Blocks.of(*problem.blocks))

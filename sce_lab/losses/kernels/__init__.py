"""The two costly parts of SCE as Triton kernels, for a GPU: the search for the buckets, and their softmax.

They compute what the PyTorch code in ``topk.py`` and ``engine.py`` computes, and serve only where they are asked for:

- with ``SCE_LAB_TRITON=1`` in the environment when the loss is called;
- for tensors on an NVIDIA GPU since Ampere (or on a CPU, in Triton's interpreter, which ``TRITON_INTERPRET=1`` in the
  environment switches on before Triton is first imported);
- with Triton installed, which PyTorch's CUDA builds bring along and its CPU builds do not;
- for float32, bfloat16 and float16, for up to 256 dimensions, and not in deterministic mode: they add gradients up in
  any order.

Otherwise PyTorch does it, as it does under fake tensors: predicted memory is that of the PyTorch code.

``search.py`` holds the top-k, ``softmax.py`` the losses of the buckets and their gradients. Both import Triton; this
file does not.
"""

import importlib.util
import os

import torch
from torch import Tensor

from ..common import is_fake

LARGEST_DIM = 256  # one row of outputs or items must fit into the registers of a program


def wanted(outputs: Tensor, linear_weight: Tensor, dtype: torch.dtype, deterministic: bool) -> bool:
    """Whether the kernels shall serve a loss of these inputs, computed in ``dtype``."""
    return (
        os.environ.get("SCE_LAB_TRITON") == "1"
        and not (deterministic or torch.are_deterministic_algorithms_enabled() or is_fake(outputs))
        and (interpreted() or (outputs.is_cuda and torch.cuda.get_device_capability(outputs.device) >= (8, 0)))
        and outputs.device == linear_weight.device
        and dtype == torch.float32
        and len(outputs) > 0
        and 0 < outputs.shape[1] <= LARGEST_DIM
        and importlib.util.find_spec("triton") is not None
    )


def interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter, on the CPU: slow, and meant for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"

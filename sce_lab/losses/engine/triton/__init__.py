"""The kernels of the Triton backend.

    launch    launching them, or not where tensors have no values       settings  which tiles, on which GPU
    rows      products of rows, logits among them                       order     floats as integers, the k largest
    search    the top-k of a matrix product       softmax  losses       gradients, table_sum, whole  their gradients

Those with kernels import Triton, which PyTorch's CUDA builds bring along and its CPU builds do not; this file does not.
No kernel waits for another one but by the order of launches, and no tensor's shape depends on values: nothing waits for
the GPU, and a step can be captured in a CUDA graph.
"""

import importlib.util
import os

INSTALLED = importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter, on the CPU: slow, and meant for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"

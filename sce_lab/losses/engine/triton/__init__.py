"""The kernels of the Triton backend.

``search.py`` holds the top-k, ``softmax.py`` the losses of the buckets and their gradients. Both import Triton, which
PyTorch's CUDA builds bring along and its CPU builds do not; this file does not.
"""

import importlib.util
import os

INSTALLED = importlib.util.find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter, on the CPU: slow, and meant for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"

"""Launching kernels."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ..tiles import is_fake


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Tensor | float | None, **constants: Any) -> None:
    """Launch a kernel on the device of its first argument; nothing at all on tensors without values.

    So a memory prediction runs the very code that a step runs.
    """
    first = arguments[0]
    if is_fake(first):
        return
    with torch.cuda.device_of(first) if first.is_cuda else nullcontext():
        kernel[grid](*arguments, **constants)

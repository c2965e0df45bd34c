"""Kernels, and launching them."""

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from ..tiles import is_fake

#: Numbers that change from batch to batch. Triton would compile a kernel anew for a 1, and for a multiple of 16.
COUNTS = {
    "first_item", "k", "n", "n_groups", "n_items", "n_keys", "n_parts", "n_positions", "n_queries", "n_rows", "n_taken",
    "n_x", "n_y", "per_part", "size_x", "size_y", "tiles",
}  # fmt: skip


def kernel(function: Callable[..., None]) -> Any:
    """``triton.jit`` of a function that is launched: compiled once for each device, dtype and width of rows."""
    counts = [name for name in inspect.signature(function).parameters if name in COUNTS]
    return triton.jit(function, do_not_specialize=counts)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Tensor | float | None, **constants: Any) -> None:
    """Launch a kernel on the device of its first argument; nothing at all on tensors without values.

    So a memory prediction runs the very code that a step runs.
    """
    first = arguments[0]
    if is_fake(first):
        return
    with torch.cuda.device_of(first) if first.is_cuda else nullcontext():
        kernel[grid](*arguments, **constants)

"""Which tiles the kernels take, on which GPU."""

import functools
from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from . import interpreted


class Tile(NamedTuple):
    """How much of a problem a program takes."""

    x: int  # rows of outputs, or queries
    y: int  # rows of the table
    warps: int = 4
    stages: int = 2


#: By capability: the tile of each kernel, for rows of up to 64, 128 and more dimensions; and for halves of over 256.
#:
#: 9.0: log_negatives, outputs_gradient and items_gradient at 64 dimensions are the quickest of those measured on an
#: H200 (PyTorch 2.11, Triton 3.6, case L, float32 as three TF32 products, the version before): .216 ms against .288
#: for 64 x 64 and .679 for 64 x 64 in IEEE arithmetic; .167 against .391; .140 against .345. Eight warps were slower,
#: and so were 64 dimensions at a time. All others are argued and not measured: the largest that compile to at most a
#: few spilled bytes a thread, and to shared memory for two programs on a multiprocessor
#: (benchmarks/results/kernels.json).
#: 8.0 and what is not named: the same argument, with the registers that mma.sync takes there.
TILES: dict[tuple[int, int], dict[str, tuple[Tile, Tile, Tile, Tile]]] = {
    (8, 0): {
        "log_negatives": (*(Tile(64, 128, 8),) * 3, Tile(128, 128, 8, 3)),
        "outputs_gradient": (Tile(64, 32, 8),) * 4,
        "items_gradient": (Tile(32, 64, 8),) * 4,
        "shares": (*(Tile(64, 128, 8),) * 3, Tile(128, 128, 8, 3)),
        "scores": (Tile(64, 64),) * 4,
        "maxima": (Tile(128, 64), *(Tile(128, 64, 8),) * 3),
    },
    (9, 0): {
        "log_negatives": (*(Tile(64, 128),) * 3, Tile(128, 128, 8, 3)),
        "outputs_gradient": (Tile(64, 64), Tile(64, 64, 8), *(Tile(64, 32, 8),) * 2),
        "items_gradient": (Tile(64, 64), Tile(64, 64, 8), *(Tile(32, 64, 8),) * 2),
        "shares": (*(Tile(64, 128),) * 3, Tile(128, 128, 8, 3)),
        "scores": (Tile(64, 64),) * 4,
        "maxima": (Tile(128, 64), *(Tile(128, 64, 8),) * 3),
    },
}

#: Columns of a gradient that a program adds up; with more, several programs share them, and compute logits each.
COLUMNS, OTHERWISE = {(9, 0): 256}, 128


def tile(kernel: str, dim: int, like: Tensor) -> Tile:
    """The tile of a kernel on the device of ``like``."""
    tiles = TILES.get(_capability(like.device), TILES[8, 0])[kernel]
    wide_halves = dim > 256 and like.dtype in (torch.bfloat16, torch.float16)
    return tiles[0 if dim <= 64 else 1 if dim <= 128 else 3 if wide_halves else 2]


def columns_at_once(dim: int, like: Tensor) -> int:
    """How many columns of a gradient a program adds up: a power of two."""
    return min(max(1 << (dim - 1).bit_length(), 16), COLUMNS.get(_capability(like.device), OTHERWISE))


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device) if device.type == "cuda" and torch.cuda.is_available() else (8, 0)


#: How float32 numbers are multiplied: ``"tf32x3"``, three products of halves on tensor cores, whose largest error of a
#: log-sum-exp was 1.0e-6 on an H200, or ``"ieee"`` with 1.2e-6. A single ``"tf32"`` product was off by 4.2e-3.
PRECISION = "tf32x3"


def dot_settings(outputs: Tensor, table: Tensor) -> dict[str, Any]:
    """Products of two bfloat16 or float16 numbers are exact in float32: tensor cores may form them from the halves."""
    halves = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
    native = outputs.dtype == table.dtype and outputs.dtype in halves and not interpreted()
    return {
        "DOT": halves[outputs.dtype] if native else tl.float32,
        "STEP_D": (64 if outputs.shape[1] > 256 else 32) if native else 16,  # dimensions at a time
        "PRECISION": PRECISION,
    }

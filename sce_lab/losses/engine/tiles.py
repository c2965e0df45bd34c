"""How work is cut so that temporary tensors stay small, and what of it a memory prediction has to run."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


class Plan(NamedTuple):
    """How to compute, which does not change what is computed."""

    dtype: torch.dtype  # everything is computed and added up in this one, whatever the inputs are in
    tile_bytes: int  # for the temporary tensors of one tile
    deterministic: bool  # add gradients in a fixed order on CUDA, too


class How(NamedTuple):
    """How a loss is computed, which does not change what is computed."""

    tile_bytes: int  # for the temporary tensors of one tile
    sparse_grad: bool = False  # the gradient of the item table is a row-sparse tensor
    deterministic: bool = False  # add gradients in a fixed order on CUDA, too
    backend: str = "auto"


#: For the temporary tensors of a loss: on a CPU, where they are quickest while they stay in its cache; and with Triton.
DEFAULT_WORKSPACE_BYTES = {"cpu": 4 * 2**20, "triton": 128 * 2**20}
#: With PyTorch on CUDA each chunk costs launches: there it is a share of what is free, between these two.
SHARE_OF_FREE, LEAST_ON_CUDA, MOST_ON_CUDA = 16, 128 * 2**20, 2 * 2**30


def workspace_or_default(
    workspace_bytes: int | None, like: Tensor, backend: str, default: dict[str, int] = DEFAULT_WORKSPACE_BYTES
) -> int:
    """``workspace_bytes``, or what is usual for this backend on the device of ``like``; a ValueError below 1."""
    if workspace_bytes is None:
        if backend in default:
            return default[backend]
        if like.device.type != "cuda":
            return default["cpu"]
        if torch.compiler.is_compiling():  # a compiled step is kept, what is free changes
            return LEAST_ON_CUDA
        return min(max(free_on_cuda(like.device) // SHARE_OF_FREE, LEAST_ON_CUDA), MOST_ON_CUDA)
    if isinstance(workspace_bytes, bool) or not isinstance(workspace_bytes, int) or workspace_bytes < 1:
        raise ValueError(f"workspace_bytes must be a positive whole number, got {workspace_bytes!r}")
    return workspace_bytes


def free_on_cuda(device: torch.device) -> int:
    """Bytes that this process can have: those free on the device, and those PyTorch's allocator holds without use."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def compute_dtype(outputs: Tensor, table: Tensor) -> torch.dtype:
    """What to compute and add up in: float32 for half precision."""
    return torch.float64 if torch.float64 in (outputs.dtype, table.dtype) else torch.float32


def is_fake(tensor: Tensor) -> bool:
    """Whether this is a memory prediction: a tensor with a shape but without values."""
    return tensor.is_meta or isinstance(tensor, FakeTensor)


def without_autocast(tensor: Tensor) -> AbstractContextManager[None]:
    """Inside, operations on the device of ``tensor`` compute in the dtypes they are given."""
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)


def chunks(total: int, size: int, like: Tensor) -> list[slice]:
    """Slices of ``size`` (at least 1) that cover ``range(total)``.

    Each chunk allocates and frees what the one before did, so a memory prediction (``like`` is fake) does two only.
    """
    size = max(size, 1)
    last = min(2 * size, total) if is_fake(like) else total
    return [slice(start, min(start + size, total)) for start in range(0, last, size)]


def tile_shape(bucket_size_x: int, bucket_size_y: int, dim: int, plan: Plan) -> tuple[int, int, int]:
    """How many slots and items of a bucket a tile takes (all, unless one bucket is too large), and its bytes."""
    n_x, n_y = bucket_size_x, bucket_size_y
    while tile_bytes(n_x, n_y, dim, plan) > plan.tile_bytes and max(n_x, n_y) > 1:
        n_x, n_y = ((n_x + 1) // 2, n_y) if n_x >= n_y else (n_x, (n_y + 1) // 2)
    return n_x, n_y, tile_bytes(n_x, n_y, dim, plan)


def room_for_slopes(plan: Plan, softcap: float | None) -> Plan:
    """A plan with smaller tiles where each has another beside it: the slopes of capped logits."""
    return plan if softcap is None else plan._replace(tile_bytes=max(plan.tile_bytes // 2, 1))


def tile_bytes(n_x: int, n_y: int, dim: int, plan: Plan) -> int:
    """Logits, and three tensors each of positions and items: their rows, gradients and indices."""
    return (n_x * n_y + 3 * (n_x + n_y) * dim) * plan.dtype.itemsize

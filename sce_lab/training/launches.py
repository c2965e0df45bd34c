"""What a step asks of a GPU, counted on any machine: kernels that it launches, and places where the host would wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

#: Operations of which one call is several kernels on CUDA; all others are taken as one.
KERNELS = {"native_layer_norm_backward": 3, "fused_attention_backward": 4, "_fused_adam_": 2}
#: Operations whose result the host needs, or whose size depends on data: on CUDA the host waits for both.
WAITS = (
    "_local_scalar_dense", "_unique2", "bincount", "equal", "is_nonzero", "item", "masked_select", "nonzero",
    "repeat_interleave", "unique_consecutive", "unique_dim",
)  # fmt: skip
_NO_KERNEL = (
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "detach",
    "lift_fresh",
    "_unsafe_view",
)


class Launches(TorchDispatchMode):
    """Counts, by operation, the kernels that what runs inside would launch on CUDA, and what would wait for it.

    A count is made of operations, so it is an estimate of kernels: a view is none, an operation in :data:`KERNELS` is
    several. What an operation decides by itself (a split matrix product) is not seen.

    Attributes:
        launches: kernels by operation.
        waits: operations in :data:`WAITS`, and indexing by truth values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """All kernels."""
        return self.launches.total()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count it."""
        name = func._schema.name.split("::")[-1]
        if name.startswith("_scaled_dot_product"):
            name = "fused_attention_backward" if name.endswith("_backward") else "fused_attention"
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        if not is_view and name not in _NO_KERNEL and func.namespace != "profiler":
            self.launches[name] += KERNELS.get(name, 1)
        if name in WAITS or (name.startswith("index") and any(map(_chooses, args))):
            self.waits[name] += 1
        return func(*args, **(kwargs or {}))


def _chooses(argument: Any) -> bool:
    """Whether it is, or has in it, a tensor of truth values to index by."""
    if isinstance(argument, list | tuple):
        return any(map(_chooses, argument))
    return isinstance(argument, Tensor) and argument.dtype == torch.bool


class FusedAttention(TorchFunctionMode):
    """Attention without its dropout, which on a CPU would not be fused with it; on CUDA it costs no launch."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            kwargs = kwargs | {"dropout_p": 0.0}
        return func(*args, **kwargs)

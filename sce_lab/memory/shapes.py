"""Running code on tensors that have a shape and a lifetime, but no content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from sce_lab.losses.engine import IMPLEMENTATIONS
from sce_lab.memory.live import LiveBytes

#: Results of operations on meta tensors, by what they were asked: (is it a tuple, (shape, strides, dtype) of each).
_RESULTS: dict[tuple[Any, ...], tuple[bool, tuple[tuple[Any, ...], ...]]] = {}
_MOST_RESULTS = 20_000


class ShapesOnly(LiveBytes):
    """Counts live bytes like :class:`LiveBytes`, of tensors on PyTorch's ``meta`` device.

    What an operation returns there follows from shapes, strides and numbers alone. Much of what torch does to find it
    out is written in Python and slow, and a training step asks the same a hundred times over. So answers are kept, and
    only the first step of its kind takes long.
    """

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, or make what it is known to return; count what is new."""
        kind = _KINDS.get(func) or _kind(func)
        if kind == "writes" and args[0].layout == torch.strided:
            return args[0]  # its shape stays, and it has no content to change
        if kind != "makes" or func in IMPLEMENTATIONS:
            return super().__torch_dispatch__(func, types, args, kwargs)
        if func is torch.ops.aten.clone.default and args[0].layout == torch.sparse_coo:
            out = _sparse_clone(args[0])  # torch's own clone forgets how many rows there are
            self.count(out)
            return out
        question = (func, *map(_described, args))
        if kwargs:
            question += tuple((name, _described(value)) for name, value in kwargs.items())
        known = _RESULTS.get(question)
        if known is None:
            out = func(*args, **(kwargs or {}))
            made = out if isinstance(out, tuple) else (out,)
            if all(t.layout == torch.strided for t in made):
                if len(_RESULTS) >= _MOST_RESULTS:
                    _RESULTS.clear()
                answer = tuple((tuple(t.shape), t.stride(), t.dtype) for t in made)
                _RESULTS[question] = isinstance(out, tuple), answer
        else:
            several, answer = known
            made = tuple(torch.empty_strided(*where, dtype=dtype, device="meta") for *where, dtype in answer)
            out = made if several else made[0]
        for tensor in made:
            self.count(tensor)
        return out


def _sparse_clone(tensor: Tensor) -> Tensor:
    parts = tensor._indices().clone(), tensor._values().clone()
    return torch.sparse_coo_tensor(*parts, tensor.shape, is_coalesced=tensor.is_coalesced(), check_invariants=False)


#: What an operation does: "makes" new tensors, "writes" into its first argument and returns that, or "other".
_KINDS: dict[Any, str] = {}


def _kind(func: Any) -> str:
    schema = func._schema
    arguments, returns = schema.arguments, schema.returns
    aliased = [a.alias_info is not None for a in arguments]
    if not any(aliased) and returns and all(str(r.type) == "Tensor" for r in returns):
        kind = "makes"
    elif (
        schema.name.endswith("_")
        and len(returns) == 1
        and aliased[0]
        and not any(aliased[1:])
        and torch.Tag.inplace_view not in func.tags
    ):
        kind = "writes"
    else:
        kind = "other"
    return _KINDS.setdefault(func, kind)


def _described(argument: Any) -> Any:
    """What the result can depend on, hashable. 1, 1.0 and True are equal, but make different dtypes."""
    if isinstance(argument, Tensor):
        return argument.shape, argument.stride(), argument.dtype, argument.layout
    if isinstance(argument, list | tuple):
        return tuple(map(_described, argument))
    return type(argument), argument


class _AttentionOfCpu(TorchFunctionMode):
    """On a CPU, attention without dropout is one fused operation. Asked on meta tensors, torch would take it apart."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and not kwargs.get("dropout_p"):
            fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            return fused(*args, **{name: kwargs[name] for name in ("is_causal", "attn_mask") if name in kwargs})[0]
        return func(*args, **kwargs)


@contextmanager
def shapes_only(device: str, *, dropout: bool) -> Iterator[tuple[torch.device, LiveBytes]]:
    """Inside, tensors made on the device that is given back take no memory, and the counter says what they would take.

    A prediction for a CPU runs on meta tensors, one for CUDA on those of ``FakeTensorMode``, which take the paths that
    CUDA's own tensors take; that needs a PyTorch with CUDA, and is slower.

    Args:
        device: where the real thing would run.
        dropout: whether attention uses dropout.
    """
    if torch.device(device).type == "cuda":
        with FakeTensorMode():
            yield torch.device(device), LiveBytes(granularity=512)  # what CUDA's allocator rounds up to
    elif dropout:
        yield torch.device("meta"), ShapesOnly()
    else:
        with _AttentionOfCpu():
            yield torch.device("meta"), ShapesOnly()

"""Counting what a loss would launch on a GPU, and catching what would wait for it. Needs neither a GPU nor Triton."""

import importlib
import sys
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch
import torch._dynamo  # it looks whether Triton is there when it is imported, and not for a stand-in
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_iter

from sce_lab.losses.engine import IMPLEMENTATIONS, triton, triton_backend

aten = torch.ops.aten
#: Allocations, which launch nothing; views are known by the storage of what they return.
FREE = {
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "_sparse_coo_tensor_with_dims_and_tensors",
    "_indices",
    "_values",
}
#: Operations of several kernels, about as CUDA has them in PyTorch 2.11.
SEVERAL = {"masked_fill": 2, "sort": 4, "topk": 12, "cumsum": 2, "index_put": 2, "embedding_dense_backward": 6}
#: Operations that read a value back, or whose result has a shape that values decide.
WAITING = {
    "_local_scalar_dense", "is_nonzero", "item", "nonzero", "nonzero_static", "masked_select", "unique_dim", "_unique",
    "_unique2", "unique_consecutive", "equal", "repeat_interleave.Tensor", "bincount", "_coalesce", "histc",
}  # fmt: skip


class Launches(TorchDispatchMode):
    """Counts kernels: those of Triton, and those of PyTorch's operations, the engine's own taken apart.

    Attributes:
        kernels: their names, one an entry.
        waits: operations that would wait for the GPU.
    """

    def __init__(self):
        super().__init__()
        self.kernels, self.waits = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in IMPLEMENTATIONS:
            with self:
                return IMPLEMENTATIONS[func](*args, **kwargs)
        name = func._schema.name.split("::")[1]
        by_mask = name in ("index", "index_put", "index_put_", "_unsafe_index") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if by_mask or name in WAITING or f"{name}.{func._overloadname}" in WAITING:
            self.waits.append(str(func))
        devices = {t.device.type for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor) and t.dim()}
        if len(devices) > 1:
            self.waits.append(f"{func} from one device to another")
        before = {_storage(t) for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = func(*args, **kwargs)
        made = {_storage(t) for t in tree_iter(out) if isinstance(t, torch.Tensor)} - before
        if name not in FREE and (made or func._schema.is_mutable):
            self.kernels += [name] * SEVERAL.get(name.rstrip("_"), 1)
        return out


def _storage(tensor):
    return (tensor._values() if tensor.layout == torch.sparse_coo else tensor).untyped_storage()._cdata


@contextmanager
def counted(run_kernels=False):
    """Inside, everything that is launched is counted; Triton's kernels run, outside of the count, if they are to."""
    modules = [importlib.import_module(f"{triton.__name__}.{name}") for name in HOSTS]
    with Launches() as launches:

        def counting(kernel, grid, *arguments, **constants):
            launches.kernels.append(getattr(kernel, "__name__", str(kernel)))
            if run_kernels:
                with _disable_current_modes():
                    original(kernel, grid, *arguments, **constants)

        original = modules[0].launch
        try:
            for module in modules:
                module.launch = counting
            yield launches
        finally:
            for module in modules:
                module.launch = original


#: The modules of the backend that launch kernels.
HOSTS = ("search", "softmax", "gradients", "whole", "table_sum")


@contextmanager
def triton_or_a_stand_in():
    """Inside, the host code of the kernels can be imported, and serves tensors on the meta device.

    Where Triton is not installed, a module of its name stands in that knows no more than this code asks for.
    """
    imported = [name for name in sys.modules if name.startswith(triton.__name__ + ".")]
    saved = triton.INSTALLED, triton_backend._on_ampere
    stand_in = not triton.INSTALLED
    if stand_in:
        sys.modules |= _stand_in()
    triton.INSTALLED, triton_backend._on_ampere = True, lambda outputs: outputs.is_meta
    try:
        yield
    finally:
        triton.INSTALLED, triton_backend._on_ampere = saved
        if stand_in:
            for name in [*_stand_in(), *(n for n in sys.modules if n.startswith(triton.__name__ + "."))]:
                if name not in imported:
                    sys.modules.pop(name, None)
            for name in [
                n for n in vars(triton) if isinstance(getattr(triton, n), ModuleType) and n in (*HOSTS, *REST)
            ]:
                delattr(triton, name)


REST = ("launch", "settings", "rows", "order", "search_kernels")


def _stand_in():
    package, language = ModuleType("triton"), ModuleType("triton.language")
    package.jit = lambda function, **_: function
    package.cdiv = lambda a, b: -(-a // b)
    package.next_power_of_2 = lambda n: 1 << max(n - 1, 0).bit_length()
    language.constexpr = lambda value=None: value
    language.float32, language.bfloat16, language.float16 = "float32", "bfloat16", "float16"
    package.language = language
    for module in (package, language):
        module.__spec__ = ModuleSpec(module.__name__, None)
    return {"triton": package, "triton.language": language}

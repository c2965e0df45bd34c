"""Counting the bytes of tensors as they come and go."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from sce_lab.losses.engine import IMPLEMENTATIONS
from sce_lab.losses.sharded import is_sharded


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensor storages that operations create while it is active, until they are freed.

    What existed before is not counted. Scratch that an operation allocates and frees inside its kernel is not seen.

    Args:
        granularity: storages are counted in whole multiples of so many bytes, as an allocator hands them out.
    """

    def __init__(self, granularity: int = 1) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        #: (number of the storage, bytes) when one appears, (number, -bytes) when it goes
        self.log: list[tuple[int, int]] = []
        self._known: set[int] = set()
        self._granularity = granularity

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch wraps __torch_dispatch__ a second time, which costs more than counting does

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count storages not seen before; one of the engine's is run piece by piece."""
        if func in IMPLEMENTATIONS:
            with self:
                return IMPLEMENTATIONS[func](*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.count(out)
        else:
            for tensor in tree_iter(out):
                if isinstance(tensor, Tensor):
                    self.count(tensor)
        return out

    def know(self, tensors: Iterable[Tensor]) -> None:
        """Storages that were there before and are not to be counted when an operation returns them."""
        for tensor in tensors:
            for part in stored_parts(tensor):
                self._known.add(part.untyped_storage()._cdata)

    def count(self, tensor: Tensor) -> None:
        """Count the storage of ``tensor``, unless it is counted already."""
        for part in stored_parts(tensor):
            storage = part.untyped_storage()
            key = storage._cdata
            if key not in self._known:
                self._known.add(key)
                nbytes = -(-storage.nbytes() // self._granularity) * self._granularity
                number = len(self.log)
                self.born(number, part)
                self._change(number, nbytes)
                weakref.finalize(storage, self._forget, key, number, nbytes).atexit = False

    def born(self, number: int, tensor: Tensor) -> None:
        """Called when storage ``number`` appears; for subclasses that want to know more of it than its size."""

    def _forget(self, key: int, number: int, nbytes: int) -> None:
        self._known.discard(key)
        self._change(number, -nbytes)

    def _change(self, number: int, nbytes: int) -> None:
        self.live += nbytes
        if self.live > self.peak:
            self.peak = self.live
        self.log.append((number, nbytes))


def largest_workspace(log: list[tuple[int, int]]) -> int:
    """The most bytes that a stretch of :attr:`LiveBytes.log` held at once, of those that it also gave back."""
    born = {number for number, nbytes in log if nbytes >= 0}
    temporary = born & {number for number, nbytes in log if nbytes < 0}
    return max(itertools.accumulate((nbytes for number, nbytes in log if number in temporary), initial=0))


def stored_parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """The tensors that have a storage: the tensor itself, the indices and values of a sparse one, or a local part."""
    if is_sharded(tensor):
        tensor = tensor._local_tensor  # to_local() is an operation, which would be counted
    if tensor.layout == torch.sparse_coo:
        return tensor._indices(), tensor._values()
    return (tensor,)


def stored_bytes(tensors: Iterable[Tensor | None]) -> int:
    """Bytes of the storages of all ``tensors``, each counted once: FSDP2 gives gradients one in common."""
    storages = [part.untyped_storage() for t in tensors if t is not None for part in stored_parts(t)]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())

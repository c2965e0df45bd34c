"""Live tensor bytes, exactly: every storage that an operation makes, from its making to its end."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sce_lab.losses.engine import IMPLEMENTATIONS


class LiveBytes(TorchDispatchMode):
    """Record storages made inside the context. What existed before (the inputs) does not count.

    ``peak(without=[...])`` is the largest number of bytes alive at one time, given tensors left out.
    """

    def __init__(self):
        super().__init__()
        self.sizes = []  # bytes of the i-th storage
        self.events = []  # (i, born or gone) in order
        self.serial = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in IMPLEMENTATIONS:  # piece by piece
            with self:
                return IMPLEMENTATIONS[func](*args, **(kwargs or {}))
        known = {storage._cdata for tensor in tree_leaves((args, kwargs)) for storage in storages(tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            for storage in storages(tensor):
                if storage._cdata not in known and storage not in self.serial:
                    self.serial[storage] = number = len(self.sizes)
                    self.sizes.append(storage.nbytes())
                    self.events.append((number, True))
                    weakref.finalize(storage, self.events.append, (number, False))
        return result

    def now(self):
        """Bytes alive at this moment."""
        return sum(self.sizes[number] * (1 if born else -1) for number, born in self.events)

    def peak(self, without=()):
        ignored = {self.serial.get(storage) for tensor in without for storage in storages(tensor)}
        live = peak = 0
        for number, born in self.events:
            if number not in ignored:
                live += self.sizes[number] if born else -self.sizes[number]
                peak = max(peak, live)
        return peak


def storages(tensor):
    if not isinstance(tensor, torch.Tensor):
        return []
    if tensor.layout == torch.sparse_coo:
        return [tensor._indices().untyped_storage(), tensor._values().untyped_storage()]
    return [tensor.untyped_storage()]


def workspace(loss, inputs):
    """Peak bytes of ``loss()`` and its backward pass, beyond ``inputs`` and their gradients; and the peak with them."""
    for tensor in inputs:
        tensor.grad = None
    with LiveBytes() as live:
        loss().backward()
    gradients = [tensor.grad for tensor in inputs if tensor.grad is not None]
    return live.peak(without=gradients), live.peak()

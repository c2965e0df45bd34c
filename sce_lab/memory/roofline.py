"""The least time that a training step can take on a device: an estimate, from operations and bytes.

Every operation takes as long as its arithmetic at the device's best speed, or as long as its bytes need between memory
and processor, whichever is more; a step is the sum. Real steps are slower: caches help, but starting an operation costs
time, and nothing runs at its best speed. So this says what to expect at best, and which of two losses has more to do.

The engine under the losses works tile by tile so that a tile stays in the cache. What it makes on its way is therefore
not counted as bytes that move: only what it is given, each time it looks at it, and what it returns.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sce_lab.losses.engine import IMPLEMENTATIONS
from sce_lab.memory.devices import Device
from sce_lab.memory.predict import arguments_of, shaped_step
from sce_lab.training import TrainingConfig, training_step


@dataclasses.dataclass(frozen=True)
class Work:
    """What a step does.

    Attributes:
        operations: a row an operation: ``phase``, ``flops`` (of matrix products and attention, as
            ``torch.utils.flop_counter`` counts them) and ``bytes`` (all that it reads and writes).
    """

    operations: pd.DataFrame

    @property
    def flops(self) -> float:
        """Of the whole step."""
        return float(self.operations["flops"].sum())

    @property
    def bytes(self) -> float:
        """Read and written in the whole step."""
        return float(self.operations["bytes"].sum())

    def seconds(self, device: Device) -> float:
        """An estimate of the least time a step takes on ``device``.

        Raises:
            ValueError: nobody says how fast the device is.
        """
        if not (device.flops and device.bandwidth):
            raise ValueError(f"no speed is known of {device.name}: give flops and bandwidth")
        times = np.maximum(self.operations["flops"] / device.flops, self.operations["bytes"] / device.bandwidth)
        return float(times.sum())


def count_work(
    config: TrainingConfig, catalog_size: int, *, n_sequences: int | None = None, length: int | None = None
) -> Work:
    """The :class:`Work` of a step that is never made; the arguments are those of ``predict_memory``.

    The engine is counted as if its tile had all the memory it likes, which changes neither what is multiplied nor how
    often; and SCE as if every slot of a bucket had a gradient: of those that have one there are at most as many as
    positions.
    """
    config, *sizes = arguments_of(dataclasses.replace(config, device="cpu"), catalog_size, n_sequences, length)
    return _count(json.dumps(dataclasses.asdict(config)), *sizes)


@functools.lru_cache(maxsize=1024)
def _count(settings: str, *sizes: int) -> Work:
    counter = _WorkCounter()

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        counter.phase = name
        yield

    with shaped_step(TrainingConfig(**json.loads(settings)), *sizes) as step, step.counter, counter:
        training_step(step.model, step.loss, step.optimizer, step.batch, phase)
    return Work(pd.DataFrame(counter.rows, columns=["phase", "flops", "bytes"]))


#: Arguments of the engine's operators that say how large a tile may be.
_TILE_ARGUMENTS = ("tile_bytes", "workspace_bytes")
_aten = torch.ops.aten
#: They read of a table no more than they make of it ...
_GATHERING = {_aten.index_select, _aten.gather, _aten.embedding, _aten.index}
#: ... and these change no more of it than the last tensor they are given.
_SCATTERING = {_aten.index_add_, _aten.index_put_, _aten.index_copy_, _aten.scatter_}


class _WorkCounter(TorchDispatchMode):
    """Counts what operations do, of tensors real or not."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = ""
        self.rows: list[tuple[str, float, float]] = []
        self._in_memory: set[int] | None = None  # storages that an operator of the engine was given, while it runs

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in IMPLEMENTATIONS:
            return self._open(func, args, kwargs)
        out = func(*args, **kwargs)
        is_view, formula = _known(func)
        if not is_view:
            flops = formula(*args, **kwargs, out_val=out) if formula else 0
            self._add(flops, self._traffic(func._overloadpacket, (*args, *kwargs.values()), out))
        return out

    def _open(self, operator: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Run what an operator of the engine runs, in one tile."""
        names = [argument.name for argument in operator._schema.arguments]
        args = tuple(2**62 if name in _TILE_ARGUMENTS else value for name, value in zip(names, args))
        self._in_memory = {_storage(t) for t in args if isinstance(t, Tensor)}
        try:
            with self:
                out = IMPLEMENTATIONS[operator](*args, **kwargs)
        finally:
            self._in_memory = None
        self._add(0, sum(map(_nbytes, _tensors(out))))
        return out

    def _traffic(self, packet: Any, args: tuple, out: Any) -> int:
        """Bytes that an operation reads from memory and writes to it."""
        given, made = _tensors(args), _tensors(out)
        most = math.inf
        if packet in _GATHERING:
            most = _nbytes(out)
        elif packet in _SCATTERING:
            most = _nbytes(given[-1])
        tensors = [*given, *made]
        if self._in_memory is not None:
            tensors = [t for t in tensors if _storage(t) in self._in_memory]
        return sum(min(_nbytes(t), most) for t in tensors)

    def _add(self, flops: float, nbytes: float) -> None:
        if flops or nbytes:
            self.rows.append((self.phase, float(flops), float(nbytes)))


@functools.cache
def _known(func: Any) -> tuple[bool, Callable[..., int] | None]:
    """Whether it only makes a view, and how torch counts what it multiplies; in place is as much as not in place."""
    is_view = any(a.alias_info is not None and not a.alias_info.is_write for a in func._schema.arguments)
    packet = func._overloadpacket
    plain = getattr(_aten, packet.__name__.removesuffix("_"), None)
    return is_view, flop_registry.get(packet) or flop_registry.get(plain)


def _tensors(values: Any) -> list[Tensor]:
    """Those among them, and in lists among them."""
    if isinstance(values, Tensor):
        return [values]
    return [t for value in values for t in _tensors(value)] if isinstance(values, list | tuple) else []


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else 0


def _nbytes(tensor: Tensor) -> int:
    if tensor.layout != torch.strided:
        return 0
    seen = [size if stride else 1 for size, stride in zip(tensor.shape, tensor.stride())]  # expanded: read once
    return math.prod(seen) * tensor.element_size()


@functools.cache
def this_machine(seconds: float = 0.2, device: str = "cpu") -> Device:
    """The processor or GPU that this runs on, as fast as it multiplies and copies now: measured, not looked up.

    It takes about ``2 * seconds``. Memory is that of the machine or the GPU, whatever else is running.
    """
    import psutil

    on_cuda = torch.device(device).type == "cuda"
    wait = (lambda: torch.cuda.synchronize(device)) if on_cuda else lambda: None
    n = 4096 if on_cuda else 768
    a, b = torch.randn(n, n, device=device), torch.empty(n, n, device=device)
    source, target = torch.zeros(2, 2**24, device=device)  # 64 MiB each: larger than caches
    flops = 2 * n**3 / _best(lambda: (torch.mm(a, a, out=b), wait()), seconds)
    bandwidth = 2 * source.nbytes / _best(lambda: (target.copy_(source), wait()), seconds)
    if on_cuda:
        properties = torch.cuda.get_device_properties(device)
        return Device(properties.name, properties.total_memory, 2**30, bandwidth, flops, "measured here just now")
    name = f"this machine, {torch.get_num_threads()} threads"
    return Device(name, psutil.virtual_memory().total, 2**29, bandwidth, flops, "measured here just now")


def _best(work: Callable[[], Any], seconds: float) -> float:
    """Seconds of the quickest of the repeats that fit into ``seconds``."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)

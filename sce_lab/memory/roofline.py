"""The least time that a training step can take on a device: an estimate, from operations and bytes.

Every operation takes as long as its arithmetic at the device's best speed, or as long as its bytes need between memory
and processor, whichever is more; a step is the sum. Real steps are slower: caches help, but starting an operation costs
time, and nothing runs at its best speed. So this says what to expect at best, and which of two losses has more to do.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from sce_lab.losses import LOSSES
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

    SCE is counted as if it had all the memory it likes, in one piece, and as if every slot of a bucket had a gradient;
    of those that have one there are at most as many as positions.
    """
    config = dataclasses.replace(config, device="cpu")
    if "workspace_bytes" in inspect.signature(LOSSES[config.loss]).parameters:
        config = dataclasses.replace(config, loss_settings=dict(config.loss_settings) | {"workspace_bytes": 2**62})
    counter = _WorkCounter()

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        counter.phase = name
        yield

    with shaped_step(*arguments_of(config, catalog_size, n_sequences, length)) as step, step.counter, counter:
        training_step(step.model, step.loss, step.optimizer, step.batch, phase)
    return Work(pd.DataFrame(counter.rows, columns=["phase", "flops", "bytes"]))


class _WorkCounter(TorchDispatchMode):
    """Counts what operations do, of tensors real or not."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = ""
        self.rows: list[tuple[str, float, float]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in IMPLEMENTATIONS:
            with self:
                return IMPLEMENTATIONS[func](*args, **kwargs)
        out = func(*args, **kwargs)
        is_view = any(a.alias_info is not None and not a.alias_info.is_write for a in func._schema.arguments)
        if not is_view:
            formula = flop_registry.get(func._overloadpacket)
            flops = formula(*args, **kwargs, out_val=out) if formula else 0
            nbytes = sum(_nbytes(t) for t in tree_iter((args, kwargs, out)) if isinstance(t, Tensor))
            if flops or nbytes:
                self.rows.append((self.phase, float(flops), float(nbytes)))
        return out


def _nbytes(tensor: Tensor) -> int:
    if tensor.layout != torch.strided:
        return 0
    seen = (size if stride else 1 for size, stride in zip(tensor.shape, tensor.stride()))  # expanded: read once
    return functools.reduce(lambda a, b: a * b, seen, tensor.element_size())


@functools.cache
def this_machine(seconds: float = 0.2) -> Device:
    """The processor that this runs on, as fast as it multiplies and copies now: measured, not looked up.

    It takes about ``2 * seconds``. Memory is that of the machine, whatever else is running.
    """
    import psutil

    a, b = torch.randn(768, 768), torch.empty(768, 768)
    source, target = torch.zeros(2**24), torch.zeros(2**24)  # 64 MiB each: larger than caches
    flops = 2 * 768**3 / _best(lambda: torch.mm(a, a, out=b), seconds)
    bandwidth = 2 * source.nbytes / _best(lambda: target.copy_(source), seconds)
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

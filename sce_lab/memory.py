"""What a training step needs: measured exactly, or predicted without allocating a byte of it.

Both run the same :func:`sce_lab.training.training_step`. To measure, every tensor storage that comes and goes is
counted while the step runs; to predict, the same step runs on fake tensors, which have shapes and lifetimes but no
data. There is no formula beside the code that could drift from it.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from sce_lab.data.batches import Batch, Packed
from sce_lab.losses import make_loss
from sce_lab.training import (
    Phase,
    StepFunction,
    StepResult,
    TrainingConfig,
    make_model,
    make_optimizer,
    training_step,
)


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of one training step.

    Each part is that part at its own largest; they need not be largest together, so ``peak``, the most that was alive
    at any moment, is at most about their sum.

    Attributes:
        parameters: weights of the model, the item table first among them.
        gradients: gradients of all parameters.
        optimizer_state: what Adam keeps, two numbers a parameter.
        activations: what the encoder's forward pass leaves for its backward pass.
        loss_workspace: the most the loss held at once, forward or backward, beyond its inputs and their gradients.
        peak: the most bytes alive at any moment of the step.
    """

    parameters: int
    gradients: int
    optimizer_state: int
    activations: int
    loss_workspace: int
    peak: int

    def as_dict(self) -> dict[str, int]:
        """Field name to bytes."""
        return dataclasses.asdict(self)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensor storages that operations create while it is active, until they are freed.

    What existed before is not counted. Scratch that an operation allocates and frees inside its kernel is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        #: (number of the storage, bytes) when one appears, (number, -bytes) when it goes
        self.log: list[tuple[int, int]] = []
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count storages not seen before."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, Tensor):
                for part in _parts(tensor):
                    self._count(part.untyped_storage())
        return out

    def know(self, tensors: Iterable[Tensor]) -> None:
        """Storages that were there before and are not to be counted when an operation returns them."""
        for tensor in tensors:
            for part in _parts(tensor):
                self._known.add(part.untyped_storage()._cdata)

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, nbytes = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._change(number := len(self.log), nbytes)
        weakref.finalize(storage, self._forget, key, number, nbytes).atexit = False

    def _forget(self, key: int, number: int, nbytes: int) -> None:
        self._known.discard(key)
        self._change(number, -nbytes)

    def _change(self, number: int, nbytes: int) -> None:
        self.live += nbytes
        self.peak = max(self.peak, self.live)
        self.log.append((number, nbytes))


def largest_workspace(log: list[tuple[int, int]]) -> int:
    """The most bytes that a stretch of :attr:`LiveBytes.log` held at once, of those that it also gave back."""
    born = {number for number, nbytes in log if nbytes >= 0}
    died = {number for number, nbytes in log if nbytes < 0}
    live = itertools.accumulate((nbytes for number, nbytes in log if number in born & died), initial=0)
    return max(live)


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    if tensor.layout == torch.sparse_coo:
        return tensor._indices(), tensor._values()
    return (tensor,)


def _bytes(tensors: Iterable[Tensor | None]) -> int:
    return sum(part.untyped_storage().nbytes() for t in tensors if t is not None for part in _parts(t))


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    return (t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor))


class _CpuMeter:
    """Live bytes by :class:`LiveBytes`."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        self.mode = LiveBytes()
        self.mode.know(known)

    def live(self) -> int:
        return self.mode.live

    def peak(self) -> int:
        return self.mode.peak

    def reset_peak(self) -> None:
        self.mode.peak = self.mode.live

    def start_loss(self) -> None:
        self._loss_began = len(self.mode.log)

    def loss_workspace(self) -> int:
        return largest_workspace(self.mode.log[self._loss_began :])


class _CudaMeter:
    """Live bytes by CUDA's caching allocator.

    It has no log, so the gradients of the loss's inputs are taken as alive at the peak; where they come after it, the
    workspace is understated by their size.
    """

    def __init__(self, device: torch.device) -> None:
        self.mode = nullcontext()
        self._device = device
        torch.cuda.synchronize(device)
        self._before = torch.cuda.memory_allocated(device)
        self._loss_peak = 0

    def live(self) -> int:
        torch.cuda.synchronize(self._device)
        return torch.cuda.memory_allocated(self._device) - self._before

    def peak(self) -> int:
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device) - self._before

    def reset_peak(self) -> None:
        self._loss_peak = max(self._loss_peak, self.peak())
        torch.cuda.reset_peak_memory_stats(self._device)

    def start_loss(self) -> None:
        self._loss_peak = self._loss_base = self.live()

    def loss_workspace(self) -> int:
        return max(self._loss_peak - self._loss_base, self.peak() - self.live())


def measured_step(
    model: nn.Module,
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    phase: Phase = lambda name: nullcontext(),
    step: StepFunction = training_step,
) -> StepResult:
    """Run one training step and report its :class:`MemoryUse`; the result of the step is the same as unmeasured.

    On CUDA the figures are the allocator's, on a CPU every tensor storage is counted. The step should not be the
    optimizer's first: it creates its state then, inside the step.
    """
    device = model.item_embedding.device
    resident = [*model.parameters(), *loss.buffers(), *_optimizer_tensors(optimizer)]
    meter = _CudaMeter(device) if device.type == "cuda" else _CpuMeter(resident)
    activations = gradients = workspace = peak = 0

    @contextmanager
    def metered(name: str) -> Iterator[None]:
        nonlocal activations, gradients, workspace, peak
        if name == "loss_forward":
            activations = meter.live()
            meter.start_loss()
        elif name == "optimizer":  # all gradients are there, and only now
            gradients = _bytes(p.grad for p in model.parameters())
        meter.reset_peak()
        with phase(name):
            yield
        peak = max(peak, meter.peak())
        if name == "loss_backward":
            # of what the loss allocated, only its value and the gradients of its inputs are left now
            workspace = meter.loss_workspace()

    with meter.mode:
        result = step(model, loss, optimizer, batch, metered)
    parameters, optimizer_state = _bytes(model.parameters()), _bytes(_optimizer_tensors(optimizer))
    peak += parameters + optimizer_state
    use = MemoryUse(parameters, gradients, optimizer_state, activations, workspace, peak)
    return StepResult(result.loss, use)


def measuring(step: StepFunction = training_step, every: int = 50) -> StepFunction:
    """A step function for :func:`sce_lab.training.train`: measures the second step and every ``every``-th after it."""
    count = 0

    def maybe_measured(
        model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, phase: Phase
    ) -> StepResult:
        nonlocal count
        count += 1
        if count % every == 2 % every and optimizer.state:
            return measured_step(model, loss, optimizer, batch, phase, step)
        return step(model, loss, optimizer, batch, phase)

    return maybe_measured


def predict_memory(
    config: TrainingConfig, catalog_size: int, *, n_sequences: int | None = None, length: int | None = None
) -> MemoryUse:
    """The :class:`MemoryUse` of a step of ``config`` over ``catalog_size`` items, without allocating any of it.

    Where the work depends on the data (how many positions of SCE's buckets win, say), it is the most there can be; for
    the other losses it is what a step takes.

    Args:
        config: what would be trained (its device is ignored: the prediction is for CPU kernels).
        catalog_size: items C, of any size.
        n_sequences: sequences in the batch; default ``config.batch_size``.
        length: positions of each sequence; default ``config.max_length``. The loss sees
            ``N = n_sequences * length`` positions.

    Raises:
        ValueError: ``catalog_size``, ``n_sequences`` or ``length`` is below 1, or the loss refuses its settings.
    """
    n_sequences, length = n_sequences or config.batch_size, length or config.max_length
    for name, value in (("catalog_size", catalog_size), ("n_sequences", n_sequences), ("length", length)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    settings = json.dumps(dataclasses.asdict(config) | {"device": "cpu", "max_length": max(length, config.max_length)})
    return _predict(settings, catalog_size, n_sequences, length)


@functools.lru_cache(maxsize=512)
def _predict(settings: str, catalog_size: int, n_sequences: int, length: int) -> MemoryUse:
    config = TrainingConfig(**json.loads(settings))
    n_positions = n_sequences * length
    with FakeTensorMode():
        model = make_model(config, catalog_size)
        loss_settings = dict(config.loss_settings)
        if config.loss == "sampled":
            loss_settings.setdefault("item_counts", torch.ones(catalog_size, dtype=torch.int64))
        loss = make_loss(config.loss, **loss_settings)
        optimizer = make_optimizer(config, model)
        items = torch.zeros(n_positions, dtype=torch.int64)
        batch = Batch(Packed(items, items.clone(), ((n_sequences, length),)), items.clone())
        _step_state(optimizer)
        return measured_step(model, loss, optimizer, batch).memory


def _step_state(optimizer: torch.optim.Adam) -> None:
    """Give Adam the state that it would have after its first step."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            state = {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
            optimizer.state[p] = state


def format_bytes(n: float) -> str:
    """``1536`` to ``"1.5 KiB"``: three significant digits and a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(n) < 999.5 or unit == "TiB":
            return f"{n:.3g} {unit}" if abs(n) < 999.5 else f"{n:,.0f} {unit}"
        n /= 1024
    raise AssertionError("unreachable")


def free_memory() -> int:
    """Bytes that this process may still take: the machine's free memory, or less under a cgroup or ``MEM_LIMIT``.

    ``MEM_LIMIT`` (bytes) is what Binder and JupyterHub set.
    """
    free = [psutil.virtual_memory().available]
    cgroup = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            free.append(int((cgroup / limit).read_text()) - int((cgroup / used).read_text()))
        except (OSError, ValueError):  # no such hierarchy, or "max"
            continue
    if os.environ.get("MEM_LIMIT", "").isdigit():
        free.append(int(os.environ["MEM_LIMIT"]) - psutil.Process().memory_info().rss)
    return max(0, min(free))


class DoesNotFitError(ValueError):
    """A configuration was refused because it would need more memory than there is."""


def check_fits(config: TrainingConfig, catalog_size: int, length: int | None = None) -> MemoryUse:
    """The prediction for ``config``, or :class:`DoesNotFitError`: what it needs, what is free, and what would fit.

    ``length`` is the mean number of positions a sequence has, see :func:`predict_memory`.
    """
    need = predict_memory(config, catalog_size, length=length)
    free = free_memory() if torch.device(config.device).type == "cpu" else torch.cuda.mem_get_info()[0]
    if need.peak > free:
        fixed = 2 * need.parameters + need.optimizer_state
        advice = (
            "a smaller catalog or hidden_size would fit"
            if fixed > free
            else f"a smaller batch_size than {config.batch_size} or, over this catalog, another loss would fit"
        )
        raise DoesNotFitError(
            f"{config.loss} over {catalog_size:,} items needs {format_bytes(need.peak)} a step and "
            f"{format_bytes(free)} is free: {advice}"
        )
    return need

"""What a training step took."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from sce_lab.data.batches import Batch, Packed
from sce_lab.memory.live import LiveBytes, largest_workspace, stored_bytes
from sce_lab.memory.use import MemoryUse
from sce_lab.training import (
    Phase,
    StepFunction,
    StepResult,
    Stopwatch,
    TrainingConfig,
    make_model,
    make_optimizer,
    make_training_loss,
    training_step,
)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    """Everything the optimizer keeps between two steps."""
    return (t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor))


def resident_tensors(model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """What is there before a step and after it."""
    return [*model.parameters(), *loss.buffers(), *optimizer_tensors(optimizer)]


class _CountingMeter:
    """Live bytes by :class:`LiveBytes`: exact on a CPU, and the only way where nothing is allocated."""

    def __init__(self, mode: LiveBytes, known: Iterable[Tensor]) -> None:
        self.mode = mode
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
    *,
    counter: LiveBytes | None = None,
) -> StepResult:
    """Run one training step and report its :class:`MemoryUse`; the result of the step is the same as unmeasured.

    On CUDA the figures are the allocator's, on a CPU every tensor storage is counted. The step should not be the
    optimizer's first: it creates its state then, inside the step.

    Args:
        model, loss, optimizer, batch, phase: see :func:`sce_lab.training.training_step`.
        step: what is measured.
        counter: counts the bytes; if given, it does so on CUDA, too.
    """
    device = model.item_embedding.device
    if counter is None and device.type == "cuda":
        meter = _CudaMeter(device)
    else:
        meter = _CountingMeter(counter or LiveBytes(), resident_tensors(model, loss, optimizer))
    activations = gradients = workspace = peak = 0

    @contextmanager
    def metered(name: str) -> Iterator[None]:
        nonlocal activations, gradients, workspace, peak
        if name == "loss_forward":
            activations = meter.live()
            meter.start_loss()
        elif name == "optimizer":  # all gradients are there, and only now
            gradients = stored_bytes(p.grad for p in model.parameters())
        meter.reset_peak()
        with phase(name):
            yield
        peak = max(peak, meter.peak())
        if name == "loss_backward":
            # of what the loss allocated, only its value and the gradients of its inputs are left now
            workspace = meter.loss_workspace()

    with meter.mode:
        result = step(model, loss, optimizer, batch, metered)
    parameters, optimizer_state = stored_bytes(model.parameters()), stored_bytes(optimizer_tensors(optimizer))
    peak += parameters + optimizer_state
    use = MemoryUse(parameters, gradients, optimizer_state, activations, workspace, peak)
    return StepResult(result.loss, use)


def measure_memory(
    config: TrainingConfig, catalog_size: int, *, n_sequences: int | None = None, length: int | None = None
) -> MemoryUse:
    """The :class:`MemoryUse` of a real step of ``config``, the second one, on random items.

    The arguments are those of :func:`sce_lab.memory.predict_memory`.
    """
    model, loss, optimizer, batch = real_step(config, catalog_size, n_sequences, length)
    training_step(model, loss, optimizer, batch, lambda name: nullcontext())
    return measured_step(model, loss, optimizer, batch).memory


def timed_step(
    config: TrainingConfig,
    catalog_size: int,
    *,
    n_sequences: int | None = None,
    length: int | None = None,
    repeats: int = 5,
) -> float:
    """Seconds of a real step of ``config`` on random items: the median of so many, after a first one."""
    model, loss, optimizer, batch = real_step(config, catalog_size, n_sequences, length)
    times = []
    for _ in range(repeats + 1):
        watch = Stopwatch(config.device)
        training_step(model, loss, optimizer, batch, watch)
        times.append(sum(watch.seconds.values()))
    return statistics.median(times[1:])


def real_step(
    config: TrainingConfig, catalog_size: int, n_sequences: int | None, length: int | None
) -> tuple[nn.Module, nn.Module, torch.optim.Optimizer, Batch]:
    """The arguments of a training step of ``config`` on random items."""
    n_sequences, length = n_sequences or config.batch_size, length or config.max_length
    config = dataclasses.replace(config, max_length=max(length, config.max_length))
    generator = torch.Generator().manual_seed(config.seed)
    items, targets = (torch.randint(catalog_size, (n_sequences * length,), generator=generator) for _ in range(2))
    positions = torch.arange(config.max_length - length, config.max_length).repeat(n_sequences)
    batch = Batch(Packed(items, positions, ((n_sequences, length),)), targets)
    batch = batch.to(config.device, config.max_length)
    model = make_model(config, catalog_size).train()
    loss = make_training_loss(config, torch.ones(catalog_size, dtype=torch.int64)).to(config.device)
    return model, loss, make_optimizer(config, model), batch


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

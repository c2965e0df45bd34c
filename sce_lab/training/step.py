"""One optimizer step: its phases, its time, and what it needs: a model, a loss, an optimizer."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sce_lab.data.batches import Batch
from sce_lab.encoders import ENCODERS
from sce_lab.losses import LossModule, make_loss
from sce_lab.model import SASRec
from sce_lab.optimizers import RowSparseAdam, add_rows
from sce_lab.training.config import TrainingConfig, takes

Phase = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class StepResult:
    """What a step function returns: the loss ``()``, and what was measured: memory, and the loss's statistics."""

    loss: Tensor
    memory: Any = None
    statistics: Any = None


class StepFunction(Protocol):
    """:func:`training_step`, or something that wraps it, such as :func:`sce_lab.memory.measuring`."""

    def __call__(
        self, model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, phase: Phase
    ) -> StepResult:
        """Run one optimizer step."""
        ...


def training_step(
    model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, phase: Phase
) -> StepResult:
    """One step, in the five phases that time and memory are reported by.

    The loss is cut from the encoder (``detach``) and the encoder's backward is started with the gradient that the loss
    left on its outputs: the same gradients, but what belongs to the loss can be told from what belongs to the model.
    The item table is used twice, to embed the inputs and in the loss. The first gradient has N rows and is added to the
    second in place; left to autograd it would be a second (C, D) tensor, nearly all zeros.
    """
    table, items = model.item_embedding, batch.inputs.items
    with phase("forward"):
        embedded = table.detach().index_select(0, items).requires_grad_()  # (N, D)
        outputs = model(batch.inputs, embedded)  # (N, D)
        head = outputs.detach().requires_grad_()
    with phase("loss_forward"):
        value = loss_of_batch(loss, head, table, batch)
    with phase("loss_backward"):
        value.backward()
    with phase("backward"):
        outputs.backward(head.grad)
        table.grad = add_rows(table.grad, items, embedded.grad)
    with phase("optimizer"):
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return StepResult(value.detach())


def loss_of_batch(loss: nn.Module, outputs: Tensor, table: Tensor, batch: Batch) -> Tensor:
    """The loss at all positions of a batch; one that shares something within a sequence is told where they end."""
    more = {"lengths": batch.inputs.lengths} if getattr(loss, "wants_lengths", False) else {}
    return loss(outputs, table, batch.targets, **more)


def looking_inside(step: StepFunction = training_step, every: int = 10) -> StepFunction:
    """A step function that asks a loss which has statistics (SCE) for them at every ``every``-th step.

    They cost the search of the buckets once more, and a softmax over the whole catalog at a few hundred positions. What
    is learned is the same, and a step that does not call its loss has none. The steps are chosen so that a step
    function that measures memory measures others, if its own interval is a multiple of this one.
    """
    count = 0

    def looked(
        model: nn.Module, loss: LossModule, optimizer: torch.optim.Optimizer, batch: Batch, phase: Phase
    ) -> StepResult:
        nonlocal count
        count += 1
        if count % every != 5 % every:
            return step(model, loss, optimizer, batch, phase)
        found = []
        hook = loss.register_forward_pre_hook(lambda module, inputs: found.append(module.statistics(*inputs)))
        try:
            result = step(model, loss, optimizer, batch, phase)
        finally:
            hook.remove()
        return dataclasses.replace(result, statistics=found[0] if found else None)

    return looked


class Stopwatch:
    """A :data:`Phase` that adds up seconds by name.

    On CUDA they are the device's own: events mark where a phase begins and ends there, and nobody waits for them before
    :attr:`seconds` is asked for.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._device = torch.device(device)
        self._spans: list[tuple[str, Any, Any]] = []

    @property
    def seconds(self) -> dict[str, float]:
        """By phase."""
        sums: dict[str, float] = {}
        for name, begin, end in self._spans:
            sums[name] = sums.get(name, 0.0) + self._between(begin, end)
        return sums

    def _mark(self) -> Any:
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            return event
        if self._device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()

    def _between(self, begin: Any, end: Any) -> float:
        if self._device.type == "cuda":
            end.synchronize()
            return begin.elapsed_time(end) / 1e3
        return end - begin

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        begin = self._mark()
        yield
        self._spans.append((name, begin, self._mark()))


def make_optimizer(config: TrainingConfig, model: nn.Module, groups: Any = None) -> torch.optim.Optimizer:
    """Adam in its fused form: the plain one holds two more copies of the item table while it steps.

    Args:
        config: what is trained.
        model: whose parameters are updated.
        groups: these parameters in groups, where they are tensors of several kinds.
    """
    parameters = model.parameters() if groups is None else groups
    if config.sparse_gradients:
        return RowSparseAdam(parameters, lr=config.learning_rate, betas=config.betas)
    return torch.optim.Adam(parameters, lr=config.learning_rate, betas=config.betas, fused=True)


def make_training_loss(config: TrainingConfig, item_counts: Tensor) -> nn.Module:
    """The loss module that ``config`` describes.

    Args:
        config: what is trained.
        item_counts: ``(C,)`` training count of each item, for a loss that takes it and has no other.
    """
    settings = dict(config.loss_settings)
    if takes(config.loss, "item_counts"):
        settings.setdefault("item_counts", item_counts)
    if config.sparse_gradients:
        settings["sparse_grad"] = True
    return make_loss(config.loss, **settings)


def make_model(
    config: TrainingConfig,
    catalog_size: int,
    generator: torch.Generator | None = None,
    rows: tuple[int, int] | None = None,
) -> SASRec:
    """The encoder that ``config`` describes.

    Args:
        config: what is trained.
        catalog_size: items C.
        generator: of the initial weights and of dropout, on the device of ``config``; default: torch's global one.
        rows: of the item table that are kept here, as in :class:`sce_lab.model.SASRec`; default: all.
    """
    more = {} if rows is None else {"rows": rows}
    size = (config.hidden_size, config.n_blocks, config.n_heads)
    size += (config.dropout, config.low_pass)
    with torch.device(config.device):
        model = ENCODERS[config.encoder](catalog_size, config.max_length, *size, generator=generator, **more)
    for p in model.parameters():
        p.data = p.data.to(getattr(torch, config.dtype))  # Module.to does not go with tensors without content
    return model

"""Several runs in one thread, side by side: a step of each in turn, so that none is ahead and none waits long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from sce_lab.data.batches import Batch
from sce_lab.memory import LiveBytes, measured_step
from sce_lab.memory.measure import resident_tensors
from sce_lab.training import Event, Phase, Started, StepDone, StepFunction, StepResult, training_step
from sce_lab.widgets.kit.progress import Failed


@dataclass(frozen=True)
class Turn:
    """An event of one of several runs; ``run`` is its name."""

    run: str
    event: Event | Failed


def take_turns(runs: Mapping[str, Iterable[Event]]) -> Iterator[Turn]:
    """The events of all ``runs``: first each gets ready, then each does one step, again and again.

    Runs of one seed thereby see the same batches at the same time. One that fails is told by :class:`Failed` and
    the others go on.
    """
    waiting = {name: iter(events) for name, events in runs.items()}
    while waiting:
        for name, events in list(waiting.items()):
            try:
                for event in events:
                    yield Turn(name, event)
                    if isinstance(event, Started | StepDone):
                        break
                else:
                    del waiting[name]
            except Exception as error:
                del waiting[name]  # and with it the model, before the others go on
                yield Turn(name, Failed(error))


@dataclass(frozen=True)
class Moments:
    """Bytes alive through one measured step.

    Attributes:
        live: at each moment, when a tensor came or went; parameters and optimizer state included.
        begins: by phase of :func:`sce_lab.training.training_step`, in their order, its first moment.
    """

    live: np.ndarray
    begins: dict[str, int]


def measuring_moments(
    keep: Callable[[Moments], None], step: StepFunction = training_step, every: int = 50
) -> StepFunction:
    """As :func:`sce_lab.memory.measuring`, and what each measured step held from moment to moment goes to ``keep``."""
    count = 0

    def maybe_measured(model: nn.Module, loss: nn.Module, optimizer: Any, batch: Batch, phase: Phase) -> StepResult:
        nonlocal count
        count += 1
        if count % every != 2 % every or not optimizer.state:
            return step(model, loss, optimizer, batch, phase)
        counter, begins = LiveBytes(), {}

        @contextmanager
        def noted(name: str) -> Iterator[None]:
            begins[name] = len(counter.log)
            with phase(name):
                yield

        if model.item_embedding.device.type == "cuda":  # what it took is for the allocator to say
            counter.know(resident_tensors(model, loss, optimizer))
            with counter:
                result = measured_step(model, loss, optimizer, batch, noted, step)
        else:
            result = measured_step(model, loss, optimizer, batch, noted, step, counter=counter)
        use = result.memory
        changes = np.array([nbytes for _, nbytes in counter.log], dtype=np.float64)
        keep(Moments(use.parameters + use.optimizer_state + np.cumsum(changes), begins))
        return result

    return maybe_measured

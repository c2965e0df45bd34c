"""Several runs in one thread, side by side: a step of each in turn, so that none is ahead and none waits long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from sce_lab.data.batches import Batch
from sce_lab.training import Event, Phase, Started, StepDone, StepFunction, StepResult
from sce_lab.widgets.progress import Failed


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


def looking_inside(step: StepFunction, every: int = 10) -> StepFunction:
    """A step function that lets a loss which can (SCE) collect its statistics at every ``every``-th step.

    They cost a softmax over the whole catalog at a few hundred positions. What is learned is the same. The steps are
    chosen so that :func:`sce_lab.memory.measuring` measures others, if its own interval is a multiple of this one.
    """
    count = 0

    def looked(model: nn.Module, loss: Any, optimizer: Any, batch: Batch, phase: Phase) -> StepResult:
        nonlocal count
        count += 1
        if hasattr(loss, "collect_statistics"):
            loss.collect_statistics = count % every == 5 % every
        return step(model, loss, optimizer, batch, phase)

    return looked

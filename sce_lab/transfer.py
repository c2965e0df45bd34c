"""Work for a device, ready before it is asked for; and numbers from it, read when they are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
S = TypeVar("S")


def pinned(tensor: Tensor, device: torch.device | str) -> Tensor:
    """``tensor`` where CUDA can fetch it by itself, if that is the ``device``."""
    fetched = torch.device(device).type == "cuda" and tensor.device.type == "cpu"
    return tensor.pin_memory() if fetched else tensor


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """``tensor`` on ``device``; to CUDA whoever sends it does not wait for what is being done there."""
    return pinned(tensor, device).to(device, non_blocking=True)


class Late:
    """A number ``()`` that is still being computed. On CUDA it comes by itself, and is read when it is there."""

    def __init__(self, number: Tensor) -> None:
        self._event = None
        self._number = number
        if number.device.type == "cuda":
            self._number = number.to("cpu", non_blocking=True)  # which is pinned memory
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(number.device))

    @property
    def there(self) -> bool:
        """Whether :meth:`read` would not wait. On other devices than CUDA it is said to be."""
        return self._event is None or self._event.query()

    def read(self) -> float:
        """The number; waits for it."""
        if self._event is not None:
            self._event.synchronize()
        return float(self._number)


def ahead(items: Iterator[T], prepare: Callable[[T], S], device: torch.device | str) -> Iterator[S]:
    """``prepare(item)`` of each item, in order; for a device other than a CPU a thread makes the next one meanwhile.

    On a CPU it would only take the cores that train.
    """
    if torch.device(device).type == "cpu":
        yield from map(prepare, items)
        return

    def following() -> tuple[S] | None:
        for item in items:
            return (prepare(item),)
        return None

    with ThreadPoolExecutor(1, thread_name_prefix="sce-lab-batches") as thread:
        made = thread.submit(following)
        while (item := made.result()) is not None:
            made = thread.submit(following)
            yield item[0]

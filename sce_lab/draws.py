"""Random numbers of one's own, also from operations that take no generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """Inside, what torch draws without being given a generator is drawn from ``generator``, if there is one.

    Fused attention and fused dropout know only the global generator of their device. For so long it goes on from where
    ``generator`` is; afterwards it is where it was, and ``generator`` is further on. On a GPU both states are two
    numbers that the host keeps, so nothing waits.
    """
    if generator is None:
        yield
        return
    shared = global_generator(generator.device)
    before = shared.get_state()
    shared.set_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(shared.get_state())
        shared.set_state(before)


def global_generator(device: torch.device) -> torch.Generator:
    """The generator from which torch draws on ``device`` if it is given none."""
    if device.type == "cuda":
        torch.cuda.init()  # before it there are none
        return torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return torch.default_generator

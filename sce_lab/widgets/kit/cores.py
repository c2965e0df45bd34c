"""Cores for the kernel and the page while something is trained."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.Lock()
_inside = 0
_default = 0


@contextmanager
def one_core_left() -> Iterator[None]:
    """Torch in this thread leaves a core alone: two busy threads on two cores wait for each other, step by step.

    Torch gives the number to every thread that begins meanwhile, so the last one to leave puts back what it was before
    the first came. To be entered by a thread that has just begun.
    """
    global _inside, _default
    with _lock:
        if not _inside:
            _default = torch.get_num_threads()
        _inside += 1
        torch.set_num_threads(min(_default, max(1, (os.cpu_count() or 1) - 1)))
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                torch.set_num_threads(_default)

"""Whether a device is there."""

from __future__ import annotations

import torch


def check_device(name: str) -> None:
    """Refuse a device that nothing can be trained on here.

    Raises:
        ValueError: the message says which there are.
    """
    here = ["cpu"]
    if torch.cuda.is_available():
        here += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here += ["mps"]
    if name not in here:
        raise ValueError(f"there is no device {name!r} to train on here; use {' or '.join(here)}")

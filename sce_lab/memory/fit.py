"""What fits into how much memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import pandas as pd

from sce_lab.losses.buckets import BucketSizes
from sce_lab.memory.devices import DEVICES, Device
from sce_lab.memory.predict import predict_memory
from sce_lab.memory.use import MemoryUse
from sce_lab.training import TrainingConfig

#: What :func:`largest` can look for, and the most it looks for.
SETTINGS = {"catalog_size": 10**10, "batch_size": 2**20}


def largest(
    setting: str,
    config: TrainingConfig,
    budget: float,
    *,
    catalog_size: int | None = None,
    length: int | None = None,
) -> int:
    """The largest ``setting`` with which training ``config`` fits into ``budget`` bytes; 0 if none does.

    Args:
        setting: "catalog_size" or "batch_size".
        config: everything else; with ``setting="batch_size"`` its own is ignored.
        budget: bytes for the step and the copy of the best weights.
        catalog_size: items C, for ``setting="batch_size"``.
        length: positions of each sequence; default ``config.max_length``.

    Raises:
        ValueError: another setting, or no catalog size where one is needed.
    """
    if setting not in SETTINGS:
        raise ValueError(f"setting must be one of {', '.join(SETTINGS)}, got {setting!r}")
    if setting == "batch_size" and catalog_size is None:
        raise ValueError("the largest batch_size depends on the catalog: give catalog_size")

    def fits(value: int) -> bool:
        items, sequences = (value, None) if setting == "catalog_size" else (catalog_size, value)
        return predict_memory(config, items, n_sequences=sequences, length=length).needed <= budget

    return _last_that(fits, SETTINGS[setting])


def _last_that(holds: Callable[[int], bool], limit: int) -> int:
    """The largest of 1..limit for which ``holds``, which holds up to some number and for none above it; or 0."""
    low, high = 0, 1
    while high <= limit and holds(high):
        low, high = high, 2 * high
    high = min(high, limit + 1)
    while high - low > max(1, low // 1000):  # three digits are as good as all
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def suggest_sce(
    budget: float, config: TrainingConfig, catalog_size: int, *, length: int | None = None
) -> dict[str, int] | None:
    """Settings of SCE by the paper's rule that fit into ``budget`` bytes, or None if none do.

    ``n_buckets = bucket_size_x = 2 sqrt(N)``, and for ``bucket_size_y`` the largest size of the paper's grid that fits:
    more items per bucket are more of the softmax.

    Source: section 4 and appendix of arXiv 2409.18721; its grid is 64, 256, 512, 1024, 4096.
    """
    positions = config.batch_size * (length or config.max_length)
    rule = BucketSizes.paper_rule(positions, catalog_size)
    for bucket_size_y in (4096, 1024, 512, 256, 64):
        if bucket_size_y > max(catalog_size, 64):
            continue
        sizes = dataclasses.asdict(dataclasses.replace(rule, bucket_size_y=min(bucket_size_y, catalog_size)))
        other = {k: v for k, v in config.loss_settings.items() if config.loss == "sce" and k not in sizes}
        sce = dataclasses.replace(config, loss="sce", loss_settings=sizes | other)
        if predict_memory(sce, catalog_size, length=length).needed <= budget:
            return sizes
    return None


def fits(use: MemoryUse, devices: Iterable[Device] = DEVICES.values()) -> pd.DataFrame:
    """A row a device: whether a training with this ``use`` fits, and how many bytes are left over or missing.

    Columns ``device``, ``usable`` (bytes), ``needed`` (bytes), ``fits``, ``left`` (bytes, negative if missing).
    """
    rows = [
        {
            "device": device.name,
            "usable": device.usable,
            "needed": use.needed,
            "fits": use.needed <= device.usable,
            "left": device.usable - use.needed,
        }
        for device in devices
    ]
    return pd.DataFrame(rows)

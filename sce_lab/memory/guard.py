"""Saying no in time, and what would have fitted; and saying why when memory runs out after all."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from sce_lab.losses import LOSSES
from sce_lab.memory.fit import SETTINGS, largest
from sce_lab.memory.predict import predict_memory
from sce_lab.memory.use import MemoryUse, format_bytes
from sce_lab.training import TrainingConfig

_CGROUPS = Path("/sys/fs/cgroup")


class DoesNotFitError(ValueError):
    """A configuration was refused because it would need more memory than there is."""


class RanOutOfMemoryError(RuntimeError):
    """Memory ran out while a configuration was trained."""


# ------------------------------------------------------------------------------------------------------- what is free


def free_memory(device: str | torch.device = "cpu") -> int:
    """Bytes that this process may still take on ``device``.

    On a CPU: the machine's free memory, or less under a control group (containers, batch systems) or ``MEM_LIMIT``
    (bytes; Binder and JupyterHub set it). Of what a control group holds, cached files are not counted: they give way.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [psutil.virtual_memory().available, *_free_in_cgroups()]
    if os.environ.get("MEM_LIMIT", "").isdigit():
        free.append(int(os.environ["MEM_LIMIT"]) - psutil.Process().memory_info().rss)
    return max(0, min(free))


def _free_in_cgroups() -> Iterator[int]:
    """What every control group around this process still allows."""
    for folder, limit, used, cached in (
        ("", "memory.max", "memory.current", "inactive_file"),  # version 2
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
    ):
        root = _CGROUPS / folder
        for group in (root / _own_cgroup(folder), *(root / _own_cgroup(folder)).parents):
            try:
                numbers = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                held = int((group / used).read_text()) - int(numbers.get(cached, 0))
                yield int((group / limit).read_text()) - held
            except (OSError, ValueError):  # no such group, or "max"
                pass
            if group == root:
                break


def _own_cgroup(controller: str) -> str:
    """The group this process is in, relative to the root of its hierarchy."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    paths = [path for _, names, path in (line.split(":", 2) for line in lines) if controller in names.split(",")]
    return paths[0].lstrip("/") if paths else ""


# ----------------------------------------------------------------------------------------------------------- refusing


def check_fits(config: TrainingConfig, catalog_size: int, length: int | None = None) -> MemoryUse:
    """The prediction for ``config``, or a refusal: what it needs, what is free, and which setting would fit.

    Args:
        config: what would be trained, on its device.
        catalog_size: items C.
        length: the mean number of positions that a sequence has, see :func:`predict_memory`.

    Raises:
        DoesNotFitError: more is needed than is free; its message is one sentence.
    """
    use = predict_memory(config, catalog_size, length=length)
    free = free_memory(config.device)
    if use.needed > free:
        raise DoesNotFitError(_refusal(config, catalog_size, length, use, free))
    return use


def _refusal(config: TrainingConfig, catalog_size: int, length: int | None, use: MemoryUse, free: int) -> str:
    return (
        f"{config.loss} over {catalog_size:,} items needs {format_bytes(use.needed)} a step and "
        f"{format_bytes(free)} is free: {what_would_fit(config, catalog_size, free, length)}"
    )


def what_would_fit(config: TrainingConfig, catalog_size: int, free: int, length: int | None = None) -> str:
    """Half a sentence: which single change of ``config`` makes its training fit into ``free`` bytes."""
    options = []
    batch_size = largest("batch_size", config, free, catalog_size=catalog_size, length=length)
    if batch_size:
        options.append(f"batch_size={batch_size} instead of {config.batch_size}")
    for loss in LOSSES:
        if loss != config.loss:
            other = TrainingConfig(**{**vars(config), "loss": loss, "loss_settings": {}, "sparse_gradients": False})
            if predict_memory(other, catalog_size, length=length).needed <= free:
                options.append(f"loss={loss} with its own defaults")
    if not options:
        items = largest("catalog_size", config, free, length=length)
        smaller = f"a smaller catalog or hidden_size would: at most {items:,} items fit as it is"
        return smaller if items else "nothing does; free some memory or take a smaller hidden_size and batch_size"
    return f"{' or '.join(options)} would fit"


# ------------------------------------------------------------------------------------------------- when it happens


@contextmanager
def explaining_out_of_memory(config: TrainingConfig, catalog_size: int, length: int | None = None) -> Iterator[None]:
    """Inside, running out of memory raises :class:`RanOutOfMemoryError`, which says what the training needs.

    What the failed code held is let go of first, so that the process can go on.
    """
    failed = False
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        failed = True
        traceback.clear_frames(error.__traceback__)  # they hold the tensors of the step
    if failed:
        if torch.device(config.device).type == "cuda":
            torch.cuda.empty_cache()
        use, free = predict_memory(config, catalog_size, length=length), free_memory(config.device)
        raise RanOutOfMemoryError(
            f"memory ran out: {config.loss} over {catalog_size:,} items needs about {format_bytes(use.needed)} a step "
            f"and {format_bytes(free)} is free now; {what_would_fit(config, catalog_size, free, length)}"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that an allocation failed, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


__all__ = [
    "SETTINGS",
    "DoesNotFitError",
    "RanOutOfMemoryError",
    "check_fits",
    "explaining_out_of_memory",
    "free_memory",
    "is_out_of_memory",
    "what_would_fit",
]

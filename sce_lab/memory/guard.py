"""Saying no in time, and what would have fitted; and saying why when memory runs out after all."""

from __future__ import annotations

import bisect
import dataclasses
import inspect
import math
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch

from sce_lab.data.batches import mean_length
from sce_lab.data.splits import Split
from sce_lab.losses import LOSSES
from sce_lab.memory.predict import predict_memory
from sce_lab.memory.use import MemoryUse, format_bytes
from sce_lab.metrics import rank_items
from sce_lab.training import Event, TrainingConfig, place_of, train

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
    On CUDA: what no process holds, and what this one holds in its cache.
    """
    if torch.device(device).type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
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


def check_fits(config: TrainingConfig, catalog_size: int, length: int | None = None, *, n_users: int = 0) -> MemoryUse:
    """The prediction for ``config``, or a refusal: what it needs, what is free, and which setting would fit.

    Args:
        config: what would be trained, on its device.
        catalog_size: items C.
        length: the mean number of positions that a sequence has, see :func:`predict_memory`.
        n_users: users that are ranked for in an evaluation, which takes memory of its own.

    Raises:
        DoesNotFitError: more is needed than is free; its message is one sentence.
    """
    use = predict_memory(config, catalog_size, length=length)
    free = free_memory(config.device)
    training, scoring = _training_bytes(config, use), _scoring_bytes(config, use, catalog_size, n_users)
    if max(training, scoring) > free:
        what = (
            f"{config.loss} over {catalog_size:,} items needs {format_bytes(training)} a step"
            if training > free
            else f"scoring {catalog_size:,} items for {n_users:,} users needs {format_bytes(scoring)}"
        )
        advice = what_would_fit(config, catalog_size, free, length, n_users=n_users)
        raise DoesNotFitError(f"{what} and {format_bytes(free)} is free{_of(config.device)}: {advice}")
    return use


def _training_bytes(config: TrainingConfig, use: MemoryUse) -> int:
    """A step, and what is kept beside it."""
    return use.needed + _average_bytes(config, use)


def _average_bytes(config: TrainingConfig, use: MemoryUse) -> int:
    """The moving average of the weights, which is kept in float32."""
    return use.parameters * (2 if config.dtype == "bfloat16" else 1) if config.averaging else 0


def _scoring_bytes(config: TrainingConfig, use: MemoryUse, catalog_size: int, n_users: int) -> int:
    """An evaluation: it keeps the present weights aside, too, but has no gradients.

    Scores are those of a chunk of users over the whole catalog, and the same again while they are compared.
    """
    at_most = inspect.signature(rank_items).parameters["chunk_bytes"].default
    ranking = 2 * min(max(at_most, 4 * catalog_size), 4 * catalog_size * n_users)
    return 3 * use.parameters + _average_bytes(config, use) + use.optimizer_state + ranking


#: Advice has to fit into this share of what is free: until it is followed, a little less may be.
_SURE = 0.95
#: Another loss that gives the same values in less memory.
_SAME = {"ce": "cce"}


def what_would_fit(
    config: TrainingConfig, catalog_size: int, free: float, length: int | None = None, *, n_users: int = 0
) -> str:
    """A clause that says which change of ``config`` would make its training, and scoring it, fit into ``free`` bytes.

    The same loss without its logits held; a smaller batch; another loss, with a smaller batch if need be; else fewer
    items. Whatever it names is not refused.
    """

    def fits(changed: TrainingConfig, items: int = catalog_size) -> bool:
        use = predict_memory(changed, items, length=length)
        needed = max(_training_bytes(changed, use), _scoring_bytes(changed, use, items, n_users))
        return needed <= _SURE * free

    def largest_batch(changed: TrainingConfig) -> int:
        return _most(changed.batch_size, lambda n: fits(dataclasses.replace(changed, batch_size=n)))

    others = [
        dataclasses.replace(config, loss=loss, loss_settings={}, sparse_gradients=False)
        for loss in LOSSES
        if loss != config.loss
    ]
    batch_size = largest_batch(config)
    options = [f"batch_size={batch_size} instead of {config.batch_size}"] if batch_size else []
    for other in others:
        if (n := largest_batch(other)) > batch_size:
            smaller = f" and batch_size={n}" if n < config.batch_size else ""
            if _SAME.get(config.loss) == other.loss:
                options.insert(0, f"loss={other.loss}, which computes the same,{smaller}{',' if smaller else ''}")
            else:
                options.append(f"loss={other.loss} with its own defaults{smaller}")
    if options:
        return f"{' or '.join(options)} would fit"
    items = {each.loss: _most(catalog_size, lambda n, each=each: fits(each, n)) for each in (config, *others)}
    known = [f"{n:,} items with loss={loss}" for loss, n in items.items() if n]
    if not known:
        return "no catalog would fit: free some memory, or take a smaller hidden_size and batch_size"
    return f"a smaller catalog or hidden_size would fit; as it is, at most {', '.join(known)}"


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest of 1..limit that fits; or 0. None does that is larger than one that does not."""
    return bisect.bisect_left(range(limit), True, key=lambda n: not fits(n + 1))


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
        release_memory()
        use, free = predict_memory(config, catalog_size, length=length), free_memory(config.device)
        if use.needed > free:
            advice = what_would_fit(config, catalog_size, free, length)
        else:  # an operation's own scratch, a limit that is not known here, or somebody else's tensors
            advice = f"something else was in the way; batch_size={max(1, config.batch_size // 2)} needs less"
        raise RanOutOfMemoryError(
            f"memory ran out{_of(config.device)}: {config.loss} over {catalog_size:,} items needs about "
            f"{format_bytes(use.needed)} a step and {format_bytes(free)} is free now; {advice}"
        )


def release_memory() -> None:
    """Give what PyTorch keeps of GPUs for later, and does not use, to whoever else is on them."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _of(device: str) -> str:
    place = None if device == "cpu" else place_of(device)
    return f" on {place.title}" if place else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that an allocation failed, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


# ------------------------------------------------------------------------------------------------------------ both


def guarded_train(config: TrainingConfig, split: Split, *, force: bool = False, **options: Any) -> Iterator[Event]:
    """:func:`sce_lab.training.train`, refused before it begins if it would not fit, explained if memory runs out.

    Args:
        config: what to train.
        split: on which data.
        force: train even if the prediction says that it will not fit.
        options: further arguments of ``train``.

    Raises:
        DoesNotFitError: it would not fit, and ``force`` is not set.
        RanOutOfMemoryError: memory ran out.
    """
    length = typical_length(config, split)
    if not force:
        check_fits(config, split.catalog_size, length, n_users=len(split.test.targets))
    with explaining_out_of_memory(config, split.catalog_size, length):
        yield from train(config, split, **options)


def typical_length(config: TrainingConfig, split: Split) -> int:
    """Positions a sequence of ``split`` has on average, rounded up: what a batch is predicted with."""
    return max(1, math.ceil(mean_length(split.train, config.max_length)))


__all__ = [
    "DoesNotFitError",
    "RanOutOfMemoryError",
    "check_fits",
    "explaining_out_of_memory",
    "free_memory",
    "guarded_train",
    "is_out_of_memory",
    "release_memory",
    "typical_length",
    "what_would_fit",
]

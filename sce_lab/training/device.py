"""What there is to train on, and which of it to take."""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass

import torch

from sce_lab.data.batches import Batch, Packed
from sce_lab.losses import LOSSES, make_loss
from sce_lab.model import SASRec

AUTO = "auto"
#: A variable of the environment that says what "auto" is, for a whole class or for tests.
VARIABLE = "SCE_LAB_DEVICE"


@dataclass(frozen=True)
class Place:
    """Something to train on.

    Attributes:
        name: as torch has it: "cpu", "cuda", "cuda:1", "mps".
        title: for people.
        problem: why nothing can be trained on it, a clause; empty if something can.
    """

    name: str
    title: str
    problem: str = ""


@functools.cache
def places() -> tuple[Place, ...]:
    """All that there is, the strongest first, the CPU last. Each GPU is tried once, by a kernel or a small step."""
    found = []
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        for name in ("cuda", *(f"cuda:{index}" for index in range(1, count))):
            # asked for by name only, another GPU than the usual one is not tried: that would take memory of it
            problem = _cuda_problem(name) if name == "cuda" else ""
            found.append(Place(name, _cuda_title(name), problem))
    if torch.backends.mps.is_available():
        found.append(Place("mps", f"Apple GPU ({platform.processor() or 'Metal'})", _mps_problem()))
    return *found, Place("cpu", f"the CPU, {os.cpu_count()} cores")


def choose_device(name: str = AUTO) -> str:
    """The device that ``name`` means: "auto" is CUDA if it is there and can be used, else MPS likewise, else the CPU,
    unless ``SCE_LAB_DEVICE`` in the environment names another.

    Raises:
        ValueError: another name, and nothing can be trained on it here; the message says why and what there is.
    """
    if name == AUTO and (name := os.environ.get(VARIABLE) or AUTO) == AUTO:
        return next(place.name for place in places() if not place.problem)
    check_device(name)
    return name


def check_device(name: str) -> None:
    """Refuse a device that nothing can be trained on here.

    Raises:
        ValueError: the message says which there are.
    """
    able = [place.name for place in places() if not place.problem]
    place = place_of(name)
    if place is None:
        raise ValueError(f"there is no device {name!r} to train on here; use {' or '.join(reversed(able))}")
    if place.problem:
        raise ValueError(f"{place.title} cannot be used ({place.problem}); use {' or '.join(reversed(able))}")


def place_of(name: str) -> Place | None:
    """The place of this name, if there is one; the first GPU has two names."""
    same = {place.name: place for place in places()}
    return same.get(name) or (same.get("cuda") if name == "cuda:0" else None)


def training_on(name: str) -> str:
    """A sentence for people about the device that is trained on, and about a GPU that is there but cannot be used."""
    place = place_of(name)
    sentence = f"Training on {place.title if place else name}"
    broken = [place for place in places() if place.problem]
    if name == "cpu" and broken:
        sentence += f": {broken[0].title} cannot be used ({broken[0].problem})"
    return f"{sentence}."


def where(name: str) -> str:
    """To stand behind "training": the device, if there is something to say of it: there is a GPU, used or not."""
    said = training_on(name).removeprefix("Training").removesuffix(".")
    return said if any(place.name != "cpu" for place in places()) else ""


# --------------------------------------------------------------------------------------------------- trying a device


def _cuda_title(name: str) -> str:
    properties = torch.cuda.get_device_properties(torch.device(name))
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"


def _cuda_problem(name: str) -> str:
    """Why no kernel runs there: the driver is too old, the GPU too new for this PyTorch, full, or somebody's alone."""
    try:
        torch.ones(8, device=name).mul_(2).sum().item()
    except (RuntimeError, AssertionError) as error:  # the latter by a PyTorch that has no CUDA
        return first_line(error)
    return ""


def _mps_problem() -> str:
    return trial("mps")


def trial(device: str) -> str:
    """The operation, or type, that a training step lacks on a device, whatever the loss: a clause; empty if none."""
    items = torch.tensor([0, 1, 2, 1])
    batch = Batch(Packed(items, torch.tensor([2, 3, 2, 3]), ((2, 2),)), items.flip(0))
    try:
        with torch.device(device):
            model = SASRec(8, 4, 8, generator=torch.Generator(device).manual_seed(0))
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        batch = batch.to(device)
        for name in LOSSES:
            counts = {"item_counts": torch.ones(8, dtype=torch.int64)} if name == "sampled" else {}
            loss = make_loss(name, **counts).to(device)
            loss(model(batch.inputs), model.item_embedding, batch.targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        return first_line(error)
    return ""


def first_line(error: BaseException) -> str:
    """What an error says, without the advice for programmers that torch adds."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

"""A training step moment by moment: how many bytes are alive, which tensors they are, which line of code made them.

A *moment* is one tensor coming or going. Looking for the line of code at each takes long (a step takes several times as
long as usual), so this is done for one step when somebody asks, and not while training.
"""

from __future__ import annotations

import linecache
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from sce_lab.data.batches import Batch
from sce_lab.memory.live import LiveBytes, stored_bytes, stored_parts
from sce_lab.memory.measure import measured_step, real_step
from sce_lab.memory.predict import arguments_of, shaped_step
from sce_lab.memory.shapes import ShapesOnly
from sce_lab.memory.use import MemoryUse
from sce_lab.training import TrainingConfig, training_step

PHASES = ("forward", "loss_forward", "loss_backward", "backward", "optimizer")
_ROOT = Path(__file__).resolve().parents[1]
_NOT_SHOWN = tuple(map(str, (Path(torch.__file__).parent, Path(__file__).parent, sysconfig.get_paths()["stdlib"])))


@dataclass(frozen=True)
class Line:
    """A line of code. ``file`` is relative to the folder of the package, where it lies inside."""

    file: str = ""
    number: int = 0
    function: str = ""
    code: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.number}" if self.file else ""


@dataclass(frozen=True)
class Timeline:
    """One step.

    Attributes:
        moments: a row a moment: ``phase``, ``tensor`` (its number), ``change`` (bytes, negative when it goes) and
            ``live`` (bytes that are alive then, parameters and optimizer state included).
        tensors: a row a tensor, by its number: ``name``, ``bytes``, ``shape``, ``dtype``, ``phase`` and ``born`` (the
            moment; -1 for what was there before), ``died`` (the moment; the number of moments for what stays),
            ``operation``, ``file``, ``line``, ``function``, ``code``.
        use: the same step in six numbers.
    """

    moments: pd.DataFrame
    tensors: pd.DataFrame
    use: MemoryUse

    @property
    def peak(self) -> int:
        """The moment at which the most bytes are alive."""
        return int(self.moments["live"].argmax())

    @property
    def phase(self) -> str:
        """The part of the step that the peak lies in."""
        return str(self.moments["phase"].iloc[self.peak])

    def alive(self, moment: int | None = None) -> pd.DataFrame:
        """The tensors that are alive at a moment (the peak, if none is named), the largest first."""
        moment = self.peak if moment is None else moment
        there = (self.tensors["born"] <= moment) & (moment < self.tensors["died"])
        return self.tensors[there].sort_values("bytes", ascending=False, kind="stable")


class _Recorder:
    """What :class:`LiveBytes` is told to remember of each tensor besides its bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = ""
        self.births: dict[int, dict[str, Any]] = {}
        self.phases: list[str] = []
        self._numbers: dict[int, int] = {}
        self._operation = ""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._operation = str(func).removesuffix(".default")
        return super().__torch_dispatch__(func, types, args, kwargs)

    def born(self, number: int, tensor: Tensor) -> None:
        line, is_gradient = _where()
        self.births[number] = {
            "name": _name(line.code, self._operation, is_gradient),
            "shape": tuple(tensor.shape),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "phase": self.phase,
            "operation": self._operation,
            "line": line,
        }
        self._numbers[tensor.untyped_storage()._cdata] = number

    def _change(self, number: int, nbytes: int) -> None:
        super()._change(number, nbytes)
        self.phases.append(self.phase)

    def rename(self, tensor: Tensor | None, name: str) -> None:
        for part in stored_parts(tensor) if tensor is not None else ():
            number = self._numbers.get(part.untyped_storage()._cdata)
            if number in self.births:
                self.births[number]["name"] = name


class _RealRecorder(_Recorder, LiveBytes):
    """Of real tensors."""


class _ShapeRecorder(_Recorder, ShapesOnly):
    """Of tensors without content."""


def measured_timeline(model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> Timeline:
    """Run one training step and record its :class:`Timeline`; it should not be the optimizer's first."""
    return _record(_RealRecorder(), model, loss, optimizer, batch)


def real_timeline(config: TrainingConfig, catalog_size: int, *, loss: nn.Module | None = None) -> Timeline:
    """The :class:`Timeline` of a real step of ``config``, the second one, on random items.

    Args:
        config: what would be trained.
        catalog_size: items C.
        loss: in place of that of ``config``.
    """
    model, own, optimizer, batch = real_step(config, catalog_size, None, None)
    training_step(model, loss or own, optimizer, batch, lambda name: nullcontext())
    return measured_timeline(model, loss or own, optimizer, batch)


def predict_timeline(
    config: TrainingConfig, catalog_size: int, *, n_sequences: int | None = None, length: int | None = None
) -> Timeline:
    """The :class:`Timeline` of a step that is never made; see :func:`sce_lab.memory.predict_memory`."""
    config, *sizes = arguments_of(config, catalog_size, n_sequences, length)
    on_cuda = torch.device(config.device).type == "cuda"
    with shaped_step(config, *sizes, counter=_RealRecorder() if on_cuda else _ShapeRecorder()) as step:
        return _record(step.counter, step.model, step.loss, step.optimizer, step.batch)


def _record(
    recorder: LiveBytes, model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch
) -> Timeline:
    there = {f"{name}": p for name, p in model.named_parameters()}
    names = {p: name for name, p in there.items()}
    before = [(name, p, "parameter") for name, p in there.items()]
    for p, state in optimizer.state.items():
        before += [(f"{key} of {names[p]}", t, "Adam") for key, t in state.items() if isinstance(t, Tensor)]

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        recorder.phase = name
        if name == "optimizer":  # now all gradients are there
            for p, of in names.items():
                recorder.rename(p.grad, f"gradient of {of}")
        yield

    # Anomaly mode remembers, for every step of autograd's backward pass, the line of the forward pass it belongs to.
    with torch.autograd.set_detect_anomaly(True, check_nan=False):
        use = measured_step(model, loss, optimizer, batch, phase, counter=recorder).memory

    numbers, changes = (np.array(column, dtype=np.int64) for column in zip(*recorder.log))
    resident = use.parameters + use.optimizer_state
    moments = pd.DataFrame(
        {"phase": recorder.phases, "tensor": numbers, "change": changes, "live": resident + np.cumsum(changes)}
    )
    first, last = {}, {}
    for moment, (number, change) in enumerate(recorder.log):
        (last if change < 0 or number in first else first).setdefault(number, moment)
    rows = {}
    for number, birth in recorder.births.items():
        line: Line = birth.pop("line")
        rows[number] = birth | {
            "bytes": recorder.log[first[number]][1],
            "born": first[number],
            "died": last.get(number, len(recorder.log)),
            **_columns(line),
        }
    for number, (name, tensor, operation) in enumerate(before, start=1):
        shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
        rows[-number] = {"name": name, "shape": shape, "dtype": dtype, "phase": "before", "operation": operation} | {
            "bytes": stored_bytes([tensor]), "born": -1, "died": len(recorder.log), **_columns(Line())
        }  # fmt: skip
    tensors = pd.DataFrame.from_dict(rows, orient="index").rename_axis("tensor")
    return Timeline(moments, tensors, use)


def _columns(line: Line) -> dict[str, Any]:
    return {"file": line.file, "line": line.number, "function": line.function, "code": line.code}


# --------------------------------------------------------------------------------------------------- lines of code


def _where() -> tuple[Line, bool]:
    """The line that is being run, and whether it is of the forward pass while its gradient is computed.

    What autograd does by itself has no line of its own: only "backward" has. Then it is the line of the forward pass
    whose gradient it computes.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and not _is_shown(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return Line(), False
    node = torch._C._current_autograd_node()
    if node is not None and frame.f_code.co_filename == training_step.__code__.co_filename:
        for entry in reversed(node.metadata.get("traceback_", [])):
            found = re.match(r'\s*File "(.+)", line (\d+), in (\S+)', entry)
            if found and _is_shown(found[1]):
                return _line(found[1], int(found[2]), found[3]), True
    return _line(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name), False


def _is_shown(file: str) -> bool:
    return not file.startswith((*_NOT_SHOWN, "<"))


def _line(file: str, number: int, function: str) -> Line:
    path = Path(file)
    shown = path.relative_to(_ROOT.parent).as_posix() if path.is_relative_to(_ROOT) else path.name
    return Line(shown, number, function, linecache.getline(file, number).strip())


def _name(code: str, operation: str, is_gradient: bool) -> str:
    """``logits (mm)`` for what ``mm`` makes in the line ``logits = ...``; a line that assigns nothing gives ``mm``."""
    operation = operation.rpartition("aten.")[2].split(".")[0].strip("_").removesuffix("_data")
    found = re.match(r"([A-Za-z_]\w*)(?:\s*:\s*[^=]+)?\s*=(?!=)", code)
    name = f"{found[1]} ({operation})" if found else operation
    return f"backward of {name}" if is_gradient else name

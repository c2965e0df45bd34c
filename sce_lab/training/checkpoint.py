"""The state of a run in one file, and what a file must hold so that a run can go on from it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sce_lab.files import replacing
from sce_lab.training.config import TrainingConfig

#: How a run draws its random numbers. A checkpoint of another way goes on with other numbers than it would have had.
DRAWS = "generator of the run, dropout by tables of rows"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    tensors: ``model.*``, ``best.*`` (weights of the best epoch), ``average.*`` and ``optimizer.<parameter>.*``.
    counters: how far the run is, and what came out.
    data: fingerprint of the data; empty in a checkpoint from before there was one.
    draws: see :data:`DRAWS`; empty in a checkpoint from before that.
    seen_unsaid: whether it is from before the rule about seen items had a name.
    """

    config: TrainingConfig
    tensors: dict[str, Tensor]
    counters: dict[str, Any]
    data: str = ""
    draws: str = DRAWS
    seen_unsaid: bool = False

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it as one safetensors file, whole or not at all.

        Raises:
            OSError: it could not be written; what was there before is still there.
        """
        metadata = {"config": json.dumps(dataclasses.asdict(self.config)), "counters": json.dumps(self.counters)}
        metadata |= {"data": self.data, "draws": self.draws}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        with replacing(path) as partial:
            try:
                save_file(tensors, partial, metadata)
            except SafetensorError as error:  # what it says of a full disk
                raise OSError(str(error)) from error

    @classmethod
    def read(cls, path: str | os.PathLike[str], device: str, part: str = "") -> Checkpoint:
        """Read what :meth:`write` wrote, tensors onto ``device``; all, or those of one part, such as ``best.``.

        Raises:
            ValueError: the file is damaged, or something else than a checkpoint.
            OSError: there is no such file, or it cannot be read.
        """
        with open(path, "rb"):  # safetensors says less about a file that is not there
            pass
        try:
            with safe_open(path, "pt", device=device) as file:
                metadata = file.metadata() or {}
                names = [name for name in file.keys() if name.startswith(part)]  # noqa: SIM118 (not a mapping)
                tensors = {name: file.get_tensor(name) for name in names}
        except SafetensorError as error:
            raise ValueError(
                f"{path} is no checkpoint, or a damaged one ({error}): use another, or begin a new run"
            ) from error
        try:
            config, counters = json.loads(metadata["config"]), json.loads(metadata["counters"])
            if not isinstance(counters, dict):
                raise TypeError(f"counters are {counters!r}")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is no checkpoint of a run (in its metadata: {error!r}): use one that a run of this lab wrote"
            ) from error
        counters.setdefault("cpu_seconds", None)  # of a run from before it was counted
        # Averages of bfloat16 weights were in bfloat16 once.
        tensors |= {name: tensor.float() for name, tensor in tensors.items() if name.startswith("average.")}
        settings, config = config, TrainingConfig.read(config, f"the configuration in {path}")
        unsaid = "seen" not in settings
        return cls(config, tensors, counters, metadata.get("data", ""), metadata.get("draws", ""), unsaid)

    def check(
        self,
        path: str | os.PathLike[str],
        config: TrainingConfig,
        data: str,
        n_per_epoch: int,
        expected: Callable[[bool], Mapping[str, Tensor]],
    ) -> None:
        """Refuse to go on from it with another configuration or other data, or if a part of it is missing or odd.

        Args:
            path: where it was read, for the messages.
            config: of the run that is to go on. ``max_epochs``, ``patience`` and ``device`` may differ.
            data: fingerprint of its data.
            n_per_epoch: steps an epoch.
            expected: tensors like those that there must be; told whether a step was made.

        Raises:
            ValueError: the message names the first difference.
        """
        for name, ours in dataclasses.asdict(config).items():
            theirs = getattr(self.config, name)
            if name not in ("max_epochs", "patience", "device") and ours != theirs:
                raise ValueError(f"{path} was made with {name}={theirs!r}, not {ours!r}: use the same to continue it")
        if self.data and self.data != data:
            raise ValueError(
                f"{path} was trained on other data (fingerprint {self.data}, here {data}), so items would have each "
                f"other's weights: use the file, in its order of rows, or the seed that it began with"
            )
        check_counters(path, self.counters, n_per_epoch, self.config.max_epochs)
        epoch = self.counters["epoch"]
        if epoch > config.max_epochs:
            raise ValueError(f"{path} has {epoch} epochs behind it already: max_epochs={config.max_epochs} is too few")
        check_tensors(path, self.tensors, expected(self.counters["step"] > 0))
        if not self.data:
            warnings.warn(
                f"{path} does not say on which data it was trained: make sure that they are these", stacklevel=4
            )


def check_tensors(
    path: str | os.PathLike[str],
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    advice: str = "it cannot be continued, use another checkpoint or begin a new run",
) -> None:
    """Refuse tensors that are not those of ``expected``, by name, shape and dtype.

    Raises:
        ValueError: the message names the first that is missing, too many or different.
    """

    def kind(tensor: Tensor) -> str:
        return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"

    for name in [*expected, *found]:
        if name not in found:
            problem = f"has no tensor {name}"
        elif name not in expected:
            problem = f"has a tensor {name}, which this configuration does not"
        elif kind(found[name]) != kind(expected[name]):
            problem = f"has {name} of {kind(found[name])}, where {kind(expected[name])} belongs"
        else:
            continue
        raise ValueError(f"{path} {problem}: {advice}")


def check_counters(
    path: str | os.PathLike[str], counters: Mapping[str, Any], n_per_epoch: int, max_epochs: int
) -> None:
    """Refuse counters that no run of ``n_per_epoch`` steps an epoch and ``max_epochs`` epochs can have.

    Raises:
        ValueError: the message names the first, its value, and what could be.
    """

    def check(name: str, lowest: int, highest: float, why: str = "") -> None:
        value = counters[name]
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            span = f"{lowest}" if lowest == highest else f"{lowest} to {highest}"
            span = f"{lowest} or more" if highest == math.inf else span
            raise ValueError(f"{path} has {name}={value!r}, where {span} can be{why}: it cannot be continued")

    missing = set(COUNTERS) - set(counters)
    if missing or set(counters) - set(COUNTERS):
        odd = ", ".join(sorted(missing or set(counters) - set(COUNTERS)))
        raise ValueError(f"{path} {'lacks' if missing else 'has unknown'} counters ({odd}): it cannot be continued")
    check("epoch", 0, max_epochs, f" with max_epochs={max_epochs}")
    check("batch_in_epoch", 0, n_per_epoch, f" with {n_per_epoch} steps an epoch")
    done = counters["epoch"] * n_per_epoch + counters["batch_in_epoch"]
    check("step", done, done, f" after {counters['epoch']} epochs of {n_per_epoch} steps")
    check("best_epoch", 0, counters["epoch"])
    check("evaluations_since_best", 0, math.inf)
    for name in ("seconds", "cpu_seconds"):
        seconds = counters[name]
        unknown = seconds is None and name == "cpu_seconds"
        if not (unknown or (isinstance(seconds, int | float) and 0 <= seconds < math.inf)):
            raise ValueError(f"{path} has {name}={seconds!r}, where a time can be: it cannot be continued")
    metrics, changed = counters["best_metrics"], counters["changed"]
    numbers = isinstance(metrics, dict) and all(isinstance(value, int | float) for value in metrics.values())
    if not numbers or bool(metrics) != (counters["best_epoch"] > 0):
        raise ValueError(
            f"{path} has best_metrics={metrics!r} with best_epoch={counters['best_epoch']}: it cannot be continued"
        )
    if not isinstance(changed, dict):
        raise ValueError(f"{path} has changed={changed!r}, where settings of the loss can be: it cannot be continued")


#: Attributes of a trainer that say how far it is.
COUNTERS = (
    "step", "epoch", "batch_in_epoch", "best_epoch", "best_metrics", "evaluations_since_best", "seconds", "cpu_seconds",
    "changed",
)  # fmt: skip

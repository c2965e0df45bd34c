"""``train --shard-items``: one run on several ranks, told and recorded by the first."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sce_lab
from sce_lab.cli.output import complain
from sce_lab.cli.running import train_with_bar
from sce_lab.files import write_text

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from sce_lab.data import Split
    from sce_lab.training import Finished, TrainingConfig


@contextlib.contextmanager
def on_ranks(device: str, timeout: float, out: Path | None) -> Iterator[DeviceMesh]:
    """Inside, this process is a rank of those that torchrun started; all but the first are silent."""
    if _attempt() == 0 and os.environ.get("RANK") == "0":
        forget_folder(out)  # of a launch of the same name that did not come to its end
    device = sce_lab.training.choose_device(device)
    with contextlib.ExitStack() as stack:
        mesh = stack.enter_context(sce_lab.distributed.launched(device, timeout=timeout, complain=complain))
        if mesh.get_local_rank() > 0:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield mesh


def common_folder(mesh: DeviceMesh, folder: Path | None, out: Path | None, label: str) -> Path:
    """The folder of the run, which the first rank makes.

    When torchrun has started everybody again it is that of the first attempt: the run goes on there.
    """
    import torch.distributed as dist

    told: list[Any] = [folder]
    if mesh.get_local_rank() == 0 and folder is None:
        root, note = Path(out or sce_lab.runs.runs_root()), _note(out)
        if _attempt() > 0 and note.exists():
            told = [root / note.read_text(encoding="utf-8")]
        else:
            told = [sce_lab.runs.new_run_folder(out, label)]
            write_text(note, told[0].name)
    dist.broadcast_object_list(told, src=0)
    return told[0]


def forget_folder(out: Path | None) -> None:
    """Nobody will go on in the folder of this launch, or of one before it with the same name."""
    _note(out).unlink(missing_ok=True)


def _attempt() -> int:
    """How often torchrun has begun all ranks again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _note(out: Path | None) -> Path:
    """Says in which folder this launch of torchrun records."""
    root = Path(out or sce_lab.runs.runs_root())
    return root / f".launch-{os.environ.get('TORCHELASTIC_RUN_ID', 'none')}"


def train_on_ranks(
    config: TrainingConfig,
    split: Split,
    source: dict[str, Any],
    folder: Path,
    stop: Callable[[], bool],
    mesh: DeviceMesh,
) -> Finished:
    """Train to the end; the first rank shows a bar and records."""
    trainer = sce_lab.distributed.ShardedTrainer(
        config, split, mesh, step=sce_lab.measuring, stop=stop, when_to_test="always"
    )
    if mesh.get_local_rank() == 0:
        return train_with_bar(config, split, source, folder, stop, trainer=trainer)
    *_, finished = sce_lab.distributed.follow(trainer, folder)
    return finished

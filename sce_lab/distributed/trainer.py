"""The trainer when the item table is sharded over ranks: the same run, a part of it on each."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from sce_lab.data.batches import Batch
from sce_lab.data.splits import Holdout, Split
from sce_lab.distributed.evaluation import rank_on_ranks
from sce_lab.distributed.launch import check_alike, ranks_of
from sce_lab.distributed.model import make_sharded_model, make_sharded_optimizer
from sce_lab.distributed.shares import share_of_batch
from sce_lab.distributed.step import sharded_step
from sce_lab.distributed.table import as_table
from sce_lab.metrics import Ranking
from sce_lab.model import SASRec
from sce_lab.training import Evaluated, Event, Finished, StepFunction, Trainer, TrainingConfig
from sce_lab.training.checkpoint import Checkpoint


class ShardedTrainer(Trainer):
    """A :class:`sce_lab.training.Trainer` on each rank of a mesh, whose ranks train one model together.

    Each rank has some rows of the item table and a share of every batch. Batches, negatives and centres are those of
    the plain trainer, so that without dropout a run is the plain one on any number of ranks, but for the rounding of
    sums; dropout is drawn by each rank on its own, from (seed, step, rank). Every rank tells the same events, except
    that seconds, positions and memory are its own.

    Args:
        mesh: of one dimension.
        step: wraps the step function, such as :func:`sce_lab.memory.measuring`.
        config, split, more: as in :class:`Trainer`; alike on all ranks.

    Raises:
        ValueError: configurations or data differ among ranks, the encoder's table cannot be sharded, or ``followers``.
    """

    checkpoint_name = "checkpoint"

    def __init__(
        self,
        config: TrainingConfig,
        split: Split,
        mesh: DeviceMesh,
        *,
        step: Callable[[StepFunction], StepFunction] = lambda step: step,
        **more: Any,
    ) -> None:
        if config.followers:
            raise ValueError(
                f"followers={config.followers} does not go with a sharded item table: no rank has all scores that its "
                f"counts are added to; leave it out"
            )
        settings = dataclasses.asdict(config)
        seed = settings.pop("seed")
        check_alike(mesh, seed=str(seed), data=split.fingerprint, settings=json.dumps(settings))
        self.mesh, self._ranks = mesh, ranks_of(mesh)
        self._dropping = torch.Generator(config.device)
        stop = more.pop("stop", None)
        if stop is not None:  # all or none: a rank that stops alone would be waited for
            more["stop"] = lambda: bool(self._ranks.largest(torch.tensor(int(stop()), device=config.device)))
        super().__init__(config, split, step=step(sharded_step(mesh, split.catalog_size)), **more)

    def _make(self) -> tuple[SASRec, torch.optim.Optimizer]:
        model = make_sharded_model(self.config, self.split.catalog_size, self.mesh, self.generator)
        model.drop.generator = self._dropping
        return model, make_sharded_optimizer(self.config, model)

    @property
    def n_parameters(self) -> int:
        """Numbers that are learned, on all ranks together."""
        table = self.model.item_embedding
        return super().n_parameters + (self.split.catalog_size - len(table)) * table.shape[1]

    def _seed(self, *step: int) -> None:
        super()._seed(*step)
        sequence = np.random.SeedSequence(self.config.seed, spawn_key=(*step, self._ranks.rank + 1))
        self._dropping.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))

    def _ready(self, batch: Batch) -> Callable[[], Batch]:
        return super()._ready(share_of_batch(batch, self._ranks.rank, self._ranks.n))

    def _rank_present(self, holdout: Holdout) -> Ranking:
        return rank_on_ranks(self.model, self.mesh, self.split.catalog_size, holdout, seen=self.config.seen)

    @staticmethod
    def _lerp_(averages: Sequence[Tensor], weights: Sequence[Tensor], share: float) -> None:
        here = [[t.to_local() if isinstance(t, DTensor) else t for t in tensors] for tensors in (averages, weights)]
        torch._foreach_lerp_(*here, share)

    def _write(self, checkpoint: Checkpoint, path: str | os.PathLike[str]) -> None:
        """Every rank writes its part, into a folder that takes the place of the last one when it is whole."""
        path = Path(path)
        # A name of its own for every save: the last one may be of the same step.
        name = [f"{path.name}-{checkpoint.counters['step']}-{secrets.token_hex(4)}"]
        dist.broadcast_object_list(name, group=self._ranks.group, group_src=0)
        whole = path.with_name(name[0])
        try:
            dcp.save(self._as_tables(checkpoint.tensors), checkpoint_id=whole, process_group=self._ranks.group)
        except CheckpointException as error:
            raise OSError(
                f"{whole} could not be written ({_reason(error)}); the checkpoint before it is there"
            ) from error
        if self._ranks.rank == 0:
            said = {"config": dataclasses.asdict(checkpoint.config), "counters": checkpoint.counters}
            said |= {"data": checkpoint.data, "draws": checkpoint.draws}
            (whole / "run.json").write_text(json.dumps(said), encoding="utf-8")
            new = path.with_name(f"{path.name}.new")
            new.unlink(missing_ok=True)
            new.symlink_to(whole.name)
            new.replace(path)  # at once: there is always a whole one
            for other in path.parent.glob(f"{path.name}-*"):
                if other != whole:
                    shutil.rmtree(other, ignore_errors=True)
        dist.barrier(self._ranks.group)

    def _read(self, path: str | os.PathLike[str]) -> Checkpoint:
        try:
            said = json.loads((Path(path) / "run.json").read_text(encoding="utf-8"))
            counters, config = said["counters"], TrainingConfig.read(said["config"], f"the configuration in {path}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no checkpoint of a sharded run, or a damaged one ({error})") from error
        unsaid = "seen" not in said["config"]
        checkpoint = Checkpoint(config, {}, counters, said["data"], said.get("draws", ""), unsaid)
        # before anything is read into tensors of a size that follows from the configuration
        checkpoint.check(path, self.config, self.split.fingerprint, self._n_per_epoch, lambda begun: {})
        like = self._expected(counters["step"] > 0)
        tensors = {name: torch.empty_like(tensor, requires_grad=False) for name, tensor in like.items()}
        try:
            dcp.load(self._as_tables(tensors), checkpoint_id=Path(path).resolve(), process_group=self._ranks.group)
        except CheckpointException as error:
            raise ValueError(
                f"{path} is damaged ({_reason(error)}): use another checkpoint, or begin a new run"
            ) from error
        return dataclasses.replace(checkpoint, tensors=tensors)

    def _as_tables(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rows of this rank as what they are: a part of a table."""
        rows = self.model.item_embedding.shape
        catalog_size = self.split.catalog_size
        is_rows = {
            name: name.endswith(".item_embedding") or (name.startswith("optimizer.0.") and tensor.shape == rows)
            for name, tensor in tensors.items()
        }
        return {
            name: as_table(tensor.detach(), self.mesh, catalog_size) if is_rows[name] else tensor
            for name, tensor in tensors.items()
        }


def _reason(error: CheckpointException) -> str:
    """What the first rank that failed says."""
    (_, (first, _)), *_ = error.failures.items()
    return str(first).strip().splitlines()[0] if str(first).strip() else type(first).__name__


def follow(trainer: ShardedTrainer, folder: str | os.PathLike[str]) -> Iterator[Event]:
    """The events on a rank that records nothing: it loads and saves when :func:`sce_lab.runs.record` does on rank 0."""
    path = Path(folder) / trainer.checkpoint_name
    if path.exists():
        trainer.load(path)
    for event in trainer.events():
        if isinstance(event, Evaluated | Finished):
            trainer.save(path)
        yield event

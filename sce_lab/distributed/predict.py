"""What a step on several ranks would take on each of them, without one of them."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
import torch.distributed as dist
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from sce_lab.data.batches import Batch, Packed
from sce_lab.distributed.model import make_sharded_model, make_sharded_optimizer
from sce_lab.distributed.step import sharded_step
from sce_lab.distributed.traffic import Sent
from sce_lab.memory import MemoryUse
from sce_lab.memory.live import LiveBytes
from sce_lab.memory.measure import measured_step
from sce_lab.memory.predict import arguments_of, one_at_a_time
from sce_lab.training import TrainingConfig, make_training_loss


@dataclasses.dataclass(frozen=True)
class RankUse:
    """What one rank takes in a step.

    Attributes:
        memory: bytes, as on one device.
        sent: bytes that it sends, counted as in :mod:`.traffic`.
    """

    memory: MemoryUse
    sent: float


def predict_rank(
    config: TrainingConfig,
    catalog_size: int,
    n_devices: int,
    *,
    n_sequences: int | None = None,
    length: int | None = None,
) -> RankUse:
    """What the first rank, whose shard is the largest, takes in a step of ``config`` on ``n_devices``.

    The same :func:`.sharded_step` runs on tensors without content, between processes that are not there. Where the work
    depends on the data it is the most there can be, but for the items that are looked up: these are taken to be spread
    evenly. It is a prediction for a CPU; a GPU has larger tiles.

    Args:
        config, catalog_size: as in :func:`sce_lab.memory.predict_memory`.
        n_devices: ranks.
        n_sequences: sequences in the batch of all ranks together; default ``config.batch_size``.
        length: positions of each sequence.

    Raises:
        ValueError: a number below 1, a loss that takes no sharded table, or a process that is already one of several.
    """
    if not isinstance(n_devices, int) or n_devices < 1:
        raise ValueError(f"n_devices must be a whole number of at least 1, got {n_devices!r}")
    config, *sizes = arguments_of(dataclasses.replace(config, device="cpu"), catalog_size, n_sequences, length)
    return _predict(json.dumps(dataclasses.asdict(config)), n_devices, *sizes)


@functools.lru_cache(maxsize=1024)
def _predict(settings: str, n: int, catalog_size: int, n_sequences: int, length: int) -> RankUse:
    config = TrainingConfig(**json.loads(settings))
    mine = -(-n_sequences // n)
    with one_at_a_time, _no_ranks(n) as mesh:
        # FSDP2 cuts each parameter into n pieces: on the meta device that is quick.
        model = make_sharded_model(dataclasses.replace(config, device="meta"), catalog_size, mesh)
        with FakeTensorMode(allow_non_fake_inputs=True):
            return _first_rank(config, model.to_empty(device="cpu").train(), mesh, catalog_size, mine, length)


def _first_rank(
    config: TrainingConfig, model: nn.Module, mesh: DeviceMesh, catalog_size: int, n_sequences: int, length: int
) -> RankUse:
    optimizer = make_sharded_optimizer(config, model)
    loss = make_training_loss(config, torch.empty(catalog_size, dtype=torch.int64))
    items = torch.empty(n_sequences * length, dtype=torch.int64)
    batch = Batch(Packed(items, torch.empty_like(items), ((n_sequences, length),)), torch.empty_like(items))
    step = sharded_step(mesh, catalog_size)
    step(model, loss, optimizer, batch, lambda name: nullcontext())  # Adam makes its state in the first
    sent = Sent(mesh.size())
    with sent:
        result = measured_step(model, loss, optimizer, batch, step=step, counter=LiveBytes())
    return RankUse(result.memory, sent.nbytes)


@contextmanager
def _no_ranks(n: int) -> Iterator[DeviceMesh]:
    """A mesh of ``n`` ranks of which only the first is here, and whose collectives do nothing.

    PyTorch knows one group of all ranks: only who has :data:`one_at_a_time` may ask whether there is one.
    """
    if dist.is_initialized():
        raise ValueError("a prediction for several devices needs a process that is not one of several itself")
    from torch.testing._internal.distributed.fake_pg import FakeStore  # where PyTorch keeps it

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=n)
    try:
        yield init_device_mesh("cpu", (n,))
    finally:
        dist.destroy_process_group()

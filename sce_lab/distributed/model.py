"""The model of a run whose item table is sharded: the rows of one rank, and an encoder under FSDP2."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from sce_lab.distributed.launch import ranks_of
from sce_lab.encoders import ENCODERS
from sce_lab.losses.sharded import bounds
from sce_lab.model import SASRec
from sce_lab.training import TrainingConfig, make_model, make_optimizer


def data_parallel(module: nn.Module, mesh: DeviceMesh, ignored: Collection[nn.Parameter] = ()) -> nn.Module:
    """Put a module under FSDP2: its parameters, but for those ``ignored``, are sharded and gathered when needed.

    Gradients are summed over the ranks, not averaged: the losses of :mod:`sce_lab` over a sharded table are those of
    all batches together, and what a rank has is its part of their gradient.
    """
    fully_shard(module, mesh=mesh, ignored_params=set(ignored))
    module.set_gradient_divide_factor(1.0)
    module.set_force_sum_reduction_for_comms(True)
    return module


def make_sharded_model(
    config: TrainingConfig, catalog_size: int, mesh: DeviceMesh, generator: torch.Generator | None = None
) -> SASRec:
    """The encoder that ``config`` describes, its weights those of :func:`sce_lab.training.make_model`.

    ``item_embedding`` are this rank's rows, a plain parameter that its optimizer updates alone. All other parameters
    are sharded by FSDP2 and gathered when they are needed; their gradients are summed over the ranks, since the loss is
    that of all batches together.

    Raises:
        ValueError: an encoder that draws its item table in another way.
    """
    if ENCODERS[config.encoder].__init__ is not SASRec.__init__:
        known = " or ".join(repr(name) for name, kind in ENCODERS.items() if kind.__init__ is SASRec.__init__)
        raise ValueError(f"sharded items go with encoder={known}, got {config.encoder!r}")
    model = make_model(config, catalog_size, generator, rows=bounds(catalog_size, ranks_of(mesh)))
    return data_parallel(model, mesh, {model.item_embedding})


def make_sharded_optimizer(config: TrainingConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Adam with two groups: the rows of this rank, and the encoder."""
    table = model.item_embedding
    encoder = [p for p in model.parameters() if p is not table]
    return make_optimizer(config, model, [{"params": [table]}, {"params": encoder}])

"""Training when the item table outgrows one device, on PyTorch's own distributed engine.

The table is sharded by rows, the encoder is under FSDP2, each rank has a share of every batch. See
``docs/distributed.md``; the losses over a sharded table are in :mod:`sce_lab.losses.sharded`.
"""

from sce_lab.distributed.evaluation import rank_on_ranks
from sce_lab.distributed.launch import TIMEOUT, check_alike, launched, make_mesh, ranks_of
from sce_lab.distributed.model import data_parallel, make_sharded_model, make_sharded_optimizer
from sce_lab.distributed.shares import share_of_batch
from sce_lab.distributed.step import sharded_step
from sce_lab.distributed.table import as_table
from sce_lab.distributed.trainer import ShardedTrainer, follow

__all__ = [
    "TIMEOUT",
    "ShardedTrainer",
    "as_table",
    "check_alike",
    "data_parallel",
    "follow",
    "launched",
    "make_mesh",
    "make_sharded_model",
    "make_sharded_optimizer",
    "rank_on_ranks",
    "ranks_of",
    "sharded_step",
    "share_of_batch",
]

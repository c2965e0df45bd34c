"""SCE Lab: see the memory wall of large catalogs, and the losses that get around it.

    >>> import torch, sce_lab
    >>> outputs, items = torch.randn(512, 64), torch.randn(100_000, 64)
    >>> target = torch.randint(100_000, (512,))
    >>> loss = sce_lab.scalable_cross_entropy(outputs, items, target, n_buckets=45, bucket_size_x=45, bucket_size_y=256)

Notebooks and their widgets are in :mod:`sce_lab.widgets`, which is not imported here: it needs Jupyter.
"""

from sce_lab.data import (
    DATASETS,
    Holdout,
    Sequences,
    Split,
    SyntheticProcess,
    leave_one_out,
    load_dataset,
    open_split,
    read_interactions,
    summarize,
    temporal_split,
)
from sce_lab.losses import (
    LOSSES,
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    SampledSoftmaxLoss,
    SCELoss,
    SCEStatistics,
    binary_cross_entropy,
    cross_entropy,
    make_loss,
    sampled_softmax,
    scalable_cross_entropy,
    scalable_cross_entropy_reference,
)
from sce_lab.memory import MemoryUse, format_bytes, free_memory, measuring, predict_memory
from sce_lab.metrics import rank_items, ranking_metrics
from sce_lab.model import SASRec
from sce_lab.runs import Run, compare_runs, for_people, list_runs, record
from sce_lab.training import (
    Evaluated,
    Event,
    Finished,
    Started,
    StepDone,
    Trainer,
    TrainingConfig,
    evaluate,
    train,
)

__version__ = "0.1.0"

__all__ = [
    "DATASETS",
    "LOSSES",
    "BinaryCrossEntropyLoss",
    "CrossEntropyLoss",
    "Evaluated",
    "Event",
    "Finished",
    "Holdout",
    "MemoryUse",
    "Run",
    "SASRec",
    "SCELoss",
    "SCEStatistics",
    "SampledSoftmaxLoss",
    "Sequences",
    "Split",
    "Started",
    "StepDone",
    "SyntheticProcess",
    "Trainer",
    "TrainingConfig",
    "binary_cross_entropy",
    "compare_runs",
    "cross_entropy",
    "evaluate",
    "for_people",
    "format_bytes",
    "free_memory",
    "leave_one_out",
    "list_runs",
    "load_dataset",
    "make_loss",
    "measuring",
    "open_split",
    "predict_memory",
    "rank_items",
    "ranking_metrics",
    "read_interactions",
    "record",
    "sampled_softmax",
    "scalable_cross_entropy",
    "scalable_cross_entropy_reference",
    "summarize",
    "temporal_split",
    "train",
]

"""SCE Lab: see the memory wall of large catalogs, and the losses that get around it.

    >>> import torch, sce_lab
    >>> outputs, items = torch.randn(512, 64), torch.randn(100_000, 64)
    >>> target = torch.randint(100_000, (512,))
    >>> loss = sce_lab.scalable_cross_entropy(outputs, items, target, n_buckets=45, bucket_size_x=45, bucket_size_y=256)

What is named here is imported when it is asked for, so that ``sce-lab --help`` need not wait for torch. Notebooks and
their widgets are in :mod:`sce_lab.widgets`, which needs Jupyter.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_NAMES = {
    "data": (
        "DATASETS", "Holdout", "Sequences", "Split", "SyntheticProcess", "leave_one_out", "load_dataset",
        "open_interactions", "open_split", "columns_of", "read_interactions", "summarize", "temporal_split",
    ),
    "describing": ("Description", "describe"),
    "losses": (
        "LOSSES", "PRESETS", "BinaryCrossEntropyLoss", "CEMinusLoss", "CrossEntropyLoss", "CutCrossEntropyLoss",
        "InBatch", "LogUniform", "LossModule", "Mixed", "Popularity", "Proposal", "RECELoss", "SCELoss",
        "SCEStatistics", "SampledSoftmaxLoss", "Uniform", "binary_cross_entropy", "cross_entropy", "make_loss",
        "make_proposal", "moved_centers", "reduced_cross_entropy", "sampled_softmax",
        "scalable_cross_entropy", "scalable_cross_entropy_reference", "scalable_cross_entropy_statistics",
    ),
    "memory": ("MemoryUse", "format_bytes", "free_memory", "measuring", "predict_memory"),
    "metrics": ("rank_items", "ranking_metrics"),
    "model": ("SASRec",),
    "recommending": ("Recommender",),
    "runs": ("Run", "compare_runs", "for_people", "list_runs", "record"),
    "training": (
        "Evaluated", "Event", "Finished", "Started", "StepDone", "Trainer", "TrainingConfig", "evaluate", "train",
    ),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    """Import one of the names above, or a module of the package."""
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    if not name.startswith("_"):
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The names above, for whoever completes them."""
    return sorted({*globals(), *__all__, *_NAMES})

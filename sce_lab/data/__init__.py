"""Data: real and synthetic interactions, and how they are split."""

from sce_lab.data.datasets import DATASETS, Dataset, load_dataset
from sce_lab.data.interactions import read_interactions, summarize
from sce_lab.data.splits import SPLITS, Holdout, Sequences, Split, leave_one_out, temporal_split
from sce_lab.data.synthetic import SyntheticProcess

__all__ = [
    "DATASETS",
    "SPLITS",
    "Dataset",
    "Holdout",
    "Sequences",
    "Split",
    "SyntheticProcess",
    "leave_one_out",
    "load_dataset",
    "read_interactions",
    "summarize",
    "temporal_split",
]

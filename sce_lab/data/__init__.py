"""Data: real and synthetic interactions, how they are split, and how they become batches."""

from sce_lab.data.batches import Batch, Packed, training_batches
from sce_lab.data.datasets import DATASETS, Dataset, load_dataset
from sce_lab.data.interactions import summarize
from sce_lab.data.naming import ColumnsError
from sce_lab.data.reading import columns_of, read_interactions
from sce_lab.data.sequences import Holdout, Sequences, Split
from sce_lab.data.sources import SYNTHETIC, open_interactions, open_split, written
from sce_lab.data.splits import SPLITS, leave_one_out, temporal_split
from sce_lab.data.synthetic import SyntheticProcess

__all__ = [
    "DATASETS",
    "SPLITS",
    "SYNTHETIC",
    "Batch",
    "ColumnsError",
    "Dataset",
    "Holdout",
    "Packed",
    "Sequences",
    "Split",
    "SyntheticProcess",
    "columns_of",
    "leave_one_out",
    "load_dataset",
    "open_interactions",
    "open_split",
    "read_interactions",
    "summarize",
    "temporal_split",
    "training_batches",
    "written",
]

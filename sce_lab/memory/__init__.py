"""What a training step needs: measured exactly, or predicted without allocating a byte of it.

Both run the same :func:`sce_lab.training.training_step`. To measure, every tensor storage that comes and goes is
counted while the step runs; to predict, the same step runs on tensors that have shapes and lifetimes but no data.
There is no formula beside the code that could drift from it.

    measure    a step, or now and then a step of a training            predict    a step that is never made
    timeline   every moment of a step, and who holds what at its peak  formulas   each loss's workspace, to be taught
    fit        what fits into how much, on which device                guard      refusing in time, explaining in words
    roofline   the least time a step can take            scaling    one thing grows, the rest stays
    heads      those of language models            tables     all of it side by side
"""

from sce_lab.memory import tables
from sce_lab.memory.devices import DEVICES, Device
from sce_lab.memory.fit import fits, largest, suggest_sce
from sce_lab.memory.formulas import Formula, workspace_formula
from sce_lab.memory.guard import (
    DoesNotFitError,
    RanOutOfMemoryError,
    check_fits,
    explaining_out_of_memory,
    free_memory,
    guarded_train,
    is_out_of_memory,
    release_memory,
    typical_length,
    what_would_fit,
)
from sce_lab.memory.heads import FORMATS, HEADS, PUBLISHED_HEADS, Head, HeadUse, PublishedHead, predict_head
from sce_lab.memory.live import LiveBytes, largest_workspace
from sce_lab.memory.measure import measure_memory, measured_step, measuring, timed_step
from sce_lab.memory.predict import predict_memory
from sce_lab.memory.roofline import Work, count_work, this_machine
from sce_lab.memory.scaling import growth, loss_operations
from sce_lab.memory.timeline import Timeline, measured_timeline, predict_timeline, real_timeline
from sce_lab.memory.use import MemoryUse, format_bytes, format_count, format_seconds

__all__ = [
    "DEVICES",
    "FORMATS",
    "HEADS",
    "PUBLISHED_HEADS",
    "Device",
    "DoesNotFitError",
    "Formula",
    "Head",
    "HeadUse",
    "LiveBytes",
    "MemoryUse",
    "PublishedHead",
    "RanOutOfMemoryError",
    "Timeline",
    "Work",
    "check_fits",
    "count_work",
    "explaining_out_of_memory",
    "fits",
    "format_bytes",
    "format_count",
    "format_seconds",
    "free_memory",
    "growth",
    "guarded_train",
    "is_out_of_memory",
    "largest",
    "largest_workspace",
    "loss_operations",
    "measure_memory",
    "measured_step",
    "measured_timeline",
    "measuring",
    "predict_head",
    "predict_memory",
    "predict_timeline",
    "real_timeline",
    "release_memory",
    "suggest_sce",
    "tables",
    "this_machine",
    "timed_step",
    "typical_length",
    "what_would_fit",
    "workspace_formula",
]

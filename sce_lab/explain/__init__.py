"""What a loss does on a given model: from outputs, items and targets to tables.

Everything takes ``outputs (N, D)`` of an encoder, ``items (C, D)`` and ``target (N,)``, computes what the losses avoid
computing, and so is for small catalogs: it shows on these what holds for large ones.
"""

from sce_lab.explain.buckets import Buckets, captured_mass, collapse, found_by_rank, gradients
from sce_lab.explain.checks import Verdict, check_sampled, check_sce, fill_in
from sce_lab.explain.exercises import check_operations, check_streaming, sce_operations
from sce_lab.explain.hypotheses import HYPOTHESES, Hypothesis, best_by, contrasts, trials_of, verdicts
from sce_lab.explain.inside import beating, running_sums, two_timelines
from sce_lab.explain.sampling import all_draws, enough, estimates, hits, part_of, pushes
from sce_lab.explain.small import Small, train_small

__all__ = [
    "HYPOTHESES",
    "Buckets",
    "Hypothesis",
    "Small",
    "Verdict",
    "all_draws",
    "beating",
    "best_by",
    "captured_mass",
    "check_operations",
    "check_sampled",
    "check_sce",
    "check_streaming",
    "collapse",
    "contrasts",
    "enough",
    "estimates",
    "fill_in",
    "found_by_rank",
    "gradients",
    "hits",
    "part_of",
    "pushes",
    "running_sums",
    "sce_operations",
    "train_small",
    "trials_of",
    "two_timelines",
    "verdicts",
]

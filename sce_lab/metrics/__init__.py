"""Ranking quality over the whole catalog: where targets come out, what that is worth, and how sure one can be of it.

The protocol, in one place:

* every item of the catalog competes, none is sampled;
* what the user has seen is treated by a rule with a name (:data:`SEEN`), the same for all candidates: whether an item
  may be recommended never depends on its being the target;
* ties go against the model: the target stands behind every competitor of the same score, and a score that is not a
  number counts as the worst for the target and as the best for a competitor. A model that scores everything alike
  therefore gets nothing.
"""

from sce_lab.data.sequences import KS
from sce_lab.metrics.baselines import BASELINES, Baseline
from sce_lab.metrics.calibration import calibration_error
from sce_lab.metrics.quality import gains, metrics_apart, ranking_metrics
from sce_lab.metrics.ranking import MISS, SEEN, Ranking, check_seen, rank_items, rank_scores
from sce_lab.metrics.uncertainty import Interval, difference, interval

__all__ = [
    "BASELINES",
    "KS",
    "MISS",
    "SEEN",
    "Baseline",
    "Interval",
    "Ranking",
    "calibration_error",
    "check_seen",
    "difference",
    "gains",
    "interval",
    "metrics_apart",
    "rank_items",
    "rank_scores",
    "ranking_metrics",
]

"""Which runs rank better than which, beyond what other test users might have said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from sce_lab.metrics import Interval, difference
from sce_lab.runs.folder import Run


@dataclass(frozen=True)
class Difference:
    """How much further ``better`` is than ``worse`` in the mean, on the same test users."""

    better: Run
    worse: Run
    interval: Interval


def differences(runs: Sequence[Run], metric: str = "NDCG@10") -> list[Difference]:
    """Every two runs whose ranks are known and that answered the same question: the same data, the same rule.

    Each interval has 95 % for itself; among many, one in twenty is wrong.
    """
    known = [(run, run.settings, ranks) for run in runs if (ranks := run.ranks) is not None and len(ranks.repeats) > 1]
    found = []
    for (run, settings, ranks), (other, others, other_ranks) in combinations(known, 2):
        question, same = ((s.get("fingerprint"), s["dataset"], s["config"].get("seen")) for s in (settings, others))
        if question == same:
            gained = difference(ranks.gains(metric), other_ranks.gains(metric))
            if gained.mean >= 0:
                found.append(Difference(run, other, gained))
            else:
                turned = Interval(-gained.mean, -gained.high, -gained.low, gained.n_users, gained.n_seeds)
                found.append(Difference(other, run, turned))
    return found

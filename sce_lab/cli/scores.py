"""What is said beside scores: who was asked, and which differences may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import sce_lab

if TYPE_CHECKING:
    from sce_lab.data import Split
    from sce_lab.runs import Run


def asked(split: Split, seen: str) -> str:
    """Test users, items, and the rule about seen items; how many targets repeat, if any does."""
    repeats = int(split.test.repeats.sum())
    n_users = len(split.test) - (repeats if seen == "new" else 0)
    text = f"{n_users:,} test users, {split.catalog_size:,} items; {sce_lab.metrics.SEEN[seen]}"
    return f"{text} ({repeats:,} of {len(split.test):,} targets repeat)" if repeats else text


def apart(runs: Sequence[Run], metric: str = "HR@10") -> list[str]:
    """What each run reaches for new targets and for those that repeat, if there are both."""
    found = []
    for run in runs:
        ranks = run.ranks
        if ranks is not None and 0 < ranks.repeats.sum() < len(ranks.repeats):
            gained = ranks.gains(metric)
            new, repeated = gained[:, ~ranks.repeats].mean(), gained[:, ranks.repeats].mean()
            found.append(f"{sce_lab.LOSSES[run.config.loss].label} {new:.4f} and {repeated:.4f}")
    return [f"{metric} of new targets and of repeats: {'; '.join(found)}."] if found else []


def comparisons(runs: Sequence[Run], metric: str = "NDCG@10") -> list[str]:
    """A sentence for those that are not told apart, one for those that are."""
    told: dict[bool, list[str]] = {False: [], True: []}
    for found in sce_lab.runs.differences(runs, metric):
        names = [sce_lab.LOSSES[run.config.loss].label for run in (found.better, found.worse)]
        i = found.interval
        between = f"{' before ' if i.told_apart else ' and '}".join(names)
        told[i.told_apart].append(f"{between} ({i.mean:+.4f}, [{i.low:+.4f}, {i.high:+.4f}])")
    heads = {True: f"Told apart in {metric}", False: f"Not told apart in {metric}"}
    ends = "; each at 95 %, over the same test users, one seed."
    return [f"{heads[apart]}: {', '.join(pairs)}{ends}" for apart, pairs in told.items() if pairs]

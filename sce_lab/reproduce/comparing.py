"""Two records, paired: the same test users, all seeds of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sce_lab.metrics import Interval, difference
from sce_lab.reproduce.records import read_records, results_folder
from sce_lab.runs import Ranks

LEVEL = 0.05
"""Two models are level if all that their difference may be is less than this share of what the other one reaches."""


def ranks_of(record: dict[str, Any], folder: Path | None = None) -> Ranks | None:
    """Where the test targets of a record came out; None if that was not kept."""
    path = (folder or results_folder()) / f"{record['dataset']}-{record['recipe']}.npz"
    return Ranks.read(path) if path.exists() else None


def compare_records(
    ours: dict[str, Any], theirs: dict[str, Any], metric: str = "NDCG@10", folder: Path | None = None
) -> Interval:
    """How much more ``ours`` reaches than ``theirs``: the mean over the same users, its 95 % interval over users and
    the seeds of both (:func:`sce_lab.metrics.difference`).

    Raises:
        ValueError: they answer different questions (data, rule about seen items), or no ranks were kept.
    """
    for what, one, other in (
        ("data", *(record.get("fingerprint", record["dataset"]) for record in (ours, theirs))),
        ("rules about seen items", *(record["config"].get("seen") for record in (ours, theirs))),
    ):
        if one != other:
            raise ValueError(
                f"{ours['recipe']} and {theirs['recipe']} are of different {what} ({one} and {other}), so there is no "
                f"difference on the same users"
            )
    gains = []
    for record in (ours, theirs):
        ranks = ranks_of(record, folder)
        if ranks is None:
            raise ValueError(
                f"of {record['dataset']} {record['recipe']} no ranks were kept: sce-lab open-test keeps them"
            )
        gains.append(ranks.gains(metric))
    return difference(*gains)


def in_words(ours: str, theirs: str, found: Interval, reached: float, metric: str = "NDCG@10") -> str:
    """A difference in one sentence: ahead, behind, level, or not told apart.

    Args:
        ours, theirs: names of the two.
        found: how much more ours reaches, or what it may be.
        reached: what theirs reaches, on which depends what is level (:data:`LEVEL`).
        metric: of what.
    """
    ends = f"{found.mean:+.4f} [{_end(found.low)}, {_end(found.high)}]"
    if found.told_apart:
        if found.mean < 0:
            return f"{ours} is behind {theirs} in {metric}: {ends}."
        return f"{ours} is ahead of {theirs} in {metric}: {ends}."
    if max(-found.low, found.high) <= LEVEL * reached:
        return f"{ours} is level with {theirs} in {metric}: {ends}."
    return f"{ours} and {theirs} are not told apart in {metric}: {ends}."


def _end(value: float) -> str:
    """An end of an interval; one that is nearly zero has as many digits as it takes to see on which side it lies."""
    digits = next((n for n in range(4, 8) if round(value, n)), 4)
    return f"{value:+.{digits}f}"


def records_called(names: tuple[str, str], folder: Path | None = None) -> list[dict[str, Any]]:
    """The records called ``DATASET-NAME``, as their files are.

    Raises:
        ValueError: there is none; the message says which there are.
    """
    known = {f"{record['dataset']}-{record['recipe']}": record for record in read_records(folder)}
    for name in names:
        if name not in known:
            kept = [known_as for known_as, record in known.items() if ranks_of(record, folder) is not None]
            raise ValueError(f"there is no record {name!r}; ranks were kept of {', '.join(kept) or 'none'}")
    return [known[name] for name in names]

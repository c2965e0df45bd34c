"""Results as Markdown, and the files that show them.

A file holds them between two marks. The first says what: ``<!-- results -->``, all scores; ``<!-- results at a glance
-->``, what is read in a minute; ``<!-- tournament -->``, ``<!-- variants -->``, ``<!-- fidelity -->``, ``<!-- counts
-->``, ``<!-- races -->`` or ``<!-- language model -->``. The second is ``<!-- end of results -->``.
:func:`update_file` writes what belongs there, and a test fails when something else does.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from sce_lab.data import DATASETS
from sce_lab.language.records import read_all as read_language
from sce_lab.language.report import language_markdown
from sce_lab.losses import LOSSES
from sce_lab.reproduce.baselines import read_baselines
from sce_lab.reproduce.findings import findings
from sce_lab.reproduce.races import RACES
from sce_lab.reproduce.records import read_record, read_records, results_folder
from sce_lab.reproduce.refereed import read_fidelity
from sce_lab.reproduce.report import for_readers, for_trials, heading, is_trial, results_table, withdrawn
from sce_lab.reproduce.search import read_searches
from sce_lab.reproduce.speedrun import race_table, read_races
from sce_lab.reproduce.studies import (
    counts_markdown,
    fidelity_markdown,
    markdown,
    tournament_markdown,
    variants_markdown,
)
from sce_lab.runs import write_text

NOTHING = "Nothing has been recorded yet."
_STUDIES = ("variants", "fidelity", "counts")


@dataclass(frozen=True)
class Evidence:
    """All that was recorded: of recipes, of what needs no training, and of searches, and where it lies; of the
    tournament, and where; of SCE's options; by the referee; of a language model's head; and of counts beside models."""

    records: list[dict[str, Any]]
    baselines: list[dict[str, Any]] = field(default_factory=list)
    searches: list[dict[str, Any]] = field(default_factory=list)
    folder: Path | None = None
    tournament: list[dict[str, Any]] = field(default_factory=list)
    tournament_folder: Path | None = None
    variants: list[dict[str, Any]] = field(default_factory=list)
    fidelity: list[pd.DataFrame] = field(default_factory=list)
    language: list[dict[str, Any]] = field(default_factory=list)
    counts: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path | None = None) -> Evidence:
        """What lies in a folder of records, by default that of the repository."""
        recipes = read_records(folder), read_baselines(folder), read_searches(folder), folder
        others = {kind: results_folder(kind, folder) for kind in ("tournament", *_STUDIES)}
        variants, fidelity, counts = (sorted(others[kind].glob("*.json")) for kind in _STUDIES)
        return cls(
            *recipes,
            read_records(others["tournament"]),
            others["tournament"],
            [read_record(path) for path in variants],
            [read_fidelity(path) for path in fidelity],
            read_language(results_folder("language_model", folder)),
            [read_record(path) for path in counts],
        )

    @property
    def table(self) -> pd.DataFrame:
        """See :func:`sce_lab.reproduce.results_table`."""
        return results_table(self.records, self.baselines)

    def findings(self, dataset: str, shown: pd.DataFrame | None = None) -> list[str]:
        """See :func:`sce_lab.reproduce.findings`; of the rows that are ``shown``, by default of all."""
        table = self.table if shown is None else shown
        records = [r for r in self.records if shown is None or r["recipe"] in set(shown["recipe"])]
        return findings(dataset, table, records, self.searches, self.folder)


def results_markdown(evidence: Evidence) -> str:
    """For each data set a table, published rows first, then baselines; what it says; and what was tried besides."""
    parts = []
    for name, rows in evidence.table.groupby("dataset", sort=False):
        if rows["published"].all():
            continue  # nothing of ours to show beside it
        parts += [f"**{heading(name, evidence.baselines)}**", markdown(for_readers(rows[~rows["trial"]]))]
        if said := evidence.findings(name):
            parts.append("\n".join(f"- {sentence}" for sentence in said))
        if rows["trial"].any():
            title = f"{DATASETS[name].title}: what was tried, best validation first"
            parts += [f"<details><summary>{title}</summary>", markdown(for_trials(rows)), "</details>"]
    parts += withdrawn(evidence.records)
    return "\n\n".join(parts) or NOTHING


def glance_markdown(evidence: Evidence) -> str:
    """The first data set that has a trained model: the paper's row and the best published one, baselines, the paper's
    settings trained here, for each loss its row after the common search, or else its best on validation; and the best
    of all on validation."""
    table = evidence.table
    trained = table[table["loss"].notna() & ~table["trial"]]
    if trained.empty:
        return NOTHING
    dataset = trained["dataset"].iloc[0]
    rows = table[(table["dataset"] == dataset) & ~table["trial"] & ~table["together"]]
    published = rows[rows["published"]]
    tested = rows["loss"].notna() & rows["validation"].notna() & rows["NDCG@10"].notna()
    ours = rows[tested].sort_values("validation", ascending=False)
    picked = [*published.index[:1], *published["NDCG@10"].nlargest(1).index, *rows[rows["baseline"]].index]
    picked += [*ours.index[ours["recipe"] == "sce"], *ours.index[:1]]
    for _, same in ours.groupby(ours["loss"].replace("cce", "ce"), sort=False):  # one loss, computed in two ways
        searched = same[same["recipe"].str.endswith("-searched")]
        picked += (searched if len(searched) else same).index[:1].tolist()
    rows = rows.loc[list(dict.fromkeys(picked))]
    shown = for_readers(rows)
    columns = ["model", "HR@10", "NDCG@10", "seeds", "minutes", "loss workspace"]
    parts = [f"**{heading(dataset, evidence.baselines)}**", markdown(shown[columns])]
    if said := [*_unequal_search(evidence, dataset, ours), *evidence.findings(dataset, rows)]:
        parts.append("\n".join(f"- {sentence}" for sentence in said))
    return "\n\n".join(parts)


def _unequal_search(evidence: Evidence, dataset: str, ours: pd.DataFrame) -> list[str]:
    """A sentence on how many trials each loss had, until each has a row after the common search."""
    by_loss = ours["loss"].replace("cce", "ce")
    searched = by_loss[ours["recipe"].str.endswith("-searched")]
    if set(searched) == set(by_loss):
        return []
    trials = [record for record in evidence.records if record["dataset"] == dataset and is_trial(record)]
    counts = dict.fromkeys(by_loss, 0) | Counter(record["config"]["loss"].replace("cce", "ce") for record in trials)
    listed = ", ".join(f"{LOSSES[loss].label} {counts[loss]}" for loss in sorted(counts, key=lambda x: -counts[x]))
    return [
        f"The losses were not searched alike: of trials with other settings {listed} are recorded. A loss with fewer "
        f"of them may be better than its row."
    ]


def races_markdown(evidence: Evidence) -> str:
    """For each race its goal and a table of who ran it."""
    parts = []
    for race in RACES.values():
        if runs := read_races(race.dataset, evidence.folder):
            goal = " and ".join(f"{name} {least:.4f}" for name, least in race.goal.items())
            parts += [f"**{DATASETS[race.dataset].title}: {goal} on test**", markdown(race_table(runs))]
    return "\n\n".join(parts) or NOTHING


_KINDS: dict[str, Callable[[Evidence], str]] = {
    "results": results_markdown,
    "results at a glance": glance_markdown,
    "races": races_markdown,
    "tournament": lambda evidence: tournament_markdown(
        evidence.tournament, read_baselines(evidence.tournament_folder), evidence.tournament_folder
    ),
    "variants": lambda evidence: variants_markdown(evidence.variants),
    "fidelity": lambda evidence: fidelity_markdown(evidence.fidelity),
    "counts": lambda evidence: counts_markdown(evidence.counts),
    "language model": lambda evidence: language_markdown(evidence.language),
}
_MARK = rf"<!-- (?:{'|'.join(_KINDS)}) -->\n"
_MARKS = re.compile(rf"(<!-- ({'|'.join(_KINDS)}) -->\n)(?:(?!{_MARK}).)*?(<!-- end of results -->)", re.DOTALL)


def with_results(text: str, evidence: Evidence) -> str:
    """``text`` with results between its marks.

    Raises:
        ValueError: there are no marks, or one has no end.
    """
    begun, ended = len(re.findall(_MARK, text)), len(_MARKS.findall(text))
    if begun > ended > 0:
        raise ValueError(
            f"{begun} places for results begin, and {ended} end: put <!-- end of results --> behind each before the "
            f"next one begins"
        )
    if not _MARKS.search(text):
        raise ValueError(
            "there is no place for results: put <!-- results --> (or <!-- results at a glance -->) and "
            "<!-- end of results --> on two lines"
        )
    return _MARKS.sub(lambda found: f"{found[1]}{_KINDS[found[2]](evidence)}\n{found[3]}", text)


def updated(path: Path, evidence: Evidence) -> str:
    """What a Markdown file or a notebook should contain, given what was recorded.

    Raises:
        ValueError: it has no marks.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return with_results(text, evidence)
    notebook = json.loads(text)
    cells = [cell for cell in notebook["cells"] if _MARKS.search("".join(cell["source"]))]
    if not cells:
        with_results("", evidence)  # says what is missing
    for cell in cells:
        cell["source"] = with_results("".join(cell["source"]), evidence).splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def update_file(path: Path, evidence: Evidence) -> bool:
    """Write :func:`updated` to ``path``. Whether anything was different."""
    new = updated(path, evidence)
    if new == path.read_text(encoding="utf-8"):
        return False
    write_text(path, new)
    return True

"""Challenges that are checked in code: what to reach, and how far off the runs made so far are."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import ipywidgets as widgets

from sce_lab.memory import format_bytes
from sce_lab.widgets.kit.progress import FINISHED
from sce_lab.widgets.kit.stage import text
from sce_lab.widgets.playground.assessment import Assessment, needed
from sce_lab.widgets.playground.kept import keep_solved, kept_solved
from sce_lab.widgets.playground.records import RunRecord
from sce_lab.widgets.playground.settings import OF_THE_RUN

#: What has to be alike for two runs to be a fair comparison, beside the data.
ALIKE = (*OF_THE_RUN, "epochs", "seed")
#: At the wall cross-entropy needs at most this many times what there is: any number far beyond it proves nothing.
AT_THE_WALL = 1.2
#: SCE has collapsed if, at some time, only this share of the positions sat in a bucket; and what makes it repaired.
COLLAPSED, REPAIRED = 0.3, 1.3


@dataclass(frozen=True)
class Verdict:
    """How a challenge stands. ``share``: how near it is, 0 to 1, for the bar; ``feedback``: what is missing."""

    solved: bool
    feedback: str
    share: float = 0.0


@dataclass(frozen=True)
class Challenge:
    """Something to reach. ``check`` is given all runs, and the assessment of the present settings."""

    title: str
    task: str
    hint: str
    check: Callable[[Sequence[RunRecord], Assessment], Verdict]


def comparable(one: RunRecord, other: RunRecord) -> bool:
    """Do they differ in nothing but the loss and its settings?"""
    same = all(getattr(one.settings, name) == getattr(other.settings, name) for name in ALIKE)
    return same and one.settings.source == other.settings.source


def _done(runs: Iterable[RunRecord], loss: str) -> list[RunRecord]:
    """Finished runs with ``loss`` that were scored on the test items and left alone while they ran."""
    tested = [(run, run.snapshot) for run in runs if run.loss == loss and run.metrics[1]]
    return [run for run, shot in tested if shot.state == FINISHED and not shot.changes]


def _pairs(runs: Sequence[RunRecord], one: str, other: str) -> list[tuple[RunRecord, RunRecord]]:
    return [(a, b) for a in _done(runs, one) for b in _done(runs, other) if comparable(a, b)]


def _ndcg(run: RunRecord) -> float:
    return run.metrics[0]["NDCG@10"]


def same_quality(runs: Sequence[RunRecord], assessment: Assessment) -> Verdict:
    """Within 2 % of cross-entropy's NDCG@10 with at most a twentieth of its loss memory, not by training less."""
    pairs = [pair for pair in _pairs(runs, "ce", "sce") if pair[0].loss_memory and pair[1].loss_memory]
    if not pairs:
        return Verdict(False, "Train cross-entropy and SCE to the end, side by side or with the same other settings.")

    def near(pair: tuple[RunRecord, RunRecord]) -> float:
        ce, sce = pair
        quality = min(1.0, _ndcg(sce) / (0.98 * _ndcg(ce))) if _ndcg(ce) else 1.0
        return 0.5 * quality + 0.5 * min(1.0, ce.loss_memory / (20 * sce.loss_memory))

    ce, sce = max(pairs, key=near)
    quality, saving = _ndcg(sce) / _ndcg(ce) if _ndcg(ce) else 1.0, ce.loss_memory / sce.loss_memory
    solved = quality >= 0.98 and saving >= 20
    found = (
        f"Run {sce.number} has {quality:.1%} of run {ce.number}'s NDCG@10 ({_ndcg(sce):.3f} against {_ndcg(ce):.3f}) "
        f"with 1/{saving:.1f} of its loss memory ({format_bytes(sce.loss_memory)} against "
        f"{format_bytes(ce.loss_memory)})."
    )
    missing = []
    if quality < 0.98:
        missing.append("98 % is asked for: more buckets, or more items in each")
    if saving < 20:
        missing.append("1/20 is asked for: smaller buckets, or a catalog where cross-entropy pays more")
    return Verdict(solved, " ".join([found, *(f"{m}." for m in missing)]), near((ce, sce)))


def _lowest_coverage(run: RunRecord) -> float | None:
    coverage = run.snapshot.followed["coverage"]
    return float(coverage.min()) if len(coverage) else None


def collapse_and_repair(runs: Sequence[RunRecord], assessment: Assessment) -> Verdict:
    """A run of SCE in which the positions gathered in ever fewer buckets though there was room for all, and a
    comparable one, without Mix too, in which they did not, and which is better."""
    known = [(run, lowest) for run in _done(runs, "sce") if (lowest := _lowest_coverage(run)) is not None]
    roomy = [(run, lowest) for run, lowest in known if _room(run) >= 1]
    if not roomy:
        return Verdict(
            False,
            "Train SCE to the end with room for all: buckets × positions per bucket at least N. Too few slots are no "
            "collapse.",
        )
    broken = [(run, lowest) for run, lowest in roomy if lowest < COLLAPSED]
    if not broken:
        run, lowest = min(roomy, key=lambda pair: pair[1])
        return Verdict(
            False,
            f"The coverage of run {run.number} was {lowest:.0%} at its lowest. Below {COLLAPSED:.0%} it "
            "has collapsed. Where do buckets point without Mix, and how much room is there to spare?",
            0.5 * min(1.0, (1 - lowest) / (1 - COLLAPSED)),
        )
    triples = [
        (bad, good, min(_ndcg(good) / max(_ndcg(bad), 1e-9), lowest / max(low, 1e-9)))
        for bad, low in broken
        for good, lowest in known
        if good is not bad and comparable(bad, good) and not good.settings.mix_x
    ]
    bad, low = min(broken, key=lambda pair: pair[1])
    task = f"a run without Mix, else trained alike, that has {REPAIRED} times both, coverage and NDCG@10"
    if not triples:
        return Verdict(
            False,
            f"Run {bad.number} has collapsed: its coverage went down to {low:.0%}. Now repair it: {task}.",
            0.5,
        )
    bad, good, factor = max(triples, key=lambda triple: triple[2])
    found = (
        f"Run {bad.number}: coverage down to {_lowest_coverage(bad):.0%}, NDCG@10 {_ndcg(bad):.3f}. "
        f"Run {good.number}: {_lowest_coverage(good):.0%}, {_ndcg(good):.3f}."
    )
    if factor >= REPAIRED:
        return Verdict(True, found, 1.0)
    return Verdict(False, f"{found} Repaired is {task}.", 0.5 + 0.5 * max(0.0, (factor - 1) / (REPAIRED - 1)))


def _room(run: RunRecord) -> float:
    """Slots of the buckets for each position of a step."""
    positions = run.snapshot.positions
    settings = run.settings
    return settings.n_buckets * settings.bucket_size_x / positions if positions else 1.0


def enough_negatives(runs: Sequence[RunRecord], assessment: Assessment) -> Verdict:
    """A number of negatives with which sampled softmax comes within 5 % of SCE's NDCG@10."""
    pairs = _pairs(runs, "sce", "sampled")
    if not pairs:
        return Verdict(False, "Train SCE and sampled softmax to the end, side by side or with the same other settings.")
    sce, sampled = max(pairs, key=lambda pair: _ndcg(pair[1]) / max(_ndcg(pair[0]), 1e-9))
    ratio = _ndcg(sampled) / max(_ndcg(sce), 1e-9)
    negatives = sampled.live["n_negatives"]
    found = f"With {negatives:,} negatives run {sampled.number} has {ratio:.0%} of SCE's NDCG@10 (run {sce.number})."
    if ratio < 0.95:
        return Verdict(False, f"{found} Below 95 % it does not match: try more.", ratio)
    cost = ""
    if sampled.loss_memory and sce.loss_memory:
        factor = sampled.loss_memory / sce.loss_memory
        cost = f" Its loss memory then is {factor:.2g} times SCE's."
    fewer = [b for a, b in pairs if b.live["n_negatives"] < negatives and _ndcg(b) < 0.95 * _ndcg(a)]
    if not fewer and negatives > 4:
        return Verdict(False, f"{found} Are so many needed? Show a smaller number that is not enough.", 0.9)
    return Verdict(True, found + cost, 1.0)


def find_the_wall(runs: Sequence[RunRecord], assessment: Assessment) -> Verdict:
    """Settings at which cross-entropy is refused here by little, while SCE would train."""
    if assessment.memory.empty:
        return Verdict(False, assessment.problem)
    rows = assessment.memory.set_index("loss")
    ce, sce, free = needed(rows.loc["ce"]), needed(rows.loc["sce"]), assessment.free
    chosen, near = set(assessment.settings.losses), ce <= AT_THE_WALL * free
    found = (
        f"Cross-entropy needs {format_bytes(ce)}, {ce / free:.2g} times the {format_bytes(free)} that are free, "
        f"and SCE {format_bytes(sce)}."
    )
    if not {"ce", "sce"} <= chosen:
        return Verdict(False, f"{found} Choose both.")
    if "ce" in assessment.fitting:
        return Verdict(False, f"{found} Both have room here: go further.", 0.3 + 0.6 * min(1.0, ce / free))
    if "sce" not in assessment.fitting:
        return Verdict(False, f"{found} Neither has room here: a little less.", 0.6)
    if not near:
        return Verdict(False, f"{found} That is far beyond the wall: come back to at most {AT_THE_WALL} times.", 0.6)
    return Verdict(True, f"Here it is. {found}", 1.0)


CHALLENGES = (
    Challenge(
        "Find the wall",
        "Choose cross-entropy and SCE, and settings at which this machine refuses the one by less than a fifth of what "
        "is free, and trains the other.",
        "Catalog and batch multiply in held logits. Numbers may be typed, too. No training is needed.",
        find_the_wall,
    ),
    Challenge(
        "As good, for a twentieth",
        "Bring SCE within 2 % of cross-entropy's NDCG@10 with at most 1/20 of its loss memory.",
        "Train both at once. The loss memory of held logits grows with the catalog, that of SCE hardly does.",
        same_quality,
    ),
    Challenge(
        "Break it and repair it",
        "Make SCE collapse: room in the buckets for every position, yet most of them in none. Then repair it, with Mix "
        "off in both.",
        "A preset called bucket collapse is a way to begin, and Mix would be the quick way out. What else is there?",
        collapse_and_repair,
    ),
    Challenge(
        "How many negatives?",
        "Find a number of negatives at which sampled softmax comes within 5 % of SCE, and one at which it does not.",
        "Keep everything else as it is, and double.",
        enough_negatives,
    ),
)


class Challenges:
    """The panel: a line of state for each challenge, looked at again whenever a run ends or a setting moves."""

    def __init__(self) -> None:
        known = {challenge.title for challenge in CHALLENGES}
        #: By title, what was said when it was solved.
        self.solved: dict[str, str] = {title: said for title, said in kept_solved().items() if title in known}
        self._cards = {challenge.title: text("") for challenge in CHALLENGES}
        self.view = widgets.VBox(list(self._cards.values()))

    def check(self, runs: Sequence[RunRecord], assessment: Assessment) -> dict[str, Verdict]:
        """Look at all of them. What was solved once stays solved, in later kernels too."""
        verdicts, before = {}, len(self.solved)
        for challenge in CHALLENGES:
            verdict = challenge.check(runs, assessment)
            if verdict.solved:
                self.solved.setdefault(challenge.title, verdict.feedback)
            verdicts[challenge.title] = verdict
            self._cards[challenge.title].value = _card(challenge, verdict, self.solved.get(challenge.title))
        if len(self.solved) > before:
            keep_solved(self.solved)
        return verdicts


def _card(challenge: Challenge, verdict: Verdict, solved: str | None) -> str:
    """The card; once it is solved it says what was said then, whatever the settings are now."""
    sign, css = ("○", "") if solved is None else ("✓", " sce-solved")
    share = min(verdict.share, 0.97) if solved is None else 1.0
    return (
        f'<div class="sce-challenge{css}"><div><b>{sign} {html.escape(challenge.title)}</b> '
        f"{html.escape(challenge.task)}</div>"
        f'<div class="sce-progress"><div style="width: {share:.0%}"></div></div>'
        f'<div class="sce-feedback">{html.escape(verdict.feedback if solved is None else solved)}</div>'
        f'<div class="sce-soft">{"Hint: " + html.escape(challenge.hint) if solved is None else "Solved."}</div></div>'
    )


__all__ = ["CHALLENGES", "Challenge", "Challenges", "Verdict", "comparable"]

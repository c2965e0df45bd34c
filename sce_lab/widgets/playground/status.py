"""What is going on, in one sentence; and what the settings of a run were, in a few words."""

from __future__ import annotations

import html
from collections.abc import Sequence
from statistics import fmean

from sce_lab.figures import METRICS, brief_label, label, short_label
from sce_lab.memory import format_bytes, format_seconds
from sce_lab.runs import Run
from sce_lab.timing import time_left, too_long
from sce_lab.training import where
from sce_lab.widgets.kit.progress import FAILED, FINISHED, IDLE, INTERRUPTED, PAUSED, RUNNING, STOPPED, STOPPING
from sce_lab.widgets.kit.words import listed
from sce_lab.widgets.playground.assessment import Assessment
from sce_lab.widgets.playground.controls import DATASETS
from sce_lab.widgets.playground.records import RunRecord
from sce_lab.widgets.playground.settings import OWN_FILE, Settings


def data_title(settings: Settings) -> str:
    """The data set's name for people."""
    if settings.dataset == OWN_FILE:
        return settings.path
    return next((title for title, value in DATASETS if value == settings.dataset), settings.dataset)


def loss_words(record: RunRecord) -> str:
    """The settings of the loss that a run has now."""
    live = record.live
    match record.loss:
        case "sampled" | "ce_minus":
            how = "" if live.get("sampling", "uniform") == "uniform" else f", {live['sampling'].replace('_', ' ')}"
            return f"{live['n_negatives']:,} negatives{how}"
        case "sce":
            size = f"{live['bucket_size_x']:,} × {live['bucket_size_y']:,}"
            return f"{live['n_buckets']:,} buckets of {size}" + (", Mix" if live["mix_x"] else "")
        case "rece":
            return f"{live['n_buckets']:,} chunks"
    return ""


def run_words(record: RunRecord) -> str:
    """What was trained, in a few words: the data, the loss's settings, and whatever is not as it is at first."""
    settings, usual = record.settings, Settings()
    parts = [data_title(settings)]
    parts += [f"C = {record.catalog_size:,}"] if record.catalog_size else []
    parts += [f"batch {settings.batch_size:,}", loss_words(record)]
    for name, words in (
        ("encoder", "{}"),
        ("hidden_size", "D = {:g}"),
        ("n_blocks", "blocks {:g}"),
        ("max_length", "length {:g}"),
        ("low_pass", "running mean {:g}"),
        ("dropout", "dropout {:g}"),
        ("learning_rate", "rate {:g}"),
        ("averaging", "averaging {:g}"),
        ("seed", "seed {:g}"),
    ):
        if getattr(settings, name) != getattr(usual, name):
            parts.append(words.format(getattr(settings, name)))
    if settings.place != "cpu":
        parts.append(f"on {settings.place}")
    if record.snapshot.changes:
        parts.append("changed while it ran")
    if record.snapshot.state == INTERRUPTED:
        parts.append("interrupted")
    return ", ".join(part for part in parts if part)


def interrupted(records: Sequence[RunRecord]) -> str:
    """That the newest runs were interrupted, how far they came and how to go on; empty if they ended."""
    lost = [record for record in records if record.snapshot.state == INTERRUPTED]
    if not lost or records[-1] not in lost:
        return ""
    lost = [record for record in lost if record.settings == lost[-1].settings]
    epochs = max(record.snapshot.epochs for record in lost)
    many = len(lost) > 1
    which = f"Runs {listed([str(r.number) for r in lost])}" if many else f"Run {lost[0].number}"
    kept = [record.folder for record in lost if record.folder and Run(record.folder).checkpoint.exists()]
    on = " To go on with " + ("one of them" if many else "it") + ", in a shell: sce-lab train --resume "
    on += f"{kept[-1]}." if kept else ""
    return (
        f"{which} ({_names([record.loss for record in lost])}) {'were' if many else 'was'} interrupted after "
        f"{epochs:.1f} of {lost[0].settings.epochs} epochs, when the kernel ended; what was reached is kept."
        f"{on if kept else ''} Start trains anew, with the same seed in the same way."
    )


def sentence(
    assessment: Assessment, group: Sequence[RunRecord], state: str, *, later: bool, busy: str = "", message: str = ""
) -> tuple[str, str, float]:
    """What stands beside the buttons: the sentence as HTML, its CSS class, and the share that is done.

    Args:
        assessment: what the settings come to.
        group: the runs to speak of: those that train, or have ended and nothing was moved since.
        state: of the worker.
        later: were settings moved that only the next start takes over?
        busy: what else is being done, as HTML; said when nothing trains.
        message: what must be said once, plain: beside what trains, otherwise in place of all.
    """
    active = state in (RUNNING, PAUSED, STOPPING)
    if busy and not active:
        said = busy, "", 0.0
    elif group and state != IDLE:
        said = progress(group, state, later)
    elif assessment.problem:
        said = html.escape(assessment.problem), "sce-problem", 0.0
    else:
        said = ready(assessment), "", 0.0
    if message:
        said = f"{said[0]} {html.escape(message)}" if active else html.escape(message), *said[1:]
    return said


def ready(assessment: Assessment) -> str:
    """What Start would do, as HTML."""
    peaks = assessment.memory.set_index("loss")["peak"]
    peak = max(peaks[loss] for loss in assessment.fitting)
    names = _names(assessment.fitting, assessment.settings.n_seeds)
    left_out = f' <span class="sce-problem">{html.escape(assessment.left_out)}</span>' if assessment.left_out else ""
    place = html.escape(where(assessment.settings.place))
    return f"Ready: <b>{names}</b>, about {format_bytes(peak)}{_pace(assessment)}{place}. Press Start.{left_out}"


def _pace(assessment: Assessment) -> str:
    """How long a step and the whole take, as HTML, once that is known; and a word if it is long."""
    durations = assessment.durations
    if not durations:
        return " a step"
    least = "" if all(each.measured for each in durations.values()) else "at least "
    steps = sorted(each.step for each in durations.values())
    step = " to ".join(dict.fromkeys(map(format_seconds, (steps[0], steps[-1]))))
    said = f" and {least}{step} a step, {least}{format_seconds(assessment.seconds)} in all"
    long = too_long(assessment.seconds, assessment.settings.epochs)
    return f'{said} <span class="sce-warning">({long})</span>' if long else said


def progress(records: Sequence[RunRecord], state: str, later: bool) -> tuple[str, str, float]:
    """Of runs side by side: the sentence as HTML, its CSS class, and the share that is done.

    Args:
        records: at least one.
        state: of the worker.
        later: were settings moved that only the next start takes over?
    """
    first = max(records, key=lambda record: record.snapshot.step)
    shot, settings = first.snapshot, first.settings
    losses = list(dict.fromkeys(record.loss for record in records))
    name = f"<b>{_names(losses, len(records) // len(losses))}</b>"
    share = min(1.0, shot.epochs / settings.epochs)
    seconds = sum(record.snapshot.seconds for record in records)
    wait = " What is marked <i>next start</i> waits for it." if later else ""
    failed = [record for record in records if record.snapshot.state == FAILED]
    if failed:
        others = "" if state in (FINISHED, STOPPED, FAILED) else " The others go on."
        return (
            f"<b>{label(failed[0].loss)}</b> failed: {html.escape(str(failed[0].snapshot.error))}{others}",
            ("sce-problem"),
            share,
        )
    if shot.step == 0 and state == RUNNING:
        return f"Preparing {html.escape(data_title(settings))} for {name} ...{wait}", "", share
    if state in (FINISHED, STOPPED):
        how = "stopped" if state == STOPPED else "done"
        return f"{name} {how}: {shot.epochs:.1f} epochs in {seconds:.0f} s{_scores(records)}.", "", share
    at = f"step {shot.step:,}, " if state == PAUSED else ""
    doing = {PAUSED: "paused at", STOPPING: "stopping after this step,"}.get(
        state, f"training{html.escape(where(settings.place))}:"
    )
    left = time_left(seconds, share)
    epoch = f"{at}epoch {shot.epochs:.1f} of {settings.epochs}"
    epoch += f", about {format_seconds(left)} left" if left and state == RUNNING else ""
    return f"{name} {doing} {epoch}{_scores(records)}.{wait}", "", share


def _names(losses: Sequence[str], n_seeds: int = 1) -> str:
    """Of losses, shorter if they are many: there is room for two lines."""
    names = ", ".join(map(brief_label if len(losses) < 3 else short_label, losses))
    return names if n_seeds == 1 else f"{names}, {n_seeds} seeds"


def _scores(records: Sequence[RunRecord]) -> str:
    known = [(record.loss, *record.metrics) for record in records if record.metrics[0]]
    if not known:
        return ""
    which = "test " if all(tested for _, _, tested in known) else ""
    of = {loss: [metrics for name, metrics, _ in known if name == loss] for loss, _, _ in known}
    mean = {loss: {name: fmean(each[name] for each in rows) for name in METRICS} for loss, rows in of.items()}
    if len(mean) == 1:
        [metrics] = mean.values()
        return f", {which}HR@10 {metrics['HR@10']:.3f}, NDCG@10 {metrics['NDCG@10']:.3f}"
    each = ", ".join(f"{short_label(loss)} {metrics['NDCG@10']:.3f}" for loss, metrics in mean.items())
    return f"; {which}NDCG@10: {each}"

"""What the figures show, as tables: for those who want digits, and for pages that cannot draw."""

from __future__ import annotations

import html
from collections.abc import Sequence

from sce_lab.figures import LOOKS, METRICS, brief_label
from sce_lab.memory import DEVICES, format_bytes, format_count, format_seconds
from sce_lab.widgets.kit.stage import table
from sce_lab.widgets.playground.assessment import Assessment, needed
from sce_lab.widgets.playground.compare import QUALITY, table_row
from sce_lab.widgets.playground.records import RunRecord, beside
from sce_lab.widgets.playground.status import run_words

_PARTS = {
    "weights": "parameters",
    "gradients": "gradients",
    "Adam": "optimizer_state",
    "encoder": "activations",
    "the loss": "loss_workspace",
    "peak": "peak",
}


def memory_table(assessment: Assessment) -> str:
    """Predicted memory, part by part, and the work of a step: the time is an estimate for this machine."""
    if assessment.memory.empty:
        return f"<p>{html.escape(assessment.problem)}</p>"
    rows = [
        {"loss": brief_label(use["loss"])}
        | {name: format_bytes(use[part]) for name, part in _PARTS.items()}
        | {
            "scores": format_count(assessment.scores[use["loss"]]),
            "operations": format_count(work["operations"]),
            "time at best": f"≥ {format_seconds(work['seconds'])}",
        }
        for use, work in zip(assessment.memory.to_dict("records"), assessment.work.to_dict("records"))
    ]
    return table(rows, left=("loss",))


def fits_line(assessment: Assessment, free: int) -> str:
    """Which of the chosen losses fit into ``free`` bytes, by how much, and onto which well-known machines, as a line of
    HTML; the table of :func:`device_table` has all."""
    if assessment.memory.empty or not assessment.settings.losses:
        return ""
    parts = []
    for use in assessment.memory.to_dict("records"):
        if use["loss"] not in assessment.settings.losses:
            continue
        need = needed(use)
        words = f"{_times(free / need)} over" if need <= free else f"needs {_times(need / free)} that"
        sign, css = ("✓", "") if need <= free else ("✗", ' class="sce-problem"')
        parts.append(f"<span{css}>{sign} {brief_label(use['loss'])} {words} ({_smallest_device(need)})</span>")
    return f'<div class="sce-caption"><span>Fits into the {format_bytes(free)} free here?</span>{"".join(parts)}</div>'


def _smallest_device(need: float) -> str:
    """Onto which machines ``need`` bytes fit, in a few words."""
    enough = [device for device in DEVICES.values() if need <= device.usable]
    if len(enough) == len(DEVICES):
        return "Binder too"
    return f"from {min(enough, key=lambda device: device.usable).name} on" if enough else "on no single GPU"


def device_table(assessment: Assessment) -> str:
    """Well-known machines, and what of their memory a run would take with each loss."""
    if assessment.memory.empty:
        return ""
    rows, needs = [], {use["loss"]: needed(use) for use in assessment.memory.to_dict("records")}
    for device in DEVICES.values():
        row = {"machine": html.escape(device.name), "for training": format_bytes(device.usable)}
        for loss, need in needs.items():
            share = need / device.usable
            words = f"{share:.0%}" if share >= 0.01 else "below 1%"
            row[brief_label(loss)] = words if share <= 1 else f'<span class="sce-problem">✗ {_times(share)}</span>'
        rows.append(row)
    return table(rows, left=("machine",))


def _times(factor: float) -> str:
    return f"{factor:,.0f} times" if factor >= 10 else f"{factor:.2g} times"


def curve_table(records: Sequence[RunRecord], points: int = 8) -> str:
    """Ranking quality over epochs of the newest runs, a column a run: the curves in a few lines."""
    columns = {}
    for record in records:
        curves = record.snapshot.curves
        if len(curves.scored):
            values = zip(curves.scored.round(2), *(curves.metrics[name] for name in METRICS))
            columns[f"{record.number}. {brief_label(record.loss)}"] = {
                x: f"{hr:.3f} / {ndcg:.3f}" for x, hr, ndcg in values
            }
    epochs = sorted({epoch for values in columns.values() for epoch in values})
    every = max(1, -(-len(epochs) // points))
    shown = [*epochs[every - 1 :: every]]
    shown += [epochs[-1]] if epochs and epochs[-1] not in shown else []
    rows = [
        {"epoch": f"{epoch:g}"} | {name: values.get(epoch, "") for name, values in columns.items()} for epoch in shown
    ]
    return table(rows, left=("epoch",)) if rows else ""


def run_rows(records: Sequence[RunRecord]) -> list[dict[str, str]]:
    """A plain row a run, without pictures."""
    rows = []
    for record in records:
        cells = table_row(record)
        names = ("peak memory", "loss memory", "ms/step", "epochs", *QUALITY)
        first = {"#": str(record.number), "loss": brief_label(record.loss), "settings": html.escape(run_words(record))}
        rows.append(first | {name: cells[name].html for name in names})
    return rows


def numbers(assessment: Assessment, records: Sequence[RunRecord]) -> str:
    """All of it, with headings."""
    latest = list({record.loss: record for record in beside(records[-1] if records else None, records)}.values())
    latest.sort(key=lambda record: list(LOOKS).index(record.loss) if record.loss in LOOKS else len(LOOKS))
    pieces = [("Predicted memory and work of a step", memory_table(assessment))]
    if devices := device_table(assessment):
        pieces.append(("Share of the memory of well-known machines that a run takes", devices))
    if curves := curve_table(latest):
        pieces.append(("HR@10 / NDCG@10 on the validation items, the newest run of each loss on these data", curves))
    if records:
        pieces.append(("All runs", table(run_rows(records), left=("#", "loss"), wrap=("settings",))))
    return "".join(f'<div class="sce-heading">{title}</div>{content}' for title, content in pieces)

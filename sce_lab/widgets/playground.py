"""The playground: move a setting and see what it costs, press Start and see what it gives."""

from __future__ import annotations

import html
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd

from sce_lab.figures import LOOKS, METRICS, label, look, memory_spec, training_spec
from sce_lab.memory import format_bytes, free_memory, measuring
from sce_lab.training import Event, train
from sce_lab.widgets.assessment import OWN_FILE, Assessment, Settings, assess, open_data
from sce_lab.widgets.controls import CONTROLS, DATASETS, make_controls, with_help
from sce_lab.widgets.latest import Latest
from sce_lab.widgets.live import FAILED, FINISHED, PAUSED, RUNNING, STOPPED, STOPPING, LiveRun, Snapshot, stop_all
from sce_lab.widgets.stage import Canvas, stage, table, text

CARDS = {
    "data": ("Data", ("dataset", "catalog_size", "path")),
    "loss": ("Loss", ("loss", "n_negatives")),
    "sce": ("SCE", ("n_buckets", "bucket_size_x", "bucket_size_y", "mix_x")),
    "training": ("Training", ("batch_size", "epochs", "seed")),
}
#: Changes of one control that follow each other faster than this (seconds) are one gesture, with one "before".
GESTURE = 1.5


@dataclass
class RunRecord:
    """One run of this session."""

    number: int
    settings: Settings
    assessment: Assessment
    ceiling: dict[str, float] = field(default_factory=dict)
    snapshot: Snapshot = field(default_factory=Snapshot)

    @property
    def loss(self) -> str:
        """The loss it is trained with."""
        return self.settings.loss

    def predicted(self) -> dict[str, int]:
        """Bytes, by field of :class:`sce_lab.memory.MemoryUse`."""
        rows = self.assessment.memory.set_index("loss")
        return {name: int(value) for name, value in rows.loc[self.loss].items()}

    def as_dict(self) -> dict[str, Any]:
        """Everything that is known of it, JSON-able."""
        shot = self.snapshot
        steps = shot.history[shot.history["kind"] == "step"]["loss"].astype(float)
        finished = shot.finished
        return {
            "number": self.number,
            "settings": asdict(self.settings),
            "catalog_size": self.assessment.facts.catalog_size if self.assessment.facts else None,
            "state": shot.state,
            "error": str(shot.error) if shot.error else "",
            "steps": shot.step,
            "epochs": shot.epochs,
            "seconds": shot.seconds,
            "loss_first": float(steps.iloc[0]) if len(steps) else None,
            "loss_last": float(steps.iloc[-1]) if len(steps) else None,
            "milliseconds": dict(shot.milliseconds),
            "predicted_memory": self.predicted(),
            "measured_memory": shot.memory.as_dict() if shot.memory else None,
            "validation": shot.metrics,
            "test": dict(finished.test) if finished else {},
            "ceiling": dict(self.ceiling),
        }


class Playground:
    """Controls, prediction, live training and a comparison of the runs made so far.

    Display it as the last line of a cell. Everything on it can be done from Python too: ``controls[name].value = ...``,
    :meth:`start`, :meth:`pause`, :meth:`stop`, :meth:`reset`, :meth:`wait`, :meth:`results`. A new one stops what an
    older one trains.

    Args:
        settings: first values of the controls, by name: see :class:`sce_lab.widgets.assessment.Settings`.

    Raises:
        TypeError: a setting that does not exist.
        traitlets.TraitError: a value that its control cannot have.
    """

    def __init__(self, **settings: Any) -> None:
        first = Settings(**settings)
        stop_all()
        # The card says so beside the slider, for the next run too; a warning would land in whatever cell ran last.
        warnings.filterwarnings("ignore", "bucket_size_.*each bucket takes all", RuntimeWarning)
        self.controls = make_controls(asdict(first))
        self.runs: list[RunRecord] = []
        self._lock = threading.RLock()
        self._measured: dict[tuple[Any, ...], int] = {}
        self._gesture: tuple[str, float] = ("", -np.inf)
        self._before: pd.DataFrame | None = None
        self._message = ""
        self._free = free_memory()
        self._live = LiveRun()
        self._starting = threading.Lock()
        self._predictor: Latest[Settings] = Latest(self._predict)
        self.assessment = assess(first, self._free)
        self._build()
        self._show_assessment(self.assessment)
        self._show_controls()
        for name, control in self.controls.items():
            control.observe(lambda change, name=name: self._changed(name), "value")

    # ---------------------------------------------------------------------------------------------------- what to do

    @property
    def settings(self) -> Settings:
        """What the controls say now."""
        return Settings(**{name: control.value for name, control in self.controls.items()})

    def start(self) -> bool:
        """Train with the present settings. False, with a sentence beside the button, if that cannot be."""
        try:
            self._predictor.settle(timeout=10.0)
        except TimeoutError:
            return self._say("The data are still being read. Press Start again in a moment.")
        if not self._starting.acquire(blocking=False):
            return False  # a second click on Start
        try:
            if self._live.active:
                return False
            self._free = free_memory()
            assessment = assess(self.settings, self._free)
            if assessment.problem:
                self._show_assessment(assessment)
                return self._say("")
            record = RunRecord(len(self.runs) + 1, assessment.settings, assessment)
            self.runs.append(record)
            self._message = ""
            self._live.start(lambda stop: self._events(record, stop), lambda shot: self._show_run(record, shot))
        finally:
            self._starting.release()
        self._show_status()
        return True

    def pause(self) -> None:
        """Hold the run after the present step."""
        self._live.pause()
        self._show_status()

    def resume(self) -> None:
        """Go on."""
        self._live.resume()
        self._show_status()

    def stop(self) -> None:
        """End the run after the present step; what it reached is kept."""
        self._live.stop()
        self._show_status()

    def reset(self) -> None:
        """Stop, and forget all runs. The settings stay."""
        try:
            self._live.reset(timeout=5.0)
        except TimeoutError:
            self._say("Stopping after this step. Press Reset again then.")
            return
        with self._lock:
            self.runs.clear()
            self._measured.clear()
            self._before = None
            self._message = ""
        self._training.show(training_spec({}, {}))
        self._show_table()
        self._predictor.submit(self.settings)
        self._show_status()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the prediction is up to date and the run, if there is one, has ended.

        Raises:
            TimeoutError: that takes longer than ``timeout`` seconds.
            Exception: what the run failed with.
        """
        self._predictor.settle(60.0 if timeout is None else timeout)
        self._live.wait(timeout)
        self._predictor.settle()

    def results(self) -> dict[str, Any]:
        """Settings, prediction and runs as plain data that can be written as JSON."""
        self._predictor.settle()
        memory = self.assessment.memory
        predicted = {} if memory.empty else memory.set_index("loss").astype(int).to_dict("index")
        return {
            "settings": asdict(self.settings),
            "predicted_memory": predicted,
            "problem": self.assessment.problem,
            "notes": {card: note.text for card, note in self.assessment.notes.items()},
            "free_memory": self._free,
            "state": self._live.state,
            "runs": [record.as_dict() for record in self.runs],
        }

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)

    # ----------------------------------------------------------------------------------------------------- the pieces

    def _build(self) -> None:
        def button(name: str, icon: str, tooltip: str, action: Callable[[], Any]) -> widgets.Button:
            made = widgets.Button(description=name, icon=icon, tooltip=tooltip)
            made.on_click(lambda _: action())
            return made

        def pause_or_resume() -> None:
            if self._live.state == PAUSED:
                self.resume()
            else:
                self.pause()

        self.buttons = {
            "start": button("Start", "play", "Train with the settings below", self.start),
            "pause": button("Pause", "pause", "Hold, and go on later", pause_or_resume),
            "stop": button("Stop", "stop", "End this run after the present step", self.stop),
            "reset": button("Reset", "undo", "Forget all runs; the settings stay", self.reset),
        }
        self.buttons["start"].add_class("sce-primary")
        self._status = text("", "sce-status")
        bar = widgets.HBox([*self.buttons.values(), self._status])
        bar.add_class("sce-bar")

        self._notes = {card: text("", "sce-note") for card in CARDS}
        self._boxes = {name: with_help(name, control) for name, control in self.controls.items()}
        cards = [self._card(card, *CARDS[card]) for card in CARDS]
        grid = widgets.Box(cards)
        grid.add_class("sce-cards")
        hint = text('<div class="sce-help-text">Point at a control to read what it does.</div>', "sce-hint")
        deck = widgets.VBox([grid, hint])
        deck.add_class("sce-deck")

        memory = self.assessment.memory
        self._memory = Canvas(memory_spec(_no_memory() if memory.empty else memory, free=self._free))
        self._training = Canvas(training_spec({}, {}))
        self._table = text("")
        self._show_table()
        children = (
            bar,
            deck,
            self._memory.widget,
            text(_MEMORY_KEY),
            self._training.widget,
            text(LOSS_KEY),
            self._table,
        )
        self.view = stage(*children)

    def _card(self, card: str, title: str, names: Iterable[str]) -> widgets.VBox:
        heading = text(f'<div class="sce-heading">{title}</div>')
        made = widgets.VBox([heading, *(self._boxes[name] for name in names), self._notes[card]])
        made.add_class("sce-card")
        return made

    # ---------------------------------------------------------------------------------------------- settings changed

    def _changed(self, name: str) -> None:
        """A control moved: in whichever thread the kernel runs callbacks, so nothing slow happens here."""
        now = time.monotonic()
        with self._lock:
            last, when = self._gesture
            if name != last or now - when > GESTURE:
                memory = self.assessment.memory
                self._before = None if memory.empty else memory
            self._gesture = name, now
            self._message = ""
        self._show_controls()
        self._predictor.submit(self.settings)

    def _predict(self, settings: Settings) -> None:
        if not self._live.active:  # a run takes memory that its successor will have again
            self._free = free_memory()
        if settings.dataset != "synthetic" and self.assessment.settings.source != settings.source:
            self._show_status(f"Reading {html.escape(_data_title(settings))} ...")
        try:
            self._show_assessment(assess(settings, self._free))
        except Exception as error:
            self._say(f"The prediction failed: {error}")
            raise

    def _show_assessment(self, assessment: Assessment) -> None:
        self.assessment = assessment
        if not assessment.memory.empty:
            settings = assessment.settings
            known = {loss: self._measured[key] for loss in LOOKS if (key := _key(settings, loss)) in self._measured}
            before = self._before
            if before is not None and before.equals(assessment.memory):
                before = None
            self._memory.show(memory_spec(assessment.memory, before=before, measured=known, free=self._free))
        for card, box in self._notes.items():
            note = assessment.notes.get(card)
            level = f" sce-{note.level}" if note and note.level else ""
            sign = "⚠ " if level else ""
            box.value = f'<div class="sce-note-text{level}">{sign}{html.escape(note.text) if note else ""}</div>'
        self._show_status()

    def _show_controls(self) -> None:
        """Which controls have a say depends on the data; the loss's own are set off when another one is trained."""
        settings = self.settings
        self._boxes["catalog_size"].layout.display = "" if settings.dataset == "synthetic" else "none"
        self._boxes["path"].layout.display = "" if settings.dataset == OWN_FILE else "none"
        owners = {"n_negatives": "sampled", **dict.fromkeys(CARDS["sce"][1], "sce")}
        for name, loss in owners.items():
            (self._boxes[name].remove_class if settings.loss == loss else self._boxes[name].add_class)("sce-aside")

    # ------------------------------------------------------------------------------------------------------ training

    def _events(self, record: RunRecord, stop: Callable[[], bool]) -> Iterable[Event]:
        """Runs in the worker: open the data, find the ceiling, train."""
        split, process = open_data(*record.settings.source)
        if process is not None:
            record.ceiling = process.ceiling(split.validation)
        yield from train(record.settings.config(record.loss), split, step=measuring(), stop=stop)

    def _show_run(self, record: RunRecord, snapshot: Snapshot) -> None:
        """Runs in the worker, about five times a second."""
        last, record.snapshot = record.snapshot, snapshot
        comparable = {r.loss: r for r in self.runs if r.settings.source == record.settings.source}
        histories = {loss: r.snapshot.history for loss, r in comparable.items()}
        milliseconds = {loss: r.snapshot.milliseconds for loss, r in comparable.items() if r.snapshot.milliseconds}
        ceiling = {name: record.ceiling[name] for name in METRICS if name in record.ceiling}
        self._training.show(training_spec(histories, milliseconds, ceiling=ceiling, epochs=record.settings.epochs))
        if snapshot.memory is not None and snapshot.memory is not last.memory:
            self._measured[_key(record.settings, record.loss)] = snapshot.memory.peak
            self._predictor.submit(self.settings)
        if (snapshot.state, snapshot.memory, snapshot.metrics) != (last.state, last.memory, last.metrics):
            self._show_table()
        self._show_status()

    # ------------------------------------------------------------------------------------------------- what is going on

    def _say(self, message: str) -> bool:
        with self._lock:
            self._message = message
        self._show_status()
        return False

    def _show_status(self, busy: str = "") -> None:
        with self._lock:
            state, problem = self._live.state, self.assessment.problem
            active = self._live.active
            self.buttons["start"].disabled = active or bool(problem)
            self.buttons["pause"].disabled = state not in (RUNNING, PAUSED)
            self.buttons["pause"].description = "Resume" if state == PAUSED else "Pause"
            self.buttons["pause"].icon = "play" if state == PAUSED else "pause"
            self.buttons["stop"].disabled = state not in (RUNNING, PAUSED)
            self.buttons["reset"].disabled = not self.runs
            record = self.runs[-1] if self.runs else None
            moved = record is not None and record.settings != self.settings
            if busy and not active:
                sentence, level, share = busy, "", 0.0
            elif record is not None and (active or (state != "idle" and not moved)):
                sentence, level, share = _progress(record, self._live.state, moved and active)
            elif problem:
                sentence, level, share = html.escape(problem), "sce-problem", 0.0
            else:
                sentence, level, share = self._ready(), "", 0.0
            if self._message:
                sentence = html.escape(self._message)
            level = f' class="{level}"' if level else ""
            self._status.value = (
                f'<div class="sce-status-text"><div{level}>{sentence}</div></div>'
                f'<div class="sce-progress"><div style="width: {share:.1%}"></div></div>'
            )

    def _ready(self) -> str:
        settings = self.assessment.settings
        peak = self.assessment.memory.set_index("loss")["peak"][settings.loss]
        return f"Ready: <b>{label(settings.loss)}</b>, about {format_bytes(peak)} a step. Press Start."

    def _show_table(self) -> None:
        rows = [_table_row(record) for record in self.runs]
        if rows:
            self._table.value = table(rows, left=("#", "loss"), wrap=("settings",)) + _TABLE_KEY
        else:
            self._table.value = '<div class="sce-empty">The runs you make are compared here.</div>'


def _no_memory() -> pd.DataFrame:
    """Nothing is known yet: a bar of no length for each loss."""
    fields = ("parameters", "gradients", "optimizer_state", "activations", "loss_workspace", "peak")
    return pd.DataFrame([{"loss": loss, **dict.fromkeys(fields, 0)} for loss in LOOKS])


def _key(settings: Settings, loss: str) -> tuple[Any, ...]:
    """What a measured peak belongs to."""
    return settings.source, settings.batch_size, loss, tuple(settings.loss_settings(loss).items())


def _data_title(settings: Settings) -> str:
    if settings.dataset == OWN_FILE:
        return settings.path
    return next(title for title, value in DATASETS if value == settings.dataset)


def _progress(record: RunRecord, state: str, moved: bool) -> tuple[str, str, float]:
    """Sentence, CSS class and share done."""
    shot, name = record.snapshot, f"<b>{label(record.loss)}</b>"
    share = min(1.0, shot.epochs / record.settings.epochs)
    where = f"epoch {shot.epochs:.1f} of {record.settings.epochs}"
    score = f", HR@10 {shot.metrics['HR@10']:.3f}" if shot.metrics else ""
    later = " The changed settings are for the next run." if moved else ""
    if state == FAILED:
        return f"{name} failed: {html.escape(str(shot.error))}", "sce-problem", share
    if shot.step == 0 and state == RUNNING:
        return f"Preparing {html.escape(_data_title(record.settings))} for {name} ...{later}", "", share
    if state in (FINISHED, STOPPED):
        test = shot.finished.test if shot.finished else {}
        score = f", test HR@10 {test['HR@10']:.3f}, NDCG@10 {test['NDCG@10']:.3f}" if test else score
        how = "stopped" if state == STOPPED else "done"
        return f"{name} {how}: {shot.epochs:.1f} epochs in {shot.seconds:.0f} s{score}.", "", share
    doing = {PAUSED: "paused at", STOPPING: "stopping after this step,"}.get(state, "training:")
    return f"{name} {doing} {where}{score}.{later}", "", share


def _table_row(record: RunRecord) -> dict[str, str]:
    shot, settings = record.snapshot, record.settings
    metrics, which = (shot.finished.test, "") if shot.finished and shot.finished.test else (shot.metrics, "*")
    parts = [_data_title(settings)]
    parts += [f"C = {record.assessment.facts.catalog_size:,}"] if record.assessment.facts else []
    parts += [part for part in (f"batch {settings.batch_size}", _loss_settings(settings)) if part]
    parts += [f"seed {settings.seed}"] if settings.seed else []
    milliseconds = sum(shot.milliseconds.values())
    return {
        "#": str(record.number),
        "loss": f"{swatch(record.loss)}{label(record.loss)}",
        "settings": html.escape(", ".join(parts)),
        "peak memory": format_bytes(shot.memory.peak) if shot.memory else "",
        "ms/step": f"{milliseconds:.0f}" if milliseconds else "",
        "epochs": f"{shot.epochs:.1f}".removesuffix(".0"),
        **{name: f"{metrics[name]:.3f}{which}" if name in metrics else "" for name in (*METRICS, "COV@10")},
    }


def _loss_settings(settings: Settings) -> str:
    match settings.loss:
        case "sampled":
            return f"{settings.n_negatives:,} negatives"
        case "sce":
            size = f"{settings.bucket_size_x:,} × {settings.bucket_size_y:,}"
            return f"{settings.n_buckets:,} buckets of {size}" + (", Mix" if settings.mix_x else "")
    return ""


def swatch(loss: str) -> str:
    """The loss's line and marker, as a small picture for text and tables."""
    style = look(loss)
    dash = {"dash": "6 3", "dot": "2 2"}.get(style.dash, "none")
    marker = {
        "square": '<rect x="9" y="2" width="8" height="8"/>',
        "triangle-up": '<path d="M13 1 L18 10 L8 10 Z"/>',
    }.get(style.symbol, '<circle cx="13" cy="6" r="4.2"/>')
    return (
        f'<svg width="26" height="12" fill="{style.color}" style="margin-right: 6px" aria-hidden="true">'
        f'<line x1="0" x2="26" y1="6" y2="6" stroke="{style.color}" stroke-width="2" stroke-dasharray="{dash}"/>'
        f"{marker}</svg>"
    )


def _patch(fill: str, extra: str = "") -> str:
    square = f'<rect width="12" height="12" rx="2" fill="{fill}"/>'
    return f'<svg width="12" height="12" aria-hidden="true">{square}{extra}</svg>'


_STRIPES = '<path d="M-2 8 L8 -2 M0 14 L14 0 M6 16 L16 6" stroke="white" stroke-opacity="0.75" stroke-width="2"/>'
_MEMORY_KEY = (
    '<div class="sce-caption">'
    f"<span>{_patch('#808182b3')}weights, gradients, Adam</span><span>{_patch('#80818259')}encoder</span>"
    f"<span>{_patch(LOOKS['ce'].color)}{_patch(LOOKS['sampled'].color)}{_patch(LOOKS['sce'].color)}the loss</span>"
    '<span><svg width="14" height="12"><rect x="1" y="1" width="12" height="10" fill="none" stroke="currentColor" '
    'stroke-dasharray="2 2"/></svg>before the last change</span>'
    '<span><svg width="12" height="12"><path d="M6 1 L11 6 L6 11 L1 6 Z" fill="white" stroke="black"/></svg>'
    "measured while training</span></div>"
)
LOSS_KEY = (
    '<div class="sce-caption">'
    + "".join(f"<span>{swatch(loss)}{label(loss)}</span>" for loss in LOOKS)
    + f"<span>{_patch(LOOKS['sce'].color, _STRIPES)}forward</span><span>{_patch(LOOKS['sce'].color)}backward</span>"
    f"<span>{_patch('#808182b3')}encoder, Adam</span>"
    "<span>Training losses have scales of their own; HR and NDCG can be compared.</span></div>"
)

_TABLE_KEY = (
    '<div class="sce-caption"><span>Peak memory as measured; HR, NDCG and COV on the test items, '
    "* on the validation items so far.</span></div>"
)

__all__ = ["CONTROLS", "Playground", "RunRecord"]

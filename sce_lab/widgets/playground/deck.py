"""What is laid out around the controls: the cards they stand in, and the buttons with the sentence beside them."""

from __future__ import annotations

import html
from collections.abc import Callable, Collection, Mapping
from typing import Any

import ipywidgets as widgets

from sce_lab.losses import LOSSES
from sce_lab.widgets.kit.progress import PAUSED, RUNNING
from sce_lab.widgets.kit.speech import Status
from sce_lab.widgets.kit.stage import text
from sce_lab.widgets.playground.assessment import Note
from sce_lab.widgets.playground.controls import CARDS, with_help
from sce_lab.widgets.playground.fold import Fold
from sce_lab.widgets.playground.hidden import controls_of
from sce_lab.widgets.playground.settings import COLUMNS, OWN_FILE, Settings

#: Cards that are folded up at first.
FOLDED = ("model", "training")


def _has_a_say(name: str, losses: Collection[str]) -> bool:
    """Whether a control does something to one of the ``losses``."""
    name = "n_buckets" if name == "paper_rule" else name
    of_losses = {dial for loss in LOSSES.values() for dial in loss.dials}
    return name not in of_losses or any(name in LOSSES[loss].dials for loss in losses)


class Deck:
    """The cards. ``boxes`` holds each control with its help, ``notes`` the sentence at the foot of each card, ``folds``
    the headings, of which the last ones begin folded: what is unfolded stands in sight of the figures."""

    def __init__(self, controls: Mapping[str, widgets.ValueWidget]) -> None:
        self._controls = controls
        self.notes = {card: text("", "sce-note") for card in CARDS}
        self.boxes = {name: with_help(name, control) for name, control in controls.items()}
        self.folds = {card: Fold(title=title, unfolded=card not in FOLDED) for card, (title, _) in CARDS.items()}
        self._hidden: set[str] = set()
        self._cards = {card: self._card(card, names) for card, (_, names) in CARDS.items()}
        grid = widgets.Box(list(self._cards.values()))
        grid.add_class("sce-cards")
        hint = text('<div class="sce-help-text">Point at a control to read what it does.</div>', "sce-hint")
        self.view = widgets.VBox([grid, hint])
        self.view.add_class("sce-deck")

    def _card(self, card: str, names: Collection[str]) -> widgets.VBox:
        made = widgets.VBox([self.folds[card], *(self.boxes[name] for name in names), self.notes[card]])
        made.add_class("sce-card")
        return made

    def unfold(self, name: str) -> None:
        """Unfold the card in which this control stands."""
        for card, (_, names) in CARDS.items():
            if name in names:
                self.folds[card].unfolded = True

    def hide(self, names: Collection[str]) -> None:
        """Show all controls but these; :meth:`show_controls` follows."""
        self._hidden = controls_of(names)
        for card, box in self._cards.items():
            box.layout.display = "none" if self._hidden.issuperset(CARDS[card][1]) else ""

    def show_notes(self, notes: Mapping[str, Note]) -> None:
        """Say what the settings come to."""
        for card, box in self.notes.items():
            note = notes.get(card)
            level = f" sce-{note.level}" if note and note.level else ""
            sign = "⚠ " if level else ""
            box.value = f'<div class="sce-note-text{level}">{sign}{html.escape(note.text) if note else ""}</div>'

    def show_controls(self, settings: Settings, later: Collection[str]) -> None:
        """Which controls have a say depends on the data and the losses; those in ``later`` wait for the next start."""
        of_no_use = {"catalog_size"} if settings.dataset != "synthetic" else set()
        of_no_use |= {"path"} if settings.dataset != OWN_FILE else set()
        of_no_use |= {name for name in COLUMNS if settings.dataset != OWN_FILE or not self._controls[name].names}
        for name, box in self.boxes.items():
            box.layout.display = "none" if name in self._hidden | of_no_use else ""
        for name in ("n_buckets", "bucket_size_x"):
            self._controls[name].disabled = settings.paper_rule
        for name, box in self.boxes.items():
            aside = not _has_a_say(name, settings.losses)
            for css, given in (("sce-aside", aside), ("sce-later", name in later)):
                (box.add_class if given else box.remove_class)(css)


class Transport:
    """The buttons and the status. ``actions`` are called by the buttons' names, "pause" and "resume" by one button."""

    def __init__(self, actions: Mapping[str, Callable[[], Any]]) -> None:
        self._state = ""

        def button(name: str, icon: str, tooltip: str, action: Callable[[], Any]) -> widgets.Button:
            made = widgets.Button(description=name, icon=icon, tooltip=tooltip)
            made.on_click(lambda _: action())
            return made

        def pause_or_resume() -> None:
            actions["resume" if self._state == PAUSED else "pause"]()

        self.buttons = {
            "start": button("Start", "play", "Train with the settings below", actions["start"]),
            "pause": button("Pause", "pause", "Hold, and go on later", pause_or_resume),
            "step": button("Step", "step-forward", "One step of each loss, then hold", actions["step"]),
            "stop": button("Stop", "stop", "End this run after the present step", actions["stop"]),
            "reset": button("Reset", "eraser", "Clear all runs away; settings and folders stay", actions["reset"]),
            "undo": button("Undo", "undo", "Take the last change back", actions["undo"]),
        }
        self.buttons["start"].add_class("sce-primary")
        self._status, self._told = Status(), ""
        self.status, self.speech = self._status.widgets
        bar = widgets.HBox([*self.buttons.values(), self.speech])
        bar.add_class("sce-bar")
        self.view = widgets.VBox([bar, self.status])

    def show(self, state: str, *, active: bool, can_start: bool, has_runs: bool, can_undo: bool) -> None:
        """Switch on what can be done now."""
        self._state = state
        can_hold = state in (RUNNING, PAUSED)
        enabled = {
            "start": can_start and not active,
            "pause": can_hold,
            "step": can_hold or (can_start and not active),
            "stop": can_hold,
            "reset": has_runs,
            "undo": can_undo,
        }
        for name, button in self.buttons.items():
            button.disabled = not enabled[name]
        self.buttons["pause"].description = "Resume" if state == PAUSED else "Pause"
        self.buttons["pause"].icon = "play" if state == PAUSED else "pause"

    def say(self, sentence: str, css_class: str = "", share: float = 0.0) -> None:
        """Show a sentence, which is HTML, and the share that is done; of a run's progress only its begin is spoken."""
        self._status.say(sentence, css_class, share, aloud={self._state, self._told} != {RUNNING})
        self._told = self._state

"""The top line: presets, and the whole state as one line that can be copied, pasted and sent to somebody."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as widgets
import traitlets

from sce_lab.widgets.kit.own import OwnMoves
from sce_lab.widgets.kit.stage import text
from sce_lab.widgets.kit.words import capitalised
from sce_lab.widgets.playground.hidden import Address
from sce_lab.widgets.playground.presets import PRESETS
from sce_lab.widgets.playground.settings import Settings

_CHOOSE = "Choose a preset ..."


class Share:
    """A list of presets and a field with the state.

    Args:
        apply: takes a state and sets the controls; raises ValueError or TraitError if it cannot.
        free: bytes that are free, for presets that depend on it.
        tour: begins the tour.
        line: the state that settings mean here, with what is hidden.
    """

    def __init__(
        self,
        apply: Callable[[Any], None],
        free: Callable[[], int],
        tour: Callable[[], None],
        line: Callable[[Settings], str],
    ) -> None:
        self._apply, self._free, self._line_of, self._own = apply, free, line, OwnMoves()
        self._line = ""
        self._preset_line = ""  # the state that the chosen preset means
        names = [(_CHOOSE, ""), *((preset.title, name) for name, preset in PRESETS.items())]
        self.preset = widgets.Dropdown(options=names, value="", tooltip="Settings that show something")
        self.field = widgets.Text(continuous_update=False, placeholder="paste a state and press Enter")
        self.field.tooltip = "All settings on one line: copy it, or paste one and press Enter"
        self.field.add_class("sce-state")
        self._said = text('<div class="sce-said"></div>', "sce-said-box")
        self.preset.observe(self._chosen, "value")
        self.field.observe(self._typed, "value")
        self.tour = widgets.Button(description="Tour", icon="map-signs", tooltip="Six steps through the playground")
        self.tour.on_click(lambda _: tour())
        row = widgets.HBox([self.tour, self.preset, text('<span class="sce-soft">State</span>'), self.field])
        row.add_class("sce-share")
        self.address = Address()
        self.address.observe(lambda change: self._came(change["new"]), "line")
        self.view = widgets.VBox([row, self._said, self.address])

    def show(self, line: str) -> None:
        """The state is this now."""
        self._line = line
        with self._own:
            self.field.value = line
            if line != self._preset_line:
                self.preset.value = ""

    def choose(self, name: str) -> None:
        """Apply a preset by its name in :data:`sce_lab.widgets.playground.presets.PRESETS`.

        Raises:
            KeyError: there is none of that name.
        """
        preset = PRESETS[name]
        settings = preset.settings(self._free())
        self._preset_line = self._line_of(settings)
        if self._try(settings):
            self.say(preset.says)

    def _chosen(self, change: Mapping[str, Any]) -> None:
        if change["new"]:
            self.choose(change["new"])

    def _typed(self, change: Mapping[str, Any]) -> None:
        if self._own:
            return
        if self._try(change["new"]):
            self.say("These settings are on the controls now. Undo takes them back.")
        elif not change["new"].strip():  # nothing to mend: show again what is so
            self.show(self._line)

    def _came(self, line: str) -> None:
        if line and self._try(line):
            self.say("These settings came with the address of this page. Undo goes back to those before.")

    def _try(self, state: Any) -> bool:
        try:
            self._apply(state)
        except (ValueError, traitlets.TraitError) as error:
            self.say(f"⚠ {capitalised(str(error))}. The controls are as they were.", "sce-problem")
            return False
        return True

    def say(self, sentence: str, level: str = "") -> None:
        """Say it below the line."""
        self._said.value = f'<div class="sce-said {level}">{html.escape(sentence)}</div>'

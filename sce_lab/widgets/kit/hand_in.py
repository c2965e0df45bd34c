"""The last card of a page: what was guessed, written and solved on it, put into the file for a teacher."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np

from sce_lab.explain.checks import Verdict
from sce_lab.hand_in import HandIn, read_hand_in
from sce_lab.widgets.kit.guess import Guess
from sce_lab.widgets.kit.stage import stage, text

#: In the folder that the kernel works in, which is that of the notebooks.
FILE = Path("hand-in.json")


class HandInCard:
    """A field for a name and a button. Each page of the course writes its part into one file.

    Args:
        page: the notebook's name.
        guesses: its guesses, those not committed yet among them.
        exercises: gives the verdicts by the exercises' names, when the button is pressed.
        playground: one whose challenges, guesses and state belong to it.
        path: of the file.
    """

    def __init__(
        self,
        page: str,
        *,
        guesses: Iterable[Guess] = (),
        exercises: Callable[[], Mapping[str, Verdict]] = dict,
        playground: Any = None,
        path: Path = FILE,
    ) -> None:
        self.page, self.path = page, Path(path)
        self._guesses, self._exercises, self._playground = list(guesses), exercises, playground
        self.name = widgets.Text(placeholder="your name", tooltip="Your name, as your teacher knows you")
        if self.path.is_file():
            with suppress(ValueError):  # said when it is to be written
                self.name.value = read_hand_in(self.path).name
        self.button = widgets.Button(description="Save my hand-in", icon="file", tooltip=f"Write it to {self.path}")
        self.button.on_click(lambda _: self._press())
        self._said = text(
            '<div class="sce-soft">In a class? Your guesses and exercises of all pages go into one file.</div>'
        )
        row = widgets.HBox([self.name, self.button, self._said])
        row.add_class("sce-share")
        self.view = stage(row)
        self.view.add_class("sce-needs-kernel")

    def content(self) -> dict[str, Any]:
        """What the page has to hand in now."""
        made: dict[str, Any] = {
            "saved": datetime.now().astimezone().isoformat(timespec="seconds"),
            "guesses": [_plain(guess.results()) for guess in self._guesses],
            "exercises": {
                name: {"solved": verdict.solved, "feedback": verdict.feedback}
                for name, verdict in self._exercises().items()
            },
        }
        if self._playground is not None:
            found = self._playground.results()
            made["challenges"], made["state"] = found["solved"], self._playground.state
            made["guesses"] += [_plain({**each, "distance": each["off"], "off": "factor"}) for each in found["guesses"]]
        return made

    def save(self, name: str = "") -> Path:
        """Write this page's part, under ``name`` or what stands in the field.

        Raises:
            ValueError: there is no name, or the file is there and is no hand-in, or somebody else's.
            OSError: it cannot be written.
        """
        name = (name or self.name.value).strip()
        if not name:
            raise ValueError("a hand-in needs a name: type yours into the field first")
        before = HandIn(name)
        if self.path.exists():
            before = read_hand_in(self.path)
            if before.name != name:
                raise ValueError(f"{self.path} is {before.name}'s: rename that file, or hand in as {before.name}")
        before.with_page(self.page, self.content()).write(self.path)
        return self.path

    def _press(self) -> None:
        try:
            self.save()
        except (ValueError, OSError) as problem:
            self._say(f"⚠ {problem}. Nothing was written.", "sce-problem")
            return
        pages = ", ".join(name.partition("_")[0] for name in sorted(read_hand_in(self.path).pages))
        self._say(f"Saved in {self.path.resolve().name}, beside the notebooks, with page {pages}: send that file.")

    def _say(self, sentence: str, level: str = "sce-soft") -> None:
        self._said.value = f'<div class="{level}" role="status">{html.escape(sentence)}</div>'

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.view._repr_mimebundle_(**keywords)


def _plain(guess: dict[str, Any]) -> dict[str, Any]:
    """What JSON can say: numbers of Python, and no infinite ones."""
    values = {key: value.item() if isinstance(value, np.generic) else value for key, value in guess.items()}
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}

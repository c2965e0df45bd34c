"""What stays visible when a saved notebook is read without a kernel: tables in plain HTML, beside the live widgets."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
from IPython.display import DisplayHandle, display

from sce_lab.widgets.playground.assessment import Assessment
from sce_lab.widgets.playground.numbers import numbers
from sce_lab.widgets.playground.records import RunRecord


class StaticView:
    """A second, static output under the playground. The style of the live one hides it; without that one it is seen.

    It is renewed when runs end, so the notebook file always holds the last results.
    """

    def __init__(self) -> None:
        self._handle: DisplayHandle | None = None
        self._lock = threading.Lock()
        self._content = ""

    def bundle(self, live: widgets.Widget) -> dict[str, Any]:
        """What to display the live widgets with. Its HTML, for pages without widgets, is left to the static view."""
        data = live._repr_mimebundle_()
        return {**data, "text/html": "", "text/plain": "The playground; its results follow."}

    def display(self) -> None:
        """Put it into the present cell's output."""
        with self._lock:
            self._handle = display(self._data(), raw=True, display_id=True)

    def show(self, assessment: Assessment, records: Sequence[RunRecord]) -> None:
        """Renew it, from any thread."""
        with self._lock:
            self._content = page(assessment, records)
            if self._handle is not None:
                self._handle.update(self._data(), raw=True)

    def _data(self) -> dict[str, str]:
        return {"text/html": self._content, "text/plain": "Results of the playground"}


def page(assessment: Assessment, records: Sequence[RunRecord]) -> str:
    """All numbers, as HTML that needs no style and no script."""
    return f'<div class="sce-static">{numbers(assessment, records)}</div>'

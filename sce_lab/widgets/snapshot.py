"""What stays visible when a saved notebook is read without a kernel: tables in plain HTML, beside the live widgets."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from IPython import get_ipython
from IPython.display import DisplayHandle

from sce_lab.widgets.assessment import Assessment
from sce_lab.widgets.numbers import numbers
from sce_lab.widgets.records import RunRecord


class StaticView:
    """A second, static output under the playground. The style of the live one hides it; without that one it is seen.

    It is renewed when runs end, so the notebook file always holds the last results.
    """

    def __init__(self) -> None:
        self._handle: DisplayHandle | None = None
        self._lock = threading.Lock()
        self._content = ""

    def bundle(self, live: Any) -> Any:
        """The mime bundle of the live widgets with the static view as its HTML, which pages without widgets show."""
        data = live[0] if isinstance(live, tuple) else live
        if isinstance(data, dict):
            data["text/html"] = self._content
        return live

    def show(self, assessment: Assessment, records: Sequence[RunRecord]) -> None:
        """Renew it."""
        self._content = page(assessment, records)
        with self._lock:
            if self._handle is not None and get_ipython() is not None:
                self._handle.update({"text/html": self._content, "text/plain": ""}, raw=True)


def page(assessment: Assessment, records: Sequence[RunRecord]) -> str:
    """All numbers, as HTML that needs no style and no script."""
    return f'<div class="sce-static">{numbers(assessment, records)}</div>'

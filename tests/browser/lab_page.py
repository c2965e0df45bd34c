"""A notebook open in JupyterLab, as a person uses it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def find_chromium() -> str | None:
    """The browser to test with: ``SCE_LAB_CHROMIUM``, or one of the usual names on PATH."""
    named = os.environ.get("SCE_LAB_CHROMIUM")
    names = [named] if named else ["chromium", "chromium-browser", "google-chrome"]
    return next((path for name in names if (path := shutil.which(name))), None)


CHROMIUM = find_chromium()
needs_chromium = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH"),
]

#: anywidget says so of a widget whose script has not come within two seconds, as happens on a busy machine. The widget
#: appears all the same as soon as it is there, and what a test asks of it shows that.
LATE = "[anywidget] Failed to initialize model."


class Notebook:
    """A notebook open in JupyterLab."""

    def __init__(self, page: Any, lab: Any, name: str, reset: bool = True, query: str = "") -> None:
        self.page, self.name, self.errors = page, name, []
        self.path = lab.root / "notebooks" / f"{name}.ipynb"
        page.set_default_timeout(60_000)
        page.on("console", lambda m: self.errors.append(m.text) if "Error displaying widget" in m.text else None)
        page.on("pageerror", lambda error: None if LATE in str(error) else self.errors.append(str(error)))
        page.goto(f"{lab.url}/lab/tree/notebooks/{name}.ipynb?{query}{'reset&' if reset else ''}token={lab.token}")
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        # Before the session is ready "run all" would ask which kernel to use.
        session = "jupyterapp.shell.currentWidget?.sessionContext"
        page.wait_for_function(f"() => {session}?.isReady && {session}.session?.kernel?.status === 'idle'")
        if reset:
            self.command("application:toggle-left-area")

    def command(self, name: str, arguments: Any = None) -> None:
        """Execute one of JupyterLab's commands."""
        script = "([name, args]) => { jupyterapp.commands.execute(name, args); return null }"
        self.page.evaluate(script, [name, arguments or {}])

    def button(self, name: str) -> Any:
        """The lab's own button of this name; of several (a tab may have its own Start) the first on the page."""
        return self.page.locator(f".jupyter-button:has-text('{name}')").first

    def text(self, selector: str) -> str:
        """What the first element of this kind says."""
        return self.page.locator(selector).first.inner_text()

    def status(self) -> str:
        """The sentence beside the buttons."""
        return self.text(".sce-status")

    def save(self) -> None:
        """Save the notebook."""
        self.command("docmanager:save")
        self.page.wait_for_function("() => !jupyterapp.shell.currentWidget.context.model.dirty")

    def restart(self) -> None:
        """A new kernel, and no outputs."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        self.command("notebook:clear-all-cell-outputs")
        kernel = "jupyterapp.shell.currentWidget.sessionContext.session.kernel"
        self.page.wait_for_function(f"() => {kernel}.status === 'idle'")

    def theme(self, name: str) -> None:
        """Switch to "Light" or "Dark"."""
        self.command("apputils:change-theme", {"theme": f"JupyterLab {name}"})
        self.page.wait_for_function(f"document.body.dataset.jpThemeLight === '{str(name == 'Light').lower()}'")
        self.page.wait_for_timeout(500)

    def run_all(self) -> None:
        """Run every cell and wait for the last one."""
        self.command("notebook:run-all-cells")
        cells = "jupyterapp.shell.currentWidget.content.widgets.filter(c => c.model.type === 'code')"
        self.page.wait_for_function(f"() => {cells}.every(c => c.model.executionCount)", timeout=90_000)
        self.page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=90_000)

    def execute(self, code: str, seconds: float = 60) -> str:
        """Run code in the notebook's kernel; returns what it printed, or the traceback.

        Raises:
            RuntimeError: the kernel was not done in time.
        """
        script = """async ([code, seconds]) => {
          const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
          const future = kernel.requestExecute({ code });
          let text = "";
          future.onIOPub = (message) => {
            if (message.header.msg_type === "stream" && message.content.name === "stdout") text += message.content.text;
            if (message.header.msg_type === "error") text = message.content.traceback.join("\\n");
          };
          const late = new Promise((done) => setTimeout(() => done("late"), 1000 * seconds));
          return (await Promise.race([future.done, late])) === "late" ? null : text;
        }"""
        text = self.page.evaluate(script, [code, seconds])
        if text is None:
            raise RuntimeError(f"the kernel was not done within {seconds} s")
        return text

    def points(self) -> int:
        """How many finite numbers the traces of all figures hold."""
        return self.page.evaluate(
            """() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot._fullData || [])
                .reduce((n, trace) => n + Array.from(trace.y || []).filter(Number.isFinite).length, 0)"""
        )

    def bars(self) -> list[str]:
        """The texts of the figures, among them the predicted peaks."""
        return self.page.locator(".js-plotly-plot text").all_text_contents()

    def handle(self, title: str) -> Any:
        """The handle of the slider with this name."""
        return self.page.get_by_role("slider", name=title, exact=True).first

    def field(self, title: str) -> Any:
        """The field beside it, which shows its value and takes another one."""
        return self.page.get_by_role("textbox", name=f"{title}, as text", exact=True).first

    def screenshot(self, name: str, **options: Any) -> None:
        """Keep what a person would see."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{Path(self.name).name}-{name}.png", **options)

    def check(self) -> None:
        """Nothing failed: no cell, no widget, no script."""
        assert self.errors == [], self.errors
        failed = '[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]'
        assert self.page.locator(failed).count() == 0


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    """Poll ``condition`` until it is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


__all__ = ["CHROMIUM", "CHROMIUM_ARGUMENTS", "SCREENSHOTS", "Notebook", "find_chromium", "needs_chromium", "wait_until"]

"""The notebooks in a real JupyterLab in a real Chromium, with keyboard and mouse. Pictures go to build/screenshots."""

import os
import re
import time

import pytest

from .conftest import CHROMIUM_ARGUMENTS, SCREENSHOTS, find_chromium

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = find_chromium()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH"),
]


class Notebook:
    """A notebook open in JupyterLab."""

    def __init__(self, page, lab, name):
        self.page, self.name, self.errors = page, name, []
        page.set_default_timeout(60_000)
        page.on("console", lambda m: self.errors.append(m.text) if "Error displaying widget" in m.text else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(f"{lab.url}/lab/tree/notebooks/{name}.ipynb?reset&token={lab.token}")
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        # Before the session is ready "run all" would ask which kernel to use.
        session = "jupyterapp.shell.currentWidget?.sessionContext"
        page.wait_for_function(f"() => {session}?.isReady && {session}.session?.kernel?.status === 'idle'")
        self.command("application:toggle-left-area")

    def command(self, name, arguments=None):
        """Execute one of JupyterLab's commands."""
        script = "([name, args]) => { jupyterapp.commands.execute(name, args); return null }"
        self.page.evaluate(script, [name, arguments or {}])

    def button(self, name):
        """One of the lab's own buttons."""
        return self.page.locator(f".jupyter-button:has-text('{name}')")

    def theme(self, name):
        """Switch to "Light" or "Dark"."""
        self.command("apputils:change-theme", {"theme": f"JupyterLab {name}"})
        self.page.wait_for_function(f"document.body.dataset.jpThemeLight === '{str(name == 'Light').lower()}'")
        self.page.wait_for_timeout(500)

    def run_all(self):
        """Run every cell and wait for the last one."""
        self.command("notebook:run-all-cells")
        cells = "jupyterapp.shell.currentWidget.content.widgets.filter(c => c.model.type === 'code')"
        self.page.wait_for_function(f"() => {cells}.every(c => c.model.executionCount)", timeout=90_000)
        self.page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=90_000)

    def points(self):
        """How many finite numbers the traces of all figures hold."""
        return self.page.evaluate(
            """() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(plot => plot._fullData || [])
                .reduce((n, trace) => n + Array.from(trace.y || []).filter(Number.isFinite).length, 0)"""
        )

    def bars(self):
        """The texts of the memory figure, among them the predicted peaks."""
        return self.page.locator(".js-plotly-plot text").all_text_contents()

    def screenshot(self, name):
        """Keep what a person would see."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{self.name}-{name}.png")

    def check(self):
        """Nothing failed: no cell, no widget, no script."""
        assert self.errors == []
        failed = '[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]'
        assert self.page.locator(failed).count() == 0


@pytest.fixture
def open_notebook(lab):
    """Open a notebook of the lab in a browser of its own."""
    os.environ.pop("DISPLAY", None)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))
        yield lambda name: Notebook(browser.new_page(viewport={"width": 1280, "height": 900}), lab, name)
        browser.close()


def wait_until(condition, seconds, what):
    """Poll ``condition`` until it is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_start_here(open_notebook):
    notebook = open_notebook("00_start_here")
    notebook.run_all()
    notebook.page.wait_for_selector(".sce-status")
    begun = notebook.points()
    wait_until(lambda: notebook.points() > begun + 20, 40, "no points arrived while the losses trained")
    notebook.page.locator(".sce-status").scroll_into_view_if_needed()
    notebook.screenshot("live")
    wait_until(lambda: notebook.button("Again").is_enabled(), 90, "the race did not end")
    for theme in ("Light", "Dark"):
        notebook.theme(theme)
        notebook.screenshot(theme.lower())
    notebook.check()


def test_playground(open_notebook):
    notebook = open_notebook("01_playground")
    page = notebook.page
    notebook.run_all()
    page.wait_for_selector(".js-plotly-plot")
    notebook.button("Start").scroll_into_view_if_needed()

    # A slider, moved by keyboard, changes the prediction.
    wait_until(lambda: any(re.search(r"[KMG]iB", text) for text in notebook.bars()), 20, "no prediction is shown")
    before = notebook.bars()
    page.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    wait_until(lambda: notebook.bars() != before, 20, "the prediction did not follow the slider")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")

    # Start: points arrive while the kernel stays free. Pause holds them, Stop ends it.
    begun = notebook.points()
    notebook.button("Start").click()
    wait_until(lambda: notebook.points() > begun + 20, 40, "no points arrived after Start")
    notebook.button("Pause").click()
    notebook.button("Resume").wait_for()
    page.wait_for_timeout(500)
    held = notebook.points()
    page.wait_for_timeout(1000)
    assert notebook.points() == held
    notebook.button("Resume").click()
    wait_until(lambda: notebook.points() > held, 20, "Resume did not go on")
    for theme in ("Dark", "Light"):
        notebook.theme(theme)
        notebook.screenshot(theme.lower())
    clicked = time.monotonic()
    notebook.button("Stop").click()
    wait_until(lambda: "stopped" in page.locator(".sce-status").first.inner_text(), 10, "Stop did not stop")
    stopping = time.monotonic() - clicked
    print(f"Stop took {stopping:.2f} s")
    assert page.locator("table").first.inner_text().count("SCE") >= 1
    page.locator("table").first.scroll_into_view_if_needed()
    notebook.screenshot("stopped")
    notebook.button("Reset").click()
    wait_until(lambda: page.get_by_text("The runs you make are compared here.").count() == 1, 20, "Reset kept runs")
    notebook.check()


def test_memory_wall(open_notebook):
    notebook = open_notebook("02_memory_wall")
    page = notebook.page
    notebook.run_all()
    page.wait_for_selector(".sce-guess")

    # A guess: nothing is shown before it is committed; then the answer and how far off it was.
    first = page.locator(".sce-guess").first
    assert "The answer comes when" in first.inner_text()
    first.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowLeft")
    first.locator("button").first.click()
    wait_until(lambda: "points off" in first.inner_text(), 20, "the answer did not come")
    assert "It is 92%" in first.inner_text()
    notebook.screenshot("guess")

    # A slider, moved by keyboard, changes the peaks and the table of devices.
    wall = page.locator(".sce-lab:has(.sce-devices)").last
    wall.scroll_into_view_if_needed()
    peaks = wall.locator(".js-plotly-plot").first
    sizes = lambda: [t for t in peaks.locator("text").all_text_contents() if "iB" in t]  # noqa: E731
    wait_until(lambda: len(sizes()) >= 3, 20, "no prediction is shown")
    before, devices = sizes(), wall.locator(".sce-devices").inner_text()
    handle = wall.locator(".noUi-handle").first
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    wait_until(lambda: sizes() != before, 20, "the peaks did not follow the slider")
    wait_until(lambda: wall.locator(".sce-devices").inner_text() != devices, 20, "the devices did not follow")
    points = "() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(p => p._fullData || [])"
    points += ".filter(t => (t.name || '').endsWith(', measured')).reduce((n, t) => n + t.x.length, 0)"
    wait_until(lambda: page.evaluate(points) >= 6, 60, "no real step was drawn")
    for theme in ("Dark", "Light"):
        notebook.theme(theme)
        notebook.screenshot(f"wall-{theme.lower()}")

    # The moments of a step: another loss, another peak, another line of code.
    code = page.locator(".sce-code")
    code.scroll_into_view_if_needed()
    assert "F.cross_entropy" in code.locator(".sce-here").inner_text()
    steps = page.locator(".sce-lab:has(.sce-code)").last
    steps.get_by_text("Next larger").click()
    wait_until(lambda: "gradient of item_embedding" in steps.inner_text(), 20, "the next large tensor was not found")
    steps.locator(".widget-toggle-button").nth(2).click()
    wait_until(lambda: "F.cross_entropy" not in code.locator(".sce-here").inner_text(), 20, "SCE has no line")
    for theme in ("Dark", "Light"):
        notebook.theme(theme)
        notebook.screenshot(f"timeline-{theme.lower()}")
    notebook.check()


def test_the_paper(open_notebook):
    notebook = open_notebook("06_paper")
    page = notebook.page
    notebook.run_all()
    wait_until(lambda: page.locator(".js-plotly-plot").count() >= 3, 30, "the figures were not drawn")
    assert notebook.points() > 10
    for theme in ("Dark", "Light"):
        notebook.theme(theme)
        for i, place in enumerate(("h2 >> nth=0", "h2 >> nth=2", "h2 >> nth=3")):
            page.locator(f".jp-Notebook {place}").scroll_into_view_if_needed()
            page.wait_for_timeout(500)
            notebook.screenshot(f"{theme.lower()}-{i}")
    assert page.locator(".jp-Notebook table").first.inner_text().count("published") >= 4

    # The live row trains where the data are, and otherwise says what is missing.
    status = page.locator(".sce-status").first
    status.scroll_into_view_if_needed()
    notebook.button("Start").click()
    words = ("Epoch", "could not be trained")
    wait_until(lambda: any(w in status.inner_text() for w in words), 60, "Start did nothing")
    if "Epoch" in status.inner_text():
        begun = notebook.points()
        wait_until(lambda: notebook.points() > begun, 90, "no epoch was evaluated")
        notebook.screenshot("live")
        notebook.button("Stop").click()
        wait_until(lambda: "Stopped" in status.inner_text(), 20, "Stop did not stop")
    notebook.check()

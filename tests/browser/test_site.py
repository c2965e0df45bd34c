"""A page of the site in a real Chromium, opened as a file: what needs no Python works there."""

import subprocess
import sys

import nbformat
import papermill
import pytest

from .lab_page import CHROMIUM, CHROMIUM_ARGUMENTS, SCREENSHOTS, needs_chromium, wait_until
from .server import ROOT

pytestmark = needs_chromium

CELLS = (
    """
from sce_lab.figures import gradient_spec
from sce_lab.widgets import Guess, HandInCard, LossBlocks
from sce_lab.widgets.kit.stage import shown, text
import pandas as pd
import plotly.graph_objects as go
""",
    """
made = pd.DataFrame([{"loss": loss, "share": s, "cosine": s, "length": 1 + s} for loss in ("sce", "sampled")
                     for s in (0.1, 0.5)])
guess = Guess("How many?", [("1", 1), ("10", 10), ("100", 100)], 20, say=lambda n: f"It is <i>{n}</i>.",
              reveal=lambda: shown(gradient_spec(made)))
guess.commit(100)
guess
""",
    "LossBlocks(n_buckets=6)",
    """go.Figure([go.Scatter(x=[1, 2], y=[3, 4])], {"title": {"text": "A line"}})""",
    """HandInCard("00")""",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site without outputs, but for one page that was run."""
    out = tmp_path_factory.mktemp("site")
    program = (
        "from pathlib import Path; import sys; from website.build import build; build(Path(sys.argv[1]), execute=False)"
    )
    subprocess.run([sys.executable, "-c", program, str(out)], cwd=ROOT, check=True, timeout=120)
    source, done = out / "small.ipynb", out / "done.ipynb"
    cells = [nbformat.v4.new_markdown_cell("# Small"), *map(nbformat.v4.new_code_cell, CELLS)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), source)
    papermill.execute_notebook(source, done, kernel_name="python3", cwd=str(out), progress_bar=False)
    program = """
import sys, nbformat; from pathlib import Path; from website.pages import Page; from website.render import render
out = Path(sys.argv[1]); page = Page("small", out / "done.ipynb")
(out / "small.html").write_text(render(page, nbformat.read(page.source, as_version=4), [page])[0])
"""
    subprocess.run([sys.executable, "-c", program, str(out)], cwd=ROOT, check=True, timeout=120)
    return out


@pytest.fixture
def open_page(site):
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: page.problems.append(request.url) if request.url[:4] == "http" else None)

        def opened(name):
            page.goto((site / f"{name}.html").as_uri())
            return page

        yield opened
        browser.close()


def test_what_needs_no_kernel_works_in_a_file(open_page):
    page = open_page("small")
    # A question that was answered when the page was made is open again, and what it reveals is not seen.
    card = page.locator(".sce-guess")
    assert "The answer comes when" in card.inner_text()
    assert not page.locator(".sce-plot").is_visible()
    card.get_by_role("button", name="Commit").click()
    assert "Choose one first" in card.inner_text()
    card.get_by_role("slider").focus()
    page.keyboard.press("ArrowLeft")
    card.get_by_role("button", name="Commit").click()
    assert "You said 1: off by a factor of 20. It is 20." in card.inner_text()
    wait_until(lambda: page.locator(".sce-plot .scatterlayer .trace").count() >= 2, 20, "the figure was not drawn")
    assert page.locator(".sce-plot").get_attribute("aria-label").startswith("Figure: ")

    # The picture of a loss's blocks moves.
    blocks = page.locator(".sce-blocks").first
    blocks.scroll_into_view_if_needed()
    before = blocks.inner_text()
    blocks.get_by_role("button", name="Draw again").click()
    wait_until(lambda: blocks.inner_text() != before, 10, "the buckets are the same after another draw")

    # A plain plotly figure is drawn, and what only Python answers is not there.
    wait_until(lambda: page.locator(".plotly-figure .scatterlayer .trace").count() == 1, 20, "no figure")
    assert page.locator(".plotly-figure").get_attribute("aria-label") == "Figure. A line"
    assert page.get_by_text("Save my hand-in").count() == 0
    assert page.problems == []


def test_light_and_dark_and_narrow(open_page):
    page = open_page("index")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Dark").click()
    assert page.evaluate(paper) != light
    page.get_by_role("link", name="glossary").first.click()
    page.wait_for_url("**/glossary.html")
    assert page.evaluate(paper) != light  # kept
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "site-glossary-narrow.png")
    assert page.problems == []

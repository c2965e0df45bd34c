"""What is in sight of what: controls beside figures, nothing cut, nothing over one another; and the tour leads on."""

import pytest

from .lab_page import needs_chromium, wait_until

pytestmark = needs_chromium

SMALL = {
    "losses": ["sampled", "sce"], "catalog_size": 500, "epochs": 2, "hidden_size": 16, "n_blocks": 1, "max_length": 20,
    "n_buckets": 24, "bucket_size_x": 24, "bucket_size_y": 32, "n_negatives": 32, "batch_size": 96,
}  # fmt: skip

#: Of the texts that a reader sees: those that reach beyond what holds them, and pairs that lie on one another.
FAULTS = """() => {
  const faults = [], lab = document.querySelector(".sce-playground"), whole = lab.getBoundingClientRect();
  const seen = (element) => element.checkVisibility({ visibilityProperty: true }) && element.offsetWidth !== 0;
  const inside = (one, other) => one.left >= other.left - 1.5 && one.right <= other.right + 1.5;
  for (const plot of lab.querySelectorAll(".js-plotly-plot")) {
    const place = plot.getBoundingClientRect();
    const texts = [...plot.querySelectorAll("text")].filter((text) => text.textContent.trim() && seen(text));
    const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
    for (const [words, box] of boxes)
      if (!inside(box, place) || box.bottom > place.bottom + 1.5) faults.push(["cut", words]);
    boxes.forEach(([words, one], nth) => {
      for (const [others, other] of boxes.slice(nth + 1)) {
        const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
        const tall = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
        if (wide > 2 && tall > 4) faults.push(["over one another", words, others]);
      }
    });
  }
  const spoken = ".sce-caption span, .sce-status-text > div, .sce-said, .sce-note-text, .sce-table td, " +
    ".sce-bar button, .sce-runs button, .sce-losses button, .sce-help-text, .sce-slider > .widget-label";
  for (const element of lab.querySelectorAll(spoken)) {
    if (!seen(element)) continue;
    const box = element.getBoundingClientRect();
    const cut = element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).overflowX !== "visible";
    if (cut || !inside(box, whole)) faults.push(["cut", element.className, element.textContent]);
  }
  return faults;
}"""
HELP_THAT_IS_CUT = """(elements) => elements.filter((each) => each.closest(".sce-help, .sce-hint"))
  .filter((each) => each.offsetHeight > each.closest(".sce-help, .sce-hint").offsetHeight)
  .map((each) => each.textContent)"""
#: Of elements: do they lie in what is seen of the notebook?
IN_SIGHT = """(elements) => elements.map((element) => {
  const both = [element.closest(".jp-WindowedPanel-outer"), element];
  const [panel, box] = both.map((each) => each.getBoundingClientRect());
  return box.top >= panel.top - 2 && box.bottom <= panel.bottom + 2;
})"""


@pytest.fixture
def playground(open_notebook, request):
    """The notebook at 1280 by 800, the file browser open as it is at first."""
    notebook = open_notebook("01_playground", copy=request.node.name.removeprefix("test_").split("[")[0])
    notebook.page.set_viewport_size({"width": 1280, "height": 800})
    notebook.command("application:toggle-left-area")
    notebook.run_all()
    notebook.page.wait_for_selector(".js-plotly-plot text")
    yield notebook
    notebook.check()


def in_sight(notebook, *selectors):
    """Are all of these in what is seen of the notebook?"""
    return all(all(notebook.page.eval_on_selector_all(each, IN_SIGHT)) for each in selectors)


def test_controls_and_figures_are_in_one_view_and_nothing_is_cut(playground):
    page = playground.page
    page.locator(".sce-playground").evaluate("element => element.scrollIntoView()")
    catalog = ".sce-control:has([aria-label='Catalog size'])"
    buckets = ".sce-control:has([aria-label='Buckets'])"
    start = ".sce-head .sce-primary"
    figure = ".sce-figures > .sce-plot >> nth=0"
    wait_until(
        lambda: in_sight(playground, catalog, buckets, start, ".sce-head .sce-status", figure), 20, "not in one view"
    )
    assert page.locator(".sce-losses").bounding_box()["height"] < 130  # however many losses there are
    page.mouse.move(1000, 600)
    page.mouse.wheel(0, 420)
    training = ".sce-figures > .sce-plot >> nth=1"
    wait_until(
        lambda: in_sight(playground, catalog, buckets, start, ".sce-head .sce-status", training), 20, "they do not stay"
    )
    playground.execute(f"playground.apply({SMALL!r}); playground.start(); playground.wait(90)")
    wait_until(lambda: " done" in playground.status(), 20, "the run did not end")
    for width, height in ((1280, 800), (900, 800), (1920, 1080)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(1_500)
        for theme in ("Light", "Dark") if width == 1280 else ("Light",):
            playground.theme(theme)
            playground.screenshot(f"{width}-{theme.lower()}")
        assert page.evaluate(FAULTS) == [], width
        assert page.eval_on_selector_all(".sce-help-text", HELP_THAT_IS_CUT) == [], width


def test_the_tour_leads_on_to_two_runs(playground):
    page = playground.page
    playground.button("Tour").click()
    touch = page.locator(".sce-touch")

    def at(number):
        wait_until(lambda: playground.text(".sce-tour-says").startswith(f"{number} of 6"), 30, f"not at {number}")
        wait_until(lambda: in_sight(playground, ".sce-touch", ".sce-tour"), 10, f"{number} points below the fold")

    at(1)
    playground.field("Catalog size").fill("2 M")
    playground.field("Catalog size").press("Enter")
    at(2)
    assert playground.field("Catalog size").input_value() == "500"
    touch.get_by_text("Cross-entropy").click()
    at(3)
    wait_until(lambda: "left out" not in playground.status() and "CE" in playground.status(), 20, "it is left out")
    touch.click()
    at(4)
    wait_until(lambda: "training" in playground.status(), 60, "it does not train")
    touch.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    at(5)
    touch.click()
    wait_until(lambda: playground.text(".sce-tour-says").startswith("6 of 6"), 30, "not at the table")
    assert page.locator(".sce-runs input").count() == 2
    wait_until(lambda: in_sight(playground, ".sce-runs tbody tr"), 10, "the table is below the fold")
    for nth in (0, 1):
        page.locator(".sce-runs input").nth(nth).click()
    wait_until(lambda: "run 1 / run 2" in playground.text(".sce-tabs"), 20, "the two are not compared")
    wait_until(lambda: not page.locator(".sce-tour").is_visible(), 10, "the tour does not end")


def test_a_training_that_a_restart_interrupts_is_spoken_of(playground):
    long = SMALL | {"losses": ["sce"], "epochs": 200}
    playground.execute(f"playground.apply({long!r}); playground.start()")
    wait_until(lambda: "epoch 2" in playground.status(), 60, "it does not train")
    playground.restart()
    playground.run_all()
    wait_until(lambda: "Run 1 (SCE) was interrupted after" in playground.status(), 30, "nothing is said")
    assert "sce-lab train --resume" in playground.status()
    assert playground.page.get_by_role("status").filter(has_text="was interrupted").count() == 1

"""The pages of the course that have no other test here: they run, and their widgets answer without a word of error."""

import pytest

from .lab_page import SCREENSHOTS, needs_chromium

pytestmark = needs_chromium


@pytest.mark.parametrize(
    "name", ["03_sampled_softmax", "04_sce_step_by_step", "08_language_model_head", "90_inside_the_engine"]
)
def test_a_page_of_the_course(open_notebook, name):
    notebook = open_notebook(name)
    page = notebook.page
    page.set_viewport_size({"width": 1280, "height": 800})
    notebook.command("application:toggle-left-area")  # the file browser, open as it is at first
    notebook.run_all()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    for theme in ("Light", "Dark"):
        notebook.theme(theme)
        page.mouse.move(800, 500)
        page.mouse.wheel(0, -100_000)
        for nth in range(8):
            page.mouse.wheel(0, 650)
            page.wait_for_timeout(400)
            page.screenshot(path=SCREENSHOTS / f"{name}-{theme.lower()}-{nth}.png")
    if name == "04_sce_step_by_step":
        a_bucket_lights_up_and_the_matrix_follows(page)
    assert notebook.errors == []


def a_bucket_lights_up_and_the_matrix_follows(page):
    widget = page.locator(".jp-OutputArea-output:has(canvas)").nth(1)  # in the first, cross-entropy has no buckets
    widget.scroll_into_view_if_needed()
    slider = widget.get_by_role("slider").first
    before, said = widget.inner_text(), slider.input_value()
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert slider.input_value() != said
    assert widget.inner_text() != before

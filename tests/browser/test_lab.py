"""The notebooks in a real JupyterLab in a real Chromium, with keyboard and mouse. Pictures go to build/screenshots."""

from .lab_page import needs_chromium, wait_until

pytestmark = needs_chromium


def test_start_here(open_notebook):
    notebook = open_notebook("00_start_here")
    notebook.run_all()
    notebook.page.wait_for_selector(".sce-status")
    assert notebook.button("Start").is_enabled()  # nothing trains while the reader is elsewhere
    notebook.button("Start").click()
    begun = notebook.points()
    wait_until(lambda: notebook.points() > begun + 20, 40, "no points arrived while the losses trained")
    notebook.page.locator(".sce-status").scroll_into_view_if_needed()
    notebook.screenshot("live")
    wait_until(lambda: notebook.button("Again").is_enabled(), 90, "the race did not end")
    for theme in ("Light", "Dark"):
        notebook.theme(theme)
        notebook.screenshot(theme.lower())
    notebook.check()


def test_memory_wall(open_notebook):
    notebook = open_notebook("02_memory_wall")
    page = notebook.page
    notebook.run_all()
    page.wait_for_selector(".sce-guess")

    # A guess: nothing is shown before it is committed; then the answer and how far off it was.
    walls = page.locator(".sce-guess").first
    walls.get_by_text("memory", exact=True).click()
    walls.locator("button").last.click()
    wait_until(lambda: "Right. Memory can" in walls.inner_text(), 20, "the answer did not come")
    first = page.locator(".sce-guess").nth(1)
    assert "The answer comes when" in first.inner_text()
    first.get_by_role("slider").focus()
    page.keyboard.press("Enter")  # there is no guess yet
    wait_until(lambda: "Choose one first." in first.inner_text(), 20, "Enter did nothing")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    wait_until(lambda: "points off" in first.inner_text(), 20, "the answer did not come")
    assert "It is 92%" in first.inner_text()
    notebook.screenshot("guess")

    # The sliders are there once their question is answered.
    assert page.locator(".sce-devices").count() == 0
    for nth in (3, 4):
        card = page.locator(".sce-guess").nth(nth - 1)
        card.get_by_role("slider").focus()
        page.keyboard.press("ArrowLeft")
        card.locator("button").last.click()
        wait_until(lambda card=card: "You said" in card.inner_text(), 30, "the answer did not come")

    # A slider, moved by keyboard, changes the peaks and the table of devices.
    wall = page.locator(".sce-lab:has(.sce-devices)").last
    wall.scroll_into_view_if_needed()
    peaks = wall.locator(".js-plotly-plot").first
    sizes = lambda: [t for t in peaks.locator("text").all_text_contents() if "iB" in t]  # noqa: E731
    wait_until(lambda: len(sizes()) >= 4, 20, "no prediction is shown")
    before, devices = sizes(), wall.locator(".sce-devices").inner_text()
    handle = wall.get_by_role("slider", name="Items in the catalog", exact=True)
    assert handle.get_attribute("aria-valuetext") == "1 M"
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
    assert page.locator(".sce-code").count() == 0
    card = page.locator(".sce-guess:has-text('In which part')")
    card.get_by_text("Adam", exact=True).click()
    card.locator("button").last.click()
    code = page.locator(".sce-code")
    code.scroll_into_view_if_needed()
    assert "F.cross_entropy" in code.locator(".sce-here").inner_text()
    steps = page.locator(".sce-lab:has(.sce-code)").last
    steps.get_by_text("Next larger").click()
    wait_until(lambda: "gradient of item_embedding" in steps.inner_text(), 20, "the next large tensor was not found")
    steps.locator(".widget-toggle-button").nth(3).click()
    wait_until(lambda: "F.cross_entropy" not in code.locator(".sce-here").inner_text(), 20, "SCE has no line")
    for theme in ("Dark", "Light"):
        notebook.theme(theme)
        notebook.screenshot(f"timeline-{theme.lower()}")
    notebook.check()


def test_the_paper(open_notebook):
    notebook = open_notebook("06_paper")
    page = notebook.page
    notebook.run_all()
    card = page.locator(".sce-guess").first
    card.get_by_text("SCE", exact=True).click()
    card.locator("button").last.click()
    wait_until(lambda: page.locator(".js-plotly-plot").count() >= 3, 30, "the figures were not drawn")
    wait_until(lambda: notebook.points() > 10, 30, "the figures have no points")
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

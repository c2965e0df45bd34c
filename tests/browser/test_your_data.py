"""A file of one's own in a real browser, to a folder with a model; and a sweep from the playground's page."""

from .lab_page import needs_chromium, wait_until

pytestmark = needs_chromium


def test_from_a_file_to_a_folder(open_notebook, tmp_path):
    notebook = open_notebook("07_your_data", copy="own")
    page = notebook.page
    notebook.run_all()
    wait_until(lambda: "customer_id says who" in page.inner_text("body"), 60, "the file was not read")

    # Another file, from the reader's machine; its columns are chosen by their usual names.
    rows = [f"{u},{(3 * u + i) % 40},{i}" for u in range(120) for i in range(9)]
    (tmp_path / "walks.csv").write_text("\n".join(["visitorid,sku,ts", *rows]))
    with page.expect_file_chooser() as chooser:
        page.locator(".widget-upload").first.click()
    chooser.value.set_files(tmp_path / "walks.csv")
    wait_until(lambda: "visitorid says who" in page.inner_text("body"), 60, "the uploaded file was not read")
    page.get_by_label("When").select_option(label="(no column: the rows stand in order)")
    wait_until(lambda: "their order says when" in page.inner_text("body"), 60, "another column was not taken over")

    # One loss, one seed, one epoch; the time it will take is said before it starts.
    for name in ("CE (never held)", "Sampled softmax"):
        notebook.button(name).first.click()
    notebook.field("Epochs").fill("1")
    notebook.field("Epochs").press("Enter")
    notebook.field("Seeds").fill("1")
    notebook.field("Seeds").press("Enter")
    wait_until(lambda: "1 training with" in page.inner_text("body"), 30, "the plan did not follow")
    wait_until(
        lambda: "in all" in notebook.text(".sce-lab:has-text('Memory budget') .sce-status"), 60, "no time is said"
    )
    notebook.button("Start").click()
    wait_until(lambda: "All 1 training done" in page.inner_text("body"), 90, "it was not trained")
    wait_until(lambda: "recommended" in page.inner_text("body"), 30, "nothing is recommended")
    for theme in ("Dark", "Light"):
        notebook.theme(theme)
        notebook.button("Another user").scroll_into_view_if_needed()
        notebook.screenshot(f"look-{theme.lower()}")
    notebook.button("Export").click()
    wait_until(lambda: "Written:" in page.inner_text("body"), 90, "nothing was written")
    folder = notebook.path.parent / "my_model"
    assert {"model.safetensors", "items.json", "recommend.py"} <= {file.name for file in folder.iterdir()}
    notebook.check()


def test_seeds_as_an_area_and_a_sweep_from_the_page(open_notebook):
    notebook = open_notebook("01_playground", copy="swept")
    page = notebook.page
    notebook.run_all()
    tiny = {"catalog_size": 200, "batch_size": 512, "hidden_size": 8, "epochs": 2, "learning_rate": 0.01, "n_seeds": 3}
    notebook.execute(f"playground.apply({tiny}); playground.wait(); playground.start(); playground.wait(60)", 90)
    areas = page.locator(".js-plotly-plot path.js-fill")
    drawn = lambda: [d for d in areas.evaluate_all("all => all.map(e => e.getAttribute('d'))") if d and len(d) > 20]  # noqa: E731
    wait_until(lambda: len(drawn()) == 2, 20, "the range of three seeds is no area in the panels of HR and NDCG")
    page.locator(".widget-toggle-button:has-text('seconds')").first.click()
    words = lambda: page.locator(".js-plotly-plot text").all_text_contents()  # noqa: E731
    wait_until(lambda: "seconds of training" in words(), 20, "the axis did not change")

    page.get_by_role("tab", name="Sweep").click()
    panel = page.locator(".sce-tabs")
    panel.locator(".jupyter-button:has-text('Start')").click()
    numbers = lambda: [t for t in panel.locator(".js-plotly-plot text").all_text_contents() if "0." in t]  # noqa: E731
    wait_until(lambda: len(numbers()) >= 2, 90, "no cell was trained")
    panel.scroll_into_view_if_needed()
    notebook.screenshot("sweep")
    panel.locator(".jupyter-button:has-text('Stop')").click()
    wait_until(lambda: panel.locator(".jupyter-button:has-text('Stop')").is_disabled(), 30, "it did not stop")
    notebook.check()

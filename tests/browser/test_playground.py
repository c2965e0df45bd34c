"""The playground as a person uses it: controls, live training, comparing, sharing, challenges, themes, coming back."""

import json
import re
from urllib.parse import quote

import nbformat
import pytest

from sce_lab.figures import LOOKS

from .lab_page import needs_chromium, wait_until

pytestmark = needs_chromium

SMALL = {
    "losses": ["sampled", "sce"], "catalog_size": 500, "epochs": 2, "hidden_size": 16, "n_blocks": 1, "max_length": 20,
    "n_buckets": 24, "bucket_size_x": 24, "bucket_size_y": 32, "n_negatives": 32, "batch_size": 96,
}  # fmt: skip


@pytest.fixture
def playground(open_notebook, request):
    """The notebook, run, with the buttons in sight."""
    notebook = open_notebook("01_playground", copy=request.node.name.removeprefix("test_"))
    notebook.run_all()
    notebook.page.wait_for_selector(".js-plotly-plot")
    notebook.page.locator(".sce-playground").evaluate("element => element.scrollIntoView()")  # the buttons always are
    yield notebook
    notebook.check()


def paste(notebook, state):
    """Paste a state and wait until the controls have it."""
    field = notebook.page.locator(".sce-state input")
    field.fill(json.dumps(state))
    field.press("Enter")
    wait_until(lambda: "on the controls now" in notebook.text(".sce-said"), 20, "the state was not taken")


def train(notebook, state=None):
    """Train to the end."""
    if state:
        paste(notebook, state)
    notebook.button("Start").click()
    wait_until(lambda: " done" in notebook.status(), 90, "the run did not end")


def test_columns_of_a_file(playground, tmp_path):
    rows = "".join(f"{u},{(u + i) % 30},{i}\n" for u in range(80) for i in range(9))
    (tmp_path / "odd.csv").write_text("user_id,thing,n\n" + rows)
    paste(playground, {**SMALL, "dataset": "file", "path": str(tmp_path / "odd.csv")})
    wait_until(lambda: "no column with a usual name for the item" in playground.status(), 20, "it is not refused")
    choice = ".sce-control .widget-dropdown:has(.widget-label:text-is('{}')) select"
    what, who = (playground.page.locator(choice.format(name)) for name in ("What", "Who"))

    def shown(choice):
        return choice.locator("option:checked").inner_text().replace("\xa0", " ")

    assert shown(what) == "choose ..."
    what.select_option(label="thing")
    wait_until(lambda: "Ready" in playground.status(), 20, "the column was not taken")
    assert shown(who) == "user_id (found)"
    wait_until(lambda: "'thing' says what" in playground.text(".sce-note-text"), 10, "it is not said")


def test_slider_to_prediction(playground):
    page = playground.page
    wait_until(lambda: any(re.search(r"[KMG]iB", t) for t in playground.bars()), 20, "no prediction is shown")
    before = playground.bars()
    playground.handle("Catalog size").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    wait_until(lambda: playground.bars() != before, 20, "the prediction did not follow the slider")
    assert playground.field("Catalog size").input_value() == "100,000"
    wait_until(lambda: "times over" in playground.text(".sce-lab"), 20, "nothing says where it fits")
    page.locator(".sce-control:has-text('As in the paper') input").check()
    wait_until(lambda: playground.field("Buckets").input_value() == "65", 20, "no lock")
    playground.button("Undo").click()
    playground.button("Undo").click()
    wait_until(lambda: playground.bars()[:3] == before[:3], 20, "Undo did not bring the prediction back")
    assert not page.locator(".sce-control:has-text('As in the paper') input").is_checked()


def test_a_slider_is_named_speaks_takes_what_is_typed_and_is_dragged_in_one_go(playground):
    page, first = playground.page, playground.bars()
    handle, field = playground.handle("Catalog size"), playground.field("Catalog size")
    assert handle.get_attribute("aria-valuetext") == "10,000"
    for typed, shown in (("2500", "2,500"), ("1 M", "1 M"), ("20,000", "20,000")):
        field.fill(typed)
        field.press("Enter")
        wait_until(lambda shown=shown: handle.get_attribute("aria-valuetext") == shown, 20, "what was typed is not set")
        assert field.input_value() == shown
    wait_until(lambda: playground.bars() != first, 20, "the prediction did not follow the field")
    field.fill("abc")
    field.press("Enter")
    refusal = page.get_by_role("alert").filter(has_text="Catalog size takes whole numbers from 100 to 10,000,000")
    refusal.wait_for()
    assert "got 'abc'" in refusal.inner_text()
    assert field.input_value() == "20,000"
    playground.screenshot("refused")

    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    for share in (0.6, 0.7, 0.8):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2, steps=3)
        page.wait_for_timeout(1800)  # longer than two changes may be apart
    page.mouse.up()
    wait_until(lambda: handle.get_attribute("aria-valuetext") not in ("20,000", "50,000"), 20, "it did not move")
    assert refusal.count() == 0
    playground.button("Undo").click()
    wait_until(lambda: field.input_value() == "20,000", 20, "one Undo did not take the drag back")


def test_start_pause_step_stop_and_live_sliders(playground):
    page = playground.page
    paste(playground, SMALL | {"epochs": 200})
    begun = playground.points()
    top = "document.querySelector('.sce-main').getBoundingClientRect().top"
    heights = page.evaluate(f"() => {top} - document.querySelector('.sce-playground').getBoundingClientRect().top")
    playground.button("Start").click()
    wait_until(lambda: playground.points() > begun + 20, 60, "no points arrived after Start")

    # What does not change stays: of the memory a bar for each loss and part, of the time one for each loss and phase.
    bars = "() => [...document.querySelectorAll('.js-plotly-plot')].map(p => p.querySelectorAll('.bars .point').length)"
    wait_until(
        lambda: sorted(n for n in page.evaluate(bars) if n) == [3 * len(LOOKS), 4 * len(LOOKS)], 20, "bars are missing"
    )

    playground.button("Pause").click()
    playground.button("Resume").wait_for()
    wait_until(lambda: "paused" in playground.status(), 10, "Pause did not hold")
    page.wait_for_timeout(1500)  # plotly.js hears of moved lines a second later
    held, at = playground.points(), playground.status()
    page.wait_for_timeout(700)
    assert playground.points() == held
    playground.button("Step").click()
    wait_until(lambda: playground.status() != at and "paused" in playground.status(), 20, "Step did nothing")
    assert int(re.search(r"step ([\d,]+)", playground.status())[1].replace(",", "")) == 1 + int(
        re.search(r"step ([\d,]+)", at)[1].replace(",", "")
    )
    playground.button("Resume").click()

    # What can change live does, with a mark; what cannot says so beside the control.
    playground.handle("Buckets").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Training").click()  # the card was folded up
    playground.handle("Batch size").focus()
    page.keyboard.press("ArrowRight")
    marks = """() => [...document.querySelectorAll('.sce-plot')].map(figure =>
        [...figure.querySelectorAll('.js-plotly-plot')].reduce((n, p) => n + (p.layout.shapes || []).length, 0))"""
    wait_until(lambda: 5 in page.evaluate(marks), 20, "no mark for the changed setting")  # two ceilings, three panels
    wait_until(lambda: any("→ 32" in text for text in playground.bars()), 20, "the mark does not say what changed")
    later = page.locator(".sce-later").all_inner_texts()
    assert len(later) == 1
    assert later[0].startswith("Batch size")
    now = page.evaluate(f"() => {top} - document.querySelector('.sce-playground').getBoundingClientRect().top")
    assert now == pytest.approx(heights, abs=0.5)
    for theme in ("Dark", "Light"):
        playground.theme(theme)
        playground.screenshot(theme.lower())
    # Other code still runs at once.
    kernel = "jupyterapp.shell.currentWidget.sessionContext.session.kernel"
    execute = f"async () => (await {kernel}.requestExecute({{ code: 'assert playground.active' }}).done).content.status"
    assert page.evaluate(execute) == "ok"
    playground.button("Stop").click()
    wait_until(lambda: "stopped" in playground.status(), 10, "Stop did not stop")


def test_a_run_that_is_removed_is_not_drawn_any_more(playground):
    train(playground, SMALL)
    count = """() => document.querySelectorAll('.sce-plot')[1]
        .querySelectorAll('path.js-line:not([d=""]), .scatterlayer .points path').length"""
    page = playground.page
    wait_until(lambda: page.evaluate(count) > 6, 20, "two runs are not drawn")
    both = page.evaluate(count)
    playground.execute("playground.remove([1])")
    wait_until(lambda: page.evaluate(count) == both / 2, 20, "the removed run is still drawn")
    playground.execute("playground.reset()")
    wait_until(lambda: page.evaluate(count) == 0, 20, "the last run is still drawn")
    playground.execute("playground.undo()")
    wait_until(lambda: page.evaluate(count) == both / 2, 20, "Undo did not bring the run back")


def test_enter_commits_a_guess_and_the_status_is_spoken(playground):
    page = playground.page
    page.get_by_role("tab", name="Guess first").click()
    field = page.get_by_placeholder("your guess")
    field.fill("20")
    field.press("Enter")
    wait_until(lambda: "It is " in playground.text(".sce-told"), 30, "Enter did not commit")
    assert page.get_by_role("status").filter(has_text="Ready: SCE").count() == 1


def test_lines_that_are_moved_lie_where_plotly_puts_them(playground):
    page = playground.page
    page.evaluate(
        """() => {
            window.seen = [];
            const plot = document.querySelectorAll('.sce-plot')[1].querySelector('.js-plotly-plot');
            const look = () => [...plot.querySelectorAll('path.js-line')].map((path) => path.getBBox());
            window.now = () => ({
                boxes: look().map(({ x, y, width, height }) => [x, y, x + width, y + height]),
                heard: plot._fullData.reduce((n, trace) => n + trace.x.length, 0),
            });
            plot.addEventListener('sce-drawn', () => seen.push(now()));
        }"""
    )
    show = """
import numpy as np, time
from sce_lab.figures import Curves, training_spec
for n in NUMBERS:
    x = np.linspace(0, n / 10, n)
    curves = {loss: Curves(x, 5 + k + np.cos(9 * x)) for k, loss in enumerate(("ce", "sce"))}
    playground.view.charts.training.show(training_spec(curves, {}, epochs=3))
    time.sleep(0.3)
"""
    playground.execute(show.replace("NUMBERS", "(10, 20, 25)"))
    wait_until(lambda: page.evaluate("now().heard") == 50, 20, "plotly.js was not told in the end")
    drawn, moved, moved_on = page.evaluate("seen")
    settled = page.evaluate("now()")
    # Two lines of so many points; only the first time, and later, plotly.js was told.
    assert [each["heard"] for each in (drawn, moved, moved_on)] == [20, 20, 20]
    assert len(moved["boxes"]) == len(settled["boxes"]) == 2
    for one, other in zip(moved_on["boxes"], settled["boxes"]):
        assert one == pytest.approx(other, abs=0.6)
    assert moved["boxes"][0][2] < moved_on["boxes"][0][2] - 5

    # What lines alone cannot show is drawn by plotly.js at once.
    playground.execute(show.replace("NUMBERS", "(40,)"))
    wait_until(lambda: len(page.evaluate("seen")) == 4, 20, "the longer axis was not drawn")
    assert page.evaluate("seen")[-1]["heard"] == 80


def test_compare_two_runs_and_find_them_again(playground):
    page = playground.page
    train(playground, SMALL)
    rows = page.locator(".sce-runs tbody tr")
    assert rows.count() == 2
    page.locator(".sce-runs th button", has_text="NDCG@10").focus()
    page.keyboard.press("Enter")
    scores = [float(text) for text in page.locator(".sce-runs tbody tr td:nth-last-child(2)").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    page.locator(".sce-runs input").nth(0).focus()
    page.keyboard.press("Space")
    page.locator(".sce-runs input").nth(1).focus()
    page.keyboard.press("Space")
    wait_until(lambda: re.search("run [12] / run [12]", playground.text(".sce-tabs")), 20, "the two were not compared")
    drawn = "() => [...document.querySelectorAll('.js-plotly-plot')].flatMap(p => p._fullData)"
    wait_until(
        lambda: page.evaluate(f"{drawn}.filter(t => t.name === 'run 1' && t.x.length).length") == 3, 20, "no overlay"
    )
    assert "sce-lab train" in playground.text(".sce-tabs")
    with page.expect_download() as download:
        page.get_by_text("Download CSV").click()
    assert "NDCG@10" in download.value.path().read_text().splitlines()[0]
    page.locator(".sce-tabs").scroll_into_view_if_needed()
    playground.screenshot("compared")
    playground.button("Remove picked").click()
    wait_until(lambda: rows.count() == 0, 20, "they are still there")
    playground.button("Undo").click()
    wait_until(lambda: rows.count() == 2, 20, "Undo did not bring them back")

    # A new kernel, the page run twice over: the runs are still there, under their numbers, and so are the settings.
    playground.execute("playground.remove([1])")
    playground.restart()
    playground.run_all()
    wait_until(lambda: rows.count() == 1, 30, "the run did not survive the kernel")
    assert page.locator(".sce-runs tbody td:nth-child(-n + 3)").all_inner_texts()[1:] == ["2", "SCE"]
    assert playground.field("Catalog size").input_value() == "500"
    playground.save()
    saved = nbformat.read(playground.path, as_version=4)
    outputs = [o for cell in saved.cells for o in cell.get("outputs", []) if "sce-static" in str(o.get("data", ""))]
    assert any(f"{score:.3f}" in outputs[-1]["data"]["text/html"] for score in scores)  # what is read without a kernel


def test_presets_states_and_a_challenge(playground):
    page = playground.page
    page.locator(".sce-share select").first.select_option(label="The memory wall")
    wait_until(lambda: "left out" in playground.status(), 60, "cross-entropy was not refused")
    page.locator(".lm-TabBar-tab:has-text('Challenges')").click()
    wait_until(lambda: "far beyond the wall" in playground.text(".sce-tabs"), 20, "the challenge was not checked")
    assert "○ Find the wall" in playground.text(".sce-tabs")  # a preset solves nothing
    playground.screenshot("challenges")
    line = page.locator(".sce-state input").input_value()
    page.locator(".sce-share select").first.select_option(label="Tiny (10 s)")
    # The line is told after the controls, and what is pasted before it would be lost.
    wait_until(lambda: '"catalog_size": 500,' in page.locator(".sce-state input").input_value(), 20, "no preset")
    assert playground.field("Catalog size").input_value() == "500"
    paste(playground, json.loads(line))
    wait_until(lambda: page.locator(".sce-state input").input_value() == line, 20, "the state did not come back")
    page.locator(".sce-state input").fill('{"n_bucket": 3}')
    page.locator(".sce-state input").press("Enter")
    wait_until(lambda: "There is no setting 'n_bucket'" in playground.text(".sce-said"), 20, "no sentence")

    # A guess is answered after it was committed, not before.
    page.locator(".lm-TabBar-tab:has-text('Guess first')").click()
    page.locator(".sce-guesses input").fill("3")
    playground.button("Commit").click()
    wait_until(lambda: "times: " in playground.text(".sce-told"), 30, "the guess was not answered")

    # The tour points at a control, and goes on when it is touched.
    playground.button("Tour").click()
    assert playground.text(".sce-touch").startswith("Catalog size")
    playground.handle("Catalog size").focus()
    page.keyboard.press("ArrowLeft")
    wait_until(lambda: "Cross-entropy" in playground.text(".sce-touch"), 20, "the tour did not go on")
    playground.screenshot("tour")


def test_closing_the_tab_while_it_trains_and_coming_back(open_notebook):
    notebook = open_notebook("01_playground", copy="closed")
    notebook.run_all()
    notebook.page.wait_for_selector(".js-plotly-plot")
    paste(notebook, SMALL | {"epochs": 200})
    notebook.button("Start").click()
    wait_until(lambda: "training" in notebook.status(), 60, "it did not start")
    notebook.save()
    notebook.page.close()
    again = open_notebook("closed/01_playground", reset=False)
    again.page.wait_for_selector(".sce-status")
    wait_until(lambda: again.points() > 20, 60, "the figures did not come back")
    seen = again.points()
    wait_until(lambda: again.points() > seen, 30, "training did not go on")
    again.button("Stop").click()
    wait_until(lambda: "stopped" in again.status(), 10, "Stop did not stop")
    again.check()


def test_a_link_sets_and_hides_controls(open_notebook):
    state = quote('{"losses": ["ce"], "seed": 5, "hide": ["model", "training"]}')
    notebook = open_notebook("01_playground", copy="linked", query=f"state={state}&")
    notebook.run_all()
    headings = notebook.page.locator(".sce-deck .sce-heading")
    seen = lambda: [each.inner_text().upper() for each in headings.all() if each.is_visible()]  # noqa: E731
    wait_until(lambda: seen() == ["DATA", "LOSS", "SCE"], 30, "the cards are not hidden")
    assert notebook.execute("print(playground.settings.seed, playground.settings.losses)").strip() == "5 ('ce',)"
    notebook.check()

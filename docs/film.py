"""The film of the README: the playground in JupyterLab.

    python docs/film.py                      # about two minutes

Needs playwright and pillow (tests/requirements.txt) and a Chromium. Writes docs/playground.gif.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs as a script from anywhere

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.browser.lab_page import CHROMIUM, CHROMIUM_ARGUMENTS, Notebook, wait_until
from tests.browser.server import jupyterlab

HERE = Path(__file__).parent
#: A catalog that is learned in seconds, small enough for cross-entropy to keep up.
STATE = {
    "losses": ["ce", "sampled", "sce"], "catalog_size": 2_000, "epochs": 12, "batch_size": 128, "hidden_size": 32,
    "n_blocks": 1, "max_length": 20, "n_buckets": 8, "bucket_size_x": 32, "bucket_size_y": 64, "n_negatives": 64,
}  # fmt: skip
#: Of the window: all figures are to be seen.
HEIGHT = 1_256
#: Size of the film, relative to the screen, and its number of colours.
SCALE, COLOURS = 0.68, 255


class Film:
    """Screenshots one after the other, each with the time it stays."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook, self._frames, self._times = notebook, [], []
        box = notebook.page.locator(".sce-lab").first.bounding_box()
        top = notebook.page.locator(".sce-bar").first.bounding_box()["y"] - 10
        self._clip = {"x": box["x"] - 8, "y": top, "width": box["width"] + 16, "height": HEIGHT - 32 - top}

    def take(self, milliseconds: int) -> None:
        """One picture of what there is to see now."""
        png = self._notebook.page.screenshot(clip=self._clip)
        image = Image.open(io.BytesIO(png)).convert("RGB")
        size = round(image.width * SCALE), round(image.height * SCALE)
        self._frames.append(image.resize(size, Image.Resampling.LANCZOS))
        self._times.append(milliseconds)

    def write(self, path: Path) -> None:
        """As an animated GIF, written whole or not at all. With one palette for all what rests does not flicker."""
        first, last = self._frames[0], self._frames[-1]
        both = Image.new("RGB", (first.width, 2 * first.height))
        both.paste(first), both.paste(last, (0, first.height))
        palette = both.quantize(COLOURS, dither=Image.Dither.NONE)
        frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in self._frames]
        part = path.with_suffix(".part")
        frames[0].save(
            part, "GIF", save_all=True, append_images=frames[1:], duration=self._times, loop=0, optimize=True
        )
        os.replace(part, path)
        print(f"{path.name}: {len(frames)} pictures, {path.stat().st_size / 1e6:.2f} MB")


def tell(notebook: Notebook, film: Film) -> None:
    """The story: predict, train, change a setting on the way, look at the end."""
    page = notebook.page
    film.take(1_500)
    notebook.handle("Catalog size").focus()
    for _ in range(10):  # up the memory wall ...
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(350)
        film.take(160)
    film.take(1_500)
    for _ in range(10):  # ... and back
        page.keyboard.press("ArrowLeft")
        page.wait_for_timeout(120)
    page.wait_for_timeout(500)
    film.take(700)
    notebook.button("Start").click()
    moved = False
    while " done" not in notebook.status():
        page.wait_for_timeout(500)
        film.take(180)
        if not moved and "epoch 3" in notebook.status():
            handle = notebook.handle("Buckets")
            handle.focus()
            for _ in range(8):
                page.keyboard.press("ArrowRight")
            moved = True
    page.wait_for_timeout(1_000)
    film.take(3_500)


def main() -> None:
    """Play it and write the film."""
    with tempfile.TemporaryDirectory() as folder, jupyterlab(Path(folder)) as lab, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))
        notebook = Notebook(browser.new_page(viewport={"width": 1280, "height": HEIGHT}), lab, "01_playground")
        notebook.run_all()
        notebook.page.wait_for_selector(".js-plotly-plot")
        notebook.execute(f"playground.apply({STATE!r}); playground.results()")
        notebook.page.evaluate("() => document.querySelector('.sce-lab').scrollIntoView()")
        wait_until(lambda: "Ready" in notebook.status(), 20, "no prediction")
        notebook.page.wait_for_timeout(1_500)
        film = Film(notebook)
        tell(notebook, film)
        film.write(HERE / "playground.gif")
        browser.close()


if __name__ == "__main__":
    main()

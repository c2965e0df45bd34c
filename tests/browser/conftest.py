"""A real JupyterLab and a real Chromium, both local: no test here reaches anything beyond this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .lab_page import CHROMIUM, CHROMIUM_ARGUMENTS, Notebook
from .server import Lab, jupyterlab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One JupyterLab for all tests."""
    with jupyterlab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture
def open_notebook(lab: Lab) -> Iterator[Callable[..., Notebook]]:
    """Open a notebook of the lab in a browser of its own; ``copy`` names a copy with its own kernel and runs."""
    sync_api = pytest.importorskip("playwright.sync_api")
    os.environ.pop("DISPLAY", None)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))

        def opened(name: str, copy: str = "", **options: Any) -> Notebook:
            if copy:
                folder = lab.root / "notebooks" / copy
                folder.mkdir(exist_ok=True)
                shutil.copy(lab.root / "notebooks" / f"{name}.ipynb", folder)
                name = f"{copy}/{name}"
            return Notebook(browser.new_page(viewport={"width": 1280, "height": 900}), lab, name, **options)

        yield opened
        browser.close()

"""A notebook in a real JupyterLab in a real Chromium, for measurements: started, run, and taken down again."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def open_notebook(name: str) -> Iterator[Any]:
    """The page of the notebook, all of its cells run. What starts JupyterLab is what the browser tests use."""
    sys.path.insert(0, str(ROOT))
    from playwright.sync_api import sync_playwright

    from tests.browser.conftest import CHROMIUM_ARGUMENTS, find_chromium, lab
    from tests.browser.test_lab import Notebook

    with tempfile.TemporaryDirectory() as folder:
        factory = SimpleNamespace(mktemp=lambda name: Path(folder))
        servers = lab.__wrapped__(factory) if hasattr(lab, "__wrapped__") else lab.__pytest_wrapped__.obj(factory)
        server = next(servers)
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(CHROMIUM_ARGUMENTS))
                notebook = Notebook(browser.new_page(viewport={"width": 1280, "height": 900}), server, name)
                notebook.run_all()
                yield notebook.page
                browser.close()
        finally:
            next(servers, None)

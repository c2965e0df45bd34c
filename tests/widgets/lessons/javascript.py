"""Runs the JavaScript of a widget without a page: in Node where there is one, or else in Chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

NODE = shutil.which("node")


def run(module: str, program: str, given: Any) -> Any:
    """What ``program`` returns: the body of a function of ``given``, which sees all that ``module`` defines.

    Numbers that JSON cannot say come back as None.
    """
    source = f"{module}\nconst answer = ((given) => {{ {program} }})({json.dumps(given)});\n"
    if NODE:
        command = [NODE, "--input-type=module", "-"]
        source += "process.stdout.write(JSON.stringify(answer));"
        done = subprocess.run(command, input=source, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    return _in_chromium(source + "globalThis.answer = JSON.stringify(answer);")


def _in_chromium(source: str) -> Any:
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("neither node nor a Chromium on PATH")
    with sync_api.sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"]).new_page()
        page.set_content("<!doctype html>")
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.add_script_tag(content=source, type="module")
        assert errors == []
        return json.loads(page.wait_for_function("() => globalThis.answer").json_value())

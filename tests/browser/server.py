"""A real JupyterLab, local: nothing here reaches anything beyond this machine."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab."""

    url: str
    token: str
    root: Path


@contextmanager
def jupyterlab(root: Path) -> Iterator[Lab]:
    """JupyterLab over a copy of the notebooks in ``root``, so that saving one there leaves the repository alone.

    Raises:
        RuntimeError: it does not come up; the message holds its log.
    """
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    settings = root / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))
    news = root / "settings" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--expose-app-in-browser", "--allow-root",
        "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}",
        f"--LabApp.user_settings_dir={root / 'settings'}", f"--LabApp.workspaces_dir={root / 'workspaces'}",
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "JPY"))}
    environment["JUPYTER_CONFIG_DIR"] = str(root / "config")
    environment["JUPYTER_RUNTIME_DIR"] = str(root / "runtime")
    log = (root / "jupyterlab.log").open("wb")
    # A session of its own, so that the server and its kernels can be ended together and nothing else with them.
    server = subprocess.Popen(
        command, cwd=root, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        lab = Lab(f"http://127.0.0.1:{port}", token, root)
        for _ in range(300):
            if server.poll() is not None:
                raise RuntimeError(f"JupyterLab ended at once:\n{(root / 'jupyterlab.log').read_text()}")
            try:
                urllib.request.urlopen(f"{lab.url}/api/status?token={token}", timeout=2).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            raise RuntimeError(f"JupyterLab did not answer:\n{(root / 'jupyterlab.log').read_text()}")
        yield lab
    finally:
        server.terminate()
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        log.close()

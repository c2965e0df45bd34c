"""Where a run took place."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import torch


def environment() -> dict[str, Any]:
    """Hardware, versions and command: what a figure needs beside it to be worth quoting."""
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    names = ("sce-lab", "torch", "numpy", "pandas")
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "memory": psutil.virtual_memory().total,
        "gpus": cuda,
        "system": platform.system() + " " + platform.machine(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in names},
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # a checkout that is not installed
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"

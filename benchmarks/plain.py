"""What the benchmarks need beside PyTorch, where nothing but PyTorch is installed.

python benchmarks/plain.py    # which packages are missing here, and what goes without them
"""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a bare checkout is not installed

RESULTS = Path(__file__).parent / "results"

#: Packages that a part of ``gpu.sh`` cannot do without, beside torch.
NEEDS = {
    "losses, values, launches, floor": ("numpy", "triton"),
    "GPU tests": ("pytest", "hypothesis", "numpy", "pandas", "scipy", "pyarrow", "pooch", "psutil", "tqdm"),
    "memory": ("numpy", "pandas", "scipy", "pyarrow", "pooch", "psutil", "tqdm", "rich", "safetensors"),
    "training": ("numpy", "pandas", "scipy", "pyarrow", "pooch", "psutil", "tqdm", "safetensors"),
}


def is_here(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def environment() -> dict[str, Any]:
    """Where something was measured: as ``sce_lab.runs`` says it, or what PyTorch knows."""
    try:
        from sce_lab.runs import environment as whole

        return whole()
    except (ImportError, LookupError):
        import torch

        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        versions = {"torch": torch.__version__}
        if is_here("triton"):
            import triton

            versions["triton"] = triton.__version__
        return {
            "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "gpus": gpus,
            "python": platform.python_version(),
            "versions": versions,
        }


def free_memory(device: str) -> int:
    """Bytes that are free on the device."""
    if device == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    from sce_lab.memory import free_memory as free

    return free(device)


def format_bytes(n: float) -> str:
    """As the lab writes it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n) < 999.5:
            return f"{n:.3g} {unit}"
        n /= 1024
    return f"{n:,.3g} TiB"


def write(path: Path, result: Any) -> None:
    """Write a result as JSON, whole or not at all."""
    from sce_lab.files import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(result, indent=1))
    print(f"Written to {path}", flush=True)


def show(title: str, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table: the first column to the left, the others to the right."""
    lines = [list(map(str, line)) for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    print(f"\n{title}")
    for line in lines:
        cells = [f"{cell:<{w}}" if i == 0 else f"{cell:>{w}}" for i, (cell, w) in enumerate(zip(line, widths))]
        print("  ".join(cells).rstrip(), flush=True)


def main() -> None:
    """Say what is missing."""
    import torch

    cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if cuda else "no CUDA device"
    print(f"Python {platform.python_version()}, PyTorch {torch.__version__}, {name}")
    for part, packages in NEEDS.items():
        missing = [package for package in packages if not is_here(package)]
        print(f"{part}: " + (f"not without {', '.join(missing)}" if missing else "everything is there"))


if __name__ == "__main__":
    main()

"""Is the memory that the lab predicts the memory that is taken, and how quickly is it predicted?

    python benchmarks/memory.py                   # agreement, latency and overhead, a few minutes on two cores
    python benchmarks/memory.py --device cuda     # agreement with CUDA's allocator
    python benchmarks/memory.py --browser         # the response to a slider in a real JupyterLab (needs Playwright)

Results go to ``benchmarks/results/memory-<device>.json`` and ``memory-browser.json``, with hardware, versions and
the command.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain import environment
from rich.console import Console

from sce_lab.data import open_split
from sce_lab.files import write_text
from sce_lab.memory import format_bytes, free_memory, measure_memory, measuring, predict_memory
from sce_lab.training import StepDone, TrainingConfig, train, training_step

RESULTS = Path(__file__).parent / "results"
LOSSES = (
    ("ce", {}),
    ("cce", {}),
    ("sampled", {}),
    ("sce", {}),
    ("sampled", {"sparse_gradients": True}),
    ("sce", {"sparse_gradients": True}),
    ("ce", {"dtype": "bfloat16"}),
)
CATALOGS = (1_000, 12_101, 50_000, 200_000)
SHAPES = ((32, 10, 32), (128, 17, 64), (128, 50, 64))  # sequences, length, hidden_size
console = Console(width=140)


def agreement(device: str, tiny: bool = False) -> dict[str, Any]:
    """Predicted against measured peak and workspace over a grid; what would not fit, or take minutes, is left out."""
    rows = []
    catalogs, shapes = (CATALOGS[:1], SHAPES[:1]) if tiny else (CATALOGS, SHAPES)
    for (loss, options), items, (n, length, width) in itertools.product(LOSSES, catalogs, shapes):
        shape = {"batch_size": n, "max_length": length, "hidden_size": width}
        config = TrainingConfig(loss=loss, device=device, **shape, **options)
        bound = predict_memory(config, items)
        if bound.needed > 0.3 * free_memory(device) or (device == "cpu" and bound.loss_workspace > 3 * 2**30):
            continue
        measured = measure_memory(config, items)
        rows.append(
            {"loss": loss, **options, "catalog_size": items, "N": n * length, "hidden_size": width}
            | {
                f"{part}_{what}": getattr(use, part)
                for part in ("loss_workspace", "peak")
                for what, use in (("measured", measured), ("predicted", bound))
            }
        )
        console.print(
            f"{loss:8} {options!s:30} C={items:7,} N={n * length:5,} D={width} peak {format_bytes(measured.peak):>9}"
            f"  predicted {_off(rows[-1]):+.2%}"
        )
    exact = [
        row
        for row in rows
        if row["loss"] in ("ce", "cce") or (row["loss"] == "sampled" and row.keys() == rows[0].keys())
    ]
    off = {part: [1 + _off(row, part) for row in rows] for part in ("peak", "loss_workspace")}
    return {
        "configurations": len(rows),
        "largest difference of the peak, cross-entropy and sampled softmax with dense gradients": max(
            abs(_off(row)) for row in exact
        ),
        "predicted / measured, all": {part: [min(of), max(of)] for part, of in off.items()},
        "predicted / measured peak of SCE": [
            f(1 + _off(row) for row in rows if row["loss"] == "sce") for f in (min, max)
        ],
        "rows": rows,
    }


def _off(row: dict[str, Any], part: str = "peak") -> float:
    return row[f"{part}_predicted"] / row[f"{part}_measured"] - 1


def latency(repeats: int = 60) -> dict[str, Any]:
    """Milliseconds of a prediction that is not remembered, after warm-up: the catalog is another one each time."""
    found: dict[str, Any] = {}
    for name, n, length in (("128 x 50", 128, 50), ("64 x 17", 64, 17)):
        for loss in ("ce", "cce", "sampled", "sce"):
            config = TrainingConfig(loss=loss, batch_size=n, max_length=length)
            for items in (1_000, 999_000_000):
                predict_memory(config, items)
            times = []
            for i in range(repeats):
                items = int(1_000 * (999_999_999 / 1_000) ** (i / repeats)) + i
                start = time.perf_counter()
                predict_memory(config, items)
                times.append(1e3 * (time.perf_counter() - start))
            found[f"{loss}, {name}"] = _spread(times)
    return found


def overhead(steps: int = 400) -> dict[str, float]:
    """How much longer a training takes when its memory is measured: in every 50th step, and in every step."""
    split, _ = open_split("synthetic", catalog_size=10_000, seed=0, progress=False)
    config = TrainingConfig(loss="sce", batch_size=64, max_epochs=1000, evaluate_every=1000)
    kinds = {"not measured": training_step, "every 50th": measuring(), "every step": measuring(every=1)}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    runs = {name: iter(train(config, split, step=step)) for name, step in kinds.items()}
    for _ in range(steps):  # in turns, so that a machine that slows down slows all alike
        for name, run in runs.items():
            start = time.perf_counter()
            while not isinstance(next(run), StepDone):
                pass
            times[name].append(time.perf_counter() - start)
    mean = {name: statistics.fmean(sorted(values[5:])[: int(0.98 * len(values))]) for name, values in times.items()}
    plain = mean["not measured"]
    # The mean of all steps hardly shows one in fifty; so it is taken from what a measured step costs more.
    extra = statistics.median(times["every step"]) - statistics.median(times["not measured"])
    return {
        "ms a step": 1e3 * plain,
        "a measured step takes longer by": extra / statistics.median(times["not measured"]),
        "every 50th step measured: the training takes longer by": extra / statistics.median(times["not measured"]) / 50,
    }


def _spread(times: list[float]) -> dict[str, float]:
    return {"median_ms": float(np.median(times)), "p95_ms": float(np.percentile(times, 95)), "n": len(times)}


def in_browser(repeats: int = 60) -> dict[str, Any]:
    """Milliseconds from the key on a slider of notebook 02 to the three peaks in the figure, in a real JupyterLab."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what starts JupyterLab is what the browser tests use
    from playwright.sync_api import sync_playwright

    from tests.browser.lab_page import CHROMIUM, CHROMIUM_ARGUMENTS, Notebook
    from tests.browser.server import jupyterlab

    with (
        tempfile.TemporaryDirectory() as folder,
        jupyterlab(Path(folder)) as lab,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS)) as browser,
    ):
        notebook = Notebook(browser.new_page(viewport={"width": 1280, "height": 900}), lab, "02_memory_wall")
        notebook.run_all()
        page = notebook.page
        wall = page.locator(".sce-lab:has(.sce-devices)").last
        wall.scroll_into_view_if_needed()
        page.wait_for_timeout(20_000)  # the first real steps are made
        found = {}
        for name, nth in (("catalog", 0), ("batch", 1)):
            wall.locator(".noUi-handle").nth(nth).focus()
            found[name] = _spread([page.evaluate(_PRESS, key) for key in _keys(repeats)])
            console.print(name, found[name])
        return found


def _keys(n: int) -> list[str]:
    """To and fro, so that the slider stays within its range."""
    return [("ArrowRight", "ArrowLeft")[(i // 5) % 2] for i in range(n)]


#: One press of a key on the focused handle; resolves when the peaks in the figure have changed and were painted.
_PRESS = """(key) => new Promise((done) => {
  const plot = [...document.querySelectorAll('.sce-lab')].filter(e => e.querySelector('.sce-devices')).at(-1)
    .querySelector('.js-plotly-plot');
  const peaks = () => JSON.stringify(Array.from(plot._fullData[0].x));
  const before = peaks(), begun = performance.now();
  const look = () => {
    if (peaks() !== before) {
      requestAnimationFrame(() => setTimeout(() => {
        const taken = performance.now() - begun;
        setTimeout(() => done(taken), 400 + 200 * Math.random());
      }));
    } else if (performance.now() - begun > 10000) done(10000);
    else setTimeout(look, 2);
  };
  document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  look();
})"""


def main() -> None:
    """Run what was asked for and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--browser", action="store_true", help="only the response to a slider, in a browser")
    parser.add_argument("--tiny", action="store_true", help="only whether it runs")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/memory-<device>.json")
    arguments = parser.parse_args()
    if arguments.browser:
        found: dict[str, Any] = {"slider to peaks": in_browser()}
        path = RESULTS / "memory-browser.json"
    else:
        found = {"agreement": agreement(arguments.device, arguments.tiny)}
        if arguments.device == "cpu" and not arguments.tiny:
            found["latency"] = latency()
            found["overhead"] = overhead()
        path = RESULTS / f"memory-{torch.device(arguments.device).type}.json"
    path = arguments.out or path
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"environment": environment(), **found}, indent=2))
    console.print({k: v for k, v in found.items() if k != "agreement"})
    if "agreement" in found:
        console.print({k: v for k, v in found["agreement"].items() if k != "rows"})
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()

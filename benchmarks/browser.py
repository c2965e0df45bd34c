"""How quickly the playground answers, measured in JupyterLab in a headless Chromium.

    python benchmarks/browser.py                 # about ten minutes; leave the machine alone meanwhile
    python benchmarks/browser.py --train 60      # instead: train for an hour without pause; results/browser-hour.json

- from a slider to the drawn prediction: milliseconds between a key press on the handle and the figure that shows the
  new prediction. Positions are new to the kernel; as for a person, the next ones of the slider that moved last may have
  been predicted while nothing else was to do. "unforeseen" are jumps of five steps, further than that goes;
- updates a second of the curves while three losses train side by side;
- slowdown: a training while the page shows it and while nobody is told of it, in turns of two seconds;
- memory: what the kernel grows by while a run is started and stopped many times;
- with ``--train``: memory and threads of the kernel minute by minute, and whether every run is there at the end.

The result goes to ``benchmarks/results/``. It needs playwright (tests/requirements.txt) and a Chromium.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs as a script from anywhere

import psutil
from playwright.sync_api import sync_playwright

from sce_lab.runs import environment, write_text
from tests.browser.lab_page import CHROMIUM, CHROMIUM_ARGUMENTS, Notebook, wait_until
from tests.browser.server import ROOT, jupyterlab

#: Presses a key on a slider's handle and waits until the memory figure was drawn anew, again and again.
LATENCY = """
async ([handle, key, times, pause]) => {
  const plot = document.querySelectorAll('.sce-lab .js-plotly-plot')[0];
  const found = [];
  for (let i = 0; i < times; i++) {
    await new Promise((done) => setTimeout(done, pause));
    const drawn = new Promise((done) => plot.addEventListener('sce-drawn', done, { once: true }));
    const began = performance.now();
    handle.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
    const came = await Promise.race([drawn, new Promise((done) => setTimeout(done, 5000))]);
    found.push(came ? performance.now() - began : NaN);
  }
  return found;
}
"""
#: Counts how often the curves are drawn.
UPDATES = """
async (seconds) => {
  const plot = document.querySelectorAll('.sce-lab .sce-plot')[1].querySelector('.js-plotly-plot');
  const times = [];
  const note = () => times.push(performance.now());
  plot.addEventListener('sce-drawn', note);
  await new Promise((done) => setTimeout(done, 1000 * seconds));
  plot.removeEventListener('sce-drawn', note);
  return times;
}
"""
#: In the kernel: seconds and steps of each turn of a training, watched by the page and by nobody, one after the other.
SLOWDOWN = """
import json as _json, time as _time
from sce_lab.training import StepDone as _StepDone

_live, _show, _events = playground._live, playground._show_run, []
_take, _turn = _live._take, 0

def _noted(event):
    _events.append((_time.perf_counter(), isinstance(event.event, _StepDone), _turn))
    _take(event)

_live._take = _noted
playground._show_run = lambda whole: _show(whole) if _turn % 2 == 0 else None
for _turn in range(2 * ROUNDS):
    if not playground.active:
        playground.start()
        _time.sleep(3)
    _time.sleep(SECONDS)
playground._show_run, _live._take = _show, _take
playground.stop()
playground.wait()
_found = [[0, 0] for _ in range(2 * ROUNDS)]
for (_began, _, _before), (_ended, _is_step, _now) in zip(_events, _events[1:]):
    if _is_step and _before == _now:  # what lies before a step is the step and showing the last; scoring is left out
        _found[_now][0] += _ended - _began
        _found[_now][1] += 1
print(_json.dumps(_found))
"""
#: In the kernel: its own bytes before and after many starts and stops. The pages of library files that it maps are left
#: out: the system may drop them and read them again as it likes.
GROWTH = """
import gc as _gc, json as _json, time as _time, threading as _threading, psutil as _psutil

def _start_and_stop(times):
    for _ in range(times):
        playground.start(steps=2)
        while playground._live.state == "running":
            _time.sleep(0.005)
        playground.stop()
        playground.wait(60)
        playground.reset()
    _gc.collect()
    _memory = _psutil.Process().memory_info()
    return _memory.rss - getattr(_memory, "shared", 0)

_found = [_start_and_stop(TIMES // 5), _start_and_stop(TIMES)]
print(_json.dumps({"bytes": _found, "threads": _threading.active_count()}))
"""


def run_code(notebook: Notebook, code: str) -> Any:
    """Run code in the notebook's kernel; returns what it printed, which is JSON."""
    text = notebook.execute(code, seconds=2_400)
    try:
        return json.loads(text.strip().splitlines()[-1])
    except (json.JSONDecodeError, IndexError):
        raise RuntimeError(f"the kernel answered: {text}") from None


def apply(notebook: Notebook, **state: Any) -> None:
    """Set the controls."""
    run_code(notebook, f"playground.apply({state!r}); playground.results(); print(0)")


def summary(milliseconds: list[float]) -> dict[str, float]:
    """Median, 95th percentile and count."""
    ranked = sorted(milliseconds)
    return {
        "median_ms": round(statistics.median(ranked), 1),
        "p95_ms": round(ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))], 1),
        "n": len(ranked),
    }


def latency(notebook: Notebook) -> dict[str, Any]:
    """Slider to prediction: the catalog (all three losses change) and the buckets (one does)."""
    moves = (
        ("catalog_size", "Catalog size", "ArrowRight", 15),
        ("n_buckets", "Buckets", "ArrowRight", 20),
        ("unforeseen", "Catalog size", "PageDown", 3),
        ("unforeseen", "Buckets", "PageDown", 4),
    )
    found: dict[str, list[float]] = {name: [] for name, *_ in moves}
    for repeat in range(3):
        for name, title, key, times in moves:
            if name != "unforeseen":
                apply(notebook, batch_size=64 + repeat, catalog_size=100, n_buckets=1)
            else:
                apply(notebook, batch_size=84 + repeat, catalog_size=10_000_000, n_buckets=4_096)
            handle = notebook.handle(title).element_handle()
            handle.focus()
            found[name] += notebook.page.evaluate(LATENCY, [handle, key, times, 250])
    one_by_one = found["catalog_size"] + found["n_buckets"]
    return {name: summary(values) for name, values in found.items()} | {"all": summary(one_by_one)}


def updates(notebook: Notebook, seconds: float = 10.0) -> dict[str, float]:
    """Drawn updates a second while three losses train."""
    apply(notebook, losses=["ce", "sampled", "sce"], catalog_size=2_000, epochs=200, batch_size=64, n_buckets=64)
    notebook.button("Start").click()
    wait_until(lambda: notebook.points() > 30, 60, "it does not train")
    times = notebook.page.evaluate(UPDATES, seconds)
    notebook.button("Stop").click()
    wait_until(lambda: "stopped" in notebook.status(), 20, "it does not stop")
    return {"updates_per_second": round(len(times) / seconds, 2), "seconds": seconds}


def slowdown(notebook: Notebook, rounds: int = 80, seconds: float = 2.0) -> dict[str, Any]:
    """Seconds a step with the page watching, relative to nobody watching; neighbouring turns are compared."""
    apply(notebook, losses=["sampled", "sce"], catalog_size=2_000, epochs=200, batch_size=64, n_buckets=64)
    found = run_code(notebook, SLOWDOWN.replace("ROUNDS", str(rounds)).replace("SECONDS", str(seconds)))
    turns = [1e3 * spent / steps if steps else math.nan for spent, steps in found]
    pairs = [(watched, alone) for watched, alone in zip(turns[::2], turns[1::2]) if watched + alone > 0]
    ratios = [math.log(watched / alone) for watched, alone in pairs]
    return {
        "ms_per_step": dict(zip(("watched", "alone"), (round(statistics.mean(ms), 3) for ms in zip(*pairs)))),
        "slowdown": round(math.expm1(statistics.mean(ratios)), 4),
        "standard_error": round(statistics.stdev(ratios) / math.sqrt(len(ratios)), 4),
        "rounds": len(pairs),
        "seconds_per_turn": seconds,
    }


def growth(notebook: Notebook, times: int) -> dict[str, Any]:
    """What is left of starts and stops."""
    apply(notebook, losses=["sce"], catalog_size=200, epochs=5, batch_size=32, n_buckets=16, hidden_size=16)
    found = run_code(notebook, GROWTH.replace("TIMES", str(times)))
    before, after = found["bytes"]
    return {"starts": times, "kernel_growth_bytes": after - before, "threads": found["threads"]}


def endurance(notebook: Notebook, minutes: float) -> dict[str, Any]:
    """Train again and again, the page watching: resident memory and threads of the kernel, one reading a minute."""
    apply(notebook, losses=["sampled", "sce"], catalog_size=2_000, epochs=100, batch_size=64, n_buckets=64)
    kernel = psutil.Process(run_code(notebook, "import os; print(os.getpid())"))
    readings, starts, began = [], 0, time.monotonic()
    while (minute := (time.monotonic() - began) / 60) < minutes:
        if notebook.button("Start").is_enabled():
            notebook.button("Start").click()
            starts += 1
        if minute >= len(readings) + 1:
            readings.append((kernel.memory_info().rss, kernel.num_threads()))
        notebook.page.wait_for_timeout(1000)
    notebook.button("Stop").click()
    wait_until(notebook.button("Start").is_enabled, 60, "it does not stop")
    kept = run_code(notebook, "print(sum(run.snapshot.finished is not None for run in playground.runs))")
    notebook.check()
    memory, threads = zip(*readings)
    return {
        "minutes": round(minute, 1),
        "runs": {"started": 2 * starts, "kept": kept},
        "kernel_bytes": {"first": memory[0], "largest": max(memory), "last": memory[-1], "each_minute": memory},
        "kernel_threads": {"first": threads[0], "largest": max(threads), "last": threads[-1]},
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=200, help="starts and stops whose memory is looked at")
    parser.add_argument("--train", type=float, metavar="MINUTES", help="train for so long, and measure nothing else")
    parser.add_argument("--out", type=Path, help="file to write instead of one in benchmarks/results")
    arguments = parser.parse_args()
    name = "browser-hour.json" if arguments.train else "browser.json"
    path = arguments.out or ROOT / "benchmarks" / "results" / name
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or JupyterLab and its kernel would be left running
    busy = psutil.cpu_percent(interval=2)
    with tempfile.TemporaryDirectory() as folder, jupyterlab(Path(folder)) as lab, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))
        notebook = Notebook(browser.new_page(viewport={"width": 1280, "height": 900}), lab, "01_playground")
        notebook.run_all()
        notebook.page.wait_for_selector(".js-plotly-plot")
        notebook.button("Start").scroll_into_view_if_needed()
        result = {"browser": browser.version, "environment": environment()}
        result["processors_busy_before_percent"] = busy
        measures: dict[str, Callable[[Notebook], Any]] = {
            "slider_to_prediction": latency,
            "live": updates,
            "training": slowdown,
            "memory": lambda notebook: growth(notebook, arguments.starts),
        }
        if arguments.train:
            measures = {"endurance": lambda notebook: endurance(notebook, arguments.train)}
        for name, measure in measures.items():
            result[name] = measure(notebook)
            print(name, json.dumps(result[name]), flush=True)
        browser.close()
    write_text(path, json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

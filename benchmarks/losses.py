"""Time, memory and error of every implementation of the losses, side by side in one process.

    python benchmarks/losses.py                  # the cases of the table below, about 20 minutes on two cores
    python benchmarks/losses.py --cases S,M --rounds 9
    python benchmarks/losses.py --sweeps         # also how time and memory grow with C, N and the number of buckets

The rounds of a case are interleaved (A B C, A B C, ...), so that a machine that slows down slows all alike; quote the
ratios. Results go to ``benchmarks/results/losses-<device>.json`` and a page of figures beside it.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # runs as a script from anywhere

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from peers import Peer, Problem, peers, reference_bytes
from rich.console import Console
from rich.table import Table

from sce_lab import scalable_cross_entropy_reference
from sce_lab.figures import LOOKS, figure, html_page
from sce_lab.figures.style import log_bytes_axis, panel_title
from sce_lab.memory import LiveBytes, format_bytes, free_memory, largest_workspace
from sce_lab.runs import environment, write_text

#: N positions, C items, n_buckets = bucket_size_x, bucket_size_y
CASES = {
    "B": (733, 12_101, 54, 256),
    "W": (2_000, 173_511, 89, 256),
    "S": (6_100, 12_101, 202, 256),
    "M": (20_000, 173_511, 282, 256),
    "L": (51_200, 1_000_000, 452, 256),
    "XL": (51_200, 10_000_000, 452, 256),
}
SWEEPS = {
    "C": [(6_100, c, 156, 256) for c in (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)],
    "N": [(n, 100_000, 156, 256) for n in (1_000, 3_000, 10_000, 30_000, 100_000)],
    "n_buckets": [(20_000, 100_000, b, 256) for b in (32, 64, 128, 256, 512)],
}
RESULTS = Path(__file__).parent / "results"
console = Console(width=140)


def synchronise(device: str) -> None:
    """Wait for the GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(peer: Peer, problem: Problem, device: str) -> tuple[float, float]:
    """Seconds of one forward and one backward pass."""
    problem.outputs.grad = problem.table.grad = None
    gc.collect()
    synchronise(device)
    start = time.perf_counter()
    loss = peer.run(problem)
    synchronise(device)
    middle = time.perf_counter()
    loss.backward()
    synchronise(device)
    return middle - start, time.perf_counter() - middle


def memory(peer: Peer, problem: Problem, device: str) -> dict[str, int]:
    """Bytes beyond the inputs: ``peak`` of all, and ``workspace``, the part that is not a gradient of the inputs."""
    problem.outputs.grad = problem.table.grad = None
    gc.collect()
    if device == "cuda":
        synchronise(device)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        peer.run(problem).backward()
        synchronise(device)
        peak = torch.cuda.max_memory_allocated() - before
        return {"peak": peak, "workspace": peak - (torch.cuda.memory_allocated() - before)}
    with LiveBytes() as live:
        live.know([problem.outputs, problem.table, problem.targets])
        peer.run(problem).backward()
    return {"peak": live.peak, "workspace": largest_workspace(live.log)}


def error(peer: Peer, problem: Problem, truth: dict[str, Any]) -> dict[str, float]:
    """Relative differences of the loss and of both gradients from the float64 truth."""
    problem.outputs.grad = problem.table.grad = None
    loss = peer.run(problem)
    loss.backward()
    found = {"loss": loss.detach(), "outputs": problem.outputs.grad, "table": problem.table.grad.to_dense()}
    return {k: float((found[k].double() - v).norm() / v.norm()) for k, v in truth.items()}


def float64_truth(kind: str, problem: Problem) -> dict[str, torch.Tensor] | None:
    """Loss and gradients in float64, with the float32 choice of buckets where float64 would not choose otherwise."""
    p = problem.to(torch.float64)
    if kind == "sce":
        loss = scalable_cross_entropy_reference(*p.inputs, **p.sce)
    elif kind == "ce":
        loss = torch.nn.functional.cross_entropy(p.outputs @ p.table.T, p.targets)
    else:
        return None
    loss.backward()
    return {"loss": loss.detach(), "outputs": p.outputs.grad, "table": p.table.grad}


def measure(name: str, sizes: tuple[int, int, int, int], found: list[Peer], args: argparse.Namespace) -> list[dict]:
    """All peers on one problem: a row each."""
    n, c, b, y = sizes
    base = {"case": name, "N": n, "C": c, "n_buckets": b, "bucket_size_y": y}
    free = free_memory() if args.device == "cpu" else torch.cuda.mem_get_info()[0]
    rows, running = [], []
    for peer in found:
        operations = 6.0 * 64 * n * c if peer.computes == "ce" else 0.0
        if peer.held(*sizes) > free:
            rows.append(base | {"peer": peer.name, "skipped": f"needs about {format_bytes(peer.held(*sizes))}"})
        elif args.device == "cpu" and operations > args.max_operations:
            rows.append(base | {"peer": peer.name, "skipped": f"{operations:.0e} operations a step"})
        else:
            running.append(peer)
    problem = Problem.random(*sizes, device=args.device)
    truths: dict[str, Any] = {}
    if args.errors:
        in_float64 = {"sce": 2 * reference_bytes(*sizes), "ce": 48 * n * c}
        for kind in {peer.computes for peer in running} & in_float64.keys():
            if in_float64[kind] < free:
                truths[kind] = float64_truth(kind, problem)
    times: dict[str, list[tuple[float, float]]] = {peer.name: [] for peer in running}
    for peer in running:
        timed(peer, problem, args.device)  # warm-up
    for _ in range(args.rounds):
        for peer in running:
            times[peer.name].append(timed(peer, problem, args.device))
    for peer in running:
        forward, backward = (statistics.median(t) for t in zip(*times[peer.name]))
        row = base | {"peer": peer.name, "version": peer.version, "forward": forward, "backward": backward}
        row["seconds"] = statistics.median(map(sum, times[peer.name]))
        row["all_seconds"] = [round(sum(t), 6) for t in times[peer.name]]
        row |= memory(peer, problem, args.device)
        if truths.get(peer.computes):
            row["error"] = error(peer, problem, truths[peer.computes])
        rows.append(row)
    return rows


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Exponents of growth: the slope of log(seconds) and log(workspace) over the upper half of each sweep."""
    rows = []
    for (sweep, peer), part in table.groupby(["case", "peer"], sort=False):
        part = part.dropna(subset=["seconds"]).sort_values(sweep).tail(4)
        if len(part) >= 3:
            x = np.log(part[sweep])
            fits = {k: float(np.polyfit(x, np.log(part[k].clip(lower=1e-9)), 1)[0]) for k in ("seconds", "workspace")}
            rows.append({"sweep": sweep, "peer": peer} | fits)
    return pd.DataFrame(rows)


def show(rows: list[dict]) -> None:
    """One case as a table."""
    first = rows[0]
    table = Table(title=f"{first['case']}: N = {first['N']:,}, C = {first['C']:,}, {first['n_buckets']} buckets")
    for column in ("", "forward ms", "backward ms", "total ms", "workspace", "peak", "error loss / dX / dW"):
        table.add_column(column, justify="left" if not column else "right")
    for row in rows:
        if "skipped" in row:
            table.add_row(row["peer"], *[""] * 2, "skipped", row["skipped"], "", "")
            continue
        ms = [f"{1e3 * row[k]:,.1f}" for k in ("forward", "backward", "seconds")]
        errors = " / ".join(f"{v:.0e}" for v in row["error"].values()) if "error" in row else ""
        table.add_row(row["peer"], *ms, format_bytes(row["workspace"]), format_bytes(row["peak"]), errors)
    console.print(table)


#: Ours in the lab's green, other SCE implementations in greys, exact cross-entropy in its vermilion, sampled in blue.
PEER_LOOKS = {
    "SCE": (LOOKS["sce"].color, "solid", "circle"),
    "SCE, row-sparse gradient": ("#66c7ab", "solid", "circle-open"),
    "SCE, Triton": ("#00563f", "dashdot", "star"),
    "SCE, readable reference": ("#808182", "dash", "diamond"),
    "SCE, replay-rec": ("#4d4e50", "dot", "diamond-open"),
    "CE, materialised": (LOOKS["ce"].color, "dash", "square"),
    "CE, torch chunked": ("#eba57a", "dash", "square-open"),
    "CE, cut-cross-entropy": ("#a34700", "dot", "x"),
    "CE, Liger": ("#c99b00", "dot", "cross"),
    "CE, logits never held": (LOOKS["cce"].color, "solid", "square"),
    "sampled softmax, 256": (LOOKS["sampled"].color, "dot", "triangle-up"),
    "sampled softmax, 4,096": (LOOKS["sampled"].color, "solid", "triangle-up"),
    "sampled softmax, 4,096, logits held": ("#7fb8da", "dash", "triangle-up-open"),
}
AXES = {"C": "items in the catalog", "N": "positions", "n_buckets": "buckets"}


def bars(table: pd.DataFrame, column: str, title: str, write: Callable[[float], str]) -> go.Figure:
    """A bar a peer, grouped by case, on a log scale: bars start at a tenth of the smallest."""
    data = []
    for peer, part in table.groupby("peer", sort=False):
        color = PEER_LOOKS[peer][0]
        text = [write(v) for v in part[column]]
        bar = {"type": "bar", "name": peer, "x": part["case"], "y": part[column], "text": text, "textangle": -90}
        data.append(bar | {"marker": {"color": color}, "hovertemplate": f"{peer}, %{{x}}: %{{text}}<extra></extra>"})
    low, high = np.log10(table[column].min()) - 1, np.log10(table[column].max()) + 0.3
    yaxis = {"type": "log", "range": [low, high], "dtick": 1, "showticklabels": False}
    legend = {"orientation": "v", "x": 1.01, "xanchor": "left", "yanchor": "top", "yref": "paper", "y": 1}
    layout = {"height": 420, "barmode": "group", "yaxis": yaxis, "legend": legend, "margin": {"t": 30, "r": 200}}
    return figure({"data": data, "layout": layout | {"annotations": [panel_title(title)]}})


def lines(table: pd.DataFrame, sweep: str, column: str, title: str) -> go.Figure:
    """Growth: a line a peer, both axes logarithmic, so that the slope is the exponent."""
    data = []
    for peer, part in table.dropna(subset=[column]).groupby("peer", sort=False):
        color, dash, symbol = PEER_LOOKS[peer]
        line = {"type": "scatter", "mode": "lines+markers", "name": peer, "x": part[sweep], "y": part[column]}
        data.append(line | {"line": {"color": color, "dash": dash}, "marker": {"symbol": symbol, "size": 8}})
    axis = log_bytes_axis(table[column].min() / 1.5, table[column].max() * 1.5) if column != "seconds" else {"dtick": 1}
    yaxis = {"type": "log", "title": {"text": "seconds" if column == "seconds" else ""}, **axis}
    legend = {"orientation": "v", "x": 1.01, "xanchor": "left", "yanchor": "top", "yref": "paper", "y": 1}
    layout = {"height": 380, "xaxis": {"type": "log", "dtick": 1, "title": {"text": AXES[sweep]}}, "yaxis": yaxis}
    layout |= {"legend": legend, "margin": {"t": 30, "r": 200}, "annotations": [panel_title(title)]}
    return figure({"data": data, "layout": layout})


def page(result: dict[str, Any], path: Path) -> None:
    """The same as plotly figures, with what was measured where."""
    done = pd.DataFrame([r for r in result["cases"] if "skipped" not in r])
    figures = [
        bars(done, "seconds", "Seconds, forward and backward (log scale)", lambda v: f"{v:.2g} s"),
        bars(done, "workspace", "Loss workspace: bytes beyond inputs and their gradients (log scale)", format_bytes),
    ]
    if result["sweeps"]:
        growth = pd.DataFrame([r for r in result["sweeps"] if "skipped" not in r])
        for sweep, part in growth.groupby("case", sort=False):
            figures.append(lines(part, sweep, "seconds", f"Time as the {AXES[sweep]} grow"))
            figures.append(lines(part, sweep, "workspace", f"Workspace as the {AXES[sweep]} grow"))
    where = result["environment"]
    machine = ", ".join(where["gpus"]) or f"{where['processor']}, {where['threads']} threads"
    subtitle = f"{machine}, PyTorch {where['versions']['torch']}. Command: {where['command']}"
    skipped = pd.DataFrame([r for r in result["cases"] if "skipped" in r])
    tables = skipped[["case", "peer", "skipped"]].to_html(index=False, border=0) if len(skipped) else ""
    if result.get("slopes"):
        growth = pd.DataFrame(result["slopes"]).round(2)
        tables += "<h2>Exponents of growth</h2>" + growth.to_html(index=False, border=0)
    write_text(path, html_page("Losses side by side", subtitle, tables, figures, cdn=True))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help="which of " + ", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=5, help="timed repetitions of each; the median counts")
    parser.add_argument("--sweeps", action="store_true", help="also growing C, N and number of buckets")
    parser.add_argument("--only", default="", help="only peers whose name contains this")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-errors", dest="errors", action="store_false", help="skip the float64 comparison")
    parser.add_argument("--max-operations", type=float, default=1.5e11, help="skip exact CE above this on a CPU")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/losses-<device>.json")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    found, missing = peers(args.device)
    found = [peer for peer in found if args.only in peer.name]
    for name, reason in missing.items():
        console.print(f"not here: {name} ({reason})")
    rows: list[dict] = []
    growth: list[dict] = []
    for case in args.cases.split(","):
        rows += (new := measure(case, CASES[case], found, args))
        show(new)
    save(rows, growth, missing, args)  # the sweeps take a while; an interruption keeps the cases
    if args.sweeps:
        args.errors = False
        for sweep, sizes in SWEEPS.items():
            for size in sizes:
                growth += (new := measure(sweep, size, found, args))
                show(new)
            save(rows, growth, missing, args)
        console.print(slopes(pd.DataFrame(growth)).round(2).to_string(index=False))


def save(rows: list[dict], growth: list[dict], missing: dict[str, str], args: argparse.Namespace) -> None:
    """Write the results so far, and the page of figures beside them."""
    result = {"environment": environment(), "missing": missing, "cases": rows, "sweeps": growth}
    if growth:
        result["slopes"] = slopes(pd.DataFrame(growth)).to_dict("records")
    out = args.out or RESULTS / f"losses-{args.device}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(result, indent=1))
    page(result, out.with_suffix(".html"))
    console.print(f"Written to {out} and {out.with_suffix('.html').name}")


if __name__ == "__main__":
    main()

"""Time, memory and error of every implementation of the losses, side by side in one process.

    python benchmarks/losses.py                  # the cases B to XL, about 20 minutes on two cores
    python benchmarks/losses.py --cases S,M --rounds 9
    python benchmarks/losses.py --cases L-half,head          # bfloat16; a language model's head
    python benchmarks/losses.py --sweeps         # also how time and memory grow with C, N and the number of buckets

The rounds of a case are interleaved (A B C, A B C, ...), so that a machine that slows down slows all alike; quote the
ratios. A peer that fails is noted with what it said, and the others go on. Results go to
``benchmarks/results/losses-<device>.json`` and, where plotly and pandas are installed, a page of figures beside it.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peers import Peer, Problem, peers, reference_bytes
from plain import RESULTS, environment, format_bytes, free_memory, show, write

from sce_lab.losses import scalable_cross_entropy_reference


class Case(NamedTuple):
    """The sizes of a problem; ``n_buckets`` is also ``bucket_size_x``."""

    n: int
    c: int
    n_buckets: int
    bucket_size_y: int
    dim: int = 64
    dtype: str = "float32"

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Positions, items, buckets, items of a bucket."""
        return self[:4]


CASES = {
    "B": Case(733, 12_101, 54, 256),
    "W": Case(2_000, 173_511, 89, 256),
    "S": Case(6_100, 12_101, 202, 256),
    "M": Case(20_000, 173_511, 282, 256),
    "L": Case(51_200, 1_000_000, 452, 256),
    "XL": Case(51_200, 10_000_000, 452, 256),
    # not among those that are run unless they are asked for:
    "M-half": Case(20_000, 173_511, 282, 256, dtype="bfloat16"),
    "L-half": Case(51_200, 1_000_000, 452, 256, dtype="bfloat16"),
    "L-256": Case(51_200, 1_000_000, 452, 256, dim=256),
    "head": Case(8_192, 256_000, 181, 512, dim=2_304, dtype="bfloat16"),  # of a language model
    "tiny": Case(200, 3_000, 8, 32, dim=16),
}
USUAL = ("B", "W", "S", "M", "L", "XL")
SWEEPS = {
    "C": [(6_100, c, 156, 256) for c in (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)],
    "N": [(n, 100_000, 156, 256) for n in (1_000, 3_000, 10_000, 30_000, 100_000)],
    "n_buckets": [(20_000, 100_000, b, 256) for b in (32, 64, 128, 256, 512)],
}
#: Errors are looked at where the truth takes no more bytes than this.
MOST_BYTES_OF_TRUTH = 8e9


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
    from sce_lab.memory import LiveBytes, largest_workspace

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


def measure(name: str, case: Case, found: list[Peer], args: argparse.Namespace) -> list[dict]:
    """All peers on one problem: a row each."""
    n, c, b, y = case.sizes
    base = {"case": name, "N": n, "C": c, "n_buckets": b, "bucket_size_y": y, "dim": case.dim, "dtype": case.dtype}
    free = free_memory(args.device)
    rows, running = [], []
    for peer in found:
        operations = 6.0 * case.dim * n * c if peer.computes == "ce" else 0.0
        held = peer.held(*case.sizes, case.dim)
        if held > free:
            rows.append(base | {"peer": peer.name, "skipped": f"needs about {format_bytes(held)}"})
        elif operations > min(args.max_operations * (6 if case.dtype != "float32" else 1), peer.most_operations):
            rows.append(base | {"peer": peer.name, "skipped": f"{operations:.0e} operations a step"})
        else:
            running.append(peer)
    problem = Problem.random(*case.sizes, dim=case.dim, device=args.device, dtype=getattr(torch, case.dtype))
    truths: dict[str, Any] = {}
    if args.errors:
        in_float64 = {"sce": 2 * reference_bytes(*case.sizes, case.dim), "ce": 48 * n * c}
        for kind in {peer.computes for peer in running} & in_float64.keys():
            if in_float64[kind] < min(free, MOST_BYTES_OF_TRUTH if args.device == "cuda" else free):
                truths[kind] = float64_truth(kind, problem)
    times: dict[str, list[tuple[float, float]]] = {peer.name: [] for peer in running}
    for nth in range(-1, args.rounds):
        for peer in [*running]:
            first = times[peer.name]
            if nth >= 1 and args.device == "cuda" and sum(first[0]) > 1:  # one round says enough
                continue
            try:
                taken = timed(peer, problem, args.device)
            except Exception as reason:  # whatever it is, it is that peer's
                rows.append(base | {"peer": peer.name, "failed": _said(reason)})
                running.remove(peer)
                continue
            if nth >= 0:  # the first is a warm-up
                first.append(taken)
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


def _said(error: Exception) -> str:
    """One line of what went wrong. What it held is let go of."""
    message = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    error.__traceback__ = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return message


def shown(rows: list[dict]) -> None:
    """One case as a table."""
    lines = []
    for row in rows:
        if why := row.get("skipped") or row.get("failed"):
            lines.append([row["peer"], "", "", "", "", "", ("skipped: " if "skipped" in row else "failed: ") + why])
            continue
        ms = [f"{1e3 * row[k]:,.1f}" for k in ("forward", "backward", "seconds")]
        errors = " / ".join(f"{v:.0e}" for v in row["error"].values()) if "error" in row else ""
        lines.append([row["peer"], *ms, format_bytes(row["workspace"]), format_bytes(row["peak"]), errors])
    title = "{case}: N = {N:,}, C = {C:,}, {n_buckets} buckets, D = {dim}, {dtype}".format(**rows[0])
    show(title, ("", "forward ms", "backward ms", "total ms", "workspace", "peak", "error loss / dX / dW"), lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(USUAL), help="which of " + ", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=5, help="timed repetitions of each; the median counts")
    parser.add_argument("--sweeps", action="store_true", help="also growing C, N and number of buckets")
    parser.add_argument("--only", default="", help="only peers whose name contains this")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-errors", dest="errors", action="store_false", help="skip the float64 comparison")
    parser.add_argument("--max-operations", type=float, help="skip exact CE above this: 1.5e11; 5e12 on a GPU")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no case after so many")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/losses-<device>.json")
    args = parser.parse_args()
    args.max_operations = args.max_operations or (1.5e11 if args.device == "cpu" else 5e12)
    warnings.filterwarnings("ignore", category=UserWarning)
    found, missing = peers(args.device)
    found = [peer for peer in found if args.only in peer.name]
    for name, reason in missing.items():
        print(f"not here: {name} ({reason})")
    rows: list[dict] = []
    growth: list[dict] = []
    began = time.perf_counter()
    for case in args.cases.split(","):
        if time.perf_counter() - began > args.seconds:
            print(f"{case} is left out: the time is up")
            continue
        rows += (new := measure(case, CASES[case], found, args))
        shown(new)
        save(rows, growth, missing, args)  # the sweeps take a while; an interruption keeps the cases
    if args.sweeps:
        args.errors = False
        for sweep, sizes in SWEEPS.items():
            for size in sizes:
                growth += (new := measure(sweep, Case(*size), found, args))
                shown(new)
            save(rows, growth, missing, args)


def save(rows: list[dict], growth: list[dict], missing: dict[str, str], args: argparse.Namespace) -> None:
    """Write the results so far, and the page of figures beside them."""
    result = {"environment": environment(), "missing": missing, "cases": rows, "sweeps": growth}
    out = args.out or RESULTS / f"losses-{args.device}.json"
    try:
        from losses_page import page, with_slopes
    except ImportError as error:
        write(out, result)
        print(f"without a page of figures: {error}")
        return
    write(out, with_slopes(result))
    page(result, out.with_suffix(".html"))


if __name__ == "__main__":
    main()

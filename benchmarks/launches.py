"""What a step of a loss launches on a GPU, how long it waits, how long the GPU is busy; and the step as a CUDA graph.

    python benchmarks/launches.py --cases S,M,L,L-half,head

*Busy* is the sum of the kernels' times from ``torch.profiler``. *Waits* are calls in which the CPU waits for the GPU.
*Graph* is the same step captured once and replayed: what is left without Python. Results go to
``benchmarks/results/launches.json``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from losses import CASES, synchronise
from peers import Problem, peers
from plain import RESULTS, environment, show, write
from torch.profiler import ProfilerActivity, profile

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "Memcpy DtoH")
NAMES = ("SCE", "SCE, PyTorch", "SCE, replay-rec", "SCE, readable reference", "CE, logits never held")
NAMES += ("sampled softmax, 256", "sampled softmax, 4,096")


def profiled(step: Callable[[], Any], device: str) -> dict[str, float]:
    """Launches, waits and milliseconds of GPU time of one step, after others."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with profile(activities=activities) as found:
        step()
    events = found.events()
    on_gpu = [e for e in events if str(e.device_type).endswith("CUDA")]
    waits = [e for e in events if any(name in e.name for name in WAITS)]
    launched = [e for e in events if e.name.startswith(("cudaLaunchKernel", "cuLaunchKernel", "cudaMemsetAsync"))]
    busy = sum(e.time_range.elapsed_us() for e in on_gpu) / 1e3
    # the profiler waits once itself when it ends
    return {"launches": len(launched), "waits": max(len(waits) - 1, 0) if device == "cuda" else 0, "busy_ms": busy}


def wall(step: Callable[[], Any], device: str, rounds: int = 9) -> float:
    """Median milliseconds of a synchronised step."""
    taken = []
    for _ in range(rounds):
        synchronise(device)
        start = time.perf_counter()
        step()
        synchronise(device)
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken)


def captured(run: Callable[[Problem], torch.Tensor], problem: Problem) -> dict[str, Any]:
    """The step as a CUDA graph: milliseconds of a replay, and whether it leaves the same gradients."""
    centers = problem.centers.clone()
    problem = _Fixed(problem, centers)

    def step() -> None:
        problem.outputs.grad = problem.table.grad = None
        run(problem).backward()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    expected = problem.outputs.grad.clone(), problem.table.grad.norm()
    graph = torch.cuda.CUDAGraph()
    problem.outputs.grad = problem.table.grad = None
    with torch.cuda.graph(graph):
        run(problem).backward()
    milliseconds = wall(graph.replay, "cuda")
    same = (problem.outputs.grad - expected[0]).norm() <= 1e-3 * expected[0].norm()
    return {"graph_ms": milliseconds, "graph_is_right": bool(same & ((problem.table.grad.norm() / expected[1]) < 1.01))}


class _Fixed:
    """A problem whose centres are drawn already: a graph replays what it has captured."""

    def __init__(self, problem: Problem, centers: torch.Tensor) -> None:
        self.outputs, self.table, self.targets = problem.inputs
        self.inputs, self.sce = problem.inputs, {**problem.sce, "centers": centers}


def measure(name: str, device: str, graphs: bool) -> list[dict[str, Any]]:
    """One case: a row for each implementation."""
    case = CASES[name]
    problem = Problem.random(*case.sizes, dim=case.dim, device=device, dtype=getattr(torch, case.dtype))
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else 2**31
    rows = []
    for peer in peers(device)[0]:
        heavy = peer.computes == "ce" and 6.0 * case.dim * case.n * case.c > 2e13
        if peer.name not in NAMES or peer.held(*case.sizes, case.dim) > free or heavy:
            continue

        def step(peer: Any = peer) -> None:
            problem.outputs.grad = problem.table.grad = None
            peer.run(problem).backward()

        row = {"case": name, "peer": peer.name}
        try:
            for _ in range(2):
                step()
            row |= {"wall_ms": wall(step, device), **profiled(step, device)}
            if graphs and peer.name == "SCE":
                row |= captured(peer.run, problem)
        except Exception as error:
            row["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        rows.append(row)
    return rows


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="S,M,L,L-half,head", help="which of those of losses.py")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "launches.json")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in args.cases.split(","):
        rows += (new := measure(name, args.device, graphs=args.device == "cuda"))
        columns = ("wall_ms", "busy_ms", "launches", "waits", "graph_ms", "graph_is_right", "failed")
        lines = [[row["peer"], *(_written(row.get(column, "")) for column in columns)] for row in new]
        show(name, ("", *(column.replace("_", " ") for column in columns)), lines)
        write(args.out, {"environment": environment(), "steps": rows})


def _written(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()

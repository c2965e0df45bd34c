"""How far each phase of SCE is from what the machine allows.

    python benchmarks/floor.py                   # the cases S, M, L, XL, on the GPU if there is one
    python benchmarks/floor.py --cases S,M --device cpu
    python benchmarks/floor.py --precision tf32x3  # how Triton's kernels multiply float32 numbers

Counts the operations and bytes that a phase cannot do without, measures how many of each this machine does in a second,
and divides. Results go to ``benchmarks/results/floor-<device>.json``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from losses import CASES, synchronise
from peers import Problem
from plain import RESULTS, environment, format_bytes, free_memory, show, write
from torch import Tensor

from sce_lab.losses.engine import How, blocks_for, softmax_losses, topk, workspace_or_default
from sce_lab.losses.engine import Problem as Asked
from sce_lab.losses.sce import DEFAULT_WORKSPACE_BYTES, TILE_SHARE

DIM = 64
FLOAT, INDEX = 4, 8  # bytes


@dataclass(frozen=True)
class Ceilings:
    """What the machine does in a second, as measured: bytes read or written, and multiplications and additions."""

    bandwidth: float
    float32: float
    tf32: float | None  # on a GPU
    bfloat16: float

    @classmethod
    def measured(cls, device: str) -> Ceilings:
        """By copying one large tensor, and by multiplying large square matrices."""

        def bandwidth() -> float:
            size = 2**28 if device == "cuda" else 2**26
            to, source = torch.ones(2, size, device=device)
            return 2 * FLOAT * size / best_seconds(lambda: to.copy_(source), device)

        def speed(dtype: torch.dtype) -> float:
            n, fastest, seconds = 256, 0.0, 0.0
            while n <= 8192 and seconds < 0.02:  # bfloat16 takes its time on some CPUs
                a, b = torch.randn(2, n, n, device=device).to(dtype)
                seconds = best_seconds(lambda a=a, b=b: a @ b, device)
                n, fastest = 2 * n, max(fastest, 2 * n**3 / seconds)
            return fastest

        tf32 = None
        if device == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = True
            tf32 = speed(torch.float32)
            torch.backends.cuda.matmul.allow_tf32 = False
        return cls(bandwidth(), speed(torch.float32), tf32, speed(torch.bfloat16))


@dataclass(frozen=True)
class Needs:
    """What a phase cannot do without: every input read once, every result written once, every product formed once."""

    operations: float
    bytes: float

    def floor(self, operations_a_second: float, bandwidth: float) -> float:
        """Seconds, if only the scarcer of the two counts."""
        return max(self.operations / operations_a_second, self.bytes / bandwidth)


def best_seconds(run: Callable[[], Any], device: str, rounds: int = 7) -> float:
    """The shortest of several runs: a ceiling is what the machine can do, not what it does on average."""
    return min(all_seconds(run, device, rounds))


def all_seconds(run: Callable[[], Any], device: str, rounds: int) -> list[float]:
    """Seconds of each of several runs, after one that does not count."""
    taken = []
    for _ in range(rounds + 1):
        synchronise(device)
        start = time.perf_counter()
        run()
        synchronise(device)
        taken.append(time.perf_counter() - start)
    return taken[1:]


def needs(problem: Problem, items: Tensor, winning_slot: Tensor, sparse_grad: bool) -> dict[str, Needs]:
    """The phases of one step on this problem, given which items and winners it turned out to have."""
    (n, _), c, b = problem.outputs.shape, len(problem.table), problem.n_buckets
    x, y = min(b, n), items.shape[1]
    row = FLOAT * DIM
    winners = int((winning_slot >= 0).sum())
    touched = len(torch.cat([items.flatten(), problem.targets]).unique())
    written = touched if sparse_grad else c
    return {
        "search positions": Needs(2 * b * n * DIM, row * (n + b) + INDEX * b * x),
        "search items": Needs(2 * b * c * DIM, row * (c + b) + INDEX * b * y),
        # outputs, items and targets in; buckets in; a loss and a slot per position out
        "losses": Needs(2 * DIM * (b * x * y + n), row * (n + touched) + INDEX * b * (x + y) + (FLOAT + INDEX) * n),
        # logits, and the gradients of outputs and items, of winners only; all gradients are written once
        "gradients": Needs(
            6 * DIM * winners * y, row * (winners + touched + n + written) + INDEX * (b * y + n) + 3 * FLOAT * n
        ),
    }


def phases(problem: Problem, backend: str, sparse_grad: bool, rounds: int) -> tuple[dict[str, float], Tensor, Tensor]:
    """Median seconds of each phase; and the items and winners there were."""
    device = problem.outputs.device.type
    workspace = workspace_or_default(None, problem.outputs, backend, DEFAULT_WORKSPACE_BYTES)
    how = How(workspace // TILE_SHARE, sparse_grad, backend=backend)
    outputs, table, labels = problem.inputs
    centers, valid = problem.centers, torch.ones_like(labels, dtype=torch.bool)

    def median(run: Callable[[], Any]) -> float:
        return statistics.median(all_seconds(run, device, rounds))

    def search(rows: Tensor, k: int, allowed: Tensor | None = None) -> Tensor:
        return topk(centers, rows.detach(), k, allowed, workspace, False, backend)

    n_x = min(problem.n_buckets, len(outputs))
    rows, items = search(outputs, n_x, valid), search(table, problem.bucket_size_y)

    def losses() -> tuple[Tensor, Tensor]:
        return softmax_losses(Asked(outputs, table, labels, valid, blocks_for(backend, rows, items)), how)

    values, winning_slot = losses()
    weights = torch.full_like(values, 1 / len(values))
    taken = {
        "search positions": median(lambda: search(outputs, n_x, valid)),
        "search items": median(lambda: search(table, problem.bucket_size_y)),
        "losses": median(losses),
        "gradients": median(lambda: torch.autograd.grad(values, [outputs, table], weights, retain_graph=True)),
    }
    return taken, items, winning_slot


def measure(name: str, ceilings: Ceilings, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One case: a row for each phase, and one for all, of each implementation."""
    n, c, b, y = CASES[name].sizes
    free = free_memory(args.device)
    if 4 * FLOAT * DIM * (n + c) > free:
        print(f"{name} is skipped: it needs about {format_bytes(4 * FLOAT * DIM * (n + c))}")
        return []
    problem = Problem.random(n, c, b, y, dim=DIM, device=args.device)
    implementations = {"PyTorch": "torch"}
    if args.triton:
        implementations["Triton"] = "triton"
    rows = []
    for implementation, backend in implementations.items():
        taken, items, winning_slot = phases(problem, backend, args.sparse_grad, args.rounds)
        needed = needs(problem, items, winning_slot, args.sparse_grad)
        needed["all"] = Needs(sum(p.operations for p in needed.values()), sum(p.bytes for p in needed.values()))
        taken["all"] = sum(taken.values())
        fast = ceilings.tf32 and ceilings.bfloat16  # on a CPU, half precision is no faster
        for phase, seconds in taken.items():
            parts = [needed[phase]] if phase != "all" else [v for k, v in needed.items() if k != "all"]
            floor = sum(part.floor(ceilings.float32, ceilings.bandwidth) for part in parts)
            by_bytes = needed[phase].bytes / ceilings.bandwidth > needed[phase].operations / ceilings.float32
            row = {
                "case": name,
                "implementation": implementation,
                "phase": phase,
                "operations": needed[phase].operations,
                "bytes": needed[phase].bytes,
                "seconds": seconds,
                "floor": floor,
                "times_floor": seconds / floor,
                "bound_by": "bytes" if by_bytes else "operations",
            }
            if fast:
                row["floor_bfloat16"] = sum(part.floor(ceilings.bfloat16, ceilings.bandwidth) for part in parts)
            rows.append(row)
    return rows


def shown(rows: list[dict[str, Any]]) -> None:
    """One case as a table."""
    lines = []
    for row in rows:
        numbers = row["operations"] / 1e9, row["bytes"] / 2**20, 1e3 * row["seconds"], 1e3 * row["floor"]
        times = f"{row['times_floor']:.1f}"
        lines.append([row["implementation"], row["phase"], *(f"{v:,.2f}" for v in numbers), times, row["bound_by"]])
    title = "{case}: N = {0:,}, C = {1:,}, {2} buckets".format(*CASES[rows[0]["case"]], **rows[0])
    show(title, ("", "phase", "Gop", "MiB", "measured ms", "floor ms", "times the floor", "bound by"), lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="S,M,L,XL", help="which of those of losses.py in float32")
    parser.add_argument("--rounds", type=int, default=7, help="timed repetitions of each phase; the median counts")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sparse-grad", action="store_true", help="row-sparse gradient of the items")
    parser.add_argument(
        "--precision", default="tf32x3", choices=("ieee", "tf32x3"), help="of Triton's float32 products"
    )
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/floor-<device>.json")
    args = parser.parse_args()
    args.triton = False
    if args.device == "cuda":
        try:
            from sce_lab.losses.engine.triton import settings

            settings.PRECISION = args.precision
            args.triton = True
        except ImportError as error:
            print(f"without Triton: {error}")
    ceilings = Ceilings.measured(args.device)
    speeds = {k: f"{v / 1e12:.2f}" for k, v in vars(ceilings).items() if k != "bandwidth" and v}
    print(f"Bandwidth {ceilings.bandwidth / 1e9:,.0f} GB/s; 10^12 operations a second: {speeds}")
    rows = []
    for case in args.cases.split(","):
        rows += (new := measure(case, ceilings, args))
        if new:
            shown(new)
    result = {
        "environment": environment(),
        "ceilings": vars(ceilings),
        "sparse_grad": args.sparse_grad,
        "precision": args.precision,
        "phases": rows,
    }
    write(args.out or RESULTS / f"floor-{args.device}.json", result)


if __name__ == "__main__":
    main()

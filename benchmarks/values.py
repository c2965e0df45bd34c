"""Are the kernels' values right here? Triton against PyTorch in float64, with nothing but PyTorch and Triton installed.

    python benchmarks/values.py

Searches, losses and gradients: odd shapes, three dtypes, many dimensions, over 2 ** 31 elements. Exits with 1 where
something is further off than rounding explains. Results go to ``benchmarks/results/values.json``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from plain import RESULTS, environment, is_here, show, write
from torch import Tensor

from sce_lab.losses import cross_entropy, sampled_softmax, scalable_cross_entropy
from sce_lab.losses.engine import topk

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 3e-3}


def losses(device: str) -> list[dict[str, Any]]:
    """Relative errors of loss and gradients."""
    rows = []
    shapes: tuple[tuple[int, str], ...] = ((5, "float32"), (20, "bfloat16"))
    if device == "cuda":  # each is compiled anew
        shapes = ((64, "float32"), (300, "bfloat16"), (5, "float32"), (64, "float16"))
    for d, dtype in shapes:
        dtype = getattr(torch, dtype)
        n, c = (301, 403) if device == "cuda" else (20, 40)  # the interpreter takes its time
        generator = torch.Generator(device).manual_seed(0)
        outputs, table = (torch.randn(k, d, generator=generator, device=device) / d**0.25 for k in (n, c))
        target = torch.randint(c, (n,), generator=generator, device=device)
        target[::7] = -100
        centers = torch.randn(5, d, generator=generator, device=device)
        sizes = {"n_buckets": 5, "bucket_size_x": n // 3, "bucket_size_y": c // 6, "centers": centers}
        own = torch.randint(c, (n, 6), generator=generator, device=device)
        tried: dict[str, Callable[..., Tensor]] = {
            "SCE": lambda *a, s=sizes, **k: scalable_cross_entropy(*a, **s, **k),
            "SCE, row-sparse": lambda *a, s=sizes, **k: scalable_cross_entropy(*a, **s, sparse_grad=True, **k),
            "CE": lambda *a, **k: cross_entropy(*a, hold_logits=False, **k),
            "sampled": lambda *a, **k: sampled_softmax(*a, negatives=torch.arange(90, device=device) % 60, **k),
            "sampled, own": lambda *a, o=own, **k: sampled_softmax(*a, negatives=o, **k),
        }
        for name, loss in tried.items():
            results = []
            for kind, backend in ((dtype, "triton"), (torch.float64, "torch")):
                x, w = (t.to(dtype).to(kind, copy=True).requires_grad_() for t in (outputs, table))
                value = loss(x, w, target, backend=backend)
                value.backward()
                results.append([value.detach(), x.grad, w.grad.to_dense()])
            off = [float((a.double() - b).norm() / b.norm()) for a, b in zip(*results)]
            rows.append({"what": f"{name}, D = {d}", "dtype": str(dtype), "off": max(off), "allowed": TOLERANCE[dtype]})
    return rows


def searches(device: str, large: bool) -> list[dict[str, Any]]:
    """By how much the worst chosen score misses the k-th best, as a share of the largest."""
    rows = []
    sizes = [(3, 900, 3, 16)]
    if large:
        sizes += [(130, 5_000, 20, 64), (40, 30_011, 100, 70), (7, 4_000, 300, 16)]
        sizes += [(452, 1_000_000, 256, 64), (8, 40_000_000, 256, 64)]  # the last table has 2.56e9 elements
    for q, c, k, d in sizes:
        queries = torch.randn(q, d, device=device)
        table = torch.randn(c, d, device=device, dtype=torch.bfloat16 if c > 10**7 else torch.float32)
        for workspace in (4 * q * c, min(4 * q * c - 1, 48 * 2**20)):
            if workspace > 2**30:
                continue
            chosen = topk(queries, table, k, None, workspace, False, "triton")
            missed = 0.0
            for some in torch.arange(q).split(8):
                scores = queries[some] @ table.float().T if c < 10**7 else _scores(queries[some], table)
                best = scores.topk(k, dim=1).values
                got = scores.gather(1, chosen[some]).sort(dim=1, descending=True).values
                missed = max(missed, float((best - got).abs().max() / best.abs().max()))
            distinct = bool((chosen.sort(dim=1).values.diff(dim=1) > 0).all())
            what = f"search, {q} x {c:,}, {workspace / 2**20:.0f} MiB"
            rows.append({"what": what, "dtype": str(table.dtype), "off": missed if distinct else 1.0, "allowed": 1e-6})
    return rows


def _scores(queries: Tensor, table: Tensor) -> Tensor:
    return torch.cat([queries @ part.float().T for part in table.split(2**20)], dim=1)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "values.json")
    args = parser.parse_args()
    if not is_here("triton"):
        sys.exit("Triton is not installed here: there are no kernels to compare")
    rows = losses(args.device) + searches(args.device, large=args.device == "cuda")
    for row in rows:
        row["right"] = row["off"] <= row["allowed"]
    lines = [[row["what"], row["dtype"], f"{row['off']:.1e}", "right" if row["right"] else "WRONG"] for row in rows]
    show("Triton against PyTorch in float64", ("", "dtype", "off", ""), lines)
    write(args.out, {"environment": environment(), "values": rows})
    sys.exit(not all(row["right"] for row in rows))


if __name__ == "__main__":
    main()

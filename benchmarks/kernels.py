"""Compile SCE's Triton kernels for GPUs that need not be here, and say what each kernel asks of them.

    python benchmarks/kernels.py                                          # for an A100 and an H100: 8.0 and 9.0
    python benchmarks/kernels.py --capabilities 75,89,100 --dims 64,256

The library's own code launches the kernels, but they are compiled instead of run: to machine code, for the very
arguments that a GPU would get. *Spilled* are bytes per thread that find no room in the registers: there should be none.
Needs Triton (``pip install triton``) and no GPU. Results go to ``benchmarks/results/kernels.json``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import triton
from rich.console import Console
from rich.table import Table
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from sce_lab.losses.engine import Blocks, Problem
from sce_lab.losses.engine.problem import Found
from sce_lab.losses.engine.tiles import Plan
from sce_lab.losses.engine.triton import gradients, interpreted, search, settings, softmax, whole
from sce_lab.runs import environment, write_text

RESULTS = Path(__file__).parent / "results"
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@contextmanager
def compiled_only(capability: int) -> Iterator[dict[str, Any]]:
    """Launches within compile for a GPU of this capability, and end up in the dict instead of on a GPU."""
    found: dict[str, Any] = {}
    run = JITFunction.run

    def compile_only(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        name = self.fn.__name__ + "".join(f" {key.lower()}" for key in ("MEND",) if kwargs.get(key))
        if kwargs.get("BITS") == 16:
            name += " of halves"
        found[name] = kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        return kernel

    absent_gpu = SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", capability, 32),
        get_current_device=lambda: capability,  # compiled kernels are kept by device
        get_current_stream=lambda device: 0,
    )
    JITFunction.run = compile_only
    tiles_of = settings._capability
    settings._capability = lambda device: divmod(capability, 10)
    triton.runtime.driver.set_active(absent_gpu)
    try:
        yield found
    finally:
        settings._capability = tiles_of
        JITFunction.run = run  # the driver stays: without a GPU there is none to go back to


def launch_all(dtype: torch.dtype, dim: int) -> None:
    """Launch every kernel, as losses of such inputs would."""
    n, c = 64, 20_000
    outputs, table = torch.zeros(n, dim, dtype=dtype), torch.zeros(c, dim, dtype=dtype)
    labels, valid = torch.zeros(n).long(), torch.ones(n, dtype=torch.bool)
    queries, plan = torch.zeros(16, dim), Plan(torch.float32, 2**20, False)
    for workspace_bytes in (2**30, 2**19):  # all scores, and groups
        search.largest_products(queries, table, 16, allowed=valid.expand(c // n, n), workspace_bytes=workspace_bytes)
    columns = torch.zeros(1, 100).long()
    in_blocks = Blocks(torch.zeros(4, 64).long(), torch.zeros(4, 100).long())
    for blocks in (Blocks(), Blocks(None, columns, torch.zeros(1, 100)), in_blocks):
        problem = Problem(outputs, table, labels, valid, blocks)
        found = softmax.losses(problem)
        softmax.mean(found.losses, found.slot)
        problem = problem._replace(labels=torch.zeros(n).long())
        found = Found(torch.zeros(n), torch.zeros(n).long(), torch.zeros(n))
        if blocks.rows is None:
            whole.whole_gradients(problem, found, torch.zeros(n), plan, [True, True], False)
        else:
            gradients.block_gradients(problem, found, torch.zeros(n), [True, True], False)


def resources(kernel: Any) -> dict[str, int]:
    """What one compiled kernel takes, from its machine code."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(kernel.asm["cubin"])
        command = [TOOLS / "cuobjdump", "--dump-resource-usage", cubin]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.search(rf"{name}:(\d+)", usage)[1]) for name in ("REG", "STACK"))
    warps = kernel.metadata.num_warps
    return {
        "registers": registers,
        "spilled": stack,
        "shared": kernel.metadata.shared,
        "warps": warps,
        "programs_by_registers": 65_536 // (registers * 32 * warps),  # on one multiprocessor
        "tensor_core_operations": len(re.findall(r"\b(?:wgmma\.mma_async|mma\.sync|tcgen05\.mma)", kernel.asm["ptx"])),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capabilities", default="80,90", help="compute capabilities, times ten")
    parser.add_argument("--dims", default="64,128,256,2304")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--precision", default=settings.PRECISION, help="how float32 is multiplied: ieee or tf32x3")
    parser.add_argument("--out", type=Path, default=RESULTS / "kernels.json")
    args = parser.parse_args()
    if interpreted():
        sys.exit("TRITON_INTERPRET=1 is set: then kernels are interpreted and not compiled. Unset it.")
    settings.PRECISION = args.precision
    rows = []
    for capability in map(int, args.capabilities.split(",")):
        for dtype in args.dtypes.split(","):
            for dim in map(int, args.dims.split(",")):
                with compiled_only(capability) as found:
                    launch_all(DTYPES[dtype], dim)
                for name, kernel in found.items():
                    case = {"kernel": name, "capability": capability / 10, "dtype": dtype, "dim": dim}
                    rows.append(case | resources(kernel))
    table = Table(*[name.replace("_", " ") for name in rows[0]])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=160).print(table)
    result = {"environment": environment(), "triton": triton.__version__, "precision": args.precision, "kernels": rows}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(args.out, json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

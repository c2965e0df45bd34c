"""Memory, traffic and time of a training step whose items are sharded, by loss and number of ranks.

    python benchmarks/distributed.py --device cpu           # 1, 2 and 4 gloo processes on this machine
    torchrun --nproc-per-node 8 benchmarks/distributed.py   # as one rank of a launch: on GPUs, see scaling.sh

Strong scaling has the same batch and catalog on any number of ranks, weak scaling the same of both on each rank. Time
is the median of a step after warm-up, that of the slowest rank; on one machine whose cores the processes share it says
what sharding costs there, and nothing of what it gains elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from sce_lab.data.batches import Batch, Packed
from sce_lab.distributed import launched, make_sharded_model, make_sharded_optimizer, sharded_step
from sce_lab.distributed.predict import predict_rank
from sce_lab.distributed.traffic import Sent
from sce_lab.memory import format_bytes
from sce_lab.memory.measure import measured_step
from sce_lab.training import TrainingConfig, make_training_loss

LOSSES = {
    "cce": {},
    "sampled": {"n_negatives": 256},
    "sce": {"bucket_size_y": 256},
}
LABELS = {"cce": "cross-entropy", "sampled": "sampled softmax", "sce": "SCE"}
HERE = Path(__file__).parent


def measure(config: TrainingConfig, catalog_size: int, mesh: DeviceMesh, repeats: int) -> dict:
    """One rank's step, with what all ranks have in common; the slowest rank's time."""
    n, rank = mesh.size(), mesh.get_local_rank()
    mine, length = -(-config.batch_size // n), config.max_length
    generator = torch.Generator().manual_seed(rank)
    items, targets = (torch.randint(catalog_size, (mine * length,), generator=generator) for _ in range(2))
    batch = Batch(Packed(items, torch.arange(length).repeat(mine), ((mine, length),)), targets)
    batch = batch.to(config.device, length)
    model = make_sharded_model(config, catalog_size, mesh, torch.Generator(config.device).manual_seed(0)).train()
    loss = make_training_loss(config, torch.ones(catalog_size, dtype=torch.int64)).to(config.device)
    loss.generator = torch.Generator(config.device).manual_seed(0)
    optimizer, step = make_sharded_optimizer(config, model), sharded_step(mesh, catalog_size)
    nothing = lambda name: contextlib.nullcontext()  # noqa: E731
    step(model, loss, optimizer, batch, nothing)
    use = measured_step(model, loss, optimizer, batch, step=step).memory.as_dict()
    with Sent(n) as sent:
        step(model, loss, optimizer, batch, nothing)
    seconds = []
    for _ in range(repeats):
        dist.barrier()
        wait(config.device)
        start = time.perf_counter()
        step(model, loss, optimizer, batch, nothing)
        wait(config.device)
        seconds.append(time.perf_counter() - start)
    slowest = torch.tensor(statistics.median(seconds), device=config.device)
    dist.all_reduce(slowest, dist.ReduceOp.MAX)
    return {"memory": use, "sent": sent.nbytes, "ms": 1e3 * float(slowest)}


def wait(device: str) -> None:
    """For the GPU, if it is one."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def as_rank(arguments: argparse.Namespace) -> None:
    """Measure as one rank of a launch; the first writes a line for each loss and kind of scaling."""
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    with launched(device, timeout=120) as mesh:
        if device == "cuda":
            device = f"cuda:{torch.cuda.current_device()}"
        n, end = mesh.size(), time.monotonic() + arguments.seconds
        for scaling in ("strong", "weak"):
            times = n if scaling == "weak" else 1
            for name, settings in LOSSES.items():
                config = TrainingConfig(
                    loss=name, loss_settings=settings, batch_size=arguments.batch_size * times, max_length=50,
                    device=device,
                )  # fmt: skip
                late = torch.tensor(int(time.monotonic() > end), device=device)
                dist.all_reduce(late)
                if late:
                    continue
                found = measure(config, arguments.items * times, mesh, arguments.repeats)
                if mesh.get_local_rank() == 0:
                    size = {"ranks": n, "items": arguments.items * times, "sequences": config.batch_size}
                    print(json.dumps({"scaling": scaling, "loss": name} | size | found), flush=True)


def launch(n: int, arguments: list[str]) -> list[dict]:
    """Start ``n`` ranks on this machine; what the first wrote."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n), __file__]
    done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def table(record: dict) -> str:
    """What a record says, for the page on measurements."""
    where = record["where"]
    lines = [
        f"Measured on {where['cores']} cores ({where['machine']}), PyTorch {record['torch']}; bytes of the first rank.",
        "",
        "| scaling | loss | ranks | items | sequences | peak | predicted | sent | predicted | ms |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in record["rows"]:
        nbytes = (row["memory"]["peak"], row["predicted"]["memory"]["peak"], row["sent"], row["predicted"]["sent"])
        cells = [row["scaling"], LABELS[row["loss"]], row["ranks"], f"{row['items']:,}", row["sequences"]]
        lines.append("| " + " | ".join(map(str, [*cells, *map(format_bytes, nbytes), f"{row['ms']:.0f}"])) + " |")
    return "\n".join(lines)


def with_table(text: str, record: dict) -> str:
    """``text`` with the table between its marks.

    Raises:
        ValueError: there are no marks.
    """
    begin, end = "<!-- measured -->\n", "\n<!-- end of measured -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the page needs one {begin.strip()} and one {end.strip()}, each on a line of its own")
    head, _, rest = text.partition(begin)
    return head + begin + table(record) + end + rest.partition(end)[2]


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="1,2,4", help="numbers of processes, separated by commas")
    parser.add_argument("--items", type=int, default=100_000, help="of the catalog; weak scaling: a rank")
    parser.add_argument("--batch-size", type=int, default=16, help="sequences of 50; weak scaling: a rank")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin nothing after so many, in each launch")
    parser.add_argument("--device", help="cpu or cuda; default: cuda if it is there")
    parser.add_argument(
        "--out",
        type=Path,
        help="write a record here; default on a CPU: results/distributed-cpu.json, and the table of README.md",
    )
    arguments = parser.parse_args()
    if "WORLD_SIZE" in os.environ:
        as_rank(arguments)
        return
    passed_on = [f"--{name.replace('_', '-')}={getattr(arguments, name)}" for name in
                 ("items", "batch_size", "repeats", "seconds")]  # fmt: skip
    passed_on += [f"--device={arguments.device}"] if arguments.device else []
    rows = [row for n in map(int, arguments.ranks.split(",")) for row in launch(n, passed_on)]
    for row in rows:
        config = TrainingConfig(
            loss=row["loss"], loss_settings=LOSSES[row["loss"]], batch_size=row["sequences"], max_length=50
        )
        row["predicted"] = dataclasses.asdict(predict_rank(config, row["items"], row["ranks"]))
        first = next(r for r in rows if (r["scaling"], r["loss"]) == (row["scaling"], row["loss"]))
        of_first = [
            row["memory"][part] / first["memory"][part] for part in ("parameters", "gradients", "optimizer_state")
        ]
        peak, predicted = (use["peak"] / 2**20 for use in (row["memory"], row["predicted"]["memory"]))
        print(
            f"{row['scaling']:7} {row['loss']:8} {row['ranks']:3} ranks {row['items']:>11,} items: "
            f"table, gradient, state {' '.join(f'{share:.4f}' for share in of_first)} of the first; "
            f"peak {peak:,.0f} MiB (predicted {predicted:,.0f}), sent {row['sent'] / 2**20:.1f} MiB, {row['ms']:.0f} ms"
        )
    on_cpu = arguments.device == "cpu" or not (arguments.device or torch.cuda.is_available())
    if arguments.out or on_cpu:
        where = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        if not on_cpu:
            where["gpu"] = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
        record = {"where": where, "torch": torch.__version__, "command": " ".join(sys.argv), "rows": rows}
        out = arguments.out or HERE / "results" / "distributed-cpu.json"
        out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        if not arguments.out:
            page = HERE / "README.md"
            page.write_text(with_table(page.read_text(encoding="utf-8"), record), encoding="utf-8")


if __name__ == "__main__":
    main()

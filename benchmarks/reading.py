"""How much memory and time it takes to read a person's own file.

    python benchmarks/reading.py                        # ten million rows, in every format
    python benchmarks/reading.py --rows 1000000 --formats csv,dates

Writes a file, reads it with :func:`sce_lab.read_interactions` in a process of its own, and records the seconds and by
how much the process's peak memory grew, as a multiple of the file's size. Linux only: the peak is the kernel's
(``VmHWM``), reset after a small file was read. Results go to ``benchmarks/results/reading.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from plain import RESULTS, environment, format_bytes, write

STEP = 1_000_000  # rows written at a time


def rows(first: int, n: int, kind: str) -> pa.Table:
    """Rows as people have them: numbers of seven digits, or words and dates."""
    rng = np.random.default_rng(first)
    user, item = 10**6 + rng.integers(10**6, size=n), 10**5 + rng.integers(2 * 10**5, size=n)
    stamp = 1_600_000_000 + first + np.arange(n)
    columns = {"user_id": pa.array(user), "item_id": pa.array(item), "timestamp": pa.array(stamp)}
    if kind in ("words", "dates"):
        columns["user_id"] = pc.binary_join_element_wise("A", pc.cast(user, pa.string()), "")
        columns["item_id"] = pc.binary_join_element_wise("B00", pc.cast(item, pa.string()), "")
    if kind == "dates":
        columns["timestamp"] = pc.strftime(pa.array(stamp, pa.timestamp("s")), "%Y-%m-%dT%H:%M:%SZ")
    return pa.table(columns)


def write_file(folder: Path, kind: str, n: int) -> Path:
    """A file of ``n`` rows."""
    path = folder / {"parquet": "rows.parquet", "jsonl": "rows.jsonl", "gz": "rows.csv.gz"}.get(kind, "rows.csv")
    parts = (rows(first, min(STEP, n - first), kind) for first in range(0, n, STEP))
    if kind == "parquet":
        first = next(parts)
        with pyarrow.parquet.ParquetWriter(path, first.schema) as writer:
            writer.write_table(first)
            for part in parts:
                writer.write_table(part)
    elif kind == "jsonl":
        with path.open("w") as file:
            for part in parts:
                part.to_pandas().to_json(file, orient="records", lines=True)
    else:
        first = next(parts)
        stream = pa.output_stream(str(path), compression="gzip" if kind == "gz" else None)
        with stream, pyarrow.csv.CSVWriter(stream, first.schema) as writer:
            writer.write(first)
            for part in parts:
                writer.write(part)
    return path


def peak() -> int:
    """Most bytes that this process had in memory since :func:`forget`."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget() -> None:
    """Let the peak begin again from what the process has now."""
    Path("/proc/self/clear_refs").write_text("5")


def read(path: Path, small: Path) -> dict[str, float]:
    """Read ``path`` here; what it took."""
    from sce_lab import read_interactions

    read_interactions(small)  # what is imported, and what pyarrow sets up, is there by now
    forget()
    before, begun = peak(), time.perf_counter()
    interactions = read_interactions(path, progress=sys.stderr.isatty())
    return {"rows": len(interactions), "seconds": time.perf_counter() - begun, "growth": peak() - before}


def main() -> None:
    """Write, read and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--formats", default="csv,words,dates,gz,jsonl,parquet")
    parser.add_argument("--out", type=Path, default=RESULTS / "reading.json")
    parser.add_argument("--read", nargs=2, type=Path, help=argparse.SUPPRESS)  # in the process that is measured
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(*options.read)))
        return
    found = []
    for kind in options.formats.split(","):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "small").mkdir()
            small = write_file(Path(folder) / "small", kind, 1000)
            path = write_file(Path(folder), kind, options.rows)
            command = [sys.executable, __file__, "--read", str(path), str(small)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            record = {"format": kind, "bytes": path.stat().st_size} | json.loads(done.stdout)
        record["times the file"] = record["growth"] / record["bytes"]
        found.append(record)
        size, growth = (format_bytes(record[name]) for name in ("bytes", "growth"))
        print(
            f"{kind}: {size}, {record['seconds']:.1f} s, {growth} of memory, {record['times the file']:.2f} x the file"
        )
    write(options.out, {"environment": environment(), "files": found})


if __name__ == "__main__":
    main()

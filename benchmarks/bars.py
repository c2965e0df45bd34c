"""What ``gpu.sh`` measured, beside what it should be.

python benchmarks/bars.py OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from plain import show


class Bar(NamedTuple):
    """At most so much of a quantity, of one implementation in one case; wall times are of forward and backward."""

    case: str
    peer: str
    quantity: str
    most: float
    before: str = ""  # measured on an H200 with commit 2010551, by default / with Triton


BARS = (
    Bar("S", "SCE", "wall ms", 1.6, "10.6 / 5.4"),
    Bar("M", "SCE", "wall ms", 1.6, "8.8 / 5.1"),
    Bar("L", "SCE", "wall ms", 2.0, "27.5 / 6.5"),
    Bar("L", "SCE", "busy ms", 1.4, "10.1 / 4.2"),
    Bar("XL", "SCE", "wall ms", 12, "106 / 22.8"),
    Bar("L-half", "SCE", "wall ms", 2.0, "28.3 / 7.8"),
    Bar("head", "SCE", "wall ms", 10, "220 / 220"),
    Bar("head", "CE, logits never held", "wall ms", 70, "56 (cut-cross-entropy)"),
    Bar("M", "CE, logits never held", "wall ms", 60),
    Bar("M-half", "CE, logits never held", "wall ms", 40, "30.4 (cut-cross-entropy)"),
    Bar("L", "SCE", "workspace MiB", 64, "41 / 4.2"),
    Bar("XL", "SCE", "workspace MiB", 128, "45 / 4.2"),
    Bar("S", "SCE", "launches", 20, "372 / 156"),
    Bar("S", "SCE", "waits", 0, "2 / 1"),
    Bar("L", "SCE", "waits", 0, "19 / 2"),
)


def found(out: Path) -> dict[tuple[str, str, str], float]:
    """By case, implementation and quantity, what the stages wrote."""
    numbers = {}
    for row in _rows(out / "losses.json", "cases"):
        if "seconds" in row:
            numbers[row["case"], row["peer"], "wall ms"] = 1e3 * row["seconds"]
            numbers[row["case"], row["peer"], "workspace MiB"] = row["workspace"] / 2**20
    for row in _rows(out / "launches.json", "steps"):
        for quantity in ("busy_ms", "launches", "waits"):
            if quantity in row:
                numbers[row["case"], row["peer"], quantity.replace("_", " ")] = row[quantity]
    return numbers


def _rows(path: Path, key: str) -> list[dict[str, Any]]:
    try:
        return json.loads(path.read_text())[key]
    except (OSError, ValueError, KeyError):
        return []


def main() -> None:
    """Print the bars, and in a sentence each whatever else there is."""
    out = Path(sys.argv[1])
    numbers, lines = found(out), []
    for bar in BARS:
        value = numbers.get(bar[:3])
        verdict = "not measured" if value is None else "met" if value <= bar.most else "MISSED"
        measured = "" if value is None else f"{value:.2f}"
        lines.append([bar.case, bar.peer, bar.quantity, bar.before, f"{bar.most:g}", measured, verdict])
    show("Bars (H200)", ("case", "", "", "before", "at most", "measured", ""), lines)
    values = _rows(out / "values.json", "values")
    if values:
        wrong = [row["what"] for row in values if not row["right"]]
        print(f"values: {len(values) - len(wrong)} of {len(values)} right", *(f"; wrong: {what}" for what in wrong))
    for row in _rows(out / "launches.json", "steps"):
        if "graph_ms" in row:
            right = "right" if row["graph_is_right"] else "WRONG"
            print(f"CUDA graph of {row['peer']} at {row['case']}: {row['graph_ms']:.2f} ms, its gradients {right}")
    for row in _rows(out / "losses.json", "cases") + _rows(out / "launches.json", "steps"):
        if "failed" in row:
            print(f"{row['peer']} at {row['case']} failed: {row['failed']}")
    try:
        memory = json.loads((out / "memory.json").read_text())["agreement"]
        print("memory:", json.dumps({k: v for k, v in memory.items() if k != "rows"}))
    except (OSError, ValueError, KeyError):
        print("memory: not measured")
    if not (out / "training.json").exists():
        print("training: not measured")


if __name__ == "__main__":
    main()

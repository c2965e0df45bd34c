"""The script for several GPUs, rehearsed with processes on the CPU."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scaling.sh"


def test_it_measures_both_kinds_of_scaling_beside_the_prediction(tmp_path):
    small = {"DEVICE": "cpu", "RANKS": "2", "ITEMS": "3000", "BATCH": "4", "PYTHON": sys.executable}
    record = tmp_path / "scaling.json"
    command = ["sh", str(SCRIPT), str(record)]
    done = subprocess.run(
        command, env=os.environ | small | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=550
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(record.read_text())["rows"]
    assert [(row["scaling"], row["ranks"], row["items"]) for row in rows[::3]] == [
        ("strong", 2, 3000), ("weak", 2, 6000),
    ]  # fmt: skip
    for row in rows:
        predicted = row["predicted"]["memory"]
        assert row["memory"]["parameters"] == predicted["parameters"]
        assert row["memory"]["optimizer_state"] == predicted["optimizer_state"]
        assert row["memory"]["peak"] <= 1.02 * predicted["peak"]
        assert row["sent"] == pytest.approx(row["predicted"]["sent"], rel=0.05)
        assert row["ms"] > 0
        assert f"{row['ranks']} ranks" in done.stdout


def script():
    spec = importlib.util.spec_from_file_location("distributed_benchmark", SCRIPT.with_name("distributed.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_table_of_the_record():
    """Written between marks, whatever stood there, as often as one likes."""
    benchmark, text = script(), SCRIPT.with_name("README.md").read_text(encoding="utf-8")
    use = {"memory": {"peak": 2**20}, "sent": 2048.0}
    row = {"scaling": "weak", "loss": "sce", "ranks": 2, "items": 6000, "sequences": 8, "ms": 12.3, "predicted": use}
    record = {"where": {"machine": "x86_64", "cores": 2}, "torch": "2.0", "rows": [row | use]}
    once = benchmark.with_table(text, record)
    assert "| weak | SCE | 2 | 6,000 | 8 | 1 MiB | 1 MiB | 2 KiB | 2 KiB | 12 |" in once
    assert "Not measured yet" not in once
    assert benchmark.with_table(once, record) == once
    assert [once[:500], once[-500:]] == [text[:500], text[-500:]]
    with pytest.raises(ValueError, match="needs one <!-- measured -->"):
        benchmark.with_table("no marks", record)
    recorded = SCRIPT.parent / "results" / "distributed-cpu.json"
    if recorded.exists():
        assert benchmark.with_table(text, json.loads(recorded.read_text(encoding="utf-8"))) == text
    else:
        assert "Not measured yet." in text


def test_without_a_gpu_a_sentence_says_how_to_rehearse(tmp_path):
    stand_in = tmp_path / "python"
    stand_in.write_text("#!/bin/sh\necho 0\n")
    stand_in.chmod(0o755)
    done = subprocess.run(
        ["sh", str(SCRIPT)], env=os.environ | {"PYTHON": str(stand_in)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "DEVICE=cpu RANKS=1,2 rehearses" in done.stderr

"""The script for several GPUs, rehearsed with processes on the CPU."""

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


def test_without_a_gpu_a_sentence_says_how_to_rehearse(tmp_path):
    stand_in = tmp_path / "python"
    stand_in.write_text("#!/bin/sh\necho 0\n")
    stand_in.chmod(0o755)
    done = subprocess.run(
        ["sh", str(SCRIPT)], env=os.environ | {"PYTHON": str(stand_in)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "DEVICE=cpu RANKS=1,2 rehearses" in done.stderr

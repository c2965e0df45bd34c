"""The one command for whoever has a GPU: every stage is run, within the time, and none stops another one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sce_lab.losses.engine import triton

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
STAGES = ("check", "values", "losses", "launches", "tests", "memory", "floor")


def run(out, *arguments, **environment):
    command = [BENCHMARKS / "gpu.sh", out, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    return done.returncode, done.stdout + done.stderr


def what_became(out):
    lines = (out / "stages.txt").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines)


def stand_in(folder, body):
    """A python that does as it is told instead."""
    path = folder / "python"
    path.write_text(f'#!/usr/bin/env bash\necho "$@" >> "{folder}/calls"\ncase "$*" in\n{body}\nesac\n')
    path.chmod(0o755)
    return str(path)


def test_a_stage_that_fails_or_hangs_stops_no_other(tmp_path):
    python = stand_in(tmp_path, "*values.py*) echo first; echo it broke >&2; exit 3 ;;\n*floor.py*) sleep 60 ;;")
    status, said = run(tmp_path / "out", "--rehearse", PYTHON=python, TOTAL_SECONDS="7")
    found = what_became(tmp_path / "out")
    assert status == 0
    assert found["values"].startswith("failed: it broke")
    assert found["floor"].startswith("stopped at its time limit")
    assert all(found[stage].startswith("done") for stage in ("check", "losses", "launches", "tests", "memory"))
    assert "training" in found
    calls = (tmp_path / "calls").read_text()
    assert f"{BENCHMARKS}/bars.py {tmp_path}/out" in calls
    assert (tmp_path / "out" / "summary.txt").read_text().startswith("check: done")
    assert str(tmp_path / "out") in said


def test_when_the_time_is_up_the_rest_is_left_out(tmp_path):
    python = stand_in(tmp_path, "*values.py*) sleep 60 ;;")
    run(tmp_path / "out", "--rehearse", PYTHON=python, TOTAL_SECONDS="6")
    assert what_became(tmp_path / "out")["losses"] == "left out, the time is up"


def test_without_a_gpu_it_says_so(tmp_path):
    python = stand_in(tmp_path, '*"torch.cuda.is_available"*) exit 1 ;;')
    status, said = run(tmp_path / "out", PYTHON=python)
    assert status == 2
    assert "no CUDA device" in said


def test_the_bars_are_read_from_what_the_stages_wrote(tmp_path):
    row = {"peer": "SCE", "seconds": 0.0015, "workspace": 2**20}
    losses = [
        {"case": "S", **row},
        {"case": "L", **row, "seconds": 0.0021},
        {"case": "M", "peer": "CE", "failed": "oh"},
    ]
    (tmp_path / "losses.json").write_text(json.dumps({"cases": losses}))
    steps = [{"case": "S", "peer": "SCE", "busy_ms": 0.5, "launches": 21, "waits": 0}]
    (tmp_path / "launches.json").write_text(json.dumps({"steps": steps}))
    said = subprocess.run(
        [sys.executable, BENCHMARKS / "bars.py", tmp_path], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    verdicts = {tuple(line.split()[:4]): line.split()[-1] for line in said if line}
    assert verdicts["S", "SCE", "wall", "ms"] == "met"
    assert verdicts["L", "SCE", "wall", "ms"] == "MISSED"
    assert verdicts["S", "SCE", "launches", "372"] == "MISSED"
    assert verdicts["S", "SCE", "waits", "2"] == "met"
    assert verdicts["XL", "SCE", "wall", "ms"] == "measured"  # not
    assert "CE at M failed: oh" in said


def test_the_first_stages_need_pytorch_and_numpy_and_no_more():
    """And no installed lab: a bare checkout."""
    code = f"""
import sys
sys.path[:0] = [{str(BENCHMARKS)!r}]
for name in ("pandas", "scipy", "psutil", "plotly", "rich", "pyarrow", "pooch", "safetensors", "tqdm", "filelock"):
    sys.modules[name] = None
import plain, losses, launches, values, floor, bars
assert plain.environment()["versions"]["torch"]
assert not plain.is_here("pandas")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_rehearsal(tmp_path):
    status, _ = run(tmp_path / "out", "--rehearse", PYTHON=sys.executable)
    found = what_became(tmp_path / "out")
    assert status == 0
    for stage in STAGES:
        log = (tmp_path / "out" / f"{stage}.log").read_text()
        assert found[stage].startswith("done" if stage != "values" or triton.INSTALLED else "failed: Triton"), log

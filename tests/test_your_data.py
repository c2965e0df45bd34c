"""The page about a person's own data: its commands, run one after the other."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from sce_lab.runs import list_runs

PAGE = Path(__file__).parents[1] / "docs" / "your_data.md"


def test_every_command_of_the_page_runs(sce_lab, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(120), 6)
    items = (rng.integers(40, size=120)[users] + np.tile(np.arange(6), 120)) % 40
    times = 1_700_000_000 + users * 10_000 + np.tile(np.arange(6), 120)
    days = pd.to_datetime(times, unit="s").strftime("%d/%m/%Y")
    clicks = {"customer_id": users, "sku": [f"s{c}" for c in items], "ts": times, "day": days}
    pd.DataFrame(clicks).to_csv("clicks.csv", index=False)
    blocks = re.findall(r"```(sh|python)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 7
    said = []
    for kind, code in blocks:
        if kind == "python":
            exec(code, {})
            said.append(capfd.readouterr().out)
            continue
        for line in code.strip().splitlines():
            words = shlex.split(line.replace("runs/RUN", str(list_runs("runs")[-1].folder) if "RUN" in line else ""))
            if words[0] == "python":
                done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
                said.append(done.stdout)
                continue
            assert words.pop(0) == "sce-lab"
            status, out, err = sce_lab(*words)
            assert status == 0, (line, err)
            said.append(out)
    assert "'customer_id' says who, 'sku' says what, 'ts' says when." in said[0]
    assert len(list_runs("runs")) == 4
    script, answers = said[-2], said[-1]
    assert len(script.splitlines()) == 10
    assert script.splitlines()[0].split("\t")[0] in answers  # the first of the script's is among the first five
    assert "similarity" in answers

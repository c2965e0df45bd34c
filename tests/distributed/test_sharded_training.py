"""Runs on several ranks: equal to the plain one, continued, killed, hung, started by torchrun."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import training_cases
from launching import free_port, on_ranks

from sce_lab.cli import sharding
from sce_lab.cli.running import resume_hint
from sce_lab.runs import Run, list_runs
from sce_lab.training.checkpoint import DRAWS

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "distributed.md"
#: Not SCE: a rank has other sequences side by side, which rounds otherwise, and a bucket takes one of two equal items.
TINY = ["--loss", "sampled", "--catalog-size", "201", "--batch-size", "1024", "--epochs", "2", "--dropout", "0"]


def torchrun(*arguments, cwd, **environment):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE), **environment}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=550)


def test_a_run_on_four_ranks_is_the_plain_run(tmp_path):
    on_ranks(training_cases.whole_run, 4, str(tmp_path))


def test_a_rank_is_killed_and_the_command_goes_on_from_the_last_checkpoint(sce_lab, tmp_path, monkeypatch):
    """In the second epoch; the numbers are those of the plain command that nobody interrupted."""
    arguments = ["train", *TINY]
    done = torchrun(
        "--max-restarts", "1", "-m", "killed", *arguments, "--shard-items", "--out", "sharded", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "rank 1 is killed" in done.stderr
    assert "begins again" not in done.stderr  # it had a checkpoint
    assert done.stdout.count("Recorded in") == 1  # one rank speaks
    (run,) = list_runs(tmp_path / "sharded")
    assert not list((tmp_path / "sharded").glob(".launch*"))
    assert sce_lab(*arguments, "--out", str(tmp_path / "plain"))[0] == 0
    (plain,) = list_runs(tmp_path / "plain")
    steps = [one.history.query("kind == 'step'") for one in (run, plain)]
    assert steps[0]["step"].tolist() == steps[1]["step"].tolist()
    np.testing.assert_allclose(steps[0]["loss"], steps[1]["loss"], atol=1e-5)
    assert run.summary["test"] == plain.summary["test"]
    said = json.loads((run.folder / "checkpoint" / "run.json").read_text())
    assert (said["counters"]["epoch"], said["draws"]) == (2, DRAWS)
    assert Run(run.folder).config.dropout == 0
    before = run.history
    status, _, error = sce_lab("train", "--resume", str(run.folder))  # as if it were not sharded
    assert status == 2
    assert "goes on under torchrun with --shard-items" in error
    assert run.history.equals(before)
    assert run.summary["test"] == plain.summary["test"]


def test_the_script_of_the_documentation_learns(tmp_path):
    (script,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in script.splitlines() if line.strip()]) <= 26
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    done = torchrun("script.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, last = map(float, done.stdout.split())
    assert last < first / 2


def test_what_is_wrong_is_said_once_and_every_rank_ends():
    """A rank that hangs, and two seeds."""
    cases = {
        "hang": ("another rank did not answer within 3 s: it hangs", [2, 0]),  # that one ends when it wakes up
        "seed": ("all ranks must have the same seed, but rank 1 has 1 and rank 0 has 0", [2, 2]),
    }
    launches = {case: _ranks("wrong.py", case) for case in cases}
    for case, (sentence, statuses) in cases.items():
        said = "".join(rank.communicate(timeout=500)[1] for rank in launches[case])
        assert said.count(sentence) == 1, (case, said)
        assert "Traceback" not in said, said
        assert [rank.returncode for rank in launches[case]] == statuses, case


def _ranks(script, *arguments):
    """Two ranks that torchrun did not start."""
    where = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    command = [sys.executable, str(HERE / script), *arguments]
    return [
        subprocess.Popen(command, env={**os.environ, **where, "RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]


def test_a_launch_does_not_go_on_where_another_was_lost(tmp_path, monkeypatch):
    note = sharding._note(tmp_path)
    monkeypatch.setenv("RANK", "0")
    for attempt, stays in (("1", True), ("0", False)):
        note.write_text("run-of-another-launch")
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", attempt)
        with pytest.raises(ValueError, match="this one is alone"), sharding.on_ranks("cpu", 1.0, tmp_path):
            pass
        assert note.exists() == stays


def test_the_hint_says_how_to_start_all_processes_again():
    assert resume_hint(Path("runs/one")) == "Continue it with: sce-lab train --resume runs/one"
    assert resume_hint(Path("runs/one"), 4) == (
        "Continue it with: torchrun --standalone --nproc-per-node 4 -m sce_lab.cli train --shard-items "
        "--resume runs/one"
    )


def test_without_torchrun_a_sentence_says_how_to_start(sce_lab):
    status, _, error = sce_lab("train", "--shard-items")
    assert status == 2
    assert "start it with torchrun, as in torchrun --standalone --nproc-per-node 2 -m sce_lab.cli train" in error

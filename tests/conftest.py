"""Small data that every part of the library is tried on."""

import os
import sys

# Tests run beside one another: a thread that waits must not keep the core that the other one needs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported

os.environ.setdefault("SCE_LAB_DEVICE", "cpu")  # "auto": what a test says must not depend on the machine

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():  # then Triton's kernels run in its interpreter, if this is set before it is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

from sce_lab.data.splits import Holdout, Sequences, Split

torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Browser tests run one after another, with one JupyterLab; all others wherever there is room.

    Groups by mark (``--dist=loadgroup``) have no effect with pytest 9.2, whose node ids cannot be added to.
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneBrowser(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "browser" if nodeid.startswith("tests/browser/") else nodeid

    return OneBrowser(config, log)


@pytest.fixture(scope="session")
def cycle_split():
    """60 users who walk around a circle of 12 items, each one step at a time: easy to learn, certain to predict."""
    rng = np.random.default_rng(0)
    walks = [(rng.integers(12) + np.arange(rng.integers(5, 10))) % 12 for _ in range(60)]
    return Split(
        train=Sequences.from_lists([w[:-2] for w in walks]),
        validation=Holdout(Sequences.from_lists([w[:-2] for w in walks]), np.array([w[-2] for w in walks])),
        test=Holdout(Sequences.from_lists([w[:-1] for w in walks]), np.array([w[-1] for w in walks])),
        catalog_size=12,
        item_labels=np.arange(12),
        name="cycle",
    )


@pytest.fixture
def sce_lab(monkeypatch, capfd):
    """Run ``sce-lab ARGUMENTS`` in this process: exit status, standard output, standard error."""

    from sce_lab import cli, timing

    monkeypatch.setattr(timing, "PROBE", 0.0)  # what is expected is not what is tested

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["sce-lab", *arguments])
        with pytest.raises(SystemExit) as status:
            cli.main()
        return status.value.code or 0, *capfd.readouterr()

    return run

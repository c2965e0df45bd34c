"""When Triton's kernels serve a loss, and that without them everything is as it was. Needs no Triton."""

import importlib.util
import subprocess
import sys

import pytest
import torch
from problems import make_problem
from torch._subclasses.fake_tensor import FakeTensorMode

from sce_lab.losses import kernels, scalable_cross_entropy

SIZES = {"n_buckets": 4, "bucket_size_x": 8, "bucket_size_y": 10}


@pytest.fixture
def asked_for(monkeypatch):
    """Somebody asks for kernels, and they could serve: Triton is there, and its interpreter is on."""
    monkeypatch.setenv("SCE_LAB_TRITON", "1")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "triton")


def choice(n=5, d=8, dtype=torch.float32, deterministic=False):
    return kernels.wanted(torch.zeros(n, d), torch.zeros(9, d), dtype, deterministic)


def test_they_serve_when_asked_for(asked_for):
    assert choice()
    assert choice(d=256)


@pytest.mark.parametrize(
    "unfit", [{"n": 0}, {"d": 0}, {"d": 257}, {"dtype": torch.float64}, {"deterministic": True}], ids=str
)
def test_pytorch_serves_what_they_cannot(asked_for, unfit):
    assert not choice(**unfit)


@pytest.mark.parametrize("value", [None, "", "0", "no"])
def test_pytorch_serves_unless_they_are_asked_for(asked_for, monkeypatch, value):
    if value is None:
        monkeypatch.delenv("SCE_LAB_TRITON")
    else:
        monkeypatch.setenv("SCE_LAB_TRITON", value)
    assert not choice()


def test_pytorch_serves_on_a_cpu_without_interpreter(asked_for, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    assert not choice()


def test_pytorch_serves_without_triton(asked_for, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    problem = make_problem(dtype=torch.float32)
    assert scalable_cross_entropy(*problem.arguments, **SIZES).isfinite()


def test_pytorch_serves_in_deterministic_mode(asked_for):
    torch.use_deterministic_algorithms(True)
    try:
        assert not choice()
    finally:
        torch.use_deterministic_algorithms(False)


def test_pytorch_serves_predictions(asked_for):
    with FakeTensorMode():
        assert not choice()


def test_kernels_are_imported_when_they_first_serve():
    """They need Triton, and the rest of the losses must not."""
    code = "import sys, sce_lab.losses.kernels as k; sys.exit(any(m.startswith(k.__name__ + '.') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Which backend computes, and that Triton's is as good as not there until it is wanted. Needs no Triton."""

import subprocess
import sys

import pytest
import torch
from problems import make_problem
from torch._subclasses.fake_tensor import FakeTensorMode

from sce_lab.losses import (
    SCELoss,
    bucket_search,
    cross_entropy,
    sampled_softmax,
    scalable_cross_entropy,
    scalable_cross_entropy_statistics,
)
from sce_lab.losses.engine import tiles, triton
from sce_lab.losses.engine.backend import BACKENDS, choose, resolved
from sce_lab.losses.engine.tiles import Plan

SIZES = {"n_buckets": 4, "bucket_size_x": 8, "bucket_size_y": 10}


@pytest.fixture
def interpreter(monkeypatch):
    """Triton could serve: it is there, and its interpreter is on."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(triton, "INSTALLED", True)


def choice(name="triton", n=5, d=8, dtype=torch.float32, deterministic=False):
    return choose(name, torch.zeros(n, d), torch.zeros(9, d), Plan(dtype, 2**20, deterministic)).name


def test_it_serves_when_asked_for_by_name(interpreter):
    assert choice() == "triton"
    assert choice(d=4096) == "triton"


def test_auto_takes_it_on_a_gpu_only(interpreter):
    assert choice("auto") == "torch"
    assert not BACKENDS["triton"].pays(torch.zeros(1))


def test_auto_takes_it_on_a_gpu_whatever_the_sizes(interpreter):
    with FakeTensorMode():
        for n, c, d in ((1, 1, 1), (6_100, 12_101, 64), (8_192, 256_000, 2_304)):
            outputs, table = torch.empty(n, d, device="cuda"), torch.empty(c, d, device="cuda")
            assert choose("auto", outputs, table, Plan(torch.float32, 2**20, False)).name == "triton"


def test_on_a_gpu_auto_takes_it_where_it_serves(interpreter, monkeypatch):
    monkeypatch.setattr(type(BACKENDS["triton"]), "pays", lambda self, outputs: True)
    assert choice("auto") == "triton"
    assert choice("auto", dtype=torch.float64) == "torch"
    assert choice("torch") == "torch"


@pytest.mark.parametrize(
    "unfit", [{"n": 0}, {"d": 0}, {"d": 4097}, {"dtype": torch.float64}, {"deterministic": True}], ids=str
)
def test_what_it_cannot_serve_is_refused_by_name_and_left_to_pytorch_by_auto(interpreter, unfit):
    with pytest.raises(ValueError, match=r"backend='triton' does not serve .*backend=\"auto\""):
        choice(**unfit)
    assert choice("auto", **unfit) == "torch"


def test_not_on_a_cpu_without_interpreter(interpreter, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(ValueError, match=r"backend='triton' does not serve torch.float32 with 8 dimensions on cpu"):
        choice()


def test_not_without_triton(interpreter, monkeypatch):
    monkeypatch.setattr(triton, "INSTALLED", False)
    problem = make_problem(dtype=torch.float32)
    with pytest.raises(ValueError, match="triton"):
        scalable_cross_entropy(*problem.arguments, **SIZES, backend="triton")
    assert scalable_cross_entropy(*problem.arguments, **SIZES).isfinite()


def test_not_in_deterministic_mode(interpreter):
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(ValueError, match="triton"):
            choice()
    finally:
        torch.use_deterministic_algorithms(False)


def test_pytorch_serves_predictions(interpreter):
    with FakeTensorMode(), pytest.raises(ValueError, match="triton"):
        choice()


@pytest.mark.parametrize("name", ["cuda", "", "Torch"])
@pytest.mark.parametrize(
    "loss",
    [
        lambda *a, **s: cross_entropy(*a, **s, hold_logits=False),
        lambda *a, **s: cross_entropy(*a, **s, hold_logits=False, workspace_bytes=1),
        sampled_softmax,
        lambda *a, **s: scalable_cross_entropy(*a, **s, **SIZES),
        lambda *a, **s: scalable_cross_entropy_statistics(*a, **s, **SIZES),
    ],
    ids=["cce", "cce, tiles", "sampled", "sce", "statistics"],
)
def test_unknown_backends_are_named_with_the_known_ones(name, loss):
    with pytest.raises(ValueError, match=f"backend must be one of auto, triton, torch, got {name!r}"):
        loss(*make_problem(dtype=torch.float32).arguments, backend=name)


def test_a_module_has_a_backend_too(interpreter, monkeypatch):
    asked = []
    monkeypatch.setattr(type(BACKENDS["triton"]), "serves", lambda self, *a: asked.append(1))
    problem = make_problem(dtype=torch.float32)
    with pytest.raises(ValueError, match="triton"):
        SCELoss(**SIZES, backend="triton")(*problem.arguments)
    assert asked


def test_kernels_are_imported_when_they_first_serve():
    """They need Triton, and the rest of the losses must not."""
    code = (
        "import sys, sce_lab.losses.engine.triton as k; "
        "sys.exit(any(m.startswith(k.__name__ + '.') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_only_pytorch_computes_it_computes_by_any_name():
    arguments = torch.zeros(3, 4), torch.zeros(9, 4), False
    for name in ("auto", "torch", "triton"):
        assert resolved(name, *arguments, special=True) == "torch"
    with pytest.raises(ValueError, match="backend must be one of auto, triton, torch, got 'cuda'"):
        resolved("cuda", *arguments, special=True)


GIB = 2**30


@pytest.mark.parametrize(
    ("free", "expected"), [(GIB, 128 * 2**20), (16 * GIB, GIB), (130 * GIB, 2 * GIB)], ids=["little", "some", "much"]
)
def test_without_triton_a_gpu_takes_its_chunks_from_what_is_free(free, expected, monkeypatch):
    monkeypatch.setattr(tiles, "free_on_cuda", lambda device: free)
    with FakeTensorMode():
        like = torch.empty(3, 4, device="cuda")
    assert tiles.workspace_or_default(None, like, "torch") == expected
    assert tiles.workspace_or_default(7, like, "torch") == 7
    assert tiles.workspace_or_default(None, like, "triton") == 128 * 2**20
    assert tiles.workspace_or_default(None, torch.empty(1), "torch") == 4 * 2**20


def test_what_the_allocator_holds_without_use_is_free(monkeypatch):
    for name, value in (("mem_get_info", (5, 80)), ("memory_reserved", 30), ("memory_allocated", 20)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert tiles.free_on_cuda(torch.device("cuda")) == 15


def test_the_search_for_buckets_has_that_workspace(monkeypatch):
    monkeypatch.setattr(tiles, "free_on_cuda", lambda device: 64 * GIB)
    monkeypatch.setattr(triton, "INSTALLED", False)
    asked = []
    monkeypatch.setattr(bucket_search, "topk", lambda *arguments: asked.append(arguments[4]) or 1 / 0)
    with FakeTensorMode():
        input, weight = torch.empty(30, 8, device="cuda"), torch.empty(50, 8, device="cuda")
        target = torch.zeros(30, dtype=torch.int64, device="cuda")
        with pytest.raises(ZeroDivisionError):
            scalable_cross_entropy(input, weight, target, **SIZES)
    assert asked == [2 * GIB]

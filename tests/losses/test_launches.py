"""On a GPU a loss waits for nothing and launches little: shown on tensors without values, with or without Triton."""

import pytest
import torch
from launches import counted, triton_or_a_stand_in

from sce_lab.losses import make_loss
from sce_lab.memory import LiveBytes, largest_workspace

S = {"n": 6_100, "c": 12_101, "d": 64}
L = {"n": 51_200, "c": 1_000_000, "d": 64}
HEAD = {"n": 8_192, "c": 256_000, "d": 2_304, "dtype": torch.bfloat16}
SCE = {
    "S": (S, {"n_buckets": 202, "bucket_size_x": 202}),
    "L": (L, {"n_buckets": 452, "bucket_size_x": 452}),
    "XL": (L | {"c": 10_000_000}, {"n_buckets": 452, "bucket_size_x": 452}),
    "head": (HEAD, {"n_buckets": 181, "bucket_size_x": 181, "bucket_size_y": 512}),
}


@pytest.fixture(autouse=True)
def _kernels():
    with triton_or_a_stand_in():
        yield


def step(loss, n, c, d, dtype=torch.float32):
    """Kernels that forward and backward launch, and waits."""
    outputs, table = (torch.empty(rows, d, dtype=dtype, device="meta", requires_grad=True) for rows in (n, c))
    targets = torch.empty(n, dtype=torch.int64, device="meta")
    with counted() as launches:
        value = loss(outputs, table, targets)
        (value.sum() if value.dim() else value).backward()
    return launches


#: Launches of forward and backward together, random numbers and the gradient of 1 among them.
MOST = {"S": 18, "L": 26, "XL": 32, "head": 28}


@pytest.mark.parametrize("case", SCE)
def test_sce_launches_little_and_waits_for_nothing(case):
    shape, sizes = SCE[case]
    launches = step(make_loss("sce", **sizes, backend="triton"), **shape)
    assert launches.waits == []
    assert len(launches.kernels) <= MOST[case], launches.kernels
    assert {"log_negatives_kernel", "outputs_gradient_kernel", "items_gradient_kernel"} < set(launches.kernels)


#: Likewise at S. A ``topk`` and a ``sort`` of PyTorch are 12 and 4 of those of the losses that need one.
OTHERS = {
    "sce, row-sparse": ("sce", SCE["S"][1] | {"sparse_grad": True}, 25),
    "sce, sum": ("sce", SCE["S"][1] | {"reduction": "sum"}, 17),
    "sce, each": ("sce", SCE["S"][1] | {"reduction": "none"}, 17),
    "sce, mix": ("sce", SCE["S"][1] | {"mix_x": True}, 30),
    "cce": ("cce", {}, 17),
    "sampled": ("sampled", {}, 23),
    "sampled, own": ("sampled", {"shared_negatives": False}, 19),
    "sampled, row-sparse": ("sampled", {"sparse_grad": True}, 30),
    "sampled, in batch": ("sampled", {"sampling": "in_batch"}, 59),
    "bce": ("bce", {"n_negatives": 4}, 50),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_losses_wait_for_nothing_either(name):
    loss, settings, most = OTHERS[name]
    backend = {} if loss == "bce" else {"backend": "triton"}
    launches = step(make_loss(loss, **settings, **backend), **S)
    assert launches.waits == []
    assert len(launches.kernels) <= most, launches.kernels


@pytest.mark.parametrize(
    ("case", "loss", "most"),
    [("S", "sce", 48), ("L", "sce", 64), ("XL", "sce", 128), ("head", "sce", 1_100), ("head", "cce", 500)],
)
def test_the_workspace_is_small(case, loss, most):
    """MiB beyond inputs and gradients; for half precision also float32 sums of the rows that have a gradient."""
    shape, sizes = SCE[case]
    n, c, d, dtype = shape["n"], shape["c"], shape["d"], shape.get("dtype", torch.float32)
    outputs, table = (torch.empty(rows, d, dtype=dtype, device="meta", requires_grad=True) for rows in (n, c))
    targets = torch.empty(n, dtype=torch.int64, device="meta")
    settings = sizes if loss == "sce" else {}
    with LiveBytes(granularity=512) as live:
        live.know([outputs, table, targets])
        make_loss(loss, **settings, backend="triton")(outputs, table, targets).backward()
    assert 2**20 < largest_workspace(live.log) <= most * 2**20


def test_a_wait_would_be_seen():
    with counted() as launches:
        x = torch.arange(3)
        x[x > 1]
        x.sum().item()
        x.unique()
        x.nonzero()
    assert len(launches.waits) >= 4

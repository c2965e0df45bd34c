"""The same losses over a sharded table and over a whole one, on batches that lie on several ranks."""

import contextlib

import torch
from torch import nn
from torch.distributed.tensor import DeviceMesh, DTensor, Shard, distribute_tensor

from sce_lab.losses import InBatch, cross_entropy, sampled_softmax, scalable_cross_entropy
from sce_lab.losses.sharded import softmax

COUNTS = torch.arange(200)
SCE = {"n_buckets": 4, "bucket_size_x": 6, "bucket_size_y": 5}
#: name: (loss, settings, whether a generator is asked)
LOSSES = {
    "ce": (cross_entropy, {"hold_logits": False}, False),
    "ce sum": (cross_entropy, {"reduction": "sum", "logit_scale": 2.0}, False),
    "ce none": (cross_entropy, {"reduction": "none"}, False),
    "ce weighted": (cross_entropy, {"weight": COUNTS + 1.0}, False),
    "sampled": (sampled_softmax, {"n_negatives": 7}, True),
    "sampled sum": (sampled_softmax, {"n_negatives": 7, "reduction": "sum"}, True),
    "sampled popular": (sampled_softmax, {"n_negatives": 7, "sampling": "popularity", "item_counts": COUNTS}, True),
    "sampled in batch": (sampled_softmax, {"n_negatives": 7, "sampling": InBatch()}, True),
    "sampled own": (sampled_softmax, {"n_negatives": 5, "shared_negatives": False}, True),
    "sampled corrected": (sampled_softmax, {"n_negatives": 7, "positive_in_denominator": False}, True),
    "sampled given": (sampled_softmax, {"negatives": torch.tensor([0, 3, 3, 4])}, True),
    "sce": (scalable_cross_entropy, SCE, True),
    "sce none": (scalable_cross_entropy, SCE | {"reduction": "none"}, True),
    "sce sum mix": (scalable_cross_entropy, SCE | {"mix_x": True, "reduction": "sum"}, True),
    "sce moved": (scalable_cross_entropy, SCE | {"kmeans_steps": 2, "items_near": "positions"}, True),
    "sce union": (scalable_cross_entropy, SCE | {"combine": "union"}, True),
    "sce added": (scalable_cross_entropy, SCE | {"combine": "logsumexp"}, True),
    "sce negatives": (scalable_cross_entropy, SCE | {"n_negatives": 3}, True),
    "sce all": (scalable_cross_entropy, SCE | {"n_negatives": 3, "negatives_for": "all", "combine": "union"}, True),
    "sce everything": (scalable_cross_entropy, {"n_buckets": 2, "bucket_size_x": 99, "bucket_size_y": 99}, True),
}
#: items, of which 4 ranks have 4, 4, 4 and 1, or 2, 2, 1 and none; dtype; and whether outputs are gathered in chunks
CASES = ((13, torch.float32, False), (5, torch.float32, True), (13, torch.bfloat16, True), (5, torch.bfloat16, False))
SPARSE = ("sampled", "sampled own", "sce", "sce union", "sce negatives")
SIZES = {1: [21], 2: [5, 16], 3: [9, 0, 12], 4: [7, 1, 0, 13]}


def of_batches(catalog_size, sizes, dtype):
    """Outputs, targets and table of all ranks together."""
    made = torch.Generator().manual_seed(catalog_size)
    n = sum(sizes)
    outputs = torch.randn(n, 8, generator=made).to(dtype)
    targets = torch.randint(catalog_size, (n,), generator=made).masked_fill(torch.arange(n) % 5 == 1, -100)
    return outputs, targets, torch.randn(catalog_size, 8, generator=made).to(dtype)


def settings_for(name, catalog_size):
    function, settings, draws = LOSSES[name]
    cut = {key: settings[key][:catalog_size] for key in ("weight", "item_counts") if key in settings}
    return function, settings | cut | ({"generator": torch.Generator().manual_seed(3)} if draws else {})


def whole(name, outputs, targets, table, upstream):
    """Value and gradients on one device."""
    function, settings = settings_for(name, len(table))
    outputs, table = outputs.clone().requires_grad_(), table.clone().requires_grad_()
    settings |= {"hold_logits": False} if function is cross_entropy else {}
    value = function(outputs, table, targets, **settings, backend="torch")
    (value * upstream if value.dim() else value * 3).sum().backward()
    return value.detach(), outputs.grad, table.grad


def sharded(name, outputs, targets, table, upstream, mesh, mine, sparse, leaf):
    """The same of one's own positions and rows; the table is a parameter, or made of one."""
    function, settings = settings_for(name, len(table))
    outputs = outputs[mine].clone().requires_grad_()
    whole_table = distribute_tensor(table, mesh, [Shard(0)], src_data_rank=None)
    if leaf:
        parameter = nn.Parameter(whole_table)
        of_loss = parameter
    else:
        parameter = nn.Parameter(whole_table.to_local().clone())
        of_loss = DTensor.from_local(
            parameter, mesh, [Shard(0)], shape=table.shape, stride=table.stride(), run_check=False
        )
    settings |= {"sparse_grad": True} if sparse else {}
    value = function(outputs, of_loss, targets[mine], **settings)
    (value * upstream[mine] if value.dim() else value * 3).sum().backward()
    grad = parameter.grad
    if leaf:
        grad = grad.to_local()
    if sparse:
        assert grad.layout == torch.sparse_coo
        grad = grad.to_dense()
    return value.detach(), outputs.grad, grad


def equal_to_whole(rank, n_ranks):
    """Every loss, on meshes of the first 1 to 4 ranks, over catalogs that divide evenly, unevenly and not at all."""
    checked = 0
    for n in range(1, n_ranks + 1):
        mesh = DeviceMesh("cpu", list(range(n)))
        if rank >= n:
            continue
        for catalog_size, dtype, chunked in CASES[: (1, 2, 4, 4)[n - 1]]:
            checked += _all_losses(mesh, rank, n, SIZES[n], catalog_size, dtype, chunked)
        if n == 2:
            checked += _all_losses(mesh, rank, n, [0, 0], *CASES[0])
    assert checked >= 46  # those of four ranks, which all take part in


def _all_losses(mesh, rank, n, sizes, catalog_size, dtype, chunked):
    start = sum(sizes[:rank])
    mine = slice(start, start + sizes[rank])
    outputs, targets, table = of_batches(catalog_size, sizes, dtype)
    upstream = torch.linspace(-1, 2, len(targets))
    rows = table.chunk(n)
    first = sum(len(part) for part in rows[:rank])
    kept, checked = softmax.GATHERED_BYTES, 0
    softmax.GATHERED_BYTES = 4 * n * 8 * 4 if chunked else kept  # four positions of each rank
    try:
        for name in LOSSES:
            if dtype == torch.bfloat16 and name.split()[0] != name:
                continue  # one of each
            sparse = name in SPARSE and chunked
            with _no_warnings():
                value, of_outputs, of_table = whole(name, outputs, targets, table, upstream)
                found = sharded(
                    name, outputs, targets, table, upstream, mesh, mine, sparse, leaf=not sparse and not chunked
                )
            expected = value[mine] if value.dim() else value, of_outputs[mine]
            expected += (of_table[first : first + (len(rows[rank]) if rank < len(rows) else 0)],)
            for what, one, other in zip(("value", "outputs", "table"), found, expected):
                rtol = 2**-7 if one.dtype == torch.bfloat16 else 1e-5  # one step of bfloat16
                where = f"{name}, {n} ranks, {catalog_size} items, {dtype}, chunked={chunked}: {what}"
                torch.testing.assert_close(one, other, atol=1e-5, rtol=rtol, msg=lambda m, w=where: f"{w}: {m}")
            checked += 1
    finally:
        softmax.GATHERED_BYTES = kept
    return checked


@contextlib.contextmanager
def _no_warnings():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # buckets larger than there are items, on purpose
        yield

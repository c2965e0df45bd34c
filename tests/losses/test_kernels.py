"""Triton's kernels give what PyTorch gives: on a GPU if there is one, in Triton's interpreter otherwise.

Triton is no dependency of the lab. To run these tests beside a CPU build of PyTorch: ``pip install triton``.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from launches import counted
from problems import TOLERANCE, assert_matches, make_problem, problems
from test_sce import sce_settings

from sce_lab.losses import engine, inputs, make_loss, scalable_cross_entropy, scalable_cross_entropy_reference
from sce_lab.losses.engine.torch_backend import TorchBackend
from sce_lab.losses.engine.triton import interpreted
from sce_lab.losses.engine.triton_backend import TritonBackend

pytest.importorskip("triton", reason="Triton is not installed: PyTorch's CPU builds come without it")
ON_GPU = torch.cuda.is_available()
if not (ON_GPU or interpreted()):
    pytest.skip("neither a GPU nor TRITON_INTERPRET=1", allow_module_level=True)

from sce_lab.losses.engine.triton import search  # noqa: E402

DEVICE = "cuda" if ON_GPU else "cpu"
WORKSPACE = 2**26
pytestmark = pytest.mark.filterwarnings(
    "ignore:bucket_size", "ignore:TRITON_DEFAULT_FP_FUSION", "ignore::RuntimeWarning:triton"
)
some = settings(max_examples=20, deadline=None, derandomize=True)  # the interpreter takes its time


def in_triton(*arguments, **settings):
    """The loss by its kernels."""
    return scalable_cross_entropy(*arguments, **settings, backend="triton")


@pytest.fixture
def mended(monkeypatch):
    """How many queries each search could not answer from the groups that it took."""
    found, launch = [], search.launch

    def looking(kernel, grid, *arguments, **constants):
        if constants.get("MEND"):
            found.append(int(arguments[5].sum()))
        launch(kernel, grid, *arguments, **constants)

    monkeypatch.setattr(search, "launch", looking)
    return found


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def found(queries, table, k, allowed=None, groups=True):
    """By groups, or from all scores."""
    per_query = 4 * len(table)
    workspace = len(queries) * (per_query - 1 if groups else per_query)
    assert (search.Grouping.fitting(len(queries), len(table), k, workspace).size > 0) == groups
    return search.largest_products(queries, table, k, allowed=allowed, workspace_bytes=workspace)


def assert_is_topk(chosen, queries, table, k, allowed=None):
    """k different rows, of the largest scores there are."""
    assert chosen.shape == (len(queries), k)
    assert chosen.dtype == torch.int64
    assert all(len(set(row)) == k for row in chosen.tolist())
    scores = queries.double() @ table.double().T
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    got = scores.gather(1, chosen).sort(dim=1, descending=True).values
    scale = float(queries.double().norm(dim=1).max() * table.double().norm(dim=1).max())
    torch.testing.assert_close(got, scores.topk(k, dim=1).values, rtol=0, atol=1e-6 * scale)


class TestSearch:
    @some
    @given(st.data())
    def test_finds_a_top_k(self, data):
        q, c, d = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 1500)), data.draw(st.integers(1, 20))
        k = data.draw(st.integers(1, min(c, 40)))
        seed = data.draw(st.integers(0, 10**6))
        queries = drawn(q, d, seed=seed)
        table = drawn(c, d, seed=seed + 1) * data.draw(st.sampled_from([1e-9, 0.02, 1.0, 1e6]))
        if data.draw(st.booleans()):
            table = table.round()  # many equal scores
        if data.draw(st.booleans()):
            table = table[(table @ queries[0]).argsort()]  # the best come last
        if data.draw(st.booleans()):
            table = table.T.contiguous().T
        table = table.to(data.draw(st.sampled_from([torch.float32, torch.bfloat16])))
        allowed = None
        if data.draw(st.booleans()):
            allowed = drawn(c, seed=seed + 2) < data.draw(st.sampled_from([-9.0, 0.0, 9.0]))
        workspace = data.draw(st.sampled_from([WORKSPACE, 4 * q * c - 1, c, 1]))
        chosen = TritonBackend().topk(queries, table, k, allowed, workspace)
        assert_is_topk(chosen, queries, table, k, allowed)
        assert (chosen.diff(dim=1) > 0).all()

    @pytest.mark.parametrize(
        ("q", "d", "k", "groups"), [(140, 16, 5, True), (6, 150, 20, True), (70, 3, 20, False), (6, 150, 1, False)]
    )
    def test_many_tiles(self, q, d, k, groups, mended):
        """More queries than a program takes, a last tile that is not full, more dimensions than are loaded at once."""
        queries, table = drawn(q, d), drawn(2_011, d, seed=1)
        chosen = found(queries, table, k, groups=groups)
        assert torch.equal(chosen, (queries @ table.T).topk(k).indices.sort().values)
        assert mended == ([0] if groups else [])

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_sorted_table_is_no_surprise(self, order, mended):
        """Popular items first or last: the groups with the largest maxima stand together."""
        table = drawn(2_000, 16) * torch.linspace(0.5, 2, 2_000, device=DEVICE).unsqueeze(1) ** order
        queries = drawn(3, 16, seed=1)
        assert_is_topk(found(queries, table, 20), queries, table, 20)
        assert mended == [0]

    @pytest.mark.parametrize("rounded", ["rows", "queries"])
    def test_scores_that_float16_cannot_tell_apart(self, rounded, mended):
        """The best 40 rows are within 2e-4, and each has a group of its own: then the bound is as tight as can be."""
        queries = torch.ones(1, 16, device=DEVICE) if rounded == "rows" else drawn(1, 16, seed=5)
        queries /= queries.norm()
        sideways = drawn(40, 16, seed=1) / 2
        sideways -= (sideways @ queries.T) @ queries
        best = queries * (1 + torch.linspace(0, 2e-4, 40, device=DEVICE).unsqueeze(1)) + sideways
        table = drawn(1_200, 16) / 64
        table[::30] = best if rounded == "rows" else best.half().float()
        exact, rough = (
            (q.double() @ w.double().T).topk(20).indices.sort().values
            for q, w in ((queries, table), ((queries / queries.abs().max()).half(), table.half()))
        )
        assert not torch.equal(exact, rough)
        assert torch.equal(found(queries, table, 20), exact)
        assert mended == [0]

    @pytest.mark.parametrize("good", [20, 60])
    def test_rounding_at_its_worst(self, good, mended):
        """Poor rows are all rounded up and good ones down. With more of them than groups are taken, it is mended."""
        unit = 2.0**-12  # of float16 between 1/4 and 1/2
        poor = torch.full((80 - good, 16), 0.25 + 0.505 * unit, device=DEVICE)
        better = torch.full((good, 16), 0.25 + 0.495 * unit, device=DEVICE)
        better[:, 0] += unit
        assert better.sum(dim=1).min() > poor.sum(dim=1).max()
        assert better.half().double().sum(dim=1).max() < poor.half().double().sum(dim=1).min()
        table = drawn(1_600, 16) / 64
        table[::20] = torch.cat([poor, better])
        chosen = found(torch.ones(1, 16, device=DEVICE), table, 20)
        assert set(chosen.flatten().tolist()) <= set(range(20 * (80 - good), 1_600, 20))
        assert chosen.unique().numel() == 20
        assert mended == [1]

    def test_rows_that_are_not_allowed_are_no_candidates(self, mended):
        queries, table = drawn(4, 16), drawn(4_000, 16, seed=1)
        allowed = (queries @ table.T).amax(dim=0) < 8
        assert_is_topk(found(queries, table, 25, allowed), queries, table, 25, allowed)
        assert mended == [0]

    @pytest.mark.parametrize("groups", [True, False])
    def test_fewer_are_allowed_than_asked_for(self, groups):
        queries, table = drawn(2, 8), drawn(2_000, 8, seed=1)
        allowed = torch.zeros(2_000, dtype=torch.bool, device=DEVICE)
        allowed[[3, 1_999]] = True
        chosen = found(queries, table, 10, allowed, groups)
        assert all({3, 1_999} < set(row) and len(set(row)) == 10 for row in chosen.tolist())

    def test_only_a_query_that_cannot_be_sure_is_mended(self, mended):
        """It sees a hundred rows that are the same, and one that is better by less than float16 can say."""
        queries, table = drawn(5, 8), drawn(1_000, 8, seed=1)
        table[:, 0] = 0
        queries[:, 0] = 0
        queries[2] = torch.eye(8, device=DEVICE)[0]
        table[5:1_000:10, 0] = 3.0
        table[985, 0] = 3.0001
        chosen = found(queries, table, 1)
        assert_is_topk(chosen, queries, table, 1)
        assert chosen[2] == 985
        assert mended == [1]

    def test_a_query_of_nothing_is_answered_like_any_other(self, mended):
        queries, table = drawn(5, 8), drawn(4_000, 8, seed=1)
        queries[2] = 0
        assert_is_topk(found(queries, table, 10), queries, table, 10)
        assert mended == [0]

    def test_equal_rows_everywhere(self, mended):
        queries, table = drawn(3, 8), drawn(1, 8, seed=1).expand(900, 8)
        assert_is_topk(found(queries, table, 10), queries, table, 10)
        assert mended == [3]

    @pytest.mark.parametrize("groups", [True, False])
    def test_nan_is_the_largest_as_it_is_to_topk(self, groups):
        queries, table = drawn(3, 8), drawn(4_000, 8, seed=1)
        table[[7, 3_333]] = torch.nan
        chosen = found(queries, table, 10, groups=groups)
        assert all({7, 3_333} < set(row) for row in chosen.tolist())
        queries[1] = torch.nan
        chosen = found(queries, table, 10, groups=groups)
        assert all(len(set(row)) == 10 for row in chosen.tolist())
        assert 0 <= chosen.min() <= chosen.max() < 4_000

    @pytest.mark.parametrize("groups", [True, False])
    def test_infinite_scores(self, groups):
        queries, table = drawn(3, 8).abs(), drawn(4_000, 8, seed=1)
        table[::400] = torch.inf
        table[1::400] = -torch.inf
        chosen = found(queries, table, 10, groups=groups)
        assert chosen.sort().values.tolist() == [list(range(0, 4_000, 400))] * 3

    @pytest.mark.parametrize(
        ("n_queries", "n_items", "k", "d"), [(452, 1_000_000, 256, 64), (452, 10_000_000, 256, 64), (5, 20_000, 20, 16)]
    )
    def test_knows_how_much_memory_it_needs(self, n_queries, n_items, k, d):
        """The formula of its docstring; that it keeps to it is tested on a GPU."""
        for workspace in (2**20, 48 * 2**20, 2**34):
            how = search.Grouping.fitting(n_queries, n_items, k, workspace)
            n_taken = min(k + k // 4 + 32, how.n_groups)
            per_query = 2 * -(-n_items // how.size) + 4 * how.size * n_taken if how.size else 4 * n_items
            assert how.n_queries == 1 or how.n_queries * per_query <= workspace
        assert how == (n_queries, 0, 0, 0)


def both_ways(problem, **settings):
    """Loss and gradients with kernels and without."""
    return [
        problem.backward(scalable_cross_entropy(*problem.arguments, **settings, backend=backend))
        for backend in ("triton", "torch")
    ]


def on_device(problem):
    problem.input, problem.linear_weight = (
        tensor.detach().to(DEVICE).requires_grad_() for tensor in problem.arguments[:2]
    )
    problem.target = problem.target.to(DEVICE)
    return problem


class TestLosses:
    @some
    @given(st.data())
    def test_equal_the_loops(self, data):
        problem = data.draw(problems(dtypes=(torch.float32, torch.bfloat16, torch.float16)))
        settings = data.draw(sce_settings(problem))
        sparse_grad = data.draw(st.booleans())
        outputs, weight, target = problem.flat
        there = on_device(dataclasses.replace(problem))
        positions, table, valid = (
            there.input.detach().flatten(0, -2),
            there.linear_weight.detach(),
            there.target.flatten() != -100,
        )
        rows, items = (  # ties fall as they will
            TritonBackend().topk(settings["centers"].float().to(DEVICE), rows, min(k, len(rows)), allowed, WORKSPACE)
            for rows, k, allowed in (
                (positions, settings["bucket_size_x"], valid),
                (table, settings["bucket_size_y"], None),
            )
        )
        expected = oracle.scalable_cross_entropy(outputs, weight, target, rows.tolist(), items.tolist())
        loss, *gradients = there.backward(in_triton(*there.arguments, **settings, sparse_grad=sparse_grad))
        assert gradients[1].is_sparse == sparse_grad
        assert_matches((loss.cpu(), *(g.cpu() for g in gradients)), expected, problem, settings["reduction"])

    @pytest.mark.parametrize("sparse_grad", [False, True])
    @pytest.mark.parametrize("d", [5, 64, 70, 300])
    def test_many_tiles(self, d, sparse_grad, monkeypatch):
        """More slots, winners, items and dimensions than a program takes at a time."""
        problem = on_device(make_problem(n=200, c=400, d=d, dtype=torch.float32, ignored=0.2, scale=d**-0.25))
        sizes = {"n_buckets": 3, "bucket_size_x": 90, "bucket_size_y": 150, "centers": drawn(3, d)}
        fused, plain = both_ways(problem, **sizes, sparse_grad=sparse_grad)
        for ours, theirs in zip(fused, plain):
            ours, theirs = ours.to_dense(), theirs.to_dense()
            assert ours.dtype == theirs.dtype
            assert (ours - theirs).norm() <= 1e-6 * theirs.norm()
        if sparse_grad:
            assert torch.equal(fused[2].coalesce().indices(), plain[2].coalesce().indices())

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_added_up_in_float32(self, dtype):
        problem = on_device(make_problem(n=200, c=400, d=32, dtype=dtype, scale=0.7))
        sizes = {"n_buckets": 3, "bucket_size_x": 90, "bucket_size_y": 150, "centers": drawn(3, 32)}
        fused, plain = both_ways(problem, **sizes)
        assert fused[0].dtype == torch.float32
        assert abs(fused[0] - plain[0]) <= 1e-6 * plain[0]
        for ours, theirs in zip(fused[1:], plain[1:]):
            assert ours.dtype == dtype
            assert (ours - theirs).float().norm() <= TOLERANCE[dtype] * theirs.float().norm()

    def test_search_and_losses_together_equal_the_reference(self):
        problem = on_device(make_problem(n=300, c=4_000, d=16, dtype=torch.float32, ignored=0.2))
        sizes = {"n_buckets": 6, "bucket_size_x": 40, "bucket_size_y": 60, "centers": drawn(6, 16)}
        ours = problem.backward(in_triton(*problem.arguments, **sizes))
        theirs = problem.backward(scalable_cross_entropy_reference(*problem.arguments, **sizes))
        for a, b in zip(ours, theirs):
            assert (a - b).norm() <= 2e-6 * b.norm()

    def test_under_autocast_halves_meet_float32(self):
        problem = on_device(make_problem(n=100, c=200, d=16, dtype=torch.float32))
        problem.input = problem.input.detach().bfloat16().requires_grad_()
        sizes = {"n_buckets": 3, "bucket_size_x": 40, "bucket_size_y": 50, "centers": drawn(3, 16)}
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            fused, plain = both_ways(problem, **sizes)
        assert [t.dtype for t in fused] == [torch.float32, torch.bfloat16, torch.float32]
        for ours, theirs in zip(fused, plain):
            assert (ours - theirs).float().norm() <= TOLERANCE[ours.dtype] * theirs.float().norm()

    def test_tiny_losses_keep_their_digits(self):
        weight = torch.tensor([[30.0], [2.0]], device=DEVICE, requires_grad=True)
        input = torch.tensor([[1.0]], device=DEVICE, requires_grad=True)
        sizes = {"n_buckets": 1, "bucket_size_x": 1, "bucket_size_y": 2}
        loss = in_triton(input, weight, torch.tensor([0], device=DEVICE), **sizes)
        loss.backward()
        p = torch.tensor(-28.0, dtype=torch.float64).exp().item()
        assert loss.item() == pytest.approx(p, rel=1e-5)
        assert weight.grad.flatten().tolist() == pytest.approx([-p, p], rel=1e-5)

    def test_large_logits_do_not_overflow(self):
        problem = on_device(make_problem(n=100, c=200, d=8, dtype=torch.float32, scale=10.0))
        sizes = {"n_buckets": 3, "bucket_size_x": 40, "bucket_size_y": 100, "centers": drawn(3, 8)}
        fused, plain = both_ways(problem, **sizes, reduction="none")
        assert fused[0].max() > 200
        for ours, theirs in zip(fused, plain):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-2)

    @pytest.mark.parametrize("poison", [torch.nan, torch.inf])
    def test_nan_is_seen_where_pytorch_shows_it(self, poison):
        problem = on_device(make_problem(n=60, c=100, d=8, dtype=torch.float32))
        with torch.no_grad():
            problem.input[11] = poison
        sizes = {"n_buckets": 3, "bucket_size_x": 20, "bucket_size_y": 30, "centers": drawn(3, 8)}
        fused, plain = both_ways(problem, **sizes, reduction="none")
        assert not fused[0][11].isfinite()
        for ours, theirs in zip(fused, plain):
            torch.testing.assert_close(ours, theirs, equal_nan=True)

    def test_a_bucket_of_nothing_but_the_target(self):
        """No negatives: the loss is 0, and so is its gradient."""
        problem = on_device(make_problem(n=3, c=1, d=4, dtype=torch.float32))
        sizes = {"n_buckets": 2, "bucket_size_x": 3, "bucket_size_y": 1}
        loss, *gradients = problem.backward(in_triton(*problem.arguments, **sizes))
        assert loss == 0
        assert all((gradient == 0).all() for gradient in gradients)

    def test_no_position_has_a_target(self):
        problem = on_device(make_problem(n=9, c=20, dtype=torch.float32, ignored=1.1))
        sizes = {"n_buckets": 2, "bucket_size_x": 3, "bucket_size_y": 4}
        loss, *gradients = problem.backward(in_triton(*problem.arguments, **sizes))
        assert loss == 0
        assert all((gradient == 0).all() for gradient in gradients)

    def test_the_same_bucket_many_times_gives_one_gradient(self):
        problem = on_device(make_problem(n=30, c=50, dtype=torch.float32))
        center = drawn(1, 8)
        once, often = (
            problem.backward(
                in_triton(
                    *problem.arguments, n_buckets=n, bucket_size_x=9, bucket_size_y=10, centers=center.expand(n, -1)
                )
            )
            for n in (1, 7)
        )
        for a, b in zip(once, often):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize("sizes", [{}, {"bias": True}, {"combine": "logsumexp"}], ids=str)
    def test_a_sum_over_blocks_is_left_to_pytorch_and_nothing_else(self, sizes, monkeypatch):
        problem = on_device(make_problem(dtype=torch.float32))
        rows, items = torch.arange(30, device=DEVICE).view(2, 15), torch.arange(40, device=DEVICE).view(2, 20)
        sizes = dict(sizes)
        bias = torch.randn(2, 20).to(DEVICE) if sizes.pop("bias", False) else None
        called = []
        for name in ("losses", "gradients"):
            theirs = getattr(TorchBackend, name)
            monkeypatch.setattr(TorchBackend, name, lambda *a, n=name, f=theirs: called.append((a[0].name, n)) or f(*a))
        asked = engine.Problem(
            *problem.arguments, torch.ones(30, dtype=torch.bool, device=DEVICE), engine.Blocks.of(rows, items, bias)
        )
        results = []
        for backend in ("triton", "torch"):
            losses, _ = engine.softmax_losses(asked, engine.How(2**20, backend=backend), **sizes)
            results.append(problem.backward(losses))
        for ours, theirs in zip(*results):
            torch.testing.assert_close(ours, theirs)
        left = [("triton", "losses"), ("triton", "gradients")] if sizes else []
        assert called == [*left, ("torch", "losses"), ("torch", "gradients")]

    @pytest.mark.parametrize(
        ("name", "settings"),
        [
            ("cce", {}),
            ("cce", {"workspace_bytes": 2**17}),  # several parts of the items
            ("sampled", {"negatives": torch.arange(40) % 23}),
            ("sampled", {"negatives": torch.arange(40) % 23, "sparse_grad": True}),
            ("sampled", {"negatives": torch.arange(200).unsqueeze(1) + torch.arange(6) % 4}),
            ("sampled", {"negatives": torch.arange(200).unsqueeze(1) + torch.arange(6) % 4, "sparse_grad": True}),
        ],
        ids=["cce", "cce in parts", "shared", "shared, row-sparse", "own", "own, row-sparse"],
    )
    @pytest.mark.parametrize(("d", "dtype"), [(20, torch.float32), (300, torch.float32), (20, torch.bfloat16)])
    def test_the_other_losses(self, name, settings, d, dtype):
        problem = on_device(make_problem(n=200, c=300, d=d, dtype=dtype, ignored=0.2, scale=d**-0.25))
        with torch.no_grad():
            problem.input[problem.target == -100] = torch.nan  # what stands at ignored positions touches nothing
        settings = {k: v.to(DEVICE) if isinstance(v, torch.Tensor) else v for k, v in settings.items()}
        for reduction in ("mean", "none"):
            fused, plain = (
                problem.backward(make_loss(name, **settings, backend=backend, reduction=reduction)(*problem.arguments))
                for backend in ("triton", "torch")
            )
            for ours, theirs in zip(fused, plain):
                ours, theirs = ours.to_dense().float(), theirs.to_dense().float()
                tolerance = 2e-6 if theirs.dim() < 2 or dtype == torch.float32 else TOLERANCE[dtype]
                assert (ours - theirs).norm() <= tolerance * theirs.norm()

    @pytest.mark.parametrize("name", ["sce", "sce, row-sparse", "sce, half", "cce", "sampled", "sampled, own"])
    def test_nothing_waits_for_the_gpu(self, name, monkeypatch):
        """Every operation that runs, but for the inside of the kernels, is looked at."""
        monkeypatch.setattr(inputs, "check_items", lambda *_: None)  # which does nothing on a GPU
        dtype = torch.bfloat16 if "half" in name else torch.float32
        problem = on_device(make_problem(n=60, c=3_000, d=16, dtype=dtype, ignored=0.2))
        sizes = {"n_buckets": 3, "bucket_size_x": 12, "bucket_size_y": 10, "sparse_grad": "sparse" in name}
        settings = sizes if "sce" in name else {"shared_negatives": "own" not in name} if "sampled" in name else {}
        if "sce" in name:
            settings["workspace_bytes"] = 3 * 11_999  # groups, for items
        with counted(run_kernels=True) as launches:
            loss = make_loss(name.split(",")[0], **settings, backend="triton")(*problem.arguments)
            loss.backward()
        assert launches.waits == []
        assert "log_negatives_kernel" in launches.kernels
        assert ("maxima_kernel" in launches.kernels) == ("sce" in name)


@pytest.mark.parametrize("precision", ["ieee", "tf32x3"])
def test_compile_for_a_gpu_that_is_not_here(precision, tmp_path):
    """In another process, since in this one they may be interpreted: machine code, on tensor cores, in registers."""
    script = Path(__file__).parents[2] / "benchmarks" / "kernels.py"
    result = tmp_path / "kernels.json"
    command = [sys.executable, script, "--capabilities", "90", "--dims", "64", "--dtypes", "float32"]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path / "cache")
    subprocess.run([*command, "--precision", precision, "--out", result], check=True, env=environment)
    compiled = {kernel.pop("kernel"): kernel for kernel in json.loads(result.read_text())["kernels"]}
    assert len(compiled) == 15
    for name, kernel in compiled.items():
        assert kernel["spilled"] <= 64, name  # none with Triton 3.9, a few bytes with some versions before
        assert kernel["shared"] <= 99 * 1024, name  # what a program has on GPUs for desks
    on_tensor_cores = {name for name, kernel in compiled.items() if kernel["tensor_core_operations"]}
    float32 = {f"{name}_kernel" for name in ("scores", "log_negatives", "shares", "outputs_gradient", "items_gradient")}
    assert on_tensor_cores == {"maxima_kernel"} | (float32 if precision == "tf32x3" else set())


@pytest.mark.gpu
@pytest.mark.skipif(not ON_GPU, reason="needs a CUDA device")
class TestOnAGPU:
    def test_a_million_items(self, mended):
        """Benchmark case L: the same choice, loss and gradients as PyTorch's, in 1/20 of the reference's memory."""
        n, c, n_buckets = 51_200, 1_000_000, 452
        table = (drawn(c, 64) / 8).requires_grad_()
        targets = torch.randint(c, (n,), device=DEVICE)
        outputs = (drawn(n, 64, seed=1) + 2 * table.detach()[targets]).requires_grad_()
        centers = drawn(n_buckets, 64, seed=2)
        chosen = found(centers, table.detach(), 256)
        assert_is_topk(chosen[:32], centers[:32], table.detach(), 256)
        assert mended == [0]

        sizes = {"n_buckets": n_buckets, "bucket_size_x": n_buckets, "bucket_size_y": 256, "centers": centers}
        results, workspace = [], []
        for sce in (in_triton, scalable_cross_entropy_reference):
            outputs.grad = table.grad = None
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            loss = sce(outputs, table, targets, **sizes)
            loss.backward()
            torch.cuda.synchronize()
            gradients = 4 * 64 * (n + c)
            workspace.append(torch.cuda.max_memory_allocated() - before - gradients)
            results.append([loss.detach(), outputs.grad, table.grad])
            del loss
        for ours, theirs in zip(*results):
            assert (ours - theirs).norm() <= 1e-5 * theirs.norm()
        assert workspace[0] <= workspace[1] / 20

    @pytest.mark.parametrize("workspace", [2**24, 2**26])
    def test_search_keeps_to_its_workspace(self, workspace):
        queries, table = drawn(452, 64), drawn(1_000_000, 64, seed=1)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        search.largest_products(queries, table, 256, allowed=None, workspace_bytes=workspace)
        small_change = 452 * (8 * 256 + 4 * 352 + 2 * 64 + 32) + 2**20
        assert torch.cuda.max_memory_allocated() - before <= workspace + small_change

    def test_a_step_can_be_captured_in_a_graph(self):
        """Then nothing in it waits, and no shape depends on values."""
        problem = on_device(make_problem(n=300, c=9_000, d=64, dtype=torch.float32, ignored=0.2))
        sizes = {"n_buckets": 20, "bucket_size_x": 40, "bucket_size_y": 60, "centers": drawn(20, 64)}
        for loss in (in_triton, lambda *a, **_: make_loss("cce")(*a), lambda *a, **_: make_loss("sampled")(*a)):
            expected = problem.backward(loss(*problem.arguments, **sizes))
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                problem.backward(loss(*problem.arguments, **sizes))
            torch.cuda.current_stream().wait_stream(stream)
            problem.input.grad = problem.linear_weight.grad = None
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                loss(*problem.arguments, **sizes).backward()
            graph.replay()
            assert problem.input.grad.isfinite().all()
            if loss is in_triton:  # the same centres
                torch.testing.assert_close(problem.input.grad, expected[1], rtol=1e-4, atol=1e-6)

    def test_on_another_stream(self):
        queries, table = drawn(50, 64), drawn(100_000, 64, seed=1)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            chosen = found(queries, table, 100)
        stream.synchronize()
        assert_is_topk(chosen, queries, table, 100)

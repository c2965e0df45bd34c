"""How the engine computes: search, memory, precision, sparse gradients, and everything that surrounds a loss."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from live_bytes import LiveBytes, workspace
from problems import make_problem, quick
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sce_lab.losses import SCELoss, scalable_cross_entropy, scalable_cross_entropy_reference
from sce_lab.losses.engine.torch_search import streaming_topk

SIZES = {"n_buckets": 12, "bucket_size_x": 40, "bucket_size_y": 60}

# The cases that the benchmarks measure: N, C, n_buckets = bucket_size_x, bucket_size_y; D = 64.
CASES = {
    "S": (6_100, 12_101, 202, 256),
    "M": (20_000, 173_511, 282, 256),
    "L": (51_200, 1_000_000, 452, 256),
    "XL": (51_200, 10_000_000, 452, 256),
}


def case(name):
    """Inputs and settings of a case; cheap under FakeTensorMode whatever its size."""
    n, c, n_buckets, bucket_size_y = CASES[name]
    input = torch.randn(n, 64).requires_grad_()
    weight = (0.1 * torch.randn(c, 64)).requires_grad_()
    settings = {"n_buckets": n_buckets, "bucket_size_x": n_buckets, "bucket_size_y": bucket_size_y}
    return (input, weight, torch.randint(c, (n,))), settings


def predicted(name, sce=scalable_cross_entropy, **more):
    """Workspace and peak of a case in bytes, on fake tensors: with as many distinct items as there can be."""
    with FakeTensorMode():
        arguments, settings = case(name)
        return workspace(lambda: sce(*arguments, **settings, **more), arguments[:2])


class TestSearch:
    @quick
    @given(st.data())
    def test_finds_a_top_k(self, data):
        """Also with ties, with rows that are not allowed, and with chunks of all sizes."""
        q, c, d = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 300)), data.draw(st.integers(1, 4))
        k = data.draw(st.integers(1, c))
        generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
        queries = torch.randn(q, d, generator=generator, dtype=torch.float64)
        table = torch.randn(c, d, generator=generator, dtype=torch.float64)
        if data.draw(st.booleans()):
            table = table.round()  # many equal scores
        if data.draw(st.booleans()):
            table = table[(table @ queries[0]).argsort()]  # the best come last
        allowed = torch.rand(c, generator=generator) < data.draw(st.sampled_from([0.0, 0.5, 1.0]))
        chosen = streaming_topk(
            queries, table, k, allowed=allowed, workspace_bytes=data.draw(st.sampled_from([1, 2_000, 2**20]))
        )
        assert chosen.shape == (q, k)
        assert all(len(set(row)) == k for row in chosen.tolist())
        scores = (queries @ table.T).masked_fill(~allowed, -torch.inf)
        best = scores.topk(k, dim=1).values
        torch.testing.assert_close(scores.gather(1, chosen).sort(dim=1, descending=True).values, best)

    @pytest.mark.parametrize("order", ["random", "rising", "falling"])
    @pytest.mark.parametrize("workspace_bytes", [30_000, 2**24], ids=["many chunks", "one chunk"])
    def test_agrees_with_topk(self, order, workspace_bytes):
        generator = torch.Generator().manual_seed(0)
        table = torch.randn(20_011, 8, generator=generator)
        queries = torch.randn(7, 8, generator=generator)
        if order != "random":
            table = table * torch.linspace(0.5, 2, 20_011).unsqueeze(1) ** (1 if order == "rising" else -1)
        for k in (1, 50, 400):
            chosen = streaming_topk(queries, table, k, workspace_bytes=workspace_bytes)
            assert torch.equal(chosen.sort().values, (queries @ table.T).topk(k).indices.sort().values)

    @pytest.mark.parametrize("k", [1, 64])
    def test_takes_the_memory_it_is_given(self, k):
        table, queries = torch.randn(100_000, 16), torch.randn(50, 16)
        for budget in (2**18, 2**20):
            with LiveBytes() as live:
                streaming_topk(queries, table, k, workspace_bytes=budget)
            assert live.peak() < 1.5 * budget + 40 * 50 * k

    def test_late_chunks_are_only_glanced_at(self):
        """The values that are searched at all: after the first chunk far fewer than there are."""
        table, queries = torch.randn(200_000, 16), torch.randn(20, 16)
        searched = 0

        class Counting(torch.utils._python_dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                nonlocal searched
                if func is torch.ops.aten.topk.default:
                    searched += args[0].numel()
                return func(*args, **(kwargs or {}))

        with Counting():
            streaming_topk(queries, table, 50, workspace_bytes=2**19)
        assert searched < 20 * 200_000 / 3


class TestMemory:
    def test_bars_at_a_million_and_ten_million_items(self):
        ours, _ = predicted("L")
        reference, _ = predicted("L", scalable_cross_entropy_reference)
        assert ours <= reference / 20
        largest, _ = predicted("XL")
        assert largest <= 200e6

    def test_row_sparse_gradients_leave_the_catalog_out(self):
        _, peak = predicted("XL", sparse_grad=True)
        assert peak <= 300e6

    def test_flat_in_the_catalog(self):
        with FakeTensorMode():
            sizes = []
            for c in (173_511, 1_000_000, 10_000_000):
                (input, _, target), settings = case("M")
                weight = torch.empty(c, 64).requires_grad_()
                arguments = input, weight, target % c
                loss = lambda arguments=arguments, settings=settings: scalable_cross_entropy(*arguments, **settings)  # noqa: E731
                sizes.append(workspace(loss, [input, weight])[0])
        assert max(sizes) <= 1.05 * min(sizes)

    def test_prediction_is_what_happens(self):
        """Fake tensors take the most there can be; here that is not much more than there is."""
        torch.manual_seed(0)
        arguments, settings = case("S")
        actual, peak = workspace(lambda: scalable_cross_entropy(*arguments, **settings), arguments[:2])
        fake, fake_peak = predicted("S")
        assert actual <= fake <= 1.5 * actual
        assert peak <= fake_peak <= 1.5 * peak

    @pytest.mark.parametrize("budget", [2**20, 2**23])
    def test_follows_the_workspace(self, budget):
        torch.manual_seed(0)
        n, c, d = 3000, 30_000, 16
        problem = make_problem(n=n, c=c, d=d, dtype=torch.float32)
        sizes = {"n_buckets": 100, "bucket_size_x": 100, "bucket_size_y": 128}
        used, _ = workspace(
            lambda: scalable_cross_entropy(*problem.arguments, **sizes, workspace_bytes=budget),
            [problem.input, problem.linear_weight],
        )
        indices, touched = 60 * 100 * 128, 4 * d * (100 * 128 + n)
        assert used < 1.2 * budget + indices + touched

    def test_one_huge_bucket_is_cut_as_well(self):
        problem = make_problem(n=2000, c=3000, d=4, dtype=torch.float32)
        sizes = {"n_buckets": 1, "bucket_size_x": 2000, "bucket_size_y": 3000}
        with LiveBytes() as live:
            scalable_cross_entropy(*problem.arguments, **sizes, workspace_bytes=2**20).backward()
        assert max(live.sizes) < 2**20 < 4 * 2000 * 3000


class TestPrecision:
    def test_bfloat16_is_no_worse_than_naive_bfloat16(self):
        problem = make_problem(n=300, c=500, d=32, dtype=torch.bfloat16, scale=0.7)
        centers = torch.randn(12, 32)
        input, weight, target = problem.arguments
        rows = streaming_topk(centers, input.detach(), 40, workspace_bytes=2**20)
        items = streaming_topk(centers, weight.detach(), 60, workspace_bytes=2**20)

        def naive(dtype):
            """The same buckets, computed in one dtype throughout."""
            x, w = input.detach().to(dtype).requires_grad_(), weight.detach().to(dtype).requires_grad_()
            logits = x[rows] @ w[items].mT
            logits = logits.masked_fill(target[rows].unsqueeze(2) == items.unsqueeze(1), -torch.inf)
            positive = (x * w[target]).sum(1)[rows].unsqueeze(2)
            losses = -torch.cat([positive, logits], dim=2).log_softmax(2)[:, :, 0]
            largest = losses.new_full((300,), -torch.inf).scatter_reduce(0, rows.flatten(), losses.flatten(), "amax")
            loss = largest[largest > -torch.inf].mean()
            loss.backward()
            return loss.detach().double(), x.grad.double(), w.grad.double()

        truth, rough = naive(torch.float64), naive(torch.bfloat16)
        ours = problem.backward(scalable_cross_entropy(*problem.arguments, **SIZES, centers=centers))
        for got, naively, exact in zip(ours, rough, truth):
            error, naive_error = (got.double() - exact).norm(), (naively - exact).norm()
            assert error <= naive_error
            assert error <= 0.01 * exact.norm()

    def test_float32_is_near_float64(self):
        truth = make_problem(n=500, c=3000, d=32, dtype=torch.float64)
        single = make_problem(n=500, c=3000, d=32, dtype=torch.float32)
        centers = torch.randn(12, 32)
        exact, ours = (
            p.backward(scalable_cross_entropy(*p.arguments, **SIZES, centers=centers.to(p.input.dtype)))
            for p in (truth, single)
        )
        assert abs(ours[0] - exact[0]) <= 1e-6 * exact[0]
        for got, gradient in zip(ours[1:], exact[1:]):
            assert (got - gradient).norm() <= 1e-5 * gradient.norm()

    def test_tiny_losses_keep_their_digits(self):
        """A loss of 1e-12 beside logits of 30: log-sum-exp minus target would be 0 in float32, and its gradient too."""
        weight = torch.tensor([[30.0], [2.0]], requires_grad=True)
        input = torch.tensor([[1.0]], requires_grad=True)
        sizes = {"n_buckets": 1, "bucket_size_x": 1, "bucket_size_y": 2}
        loss = scalable_cross_entropy(input, weight, torch.tensor([0]), **sizes)
        loss.backward()
        p = torch.tensor(-28.0, dtype=torch.float64).exp().item()
        assert loss.item() == pytest.approx(p, rel=1e-5)
        assert weight.grad.flatten().tolist() == pytest.approx([-p, p], rel=1e-5)

    def test_ties_between_buckets_give_one_gradient(self):
        """The same bucket many times: as if it were there once."""
        problem = make_problem()
        centers = torch.randn(1, 8, dtype=torch.float64)
        sizes = {"bucket_size_x": 9, "bucket_size_y": 10}
        once = problem.backward(scalable_cross_entropy(*problem.arguments, n_buckets=1, centers=centers, **sizes))
        often = problem.backward(
            scalable_cross_entropy(*problem.arguments, n_buckets=7, centers=centers.expand(7, -1), **sizes)
        )
        for a, b in zip(once, often):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


class TestSparseGradient:
    def test_equals_the_dense_one(self):
        problem = make_problem(n=100, c=2000, ignored=0.2)
        centers = torch.randn(12, 8, dtype=torch.float64)
        dense, sparse = (
            problem.backward(
                scalable_cross_entropy(*problem.arguments, **SIZES, centers=centers, sparse_grad=sparse_grad)
            )
            for sparse_grad in (False, True)
        )
        assert sparse[2].is_sparse
        rows = sparse[2]._indices()[0]
        assert len(rows) <= 12 * 60 + 100
        assert torch.equal(rows, rows.unique())
        for a, b in zip(dense, sparse):
            assert torch.equal(a, b.to_dense())

    def test_names_only_items_of_buckets_and_covered_targets(self):
        problem = make_problem(n=100, c=2000, ignored=0.5)
        problem.target[problem.target == -100] = -1
        loss = scalable_cross_entropy(
            *problem.arguments, n_buckets=1, bucket_size_x=3, bucket_size_y=5, ignore_index=-1, sparse_grad=True
        )
        _, _, gradient = problem.backward(loss)
        assert 5 <= len(gradient._indices()[0]) <= 5 + 3

    def test_feeds_a_sparse_optimizer(self):
        problem = make_problem(n=100, c=2000, dtype=torch.float32)
        optimizer = torch.optim.SparseAdam([problem.linear_weight], lr=0.1)
        before = problem.linear_weight.detach().clone()
        losses = []
        for _ in range(5):
            optimizer.zero_grad()
            loss = scalable_cross_entropy(*problem.arguments, **SIZES, centers=torch.ones(12, 8), sparse_grad=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
        assert (problem.linear_weight == before).all(dim=1).sum() > 1000

    def test_adds_up_over_accumulated_batches(self):
        problem = make_problem(n=100, c=2000)
        centers = torch.randn(12, 8, dtype=torch.float64)
        for sparse_grad in (False, True):
            problem.input.grad = problem.linear_weight.grad = None
            for _ in range(3):
                scalable_cross_entropy(*problem.arguments, **SIZES, centers=centers, sparse_grad=sparse_grad).backward()
            total = problem.linear_weight.grad.to_dense()
            once = problem.backward(scalable_cross_entropy(*problem.arguments, **SIZES, centers=centers))[2]
            torch.testing.assert_close(total, 3 * once)


class TestSurroundings:
    def test_only_what_needs_a_gradient_gets_one(self):
        problem = make_problem()
        input, weight, target = problem.arguments
        scalable_cross_entropy(input, weight.detach(), target, **SIZES_SMALL).backward()
        assert input.grad is not None
        scalable_cross_entropy(input.detach(), weight, target, **SIZES_SMALL).backward()
        assert weight.grad is not None
        with torch.no_grad():
            assert not scalable_cross_entropy(*problem.arguments, **SIZES_SMALL).requires_grad

    def test_gradient_arriving_from_outside(self):
        """Weighted per-position losses, as importance weights would do it."""
        problem = make_problem()
        weights = torch.rand(30, dtype=torch.float64)
        centers = torch.randn(4, 8, dtype=torch.float64)
        ours, theirs = (
            problem.backward(sce(*problem.arguments, **SIZES_SMALL, centers=centers, reduction="none") * weights)
            for sce in (scalable_cross_entropy, scalable_cross_entropy_reference)
        )
        for a, b in zip(ours, theirs):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize("deterministic", [False, True])
    def test_same_numbers_every_time(self, deterministic):
        problem = make_problem(n=300, c=2000, dtype=torch.float32)
        centers = torch.randn(12, 8)
        first, second = (
            problem.backward(
                scalable_cross_entropy(*problem.arguments, **SIZES, centers=centers, deterministic=deterministic)
            )
            for _ in range(2)
        )
        assert all(torch.equal(a, b) for a, b in zip(first, second))

    def test_deterministic_algorithms_mode(self):
        problem = make_problem(n=300, c=2000)
        centers = torch.randn(12, 8, dtype=torch.float64)
        expected = problem.backward(scalable_cross_entropy(*problem.arguments, **SIZES, centers=centers))
        torch.use_deterministic_algorithms(True)
        try:
            got = problem.backward(scalable_cross_entropy(*problem.arguments, **SIZES, centers=centers))
        finally:
            torch.use_deterministic_algorithms(False)
        for a, b in zip(got, expected):
            torch.testing.assert_close(a, b)

    @pytest.mark.filterwarnings("ignore")
    def test_compiled_model(self):
        torch.manual_seed(0)
        problem = make_problem(dtype=torch.float32)
        encoder, loss = nn.Linear(8, 8), SCELoss(**SIZES_SMALL)

        def step(input, weight, target):
            return loss(encoder(input).relu(), weight, target)

        results = []
        for run in (step, torch.compile(step, backend="aot_eager")):
            loss.generator = torch.Generator().manual_seed(0)
            encoder.zero_grad()
            results.append([*problem.backward(run(*problem.arguments)), encoder.weight.grad])
        for eager, compiled in zip(*results):
            torch.testing.assert_close(compiled, eager)

    def test_distributed_data_parallel(self, tmp_path):
        problem = make_problem(n=40, c=30, d=8, dtype=torch.float32)
        half = [part.detach() for part in problem.input.split(20)], problem.target.split(20)
        torch.multiprocessing.spawn(train_one_step, args=(tmp_path, half, problem.linear_weight.detach()), nprocs=2)
        alone = TiedModel(problem.linear_weight.detach())
        for input, target in zip(*half):
            (alone(input, target) / 2).backward()
        for rank in (0, 1):
            got = torch.load(tmp_path / f"{rank}.pt")
            for name, parameter in alone.named_parameters():
                torch.testing.assert_close(got[name], parameter.grad)

    def test_backward_twice_is_refused_like_anywhere(self):
        problem = make_problem()
        loss = scalable_cross_entropy(*problem.arguments, **SIZES_SMALL)
        loss.backward()
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    @pytest.mark.parametrize("deterministic", [False, True])
    def test_on_a_gpu(self, deterministic):
        problem = make_problem(n=300, c=2000, dtype=torch.float64)
        centers = torch.randn(12, 8, dtype=torch.float64)
        expected = problem.backward(scalable_cross_entropy_reference(*problem.arguments, **SIZES, centers=centers))
        input, weight = (tensor.detach().cuda().requires_grad_() for tensor in problem.arguments[:2])
        loss = scalable_cross_entropy(
            input, weight, problem.target.cuda(), **SIZES, centers=centers, deterministic=deterministic
        )
        loss.backward()
        for got, truth in zip((loss, input.grad, weight.grad), expected):
            torch.testing.assert_close(got.detach().cpu(), truth)


SIZES_SMALL = {"n_buckets": 4, "bucket_size_x": 8, "bucket_size_y": 10}


class TiedModel(nn.Module):
    def __init__(self, weight):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.items = nn.Linear(8, 8), nn.Parameter(weight.clone())
        self.loss = SCELoss(**SIZES_SMALL)

    def forward(self, input, target):
        self.loss.generator = torch.Generator().manual_seed(0)
        return self.loss(self.encoder(input), self.items, target)


def train_one_step(rank, folder, half, weight):
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    model = TiedModel(weight)
    parallel = nn.parallel.DistributedDataParallel(model)
    parallel(half[0][rank], half[1][rank]).backward()
    torch.save({name: parameter.grad for name, parameter in model.named_parameters()}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()

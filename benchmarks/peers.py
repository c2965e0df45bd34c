"""Every implementation that is compared, ours and others', behind one call: ``loss(problem) -> scalar tensor``.

A peer that is not installed is left out with the reason. None of them is a dependency of the lab.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import plain  # noqa: F401 - before the lab: it makes a bare checkout importable
import torch
import torch.nn.functional as F
from torch import Tensor

import sce_lab


@dataclass
class Problem:
    """One loss to compute: outputs (N, D), item table (C, D), targets (N,), and SCE's settings with fixed centres."""

    outputs: Tensor
    table: Tensor
    targets: Tensor
    n_buckets: int
    bucket_size_y: int
    seed: int = 0

    @classmethod
    def random(
        cls,
        n: int,
        c: int,
        n_buckets: int,
        bucket_size_y: int,
        dim: int = 64,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Problem:
        """Outputs that lean towards their targets, as those of a model that has begun to learn."""
        generator = torch.Generator(device).manual_seed(0)
        draw = {"generator": generator, "device": device}
        table = torch.randn(c, dim, **draw).div_(dim**0.5)
        targets = torch.randint(c, (n,), **draw)
        outputs = torch.randn(n, dim, **draw) + 2 * table[targets]
        outputs, table = outputs.to(dtype), table.to(dtype)
        return cls(outputs.requires_grad_(), table.requires_grad_(), targets, n_buckets, bucket_size_y)

    def to(self, dtype: torch.dtype) -> Problem:
        """The same numbers in another dtype, with gradients of their own."""
        outputs, table = (t.detach().to(dtype).requires_grad_() for t in (self.outputs, self.table))
        return Problem(outputs, table, self.targets, self.n_buckets, self.bucket_size_y, self.seed)

    @property
    def centers(self) -> Tensor:
        """``(n_buckets, D)``: the first normal numbers after ``manual_seed(seed)``, which a peer draws by itself."""
        torch.manual_seed(self.seed)
        return torch.randn(self.n_buckets, self.outputs.shape[1], device=self.outputs.device)

    @property
    def sce(self) -> dict[str, Any]:
        """SCE's settings as our functions take them; ``bucket_size_x = n_buckets`` as in the paper."""
        sizes = {
            "n_buckets": self.n_buckets,
            "bucket_size_x": self.n_buckets,
            "bucket_size_y": self.bucket_size_y,
        }
        return {**sizes, "centers": self.centers}

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Arguments of our losses, and of ``linear_cross_entropy``."""
        return self.outputs, self.table, self.targets


@dataclass(frozen=True)
class Peer:
    """An implementation under its name.

    ``computes`` is the value it should have: ``"sce"``, ``"ce"``, or ``""`` for an estimate. ``held(n, c, b, y, d)``
    is about how many bytes it holds at once, to skip what would not fit; with more than ``most_operations`` a step
    takes many seconds.
    """

    name: str
    computes: str
    run: Callable[[Problem], Tensor]
    held: Callable[[int, int, int, int, int], float]
    version: str
    most_operations: float = math.inf


def _module_of(distribution: str, ending: str) -> ModuleType:
    """Load one file of an installed distribution without importing the package around it and all that it needs."""
    path = next(f for f in importlib.metadata.files(distribution) if str(f).endswith(ending)).locate()
    spec = importlib.util.spec_from_file_location("peer_" + path.stem, path)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def replay() -> Callable[[Problem], Tensor]:
    """``ScalableCrossEntropyLoss`` of replay-rec: the paper's code, ported by others."""
    module = _module_of("replay-rec", "models/nn/loss/sce.py")

    def run(p: Problem) -> Tensor:
        loss = module.ScalableCrossEntropyLoss(module.SCEParams(p.n_buckets, p.n_buckets, p.bucket_size_y))
        torch.manual_seed(p.seed)
        everywhere = torch.ones(1, len(p.targets), dtype=torch.bool, device=p.targets.device)
        return loss(p.outputs[None], p.targets[None], p.table, everywhere)

    return run


def ours_in_pytorch() -> Callable[[Problem], Tensor]:
    """Our own engine without its Triton kernels."""
    return lambda p: sce_lab.scalable_cross_entropy(*p.inputs, **p.sce, backend="torch")


def sampled_with_held_logits(n_negatives: int) -> Callable[[Problem], Tensor]:
    """Sampled softmax as it is usually written: shared uniform negatives, all their logits at once."""

    def run(p: Problem) -> Tensor:
        negatives = torch.randint(len(p.table), (n_negatives,), device=p.table.device)
        positive = (p.outputs * F.embedding(p.targets, p.table)).sum(dim=1)
        logits = F.linear(p.outputs, F.embedding(negatives, p.table)) - math.log(n_negatives / len(p.table))
        logits = logits.masked_fill(negatives == p.targets.unsqueeze(1), -torch.inf)
        return (torch.cat([positive.unsqueeze(1), logits], dim=1).logsumexp(dim=1) - positive).mean()

    return run


def cut_cross_entropy() -> Callable[[Problem], Tensor]:
    """Apple's Cut Cross-Entropy: exact cross-entropy in Triton, logits never in memory."""
    from cut_cross_entropy import linear_cross_entropy

    return lambda p: linear_cross_entropy(p.outputs, p.table, p.targets)


def liger() -> Callable[[Problem], Tensor]:
    """Liger-Kernel's fused linear cross-entropy: exact, logits of a chunk of positions at a time."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss()
    return lambda p: loss(p.table, p.outputs, p.targets)


def torch_chunked() -> Callable[[Problem], Tensor]:
    """PyTorch's own ``linear_cross_entropy`` with chunking on, where torch has it."""
    options = torch.nn.LinearCrossEntropyOptions()
    return lambda p: F.linear_cross_entropy(*p.inputs, options=options)


def peers(device: str) -> tuple[list[Peer], dict[str, str]]:
    """All that can run here, and why the others cannot."""
    ours = f"sce_lab {sce_lab.__version__}"
    found = [
        Peer("SCE", "sce", lambda p: sce_lab.scalable_cross_entropy(*p.inputs, **p.sce), _small, ours),
        Peer(
            "SCE, row-sparse gradient", "sce",
            lambda p: sce_lab.scalable_cross_entropy(*p.inputs, **p.sce, sparse_grad=True), _small, ours,
        ),
        Peer(
            "SCE, readable reference", "sce",
            lambda p: sce_lab.scalable_cross_entropy_reference(*p.inputs, **p.sce), reference_bytes, ours,
        ),
        Peer("CE, materialised", "ce", lambda p: sce_lab.cross_entropy(*p.inputs), _logits, ours),
        Peer(
            "CE, logits never held", "ce", lambda p: sce_lab.cross_entropy(*p.inputs, hold_logits=False), _small, ours,
        ),
        Peer("sampled softmax, 256", "", lambda p: sce_lab.sampled_softmax(*p.inputs), _small, ours),
        Peer(
            "sampled softmax, 4,096", "",
            lambda p: sce_lab.sampled_softmax(*p.inputs, n_negatives=4096), _small, ours,
        ),
        Peer(
            "sampled softmax, 4,096, logits held", "", sampled_with_held_logits(4096), _sampled_logits,
            f"torch {torch.__version__}",
        ),
    ]  # fmt: skip
    missing = {}
    others = (
        ("SCE, PyTorch", "torch", "sce", ours_in_pytorch, _small, True),
        ("SCE, replay-rec", "replay-rec", "sce", replay, reference_bytes, False),
        ("CE, torch chunked", "torch", "ce", torch_chunked, _small, False),
        ("CE, cut-cross-entropy", "cut-cross-entropy", "ce", cut_cross_entropy, _small, True),
        ("CE, Liger", "liger-kernel", "ce", liger, _small, True),
    )
    for name, distribution, computes, make, held, needs_gpu in others:
        if needs_gpu and device == "cpu":
            missing[name] = "needs a GPU"
            continue
        try:
            found.append(
                Peer(
                    name,
                    computes,
                    make(),
                    held,
                    f"{distribution} {importlib.metadata.version(distribution)}",
                    3e13 if name != "CE, Liger" else 3e12,
                )
            )
        except (ImportError, AttributeError, StopIteration, importlib.metadata.PackageNotFoundError) as error:
            missing[name] = f"{distribution} cannot be used here: {error}"
    return found, missing


def _small(n: int, c: int, b: int, y: int, d: int) -> float:
    return 4 * d * 3 * (n + c)


def reference_bytes(n: int, c: int, b: int, y: int, d: int) -> float:
    """About what an implementation of SCE holds that keeps scores and logits whole."""
    return _small(n, c, b, y, d) + 4 * b * c + 4 * b * n + 16 * b * b * y


def _logits(n: int, c: int, b: int, y: int, d: int) -> float:
    return _small(n, c, b, y, d) + 12 * n * c


def _sampled_logits(n: int, c: int, b: int, y: int, d: int) -> float:
    return _small(n, c, b, y, d) + 20 * n * 4096

"""Problems for the loss tests: drawn by hypothesis, or made from a seed."""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

quick = settings(max_examples=60, deadline=None, derandomize=True)

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


@dataclass
class Problem:
    input: torch.Tensor
    linear_weight: torch.Tensor
    target: torch.Tensor

    @property
    def arguments(self):
        return self.input, self.linear_weight, self.target

    @property
    def flat(self):
        """Float64 arrays (N, D), (C, D), (N,) with exactly the numbers of the tensors."""
        input, weight = self.input.detach().double(), self.linear_weight.detach().double()
        return input.reshape(-1, input.shape[-1]).numpy(), weight.numpy(), self.target.flatten().tolist()

    def backward(self, loss):
        """Value and gradients of the sum of a loss."""
        self.input.grad = self.linear_weight.grad = None
        loss.sum().backward()
        return loss.detach(), self.input.grad, self.linear_weight.grad


def make_problem(n=30, c=50, d=8, dtype=torch.float64, seed=0, ignored=0.0, scale=1.0, ignore_index=-100):
    generator = torch.Generator().manual_seed(seed)
    input = torch.randn(n, d, generator=generator, dtype=torch.float64) * scale
    weight = torch.randn(c, d, generator=generator, dtype=torch.float64) * scale
    target = torch.randint(c, (n,), generator=generator)
    target[torch.rand(n, generator=generator) < ignored] = ignore_index
    return Problem(input.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), target)


@st.composite
def problems(draw, dtypes=tuple(TOLERANCE), ignore_index=-100):
    """Anything from one position and one item: padded, three-dimensional, non-contiguous, with equal rows."""
    n, c, d = draw(st.integers(1, 14)), draw(st.integers(1, 21)), draw(st.integers(1, 5))
    dtype = draw(st.sampled_from(dtypes))
    problem = make_problem(
        n,
        c,
        d,
        torch.float64,
        seed=draw(st.integers(0, 10**6)),
        ignored=draw(st.sampled_from([0.0, 0.4, 1.0])),
        scale=draw(st.sampled_from([0.1, 1.0, 5.0])),
        ignore_index=ignore_index,
    )
    input, weight = problem.input.detach(), problem.linear_weight.detach()
    if draw(st.booleans()):  # equal rows: ties
        input[n // 2 :] = input[0].clone()
        weight[c // 2 :] = weight[0].clone()
    shape = draw(st.sampled_from([(n,), (1, n), (n, 1)] + ([(n // 2, 2)] if n % 2 == 0 else [])))
    input, target = input.reshape(*shape, d), problem.target.reshape(shape)
    input, weight = input.to(dtype), weight.to(dtype)
    if draw(st.booleans()):  # not contiguous
        input = torch.stack([input, input + 1], dim=-1)[..., 0]
        weight = weight.T.contiguous().T
    return Problem(input.requires_grad_(), weight.requires_grad_(), target)


def assert_matches(actual, expected, problem, reduction="mean"):
    """Loss and gradients of a problem against an oracle's Result."""
    loss, grad_input, grad_weight = actual
    losses, grad_outputs, grad_rows = expected.reduced(reduction)
    dtype = problem.input.dtype
    value_tolerance = TOLERANCE[dtype if dtype == torch.float64 else torch.float32]
    scale = 1 + np.abs(problem.flat[0] @ problem.flat[1].T).max()  # logits cancel to this precision
    np.testing.assert_allclose(
        loss.double().flatten().numpy(), np.ravel(losses), rtol=value_tolerance, atol=value_tolerance * scale
    )
    for gradient, truth, like in (
        (grad_input, grad_outputs, problem.input),
        (grad_weight, grad_rows, problem.linear_weight),
    ):
        assert gradient.dtype == like.dtype
        assert gradient.shape == like.shape
        got = gradient.to_dense().double().reshape(truth.shape).numpy()
        inputs = max(np.abs(array).max() for array in problem.flat[:2])  # what cancels in a gradient of almost nothing
        magnitude = max(np.abs(truth).max(), inputs / 100)
        np.testing.assert_allclose(got, truth, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale * magnitude)

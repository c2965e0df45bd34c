"""The engine's front door: losses of blocks that autograd can differentiate, once."""

from typing import Any

import torch
from torch import Tensor

from .backend import choose
from .operators import block_gradients, block_losses, losses_and_gradients, mean_of_counted
from .problem import Combine, Problem
from .tiles import How, Plan, compute_dtype


def softmax_losses(problem: Problem, how: How, combine: Combine = "max") -> tuple[Tensor, Tensor]:
    r"""Softmax cross-entropy of each position over its blocks, and where it comes from.

    .. math:: \ell_n = \log \Big( e^{x_n \cdot w_t} + \sum_{i \in I_n, i \ne t} e^{x_n \cdot w_i + b_i} \Big)
              - x_n \cdot w_t

    With p the shares of this softmax, the gradients are

    .. math:: \frac{\partial \ell_n}{\partial x_n} = \sum_i p_i w_i - w_t, \qquad
              \frac{\partial \ell_n}{\partial w_i} = p_i \, x_n, \qquad
              \frac{\partial \ell_n}{\partial w_t} = (p_t - 1) \, x_n .

    Where inner products are capped, each of these is times ``1 - tanh^2`` of its own cell.

    Logits are computed twice and never held: backward computes those that have a gradient again. Between the passes it
    keeps its inputs, the items of the blocks and three numbers a position.

    Args:
        problem: outputs, table, targets and blocks. Where a block is the whole catalog its bias has the gradients of
            the targets' bias, which has none itself.
        how: how to compute.
        combine: of a position's blocks take that with the largest loss, or the sum over all of them; in a union what is
            in several of them counts once.

    Returns:
        Losses ``(N,)``, 0 for a position without a target or in no block, and slots ``(N,)`` (a slot is a position in a
        block, counted through all blocks), -1 for none.
    """
    losses, slot, _ = _Softmax.apply(*_flat(problem), problem.target_bias, problem.softcap, combine, how)
    return losses, slot


def softmax_loss(problem: Problem, how: How, reduction: str, weights: Tensor | None = None) -> Tensor:
    """The ``"mean"`` or ``"sum"`` of the losses of blocks that hold each position once.

    How much each counts is then known, and for one block of all positions losses and gradients can be computed in one
    go while the logits are there, if a tile has room for all of a position's. That is three products in place of four;
    with a bias of the targets it is four.

    Args:
        problem, how: as in :func:`softmax_losses`.
        reduction: of the weighted losses; a mean is over the sum of the weights.
        weights: ``(N,)``, 0 for a position without a target, without a gradient; None: 1 for every target.
    """
    outputs, table = problem.outputs, problem.table
    with_gradient = torch.is_grad_enabled() and (outputs.requires_grad or table.requires_grad)
    # In float16 small gradients are lost if they are rounded before a factor from outside (a GradScaler's) comes in.
    in_range = torch.float16 not in (outputs.dtype, table.dtype)
    bias = problem.blocks.bias
    of_bias = problem.target_bias is not None or (bias is not None and bias.requires_grad)
    able = in_range and not of_bias and not torch.compiler.is_compiling()
    if with_gradient and able:
        plan = Plan(compute_dtype(outputs, table), how.tile_bytes, how.deterministic)
        if choose(how.backend, outputs, table, plan).fits_at_once(problem, plan):
            each = problem.valid.to(plan.dtype) if weights is None else weights
            if reduction == "mean":
                each = each / (problem.valid.sum().clamp(min=1) if weights is None else total(weights))
            needs = [outputs.requires_grad, table.requires_grad, False]
            return _SoftmaxAtOnce.apply(*_flat(problem), each, needs, how)[0]
    losses, slot = softmax_losses(problem, how)
    if weights is not None:
        value = (losses * weights).sum()
        return value / total(weights) if reduction == "mean" else value
    return mean_loss(losses, slot, how) if reduction == "mean" else losses.sum()


def mean_loss(losses: Tensor, slot: Tensor, how: How) -> Tensor:
    """Mean of what :func:`softmax_losses` returned, over the positions that have a loss; 0 if none has one."""
    return _Mean.apply(losses, slot, how)[0]


def total(weights: Tensor) -> Tensor:
    """What a weighted mean divides by: where nothing counts it is 0 / 1, not 0 / 0."""
    found = weights.sum()
    return found.where(found != 0, 1.0)


def _flat(problem: Problem) -> tuple[Tensor | None, ...]:
    return *problem[:4], *problem.blocks


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
        *problem, combine, how = args
        return block_losses(*problem, combine, how.tile_bytes, how.deterministic, how.backend)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *problem, ctx.softcap, ctx.combine, ctx.how = inputs
        _, slot, log_z = output
        # Of the rows PyTorch needs the shape only: slots say who won where.
        if ctx.combine == "max" and problem[4] is not None and ctx.how.backend == "torch":
            problem[4] = problem[4].new_zeros(()).expand(problem[4].shape)
        ctx.save_for_backward(*problem, *output)
        ctx.mark_non_differentiable(slot, log_z)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_losses: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_losses is None:
            return (None,) * 11
        saved = ctx.saved_tensors  # once: under torch.utils.checkpoint they are made for the asking
        needs = ctx.needs_input_grad
        asked = needs[0], needs[1], needs[6]
        grads = _gradients(grad_losses, saved, ctx.softcap, ctx.combine, asked, ctx.how)
        of_targets = None
        if needs[7] and saved[5] is not None:
            losses, slot = saved[8:10]
            of_targets = (grad_losses.to(losses.dtype) * torch.expm1(-losses)).where(slot >= 0, 0.0)
        outputs, table, bias, of_targets = _differentiable_once((*grads, of_targets), saved)
        return outputs, table, *(None,) * 4, bias, of_targets, None, None, None


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(losses: Tensor, slot: Tensor, how: How) -> tuple[Tensor, Tensor]:
        return mean_of_counted(losses, slot, how.backend)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(output[1])
        ctx.n_positions = len(inputs[0])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_mean: Tensor | None, _: None) -> tuple[Tensor | None, None, None]:
        if grad_mean is None:
            return None, None, None
        # one number for all: the engine has no use for the gradient of a loss that has no slot
        return (grad_mean / ctx.saved_tensors[0]).expand(ctx.n_positions), None, None


class _SoftmaxAtOnce(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any) -> tuple[Tensor, ...]:
        *problem, weights, needs, how = args
        losses, *grads = losses_and_gradients(
            weights, *problem, needs, how.sparse_grad, how.tile_bytes, how.deterministic, how.backend
        )
        return torch.dot(losses, weights.to(losses.dtype)), *grads

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *problem, weights, _, ctx.how = inputs
        ctx.save_for_backward(*problem, weights)
        ctx.grads = output[1:]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad_loss is None:
            return (None,) * 10
        *problem, weights = ctx.saved_tensors
        if ctx.grads is None:  # the graph was retained, and these went with the first backward pass
            found = block_losses(
                *problem, None, None, "max", ctx.how.tile_bytes, ctx.how.deterministic, ctx.how.backend
            )
            needs = (*ctx.needs_input_grad[:2], False)
            grads = _gradients(grad_loss * weights, (*problem, None, *found), None, "max", needs, ctx.how)[:2]
        else:
            grad_outputs, rows, touched = ctx.grads
            if torch.is_grad_enabled():
                grad_outputs, rows = grad_outputs * grad_loss, rows * grad_loss
            else:  # nobody else has them: no second tensor of the table's size
                ctx.grads = None
                grad_outputs, rows = grad_outputs.mul_(grad_loss), rows.mul_(grad_loss)
            grads = _as_gradients(grad_outputs, rows, touched, problem[1], ctx.needs_input_grad, ctx.how)
        return *_differentiable_once(grads, problem), *(None,) * 8


def _gradients(
    grad_losses: Tensor,
    saved: tuple[Tensor | None, ...],
    softcap: float | None,
    combine: Combine,
    needs: tuple[bool, ...],
    how: How,
) -> tuple[Tensor | None, ...]:
    """Of outputs, table and bias."""
    *grads, bias = block_gradients(
        grad_losses,
        *saved,
        softcap,
        combine,
        list(needs),
        how.sparse_grad,
        how.tile_bytes,
        how.deterministic,
        how.backend,
    )
    return *_as_gradients(*grads, saved[1], needs, how), bias if needs[2] else None


def _as_gradients(
    grad_outputs: Tensor, rows: Tensor, touched: Tensor, table: Tensor, needs: tuple[bool, ...], how: How
) -> tuple[Tensor | None, Tensor | None]:
    """What the operators return, as autograd wants it."""
    if needs[1] and how.sparse_grad:
        rows = torch.sparse_coo_tensor(
            touched.unsqueeze(0), rows, table.shape, is_coalesced=True, check_invariants=False
        )
    return grad_outputs if needs[0] else None, rows if needs[1] else None


class _Once(torch.autograd.Function):
    """The identity, with a gradient that says that there is none."""

    @staticmethod
    def forward(grad: Tensor, *_: Tensor) -> Tensor:
        return grad.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        raise RuntimeError(
            "this loss can be differentiated once: its gradients are not differentiable (create_graph=True, gradient "
            "penalties); scalable_cross_entropy_reference, or cross_entropy with its logits held, can be"
        )


def _differentiable_once(
    grads: tuple[Tensor | None, ...], saved: tuple[Tensor | None, ...]
) -> tuple[Tensor | None, ...]:
    """Under ``create_graph=True`` the gradients depend on the inputs. Not to say so would be wrong in silence."""
    if not torch.is_grad_enabled():
        return grads
    inputs = [saved[i] for i in (0, 1, 6) if saved[i] is not None]  # outputs, table, bias
    return tuple(None if grad is None else _Once.apply(grad, *inputs) for grad in grads)

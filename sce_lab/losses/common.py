"""What every loss shares: checking its inputs, flattening (B, L, D) to (N, D), and reducing the result."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

T = TypeVar("T")
Reduction = Literal["none", "mean", "sum"]


def flatten_inputs(
    input: Tensor, linear_weight: Tensor, target: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Check the three inputs and lay the positions out in one dimension.

    Returns:
        ``outputs (N, D)``: the model's outputs, one row per position;
        ``labels (N,)``: the target items, with item 0 standing in at ignored positions so that it can index;
        ``valid (N,)``: which positions have a target at all.

    Raises:
        ValueError: shapes, dtypes or target items that do not fit; the message names them.
    """
    if linear_weight.dim() != 2 or linear_weight.shape[0] == 0:
        raise ValueError(f"linear_weight must be (C, D) with at least one item, got shape {tuple(linear_weight.shape)}")
    if input.dim() < 1 or input.shape[-1] != linear_weight.shape[1]:
        raise ValueError(
            f"the last dimension of input, shape {tuple(input.shape)}, must be the D of linear_weight, "
            f"shape {tuple(linear_weight.shape)}"
        )
    if target.shape != input.shape[:-1]:
        raise ValueError(
            f"target must have one item per position, shape {tuple(input.shape[:-1])}, got {tuple(target.shape)}"
        )
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(f"target holds item numbers, so its dtype must be an integer one, got {target.dtype}")
    if not (input.is_floating_point() and linear_weight.is_floating_point()):
        raise ValueError(f"input and linear_weight must be floating point, got {input.dtype} and {linear_weight.dtype}")
    if input.dtype != linear_weight.dtype and not torch.is_autocast_enabled(input.device.type):
        raise ValueError(
            f"input is {input.dtype} but linear_weight is {linear_weight.dtype}: "
            "give both the same dtype, or run under torch.autocast"
        )

    outputs = input.reshape(-1, input.shape[-1])  # (N, D)
    target = target.reshape(-1).long()  # (N,)
    valid = target != ignore_index  # (N,)
    labels = target.masked_fill(~valid, 0)
    _check_items(labels, catalog_size=linear_weight.shape[0])
    return outputs, labels, valid


def _check_items(labels: Tensor, catalog_size: int) -> None:
    """Name a target outside the catalog. On a GPU this would stall the queue; there indexing itself asserts."""
    if labels.device.type != "cpu" or is_fake(labels) or labels.numel() == 0:
        return
    lowest, highest = labels.aminmax()
    for item in (int(lowest), int(highest)):
        if not 0 <= item < catalog_size:
            raise ValueError(
                f"target {item} is outside the catalog of {catalog_size} items (0..{catalog_size - 1}); "
                "mark positions without a target with ignore_index"
            )


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float32 for the half precisions, the dtype itself otherwise: losses are never summed in 16 bits."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def reduce_losses(losses: Tensor, counted: Tensor, shape: torch.Size, reduction: str) -> Tensor:
    """Reduce per-position ``losses (N,)``; only positions ``counted (N,)`` enter, and no position at all is 0.

    Args:
        losses: loss of each position; what stands at positions that are not counted does not matter.
        counted: bool, which positions the loss is about.
        shape: shape of the target, which ``reduction="none"`` restores.
        reduction: ``"none"``, ``"mean"`` over the counted positions, or ``"sum"``.
    """
    losses = losses.where(counted, 0.0)
    if reduction == "none":
        return losses.reshape(shape)
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        return losses.sum() / counted.sum().clamp(min=1)  # nothing counted: 0 / 1, not 0 / 0
    raise ValueError(f'reduction must be "none", "mean" or "sum", got {reduction!r}')


class RowLookup(torch.autograd.Function):
    """Rows ``(n, D)`` of a table ``(C, D)``; the table's gradient is row-sparse and may hold a row several times."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        """``table[index]``, for ``index (n,)``."""
        ctx.save_for_backward(index)
        ctx.shape = table.shape
        return table.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The gradient's rows, as they come."""
        (index,) = ctx.saved_tensors
        return torch.sparse_coo_tensor(index.unsqueeze(0), grad, ctx.shape, check_invariants=False), None


def check_reduction(reduction: str) -> None:
    """Raise before the work is done, not after it."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f'reduction must be "none", "mean" or "sum", got {reduction!r}')


def check_positive(name: str, value: int) -> int:
    """Return ``value`` as an int, or raise a ValueError that names the setting and its value."""
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")
    return int(value)


def is_fake(tensor: Tensor) -> bool:
    """Whether this is a memory prediction: a tensor with a shape but without values."""
    return tensor.is_meta or isinstance(tensor, FakeTensor)


def without_autocast(tensor: Tensor) -> AbstractContextManager[None]:
    """Inside, operations on the device of ``tensor`` compute in the dtypes they are given."""
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)


#: What the data decided in a step: noted while it runs, or given to a prediction of it. See :func:`noting_decisions`.
_noted: ContextVar[list[Any] | None] = ContextVar("noted", default=None)
_given: ContextVar[Iterator[Any] | None] = ContextVar("given", default=None)


@contextmanager
def noting_decisions() -> Iterator[list[Any]]:
    """Inside, every number that the data decide and that decides how much work there is goes into the list."""
    noted: list[Any] = []
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


@contextmanager
def given_decisions(decisions: Iterable[Any]) -> Iterator[None]:
    """Inside, a memory prediction takes these decisions, noted in a step of the same shape, and not the worst ones."""
    token = _given.set(iter(decisions))
    try:
        yield
    finally:
        _given.reset(token)


def decided(real: Callable[[], T], worst: T, like: Tensor) -> T:
    """A number, or list of numbers, that depends on the data: ``real()``.

    In a memory prediction (``like`` is fake) there are no data: it is what was given, or else ``worst``.
    """
    if is_fake(like):
        given = _given.get()
        return worst if given is None else next(given)
    value = real()
    if (noted := _noted.get()) is not None:
        noted.append(value)
    return value


def read_count(count: Tensor, at_most: int) -> int:
    """The value of a 0-d tensor that decides how much work there is; a fake one takes the most there can be."""
    return decided(lambda: int(count), at_most, count)


def is_worst_case(like: Tensor) -> bool:
    """Whether this is a memory prediction that knows nothing of the data."""
    return is_fake(like) and _given.get() is None


def chunks(total: int, size: int, like: Tensor) -> list[slice]:
    """Slices of ``size`` (at least 1) that cover ``range(total)``.

    Each chunk allocates and frees what the one before did, so a memory prediction (``like`` is fake) does two only.
    """
    size = max(size, 1)
    parts = [slice(start, min(start + size, total)) for start in range(0, total, size)]
    return parts[:2] if is_worst_case(like) else parts

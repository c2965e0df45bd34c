"""What every loss does first: check its inputs and settings, and flatten (B, L, D) to (N, D)."""

from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .engine import is_fake
from .sharded import Everyone, is_sharded, meet, shard_of


class Inputs(NamedTuple):
    """The inputs of a loss with its positions in one dimension."""

    outputs: Tensor  # (N, D), one row per position
    labels: Tensor  # (N,) target items; item 0 stands in at ignored positions, so that it can index
    valid: Tensor  # (N,) bool, positions with a target
    bias: Tensor | None = None  # (C,) added to the logits of each item, in the dtype that losses are added up in
    everyone: Everyone | None = None  # the positions of all ranks, where the item table is sharded
    softcap: float | None = None  # logits are this times the tanh of what they are of it

    @property
    def finite_outputs(self) -> Tensor:
        """The outputs, 0 at ignored positions: whatever stands there, such as NaN, touches no gradient."""
        return self.outputs.masked_fill(~self.valid.unsqueeze(1), 0.0)

    @property
    def special(self) -> bool:
        """Whether only PyTorch computes such a loss: no other backend has kernels for it yet."""
        return self.bias is not None or self.everyone is not None or self.softcap is not None


def flatten_inputs(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    ignore_index: int | None,
    linear_bias: Tensor | None = None,
    logit_scale: float | Tensor = 1.0,
    *,
    softcap: float | None = None,
    may_be_sharded: bool = False,
    sparse_grad: bool = False,
) -> Inputs:
    """Check the inputs and lay the positions out in one dimension; ``ignore_index=None`` ignores none.

    Logits are ``logit_scale * (x . w_i) + b_i``: the scale is that of the outputs, with its gradient if it is a tensor.
    Outputs that are scaled are in the dtype that losses are added up in.
    With a ``softcap`` they are ``softcap * tanh(logit_scale * (x . w_i) / softcap)``, and have no item bias.
    A table that is a DTensor has its ranks meet here, of a loss that can take one (``may_be_sharded``).

    Raises:
        TypeError: one of them is no tensor.
        ValueError: shapes, dtypes or target items that do not fit; the message names them.
    """
    check_tensors(input=input, linear_weight=linear_weight, target=target)
    if linear_weight.dim() != 2 or 0 in linear_weight.shape:
        raise ValueError(
            "linear_weight must be (C, D) with at least one item of at least one dimension, got shape "
            f"{tuple(linear_weight.shape)}"
        )
    if input.dim() < 1 or input.shape[-1] != linear_weight.shape[1]:
        raise ValueError(
            f"the last dimension of input, shape {tuple(input.shape)}, must be the D of linear_weight, "
            f"shape {tuple(linear_weight.shape)}"
        )
    if target.shape != input.shape[:-1]:
        several = target.dim() == input.dim() and target.shape[:-1] == input.shape[:-1]
        raise ValueError(
            f"target must have one item per position, shape {tuple(input.shape[:-1])}, got {tuple(target.shape)}"
            + ("; several targets are as many positions: input.unsqueeze(-2).expand(*target.shape, D)" * several)
        )
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise ValueError(f"target holds item numbers, so its dtype must be an integer one, got {target.dtype}")
    if not (input.is_floating_point() and linear_weight.is_floating_point()):
        raise ValueError(f"input and linear_weight must be floating point, got {input.dtype} and {linear_weight.dtype}")
    dtypes = {input.dtype, linear_weight.dtype}
    # autocast makes one of all but float64
    if len(dtypes) > 1 and (torch.float64 in dtypes or not torch.is_autocast_enabled(input.device.type)):
        raise ValueError(
            f"input is {input.dtype} but linear_weight is {linear_weight.dtype}: give both the same dtype"
            + ("" if torch.float64 in dtypes else ", or run under torch.autocast")
        )
    check_ignore_index(ignore_index)

    outputs = input.reshape(-1, input.shape[-1])  # (N, D)
    target = target.reshape(-1).long()  # (N,)
    valid = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index  # (N,)
    labels = target * valid  # 0 where there is none, in one operation
    check_items("target", labels, len(linear_weight), "mark positions without a target with ignore_index")
    if is_sharded(linear_weight):
        everyone = _everyone(labels, valid, linear_weight, linear_bias, may_be_sharded, sparse_grad)
        inputs = Inputs(outputs, labels, valid, None, everyone)
    else:
        inputs = Inputs(outputs, labels, valid, _checked_bias(linear_bias, input, linear_weight))
    if check_softcap(softcap) is not None:
        if inputs.special:
            found = "linear_bias" if inputs.everyone is None else "a sharded item table"
            raise ValueError(f"softcap does not go with {found}, got softcap={softcap!r}: leave one of them out")
        inputs = inputs._replace(softcap=float(softcap))
    logit_scale = check_scale(logit_scale)
    if isinstance(logit_scale, Tensor) or logit_scale != 1:
        dtype = accumulation_dtype(input.dtype, linear_weight.dtype)  # half precision would round a second time
        return inputs._replace(outputs=inputs.finite_outputs.to(dtype) * logit_scale)
    return inputs


def _everyone(
    labels: Tensor, valid: Tensor, table: Tensor, linear_bias: Tensor | None, may_be_sharded: bool, sparse_grad: bool
) -> Everyone:
    if not may_be_sharded:
        raise ValueError(
            "this loss needs the whole item table, but linear_weight is a DTensor: cross_entropy, sampled_softmax and "
            "scalable_cross_entropy take one, full_tensor() makes it whole"
        )
    if linear_bias is not None:
        raise ValueError("linear_bias does not go with a sharded item table: leave it out, or call full_tensor()")
    return meet(labels, valid, shard_of(table, sparse_grad))


def check_tensors(**named: Any) -> None:
    """Refuse what is no tensor, by name."""
    for name, value in named.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, got a {type(value).__name__}: torch.as_tensor makes one of it")


def accumulation_dtype(*dtypes: torch.dtype) -> torch.dtype:
    """float32 for the half precisions, the larger dtype itself otherwise: losses are never summed in 16 bits."""
    return torch.float64 if torch.float64 in dtypes else torch.float32


def _checked_bias(linear_bias: Tensor | None, input: Tensor, linear_weight: Tensor) -> Tensor | None:
    if linear_bias is None:
        return None
    check_tensors(linear_bias=linear_bias)
    if linear_bias.shape != linear_weight.shape[:1] or not linear_bias.is_floating_point():
        raise ValueError(
            f"linear_bias must be one floating point number for each of the {len(linear_weight)} items, got "
            f"{linear_bias.dtype} of shape {tuple(linear_bias.shape)}"
        )
    return linear_bias.to(accumulation_dtype(input.dtype, linear_weight.dtype))


def check_scale(logit_scale: float | Tensor) -> float | Tensor:
    """A ValueError unless it is a positive number; a tensor of one, which may be learned, is not looked into."""
    if isinstance(logit_scale, Tensor):
        if logit_scale.numel() != 1 or logit_scale.is_complex():
            raise ValueError(
                f"logit_scale must be one number for all logits, got {logit_scale.dtype} of shape "
                f"{tuple(logit_scale.shape)}"
            )
        return logit_scale.reshape(())
    if not isinstance(logit_scale, Real) or isinstance(logit_scale, bool) or not 0 < logit_scale < float("inf"):
        raise ValueError(f"logit_scale must be a positive number such as 1 or 20, got {logit_scale!r}")
    return logit_scale


def check_softcap(softcap: float | None) -> float | None:
    """A ValueError unless it is a positive number, or None for none."""
    number = isinstance(softcap, Real) and not isinstance(softcap, bool)
    if softcap is not None and not (number and 0 < softcap < float("inf")):
        raise ValueError(f"softcap must be a positive number such as 30, or None for none, got {softcap!r}")
    return softcap


def check_items(name: str, items: Tensor, catalog_size: int, advice: str) -> None:
    """Name an item outside the catalog. A GPU is not waited for: it asserts by itself, and names none."""
    if is_fake(items) or items.numel() == 0 or torch.compiler.is_compiling():
        return
    if items.is_cuda:
        assert_items(items, catalog_size)
        return
    for item in map(int, items.aminmax()):
        if not 0 <= item < catalog_size:
            raise ValueError(
                f"{name} {item} is outside the catalog of {catalog_size} items (0..{catalog_size - 1}); {advice}"
            )


def assert_items(items: Tensor, catalog_size: int) -> None:
    """Have the device of ``items`` stop where one is outside the catalog: a kernel of our own would go there."""
    torch._assert_async(((items >= 0) & (items < catalog_size)).all(), f"items must be in 0..{catalog_size - 1}")


def flatten_negatives(
    negatives: Tensor, target_shape: torch.Size, catalog_size: int, n_sequences: int | None = None
) -> Tensor:
    """Negatives ``(k,)``, or ``(..., k)`` after the shape of the target as ``(N, k)``; a ValueError for any other.

    With ``n_sequences``, S, they are ``(S, k)``.
    """
    sets = (tuple(target_shape),) if n_sequences is None else ((n_sequences,),)
    shape = tuple(negatives.shape[:-1])
    if negatives.dim() == 0 or negatives.shape[-1] == 0 or shape not in (*sets, *([()] if n_sequences is None else [])):
        shapes = f"(k,) or {(*target_shape, 'k')}" if n_sequences is None else f"{(n_sequences, 'k')}"
        raise ValueError(f"negatives must be {shapes} with k at least 1, got shape {tuple(negatives.shape)}")
    if negatives.is_floating_point() or negatives.is_complex() or negatives.dtype == torch.bool:
        raise ValueError(f"negatives hold item numbers, so their dtype must be an integer one, got {negatives.dtype}")
    check_items("negative", negatives, catalog_size, "negatives are items, and padding is none")
    return negatives.long() if negatives.dim() == 1 else negatives.reshape(-1, negatives.shape[-1]).long()


def check_ignore_index(ignore_index: int | None) -> None:
    """A ValueError unless it is a whole number, or None for none."""
    whole = isinstance(ignore_index, Integral | torch.SymInt) and not isinstance(ignore_index, bool)
    if ignore_index is not None and not whole:
        raise ValueError(f"ignore_index must be a whole number such as -100, or None for none, got {ignore_index!r}")


def check_share(name: str, value: Any) -> None:
    """A ValueError that names the setting, unless it is a number from 0 to 1."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value!r}")


def check_switches(**switches: Any) -> None:
    """A ValueError that names the first that is neither True nor False: of a text, "False" too would switch it on."""
    for name, value in switches.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {value!r}")


def check_reduction(reduction: str) -> None:
    """Raise before the work is done, not after it."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f'reduction must be "none", "mean" or "sum", got {reduction!r}')


def check_positive(name: str, value: Any) -> int:
    """Return ``value`` as an int, or raise a ValueError that names the setting and its value."""
    whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
    if isinstance(value, bool) or not (whole or isinstance(value, torch.SymInt)) or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}")
    return value if isinstance(value, torch.SymInt) else int(value)


def check_sparse_grad(sparse_grad: bool, linear_weight: Tensor) -> None:
    """A row-sparse gradient can be that of a parameter; operations before the loss could not go on from it."""
    check_switches(sparse_grad=sparse_grad)
    if is_sharded(linear_weight):
        return  # what stands for its rows is looked at there
    if sparse_grad and linear_weight.requires_grad and not linear_weight.is_leaf:
        raise ValueError(
            "sparse_grad=True needs linear_weight to be a parameter (a leaf), but it is the result of an operation "
            f"({linear_weight.grad_fn.name()}), which cannot take a row-sparse gradient; leave sparse_grad out"
        )

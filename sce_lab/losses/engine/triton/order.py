"""Floats as integers of the same order, and the k largest of a row."""

import triton
import triton.language as tl


@triton.jit
def sortable(x):
    """float32 as int32 of the same order; NaN is the largest, as it is to ``torch.topk``. Undone by :func:`number`."""
    bits = x.to(tl.int32, bitcast=True)
    return tl.where(x == x, bits ^ ((bits >> 31) & 0x7FFFFFFF), 0x7FFFFFFF)


@triton.jit
def number(key):
    """What :func:`sortable` made a key of."""
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def rounded_up(x):
    """float32 as int16 of the same order: the sortable upper half of the next bfloat16. NaN counts as infinite."""
    bits = tl.where(x == x, x, float("inf")).to(tl.int32, bitcast=True)
    upper = tl.where(bits >= 0, bits + 0xFFFF, bits) >> 16
    return (upper ^ ((upper >> 15) & 0x7FFF)).to(tl.int16)


@triton.jit
def widened(key):
    """A key whose lower half is 0, such as that of :func:`rounded_up`, as the key that :func:`sortable` would give."""
    return tl.where(key >= 0, key, key | 0xFFFF)

"""Causal attention in rows of sequences: see :class:`sce_lab.data.rows.Rows`."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sce_lab.data.rows import Rows


class Sight(NamedTuple):
    """What the positions of a table of rows look at.

    Attributes:
        bias: 0 where a position looks and as low as can be elsewhere, ``(n_rows, 1, width, width)``, or
            ``(width, width)`` for all rows; None: at all before it, which a fused operation knows by itself.
        mean: weights of the plain mean of what it looks at, ``(n_rows, width, width)`` or ``(width, width)``; None:
            nobody asks.
    """

    bias: Tensor | None
    mean: Tensor | None


def sights(rows: Rows, like: Tensor, means: bool) -> list[Sight]:
    """What the positions of each table look at, in the dtype and on the device of ``like``; ``means`` if asked for."""
    found = []
    for i, (_, width) in enumerate(rows.shapes):
        if rows.fused and not means:
            found.append(Sight(None, None))
            continue
        looks = like.new_ones(width, width).tril() if rows.seen is None else rows.seen[i].to(like.dtype)
        bias = (looks - 1) * torch.finfo(like.dtype).max  # a CPU is slow at the logarithm of zero
        bias = bias if bias.dim() == 2 else bias.unsqueeze(1)
        found.append(Sight(None if rows.fused else bias, looks / looks.sum(-1, keepdim=True) if means else None))
    return found


def into_rows(x: Tensor, rows: Rows) -> Tensor:
    """Packed ``x`` ``(N, D)`` as it stands in the tables, one behind the other, zero where nothing is."""
    if rows.slots is None:
        return x
    size = sum(n * width for n, width in rows.shapes)
    return x.new_zeros(size, x.shape[1]).index_copy_(0, rows.slots, x)


def out_of_rows(x: Tensor, rows: Rows) -> Tensor:
    """What :func:`into_rows` has put there."""
    return x if rows.slots is None else x.index_select(0, rows.slots)


def attention(q: Tensor, k: Tensor, v: Tensor, sight: Sight, kept: Tensor | None = None) -> Tensor:
    """``softmax(q k^T / sqrt(d) + bias)``, times ``kept`` if given, times ``v``; all ``(n_rows, heads, width, d)``.

    Torch's own attention draws its dropout from the global generator, so it is for weights that stay as they are.
    """
    if kept is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=sight.bias)
    scores = ((q * q.shape[-1] ** -0.5) @ k.mT).add_(sight.bias)
    return (scores.softmax(-1) * kept) @ v

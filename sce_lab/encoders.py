"""The encoders by name: SASRec, with another feed-forward layer, and as the SCE paper's authors run it."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sce_lab.attention import Sight
from sce_lab.model import Block, Linear, SASRec


class GatedBlock(Block):
    """A block with the feed-forward layer SwiGLU, twice as wide inside: ``W2 (silu(W1 x) * W3 x)``.

    Source: Shazeer, arXiv 2002.05202; among encoders of recommenders in LiGR, and so in eSASRec (arXiv 2508.06450).
    """

    def __init__(self, hidden_size: int, *args: Any) -> None:
        """As in :class:`Block`."""
        super().__init__(hidden_size, *args)
        self.inner = Linear(hidden_size, 4 * hidden_size)  # W1 and W3
        self.outer = Linear(2 * hidden_size, hidden_size)

    def activated(self, x: Tensor) -> Tensor:
        """``(N, 2 D)`` of ``x`` ``(N, D)``."""
        gate, value = self.inner(x).chunk(2, dim=-1)
        return F.silu(gate) * value


class GatedSASRec(SASRec):
    """SASRec whose feed-forward layers are gated (:class:`GatedBlock`); all else is the same.

    They have three times the parameters: ``4 * (C + max_length + n_blocks * (10 * D + 13) + 2) * D`` bytes in all.
    """

    def make_block(self, hidden_size: int, n_heads: int, low_pass: float) -> Block:
        """A block that is gated."""
        return GatedBlock(hidden_size, n_heads, self.drop, low_pass)


class PublishedBlock(Block):
    """A block whose attention also looks at left padding, as the published one does.

    There a history of ``length`` items stands behind ``max_length - length`` rows of padding, each of them zero. Only
    the causal mask is applied, so every position attends to all of them: ``max_length - length`` times the same key,
    the bias ``b_k``, with the same value, ``b_v``. Here they are one key with the weight of all:

        exp(q . b_k / sqrt(D) + log(max_length - length))

    so nothing is padded. With dropout each row of padding keeps its own coin.
    """

    def __init__(self, max_length: int, *args: Any) -> None:
        """``max_length`` is that of the padded histories; the rest as in :class:`Block`."""
        super().__init__(*args)
        self.max_length = max_length

    def attend(self, q: Tensor, k: Tensor, v: Tensor, sight: Sight) -> Tensor:
        """Causal attention inside each row, a sequence, and to its padding; all ``(n, n_heads, length, D / heads)``."""
        padding = [t.view(self.n_heads, 1, -1) for t in self.key_value.bias.chunk(2)]  # (n_heads, 1, D / heads)
        length = q.shape[2]
        q = q * q.shape[-1] ** -0.5
        scores = q @ k.mT + sight.bias  # (n, n_heads, length, length)
        n_pad = self.max_length - length
        times = torch.full((), n_pad, dtype=torch.float64, device=q.device).log()  # -inf where nothing is padded
        before = q @ padding[0].mT + times  # (n, n_heads, length, 1)
        weights, of_padding = torch.cat([scores, before], -1).softmax(-1).split([length, 1], -1)
        if self.training and n_pad:
            coins = self.drop(torch.ones(*of_padding.shape[:-1], n_pad, device=q.device, dtype=q.dtype))
            of_padding = of_padding * coins.mean(-1, keepdim=True)
        return self.drop(weights) @ v + of_padding * padding[1]


class PublishedSASRec(SASRec):
    """SASRec as the authors of the SCE paper run it, for the question what that makes of the scores.

    Attention looks at left padding (:class:`PublishedBlock`), so ``max_length`` counts even if no history is so long.
    Initial weights are uniform in place of normal (Xavier in both), those of query, key and value as of one matrix
    ``(3 D, D)``; biases of the attention begin at zero. The phantom item there, a class that is no item, is left out.

    Source: github.com/AIRI-Institute/Scalable-SASRec, ``model.py`` at cc08f3e082b6cd52951f2038a842c65e85ef8ddd.
    """

    takes_rows = False  # how much padding a position looks at follows from the length of its sequence

    def __init__(
        self, catalog_size: int, max_length: int, *args: Any, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(catalog_size, max_length, *args, generator=generator)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter, generator=generator)
        for block in self.blocks:
            bound = math.sqrt(6 / (4 * block.query.in_features))
            for layer in (block.query, block.key_value):
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            for layer in (block.query, block.key_value, block.output):
                nn.init.zeros_(layer.bias)

    def make_block(self, hidden_size: int, n_heads: int, low_pass: float) -> Block:
        """A block that looks at padding."""
        return PublishedBlock(len(self.position_embedding), hidden_size, n_heads, self.drop, low_pass)


ENCODERS: dict[str, type[SASRec]] = {
    "sasrec": SASRec,
    "sasrec_gated": GatedSASRec,
    "sasrec_published": PublishedSASRec,
}
"""Encoders by the name that a configuration has for them."""

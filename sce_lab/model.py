"""SASRec (Kang & McAuley, ICDM 2018): the encoder that turns a history into one output vector per position."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sce_lab.data.batches import Packed, Padding
from sce_lab.draws import drawing_from
from sce_lab.losses.engine import is_fake


class SASRec(nn.Module):
    """Self-attentive sequential recommendation, on packed sequences.

    ``x = sqrt(D) * E[items] + P[positions]``, then per block ``q = LN(x)``, ``x = q + Attention(q, x, x)`` (causal),
    ``x = LN(x)``, ``x = x + W2 relu(W1 x)``, and a last ``LN``. The score of item ``c`` at a position is the inner
    product of its output with ``E[c]``: one table of ``(catalog_size, hidden_size)`` serves as input and output.
    The table holds items only; there is no row for padding, because there is no padding (see
    :mod:`sce_lab.data.batches`). Attention is one call a run of equal lengths; if the batch says where its positions
    stand in a padded layout, as it does on a GPU, it is one call in all, and dropout is one operation. The values are
    the same, but dropout draws other numbers.

    With ``low_pass`` above 0 a block also looks at the plain mean of all that came before:
    ``x = (1 - low_pass) * (q + Attention(q, x, x)) + low_pass * LN(x + RunningMean(x))``. The idea is BSARec's (Shin et
    al., AAAI 2024), which filters whole sequences by frequency; a running mean keeps the lowest frequency and looks at
    no later position, so that every position can be trained on.

    Args:
        catalog_size: number of items C.
        max_length: longest history, in positions.
        hidden_size: D.
        n_blocks: attention blocks.
        n_heads: attention heads; must divide ``hidden_size``.
        dropout: probability, on the embeddings, the attention weights, the running mean and the feed-forward layers.
        low_pass: weight of the running mean in a block, 0 to 1; the original SASRec has none.
        generator: of the initial weights and, in training, of dropout; torch's global one by default. With one of its
            own a model draws nothing from anybody else's numbers, nor anybody from its.
        rows: the first item whose row is kept here, and the first behind the last, where others keep the rest; default:
            all.

    Parameters take ``4 * (C + max_length + n_blocks * (6 * D + 10) + 2) * D`` bytes in float32; with ``low_pass`` it is
    12 in place of 10.
    """

    #: whether its attention can be one call on a padded layout; a subclass with another attention says no
    takes_padding = True

    def __init__(
        self,
        catalog_size: int,
        max_length: int,
        hidden_size: int = 64,
        n_blocks: int = 2,
        n_heads: int = 1,
        dropout: float = 0.3,
        low_pass: float = 0.0,
        generator: torch.Generator | None = None,
        rows: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        first, last = rows or (0, catalog_size)
        if hidden_size % n_heads:
            raise ValueError(f"n_heads must divide hidden_size, got n_heads={n_heads} and hidden_size={hidden_size}")
        self.item_embedding = nn.Parameter(torch.empty(last - first, hidden_size))
        self.position_embedding = nn.Parameter(torch.empty(max_length, hidden_size))
        self.drop = Dropout(dropout, generator)
        self.blocks = nn.ModuleList(self.make_block(hidden_size, n_heads, low_pass) for _ in range(n_blocks))
        self.norm = nn.LayerNorm(hidden_size, eps=1e-8)
        for module in self.modules():
            if isinstance(module, Linear):
                bound = module.in_features**-0.5
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        for parameter in self.parameters():
            if parameter is self.item_embedding:
                xavier_rows_(parameter, catalog_size, first, generator)
            elif parameter.dim() > 1:
                nn.init.xavier_normal_(parameter, generator=generator)

    def make_block(self, hidden_size: int, n_heads: int, low_pass: float) -> Block:
        """One of the blocks; a subclass may have others."""
        return Block(hidden_size, n_heads, self.drop, low_pass)

    def forward(self, packed: Packed, embedded: Tensor | None = None) -> Tensor:
        """Outputs ``(N, D)`` of all N packed positions; each sees its own sequence up to itself and nothing else.

        ``embedded``, if given, stands for ``item_embedding[packed.items]`` ``(N, D)``: see
        :func:`sce_lab.training.training_step`.
        """
        if embedded is None:
            embedded = self.item_embedding[packed.items]
        x = math.sqrt(embedded.shape[-1]) * embedded + self._position_rows(packed)
        padding = packed.padding if self.takes_padding else None
        with drawing_from(self.drop.generator if self.training and padding else None):
            x = self.drop.of(padding)(x)
            for block in self.blocks:
                x = block(x, packed.runs, padding)
        return self.norm(x)

    def _position_rows(self, packed: Packed) -> Tensor:
        if packed.padding:  # two launches for the gradient of indexing, some twenty for that of F.embedding
            return self.position_embedding.index_select(0, packed.positions)
        # F.embedding, not indexing: the gradient of indexing is added up by all threads at once, in any order.
        return F.embedding(packed.positions, self.position_embedding)


@torch.no_grad()
def xavier_rows_(rows: Tensor, catalog_size: int, first: int, generator: torch.Generator | None) -> Tensor:
    """What ``nn.init.xavier_normal_`` makes of a table ``(C, D)``, of its rows from ``first`` on.

    All numbers of the table are drawn, so that it is the same wherever it is cut, but only these are kept.
    """
    if len(rows) == catalog_size:
        return nn.init.xavier_normal_(rows, generator=generator)
    if is_fake(rows):
        return rows
    dim, block = rows.shape[1], 2**14  # a multiple of 16: torch draws as many normal numbers together
    std = math.sqrt(2 / (catalog_size + dim))
    for start in range(0, catalog_size, block):
        stop = start + block if start + 2 * block <= catalog_size else catalog_size  # a short block would be another
        drawn = rows.new_empty(stop - start, dim).normal_(0, std, generator=generator)
        here = slice(max(start, first), min(stop, first + len(rows)))
        if here.start < here.stop:
            rows[here.start - first : here.stop - first] = drawn[here.start - start : here.stop - start]
        if stop == catalog_size:
            break
    return rows


class Block(nn.Module):
    """Causal self-attention, if asked a running mean beside it, and a feed-forward layer; residuals as in SASRec."""

    def __init__(self, hidden_size: int, n_heads: int, drop: Dropout, low_pass: float = 0.0) -> None:
        super().__init__()
        self.n_heads, self.drop, self.low_pass = n_heads, drop, low_pass
        self.attention_norm = nn.LayerNorm(hidden_size, eps=1e-8)
        self.query = Linear(hidden_size, hidden_size)
        self.key_value = Linear(hidden_size, 2 * hidden_size)
        self.output = Linear(hidden_size, hidden_size)
        self.feed_forward_norm = nn.LayerNorm(hidden_size, eps=1e-8)
        self.inner = Linear(hidden_size, hidden_size)
        self.outer = Linear(hidden_size, hidden_size)
        if low_pass:
            self.mean_norm = nn.LayerNorm(hidden_size, eps=1e-8)

    def forward(self, x: Tensor, runs: tuple[tuple[int, int], ...], padding: Padding | None = None) -> Tensor:
        """``x`` and the result are ``(N, D)``; ``runs`` says how the N positions divide into sequences."""
        drop = self.drop.of(padding)
        q = self.attention_norm(x)
        query, key_value = self.query(q), self.key_value(x)
        if padding:
            attended = self.attend_padded(query, key_value, padding)
        else:
            attended = self.attend(query, *key_value.chunk(2, dim=-1), runs)
        attended = q + self.output(attended)
        if self.low_pass:
            mean = padded_running_mean(x, padding) if padding else running_mean(x, runs)
            mean = self.mean_norm(x + drop(mean))
            attended = (1 - self.low_pass) * attended + self.low_pass * mean
        x = self.feed_forward_norm(attended)
        inner = drop(F.relu(self.inner(x)))
        return x + drop(self.outer(inner))

    def attend_padded(self, query: Tensor, key_value: Tensor, padding: Padding) -> Tensor:
        """:meth:`attend` in one call, of ``query`` ``(N, D)`` and ``key_value`` ``(N, 2 D)``.

        Its dropout is drawn from the global generator: see :func:`sce_lab.draws.drawing_from`.
        """
        rows = into_rows(torch.cat([query, key_value], dim=1), padding)  # (n_sequences, width, 3 D)
        q, k, v = rows.unflatten(2, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)  # (n_sequences, heads, width, ...)
        dropout = self.drop.p if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return out_of_rows(out.transpose(1, 2).flatten(2), padding)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, runs: tuple[tuple[int, int], ...]) -> Tensor:
        """Causal attention inside each sequence, one call per run of equal lengths; all ``(N, D)``.

        Torch's own attention draws its dropout from the global generator, so it is for weights that stay as they are.
        """
        dropped = self.training and self.drop.p > 0
        sizes = [n * length for n, length in runs]
        outputs = []
        for (n, length), *qkv in zip(runs, q.split(sizes), k.split(sizes), v.split(sizes)):
            heads = [t.view(n, length, self.n_heads, -1).transpose(1, 2) for t in qkv]  # (n, heads, length, D / heads)
            if dropped:
                out = self.drop(attention_weights(*heads[:2])) @ heads[2]
            else:
                out = F.scaled_dot_product_attention(*heads, is_causal=True)
            outputs.append(out.transpose(1, 2).reshape(n * length, -1))
        return torch.cat(outputs)


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """Causal ``softmax(q k^T / sqrt(D))``, ``(..., length, length)``, of ``q`` and ``k`` ``(..., length, D)``."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
    return scores.masked_fill_(later, -torch.inf).softmax(-1)


def into_rows(x: Tensor, padding: Padding) -> Tensor:
    """Packed ``x`` ``(N, D)`` in the padded layout ``(n_sequences, width, D)``; zero where nothing is."""
    rows = x.new_zeros(padding.n_sequences * padding.width, x.shape[1]).index_copy_(0, padding.slots, x)
    return rows.view(padding.n_sequences, padding.width, -1)


def out_of_rows(rows: Tensor, padding: Padding) -> Tensor:
    """What :func:`into_rows` has put into the padded layout."""
    return rows.flatten(0, 1).index_select(0, padding.slots)


def padded_running_mean(x: Tensor, padding: Padding) -> Tensor:
    """:func:`running_mean` on the padded layout."""
    counts = torch.arange(1, padding.width + 1, device=x.device, dtype=x.dtype)[:, None]
    return out_of_rows(into_rows(x, padding).cumsum(1) / counts, padding)


def running_mean(x: Tensor, runs: tuple[tuple[int, int], ...]) -> Tensor:
    """At each position of each sequence the mean of ``x`` up to it; ``x`` and the result are ``(N, D)``."""
    longest = max(length for _, length in runs)
    counts = torch.arange(1, longest + 1, device=x.device, dtype=x.dtype)[:, None]
    means = []
    for (n, length), part in zip(runs, x.split([n * length for n, length in runs])):
        sums = part.view(n, length, -1).cumsum(1)  # (n, length, D)
        means.append((sums / counts[:length]).view(n * length, -1))
    return torch.cat(means)


class Linear(nn.Linear):
    """A layer whose model draws its weights: torch's would draw some first, from the global generator."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class Dropout(nn.Dropout):
    """Dropout from a generator of its own, that on a CPU takes a quarter of the time of torch's.

    That was a tenth of a training step. Torch draws one random number an element. Here 64 random bits decide about four
    elements, so on a CPU the probability is rounded to a multiple of ``2 ** -16``, and the scale to match.
    """

    def __init__(self, p: float, generator: torch.Generator | None = None) -> None:
        """See :class:`SASRec` for the generator."""
        super().__init__(p)
        self.generator = generator

    def of(self, padding: Padding | None) -> Callable[[Tensor], Tensor]:
        """How a model drops out: in one operation, :meth:`fused`, on a padded layout."""
        return self.fused if padding else self

    def fused(self, x: Tensor) -> Tensor:
        """As :meth:`forward`, by torch's own operation, which draws from the global generator."""
        return torch.native_dropout(x, self.p, True)[0] if self.training and self.p > 0 else x

    def forward(self, x: Tensor) -> Tensor:
        """Zero elements of ``x`` with probability ``p`` and scale the others by ``1 / (1 - p)``, in training only."""
        if not self.training or self.p == 0:
            return x
        if x.device.type not in ("cpu", "meta"):  # meta: a prediction for a CPU
            kept = torch.empty_like(x)
            return x * kept.bernoulli_(1 - self.p, generator=self.generator).div_(1 - self.p)
        zeroed = min(round(self.p * 2**16), 2**16 - 1)
        bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
        bits.random_(-(2**63), None, generator=self.generator)
        kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= zeroed - 2**15
        return x * kept.to(x.dtype).mul_(2**16 / (2**16 - zeroed))

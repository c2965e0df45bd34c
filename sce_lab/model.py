"""SASRec (Kang & McAuley, ICDM 2018): the encoder that turns a history into one output vector per position."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sce_lab.attention import Sight, attention, into_rows, out_of_rows, sights
from sce_lab.data.batches import Packed
from sce_lab.data.rows import Rows
from sce_lab.draws import drawing_from
from sce_lab.followers import Followers
from sce_lab.losses.engine import is_fake


class SASRec(nn.Module):
    """Self-attentive sequential recommendation, on packed sequences.

    ``x = sqrt(D) * E[items] + P[positions]``, then per block ``q = LN(x)``, ``x = q + Attention(q, x, x)`` (causal),
    ``x = LN(x)``, ``x = x + W2 relu(W1 x)``, and a last ``LN``. The score of item ``c`` at a position is the inner
    product of its output with ``E[c]``: one table of ``(catalog_size, hidden_size)`` serves as input and output.
    The table holds items only; there is no row for padding, because there is no padding (see
    :mod:`sce_lab.data.batches`). Attention is one call a run of equal lengths; if the batch says where its positions
    stand in rows (:mod:`sce_lab.data.rows`), it is one call a table of rows, and on a GPU dropout is one operation. The
    values are the same, but dropout draws other numbers.

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

    #: whether sequences may stand side by side in rows; a subclass with another attention may say no
    takes_rows = True

    #: counts that the scores of all items are added to when they are ranked; they are no weights of the model
    followers: Followers | None = None

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
        self.drop, self.low_pass = Dropout(dropout, generator), low_pass
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
            embedded = self.item_embedding.index_select(0, packed.items)
        rows = packed.rows if packed.rows and self.takes_rows else Rows(None, packed.runs)
        x = math.sqrt(embedded.shape[-1]) * embedded + self._position_rows(packed)
        seen = sights(rows, x, means=self.low_pass > 0)
        with drawing_from(self.drop.generator if self.training and rows.fused else None):
            x = self.drop.of(rows)(x)
            for block in self.blocks:
                x = block(x, rows, seen)
        return self.norm(x)

    def _position_rows(self, packed: Packed) -> Tensor:
        if (
            packed.rows and packed.rows.fused
        ):  # two launches for the gradient of indexing, some twenty for F.embedding's
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

    def forward(self, x: Tensor, rows: Rows, seen: list[Sight]) -> Tensor:
        """``x`` and the result are ``(N, D)``; ``rows`` and ``seen`` say who looks at whom."""
        drop = self.drop.of(rows)
        q = self.attention_norm(x)
        attended = q + self.output(self.attended(self.query(q), self.key_value(x), rows, seen))
        if self.low_pass:
            mean = self.mean_norm(x + drop(running_mean(x, rows, seen)))
            attended = attended.lerp(mean, self.low_pass)
        x = self.feed_forward_norm(attended)
        return x + drop(self.outer(drop(self.activated(x))))

    def activated(self, x: Tensor) -> Tensor:
        """The inside of the feed-forward layer, of ``x`` ``(N, D)``."""
        return F.relu(self.inner(x))

    def attended(self, query: Tensor, key_value: Tensor, rows: Rows, seen: list[Sight]) -> Tensor:
        """What attention finds ``(N, D)``, of ``query`` ``(N, D)`` and ``key_value`` ``(N, 2 D)``, a call a table."""
        sizes = [n * width for n, width in rows.shapes]
        parts = (apart(into_rows(t, rows), sizes) for t in (query, key_value))
        outputs = []
        for q, kv, (n, width), sight in zip(*parts, rows.shapes, seen):
            q, k, v = (t.view(n, width, self.n_heads, -1).transpose(1, 2) for t in (q, *kv.chunk(2, dim=1)))
            out = self.attend(q, k, v, sight)  # (n, n_heads, width, D / heads)
            outputs.append(out.transpose(1, 2).reshape(n * width, -1))
        return out_of_rows(together(outputs), rows)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, sight: Sight) -> Tensor:
        """Attention in a table of rows; all ``(n_rows, n_heads, width, D / heads)``.

        If it is fused, its dropout is drawn from the global generator: see :func:`sce_lab.draws.drawing_from`.
        """
        dropout = self.drop.p if self.training else 0.0
        if sight.bias is None:
            return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return attention(q, k, v, sight, self.drop.kept((*q.shape[:3], k.shape[2]), q) if dropout else None)


def running_mean(x: Tensor, rows: Rows, seen: list[Sight]) -> Tensor:
    """At each position the mean of ``x`` over what it may look at; ``x`` and the result are ``(N, D)``."""
    parts = apart(into_rows(x, rows), [n * width for n, width in rows.shapes])
    means = [
        torch.bmm(sight.mean.expand(n, -1, -1), part.view(n, width, -1))
        for part, (n, width), sight in zip(parts, rows.shapes, seen)
    ]
    return out_of_rows(together([mean.flatten(0, 1) for mean in means]), rows)


def apart(x: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    """Parts of ``x`` of these sizes; a single one as it is."""
    return [x] if len(sizes) == 1 else x.split(sizes)


def together(parts: list[Tensor]) -> Tensor:
    """One behind the other; a single one as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


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

    def of(self, rows: Rows) -> Callable[[Tensor], Tensor]:
        """How a model drops out: in one operation, :meth:`fused`, if attention is one."""
        return self.fused if rows.fused else self

    def fused(self, x: Tensor) -> Tensor:
        """As :meth:`forward`, by torch's own operation, which draws from the global generator."""
        return torch.native_dropout(x, self.p, True)[0] if self.training and self.p > 0 else x

    def forward(self, x: Tensor) -> Tensor:
        """Zero elements of ``x`` with probability ``p`` and scale the others by ``1 / (1 - p)``, in training only."""
        return x * self.kept(x.shape, x) if self.training and self.p > 0 else x

    def kept(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """What to multiply with: 0 with probability ``p``, otherwise ``1 / (1 - p)``; dtype and device of ``like``."""
        if like.device.type not in ("cpu", "meta"):  # meta: a prediction for a CPU
            return like.new_empty(shape).bernoulli_(1 - self.p, generator=self.generator).div_(1 - self.p)
        n, zeroed = math.prod(shape), min(round(self.p * 2**16), 2**16 - 1)
        bits = torch.empty(-(-n // 4), dtype=torch.int64, device=like.device)
        bits.random_(-(2**63), None, generator=self.generator)
        drawn = bits.view(torch.int16)[:n].view(shape)
        # Whole numbers cut to two neighbours, and no comparison: truth values take a CPU five times as long.
        most = zeroed - 2**15
        return drawn.clamp_(most - 1, most).sub_(most - 1).to(like.dtype).mul_(2**16 / (2**16 - zeroed))

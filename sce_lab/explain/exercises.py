"""The exercises of the pages on scaling and on the engine; what is compared, and how, is in :mod:`.checks`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sce_lab.explain.checks import Verdict, compare


def sce_operations(N: int, C: int, D: int, n_b: int, b_x: int, b_y: int) -> int:
    """Operations of SCE's forward pass: the search of the buckets, and the logits inside them.

    A product of two numbers and the sum it goes into are two operations. What is counted once a position or a slot
    (targets, maxima) is left out.
    """
    return 2 * n_b * (N + C) * D + 2 * n_b * b_x * b_y * D


def check_operations(function: Callable[..., float]) -> Verdict:
    """Check ``function(N, C, D, n_b, b_x, b_y)``: operations of SCE's forward pass, as :func:`sce_operations`."""
    N, C, D, n_b, b_x, b_y = sizes = 5_000, 80_000, 48, 90, 110, 250
    right = sce_operations(*sizes)
    logits, search = 2 * n_b * b_x * b_y * D, 2 * n_b * (N + C) * D
    mistakes = {
        "Only the items are searched: a bucket looks for its positions, too.": 2 * n_b * C * D + logits,
        "Only the positions are searched: a bucket looks for its items, too.": 2 * n_b * N * D + logits,
        "That would compare every position with every item, which is what SCE avoids: a centre is compared with "
        "positions, and with items.": 2 * n_b * N * C * D + logits,
        "A comparison is an inner product of D numbers: D products and D sums, two operations each.": right / 2,
        "In the search a product and the sum it goes into are two operations.": search / 2 + logits,
        "Inside the buckets a product and the sum it goes into are two operations.": search + logits / 2,
        "The D is missing: a score is an inner product of D numbers.": right / D,
        "The D is missing in the search: a score is an inner product of D numbers.": search / D + logits,
        "The D is missing inside the buckets: a logit is an inner product of D numbers.": search + logits / D,
        "There are n_b buckets, each with b_x times b_y logits.": search + logits / n_b,
        "Inside a bucket are b_x times b_y logits, not their sum.": search + 2 * n_b * (b_x + b_y) * D,
    }
    unknown = "Search: n_b centres, each with N positions and C items. Logits: n_b buckets of b_x times b_y."
    exact = {sentence: torch.tensor(float(value), dtype=torch.float64) for sentence, value in mistakes.items()}
    return compare(lambda: function(*sizes), torch.tensor(float(right), dtype=torch.float64), exact, unknown)


def check_streaming(function: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Verdict:
    """Check ``function(m, s, tile)``: the new ``(m, s)``, where log of the sum of exp so far is ``m + log s``.

    ``m (N,)`` is the largest logit so far, ``s (N,)`` the sum of ``exp(logit - m)``, ``tile (N, n)`` the next logits.
    What is checked is the log-sum-exp in the end; the largest logits come in the middle, and some are over 1000.
    """
    generator = torch.Generator().manual_seed(11)
    logits = 3 * torch.randn(1, 60, generator=generator)
    large = logits.clone()
    large[0, 25:30] += 1_000.0

    def run(update: Callable[..., tuple[Tensor, Tensor]], values: Tensor) -> Tensor:
        m, s = values.new_full((1,), -torch.inf), values.new_zeros(1)
        for tile in values.split(10, dim=1):
            m, s = update(m, s, tile)
        return m + s.log()

    def right(m: Tensor, s: Tensor, tile: Tensor) -> tuple[Tensor, Tensor]:
        new = torch.maximum(m, tile.amax(dim=1))
        return new, s * (m - new).exp() + (tile - new[:, None]).exp().sum(dim=1)

    def of_tile_only(m: Tensor, s: Tensor, tile: Tensor) -> tuple[Tensor, Tensor]:
        new = torch.maximum(m, tile.amax(dim=1))
        return new, (tile - new[:, None]).exp().sum(dim=1)

    def not_rescaled(m: Tensor, s: Tensor, tile: Tensor) -> tuple[Tensor, Tensor]:
        new = torch.maximum(m, tile.amax(dim=1))
        return new, s + (tile - new[:, None]).exp().sum(dim=1)

    def own_maximum(m: Tensor, s: Tensor, tile: Tensor) -> tuple[Tensor, Tensor]:
        new = torch.maximum(m, tile.amax(dim=1))
        return new, s * (m - new).exp() + (tile - tile.amax(dim=1, keepdim=True)).exp().sum(dim=1)

    def turned(m: Tensor, s: Tensor, tile: Tensor) -> tuple[Tensor, Tensor]:
        new = torch.maximum(m, tile.amax(dim=1))
        return new, s * (new - m).exp() + (tile - new[:, None]).exp().sum(dim=1)

    rescaled = "is a sum of exp(logit - m) for the old m: multiply it by exp(m - new_m) before you add to it."
    unknown = "new_m is the larger of m and the tile's largest; s becomes s exp(m - new_m) + sum exp(tile - new_m)."
    mistakes = {
        f"The old sum is added as it stands. It {rescaled}": run(not_rescaled, logits),
        "The old sum is lost: what was seen before this tile counts, too.": run(of_tile_only, logits),
        "The tile is shifted by its own largest logit; it must be shifted by the new m.": run(own_maximum, logits),
        "The old sum is multiplied by exp(new_m - m): the other way round, it must become smaller.": run(
            turned, logits
        ),
    }
    verdict = compare(lambda: run(function, logits)[0], torch.logsumexp(logits, 1)[0], mistakes, unknown)
    if not verdict.solved:
        return verdict
    overflow = "Right for small logits, but with logits over 1,000 exp overflows: subtract the new m before exp."
    wrong = {overflow: torch.tensor(torch.inf), overflow + " ": torch.tensor(torch.nan)}
    return compare(lambda: run(function, large)[0], torch.logsumexp(large, 1)[0], wrong, unknown)

"""Where each user's target comes out in a ranking of the whole catalog, without ever holding users x catalog."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sce_lab.data.sequences import Holdout
from sce_lab.losses.engine.torch_search import sorted_topk
from sce_lab.transfer import send

SEEN = {
    "exclude": "seen items are left out, and a target among them is a miss",
    "keep": "seen items compete like all others",
    "new": "seen items are left out, and only users whose target is new are asked",
}
"""What becomes of the items that a user has seen, by the name of the rule."""

MISS = 2**31 - 1
"""The rank of a target that could not be recommended: beyond every cut-off and every catalog."""

LONGEST = 50
"""Length of the recommended lists unless another is asked for."""

_CACHE_BYTES = 4 * 2**20
_FEWEST_USERS = 64  # with fewer the matrix product waits for the table


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where each user's target came out, and what would have been recommended.

    ranks: (U,) int64 on the CPU, 1 = best; :data:`MISS` for a target that could not be recommended.
    top_items: (U, k_max) int64 on the CPU, best first; -1 where fewer than k_max items were left to recommend.
    repeats: (U,) bool on the CPU, whether the target is in the user's history.
    seen: the rule, a key of :data:`SEEN`.
    n_not_asked: users that the rule does not ask, since their target repeats.
    """

    ranks: Tensor
    top_items: Tensor
    repeats: Tensor
    seen: str = "exclude"
    n_not_asked: int = 0


def check_seen(seen: str) -> str:
    """Return ``seen`` if it is a rule.

    Raises:
        ValueError: it is none.
    """
    if seen not in SEEN:
        rules = "; ".join(f"{name!r}: {words}" for name, words in SEEN.items())
        raise ValueError(f"seen must be a rule about seen items ({rules}), got {seen!r}")
    return seen


class Columns:
    """Which items are scored here: all of the catalog. Where others score the rest, what each finds is put together.

    Args:
        first: of the items here.
        last: the first item behind them.
        width: the most that anybody has, which decides how many users are scored at a time.
    """

    def __init__(self, first: int, last: int, width: int) -> None:
        self.first, self.last, self.width = first, last, width

    def added(self, mine: Tensor) -> Tensor:
        """The sum of what is found anywhere."""
        return mine

    def best(self, scores: Tensor, items: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The ``k`` best of the best found anywhere: scores and items, both ``(users, k)``."""
        return scores, items


@torch.no_grad()
def rank_items(
    outputs: Tensor,
    linear_weight: Tensor,
    holdout: Holdout,
    *,
    seen: str = "exclude",
    k_max: int = LONGEST,
    chunk_bytes: int = 128 * 2**20,
    columns: Columns | None = None,
    catalog_size: int | None = None,
    add: Callable[[np.ndarray, Tensor], None] | None = None,
) -> Ranking:
    """Rank the whole catalog for every user of ``holdout`` by inner products.

    The score of item i for user u is <outputs[u], linear_weight[i]>, computed in float32 (float64 stays float64); see
    :func:`rank_scores` for the rank.

    Args:
        outputs: (U, D), what the model says after each history; row u belongs to row u of ``holdout``.
        linear_weight: (C, D), one row an item of the catalog; same device as ``outputs``.
        holdout: U histories and U targets, all of them rows 0..C-1.
        seen: the rule about seen items, a key of :data:`SEEN`.
        k_max: length of the recommended lists.
        chunk_bytes: most bytes of scores to hold at a time (4 a user and item in float32; one user at least). Tables in
            half precision are widened 65,536 rows at a time on top of that.
        columns: which items the rows of ``linear_weight`` are; default: all.
        catalog_size: C, for ``columns`` that are not all.
        add: adds to the scores of some users, as ``score`` of :func:`rank_scores` writes them.

    Returns:
        A :class:`Ranking`. If ``ranks[u] <= k``, the target is among the first k of ``top_items[u]``; the reverse can
        fail for ties, whose order inside ``top_items`` is unspecified.

    Raises:
        ValueError: shapes that do not fit, items outside the catalog, k_max or chunk_bytes below 1, or no such rule.
    """
    if outputs.ndim != 2 or linear_weight.ndim != 2 or outputs.shape[1] != linear_weight.shape[1]:
        raise ValueError(
            f"outputs must be (users, D) and linear_weight (catalog, D) with the same D, "
            f"got {tuple(outputs.shape)} and {tuple(linear_weight.shape)}"
        )
    if len(outputs) != len(holdout):
        raise ValueError(f"outputs has {len(outputs)} rows but holdout has {len(holdout)} users; they must correspond")
    dtype = torch.promote_types(torch.promote_types(outputs.dtype, linear_weight.dtype), torch.float32)

    def score(users: np.ndarray, out: Tensor) -> None:
        _score(outputs[send(torch.from_numpy(users), outputs.device)].to(dtype), linear_weight, out=out)
        if add is not None:
            add(users, out)

    options = {"seen": seen, "k_max": k_max, "chunk_bytes": chunk_bytes, "columns": columns}
    catalog_size = catalog_size or len(linear_weight)
    return rank_scores(score, holdout, catalog_size, **options, dtype=dtype, device=outputs.device)


@torch.no_grad()
def rank_scores(
    score: Callable[[np.ndarray, Tensor], None],
    holdout: Holdout,
    catalog_size: int,
    *,
    seen: str = "exclude",
    k_max: int = LONGEST,
    chunk_bytes: int = 128 * 2**20,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    columns: Columns | None = None,
) -> Ranking:
    """Rank the whole catalog for every user of ``holdout`` by any scores, some users at a time.

        rank[u] = 1 + #{i allowed : i != target[u], not score[u, i] < score[u, target[u]]}   or MISS

    Allowed is, by the rule ``seen``: every item ("keep"), or every item outside history[u] ("exclude", "new"). If the
    target itself is not allowed its rank is :data:`MISS` ("exclude"), or its user is not asked ("new").

    Args:
        score: writes the scores of some users, given as rows of ``holdout``, (n,), into a tensor, (n, C), or of the
            items of ``columns``.
        holdout, seen, k_max, chunk_bytes: as in :func:`rank_items`, which has the errors, too.
        catalog_size: C.
        dtype, device: of the scores.
        columns: which items are scored here; default: all.
    """
    check_seen(seen)
    columns = columns or Columns(0, catalog_size, catalog_size)
    n_here = columns.last - columns.first
    if k_max < 1 or chunk_bytes < 1:
        raise ValueError(f"k_max and chunk_bytes must be at least 1, got {k_max} and {chunk_bytes}")
    for what, rows in (("targets", holdout.targets), ("histories", holdout.histories.items)):
        if len(rows) and not 0 <= rows.min() <= rows.max() < catalog_size:
            raise ValueError(
                f"holdout {what} span items {rows.min()}..{rows.max()}, but the catalog has rows 0..{catalog_size - 1}"
            )
    asked = np.flatnonzero(~holdout.repeats) if seen == "new" else np.arange(len(holdout))
    n_not_asked = len(holdout) - len(asked)
    holdout = holdout.take(asked)
    device = torch.device(device)
    lowest = torch.finfo(dtype).min
    ranks = torch.empty(len(asked), dtype=torch.int64, device=device)
    top_items = torch.full((len(asked), k_max), -1, dtype=torch.int64, device=device)
    k = min(k_max, catalog_size)
    bytes_per_user = dtype.itemsize * columns.width
    chunk = max(1, chunk_bytes // bytes_per_user)
    if device.type == "cpu":  # five passes go over a chunk: they are quickest while it stays in cache
        chunk = min(chunk, max(_FEWEST_USERS, _CACHE_BYTES // bytes_per_user))
    counting = torch.float32 if catalog_size < 2**24 else torch.int64  # float32 counts that far; not all have float64
    buffer = torch.empty(min(chunk, len(asked)), n_here, dtype=dtype, device=device)
    for start in range(0, len(asked), chunk):
        rows = slice(start, min(start + chunk, len(asked)))
        scores = buffer[: rows.stop - rows.start]  # (users, items here)
        score(asked[rows], scores)

        # Minus infinity is kept for what may not be recommended. A target that is not a number becomes the lowest
        # score, a competitor that is not a number the highest.
        asks, column = _here(np.arange(len(scores)), holdout.targets[rows], columns)
        target = send(torch.from_numpy(asks * n_here + column), device)  # flat, of those whose target is here
        target_score = scores.new_zeros(len(scores))
        here = scores.view(-1)[target].nan_to_num_(nan=lowest, posinf=torch.inf, neginf=lowest)
        target_score[send(torch.from_numpy(asks), device)] = here
        scores.nan_to_num_(nan=torch.inf, posinf=torch.inf, neginf=lowest)
        scores.view(-1)[target] = here
        target_score = columns.added(target_score).unsqueeze(1)
        if seen != "keep":
            user, column = _here(*_seen_pairs(holdout, rows), columns)
            scores.view(-1).index_fill_(0, send(torch.from_numpy(user * n_here + column), device), -torch.inf)

        best, items = sorted_topk(scores, min(k, n_here))  # (users, k)
        best, items = columns.best(best, items + columns.first, k)
        top_items[rows, :k] = items.masked_fill_(best == -torch.inf, -1)
        # The target reaches its own score, which is the 1 of the definition. In place and summed as floating point:
        # several times faster than through a table of booleans.
        ranks[rows] = columns.added(scores.ge_(target_score).sum(1, dtype=counting).long())
    ranks, top_items = ranks.cpu(), top_items.cpu()  # not before: until here nobody has waited for a GPU
    repeats = torch.from_numpy(holdout.repeats)
    if seen != "keep":
        ranks[repeats] = MISS
    return Ranking(ranks, top_items, repeats, seen, n_not_asked)


def _score(outputs: Tensor, linear_weight: Tensor, *, out: Tensor) -> None:
    """Write outputs @ linear_weight.T, in the precision of ``outputs``; a table of another one is widened in blocks."""
    block = len(linear_weight) if linear_weight.dtype == outputs.dtype else 2**16
    for start in range(0, len(linear_weight), block):
        weight = linear_weight[start : start + block].to(outputs.dtype)
        torch.mm(outputs, weight.T, out=out[:, start : start + block])  # autocast leaves ``out=`` alone


def _here(users: np.ndarray, items: np.ndarray, columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Of pairs of a user and an item those whose item is scored here, and its column."""
    here = (items >= columns.first) & (items < columns.last)
    return users[here], items[here] - columns.first


def _seen_pairs(holdout: Holdout, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """(row in the chunk, item) of every history entry; an item that stands twice is harmless."""
    offsets = holdout.histories.offsets[rows.start : rows.stop + 1]
    users = np.repeat(np.arange(rows.stop - rows.start), np.diff(offsets))
    return users, holdout.histories.items[offsets[0] : offsets[-1]]

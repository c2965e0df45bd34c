"""The kernels of the search; ``search.py`` says what each is for."""

import triton
import triton.language as tl

from .launch import kernel
from .order import number, rounded_up, sortable, widened
from .rows import dot_of_rows, load_rows, products

LEAST = tl.constexpr(-(2**31))  # below the key of any number
SAMPLED = tl.constexpr(16)  # rows from which the table's scale comes


@triton.jit
def _power_of_two(largest, exponent: tl.constexpr):
    """A factor that brings ``largest`` to about ``2 ** exponent``, exactly; 1 where it is 0 or no finite number."""
    its_exponent = (largest.to(tl.int32, bitcast=True) >> 23) & 0xFF
    limited = tl.minimum(tl.maximum(its_exponent, 8), 250)
    factor = ((254 + exponent - limited) << 23).to(tl.float32, bitcast=True)
    return tl.where((its_exponent == 0) | (its_exponent == 255), 1.0, factor)


@kernel
def round_kernel(
    queries,
    table,
    rounded,
    of_query,
    of_table,
    n_queries,
    n_items,
    dim,
    row_stride,
    column_stride,
    BLOCK_D: tl.constexpr,
):
    """One query, scaled, in float16: ``q'``; ``|q'|``, ``|q - q'|`` and what sums lose, and the scale.

    The scale of the table comes from a few of its rows: it leaves room for those that are 4,000 times as large, and
    what is too small for float16 is known to be lost.
    """
    query = tl.program_id(0).to(tl.int64)
    largest = tl.zeros((BLOCK_D,), tl.float32)
    largest_row = tl.zeros((SAMPLED, BLOCK_D), tl.float32)
    sample = (tl.arange(0, SAMPLED).to(tl.int64) * n_items) // SAMPLED
    for first in range(0, dim, BLOCK_D):
        column = first + tl.arange(0, BLOCK_D)
        q = tl.load(queries + query * dim + column, mask=column < dim, other=0.0)
        largest = tl.maximum(largest, tl.abs(q))
        w = load_rows(table, sample, sample >= 0, first, dim, row_stride, column_stride, BLOCK_D).to(tl.float32)
        largest_row = tl.maximum(largest_row, tl.abs(w))
    scale = _power_of_two(tl.max(largest, axis=0), 0)
    squares = tl.zeros((BLOCK_D,), tl.float32)
    squares_rounded = tl.zeros((BLOCK_D,), tl.float32)
    squares_lost = tl.zeros((BLOCK_D,), tl.float32)
    for first in range(0, dim, BLOCK_D):
        column = first + tl.arange(0, BLOCK_D)
        q = tl.load(queries + query * dim + column, mask=column < dim, other=0.0) * scale
        half = q.to(tl.float16)
        tl.store(rounded + query * dim + column, half, mask=column < dim)
        exact = half.to(tl.float32)
        squares += q * q
        squares_rounded += exact * exact
        squares_lost += (q - exact) * (q - exact)
    # what sums lose: those in half precision, and those of the final scores
    lost = tl.sqrt(tl.sum(squares_lost, axis=0)) + dim * 2.3841858e-7 * tl.sqrt(tl.sum(squares, axis=0))
    tl.store(of_query + query, tl.sqrt(tl.sum(squares_rounded, axis=0)))
    tl.store(of_query + n_queries + query, lost)
    tl.store(of_query + 2 * n_queries + query, scale)
    if query == 0:
        tl.store(of_table, _power_of_two(tl.max(tl.max(largest_row, axis=1), axis=0), 4))


@triton.jit
def _rounded_rows(table, items, there, first, dim, row_stride, column_stride, scale, BLOCK_D: tl.constexpr):
    """Some columns of rows, scaled, in float16 ``(C, D)``; the sums of their squares, and of those of what is lost."""
    w = load_rows(table, items, there, first, dim, row_stride, column_stride, BLOCK_D).to(tl.float32) * scale
    half = w.to(tl.float16)
    lost = w - half.to(tl.float32)
    return half, tl.sum(w * w, axis=1), tl.sum(lost * lost, axis=1)


@kernel
def maxima_kernel(
    rounded,
    of_query,
    of_table,
    table,
    allowed,
    maxima,
    n_queries,
    n_groups,
    tiles,
    n_items,
    dim,
    row_stride,
    column_stride,
    BLOCK_C: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ONCE: tl.constexpr,
    GROUP: tl.constexpr,
):
    """Of each group of items, what its largest score may be at most, as sortable halves ``(Q, n_groups)``."""
    query = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    asked = query < n_queries
    q_norm = tl.load(of_query + query, mask=asked, other=0.0)
    q_lost = tl.load(of_query + n_queries + query, mask=asked, other=0.0)
    scale = tl.load(of_table)
    if ONCE:
        q = tl.trans(load_rows(rounded, query, asked, 0, dim, dim, 1, BLOCK_D))  # (D, Q)
    first_tile = tl.program_id(1) * tiles
    for tile in range(first_tile, min(first_tile + tiles, tl.cdiv(n_items, BLOCK_C))):
        item = tile * BLOCK_C + tl.arange(0, BLOCK_C)
        there = item < n_items
        if ONCE:
            half, squares, squares_lost = _rounded_rows(
                table, item, there, 0, dim, row_stride, column_stride, scale, BLOCK_D
            )
            scores = tl.dot(half, q)
        else:
            scores = tl.zeros((BLOCK_C, BLOCK_Q), tl.float32)
            squares = tl.zeros((BLOCK_C,), tl.float32)
            squares_lost = tl.zeros((BLOCK_C,), tl.float32)
            for first in range(0, dim, BLOCK_D):
                half, more, more_lost = _rounded_rows(
                    table, item, there, first, dim, row_stride, column_stride, scale, BLOCK_D
                )
                part = tl.trans(load_rows(rounded, query, asked, first, dim, dim, 1, BLOCK_D))
                scores = tl.dot(half, part, scores)
                squares += more
                squares_lost += more_lost
        if allowed is not None:
            there &= tl.load(allowed + item, mask=there, other=0) != 0
        scores = tl.where(there[:, None], scores, float("-inf"))
        largest = tl.max(tl.reshape(scores, (BLOCK_C // GROUP, GROUP, BLOCK_Q)), axis=1)  # (groups, Q)
        # the error is that of the group's worst row; a row of no finite numbers may have any score
        norm = tl.where(squares == squares, tl.sqrt(squares), float("inf"))
        lost_norm = tl.where(squares_lost == squares_lost, tl.sqrt(squares_lost), float("inf"))
        norm = tl.max(tl.reshape(norm, (BLOCK_C // GROUP, GROUP)), axis=1)
        lost_norm = tl.max(tl.reshape(lost_norm, (BLOCK_C // GROUP, GROUP)), axis=1)
        error = q_lost[None, :] * norm[:, None] + q_norm[None, :] * lost_norm[:, None]
        group = tile * (BLOCK_C // GROUP) + tl.arange(0, BLOCK_C // GROUP)
        place = query.to(tl.int64)[None, :] * n_groups + group[:, None]
        tl.store(maxima + place, rounded_up(largest + error), mask=asked[None, :] & (group < n_groups)[:, None])


@kernel
def scores_kernel(
    queries,
    table,
    allowed,
    keys,
    n_queries,
    n_items,
    dim,
    q_stride,
    q_column,
    w_stride,
    w_column,
    BLOCK_X: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    STEP_D: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """All scores, as keys ``(Q, C)``."""
    item = tl.program_id(0) * BLOCK_Y + tl.arange(0, BLOCK_Y)
    query = tl.program_id(1) * BLOCK_X + tl.arange(0, BLOCK_X)
    asked, there = query < n_queries, item < n_items
    scores = products(
        queries, table, query, item, asked, there, dim, q_stride, q_column, w_stride, w_column,
        BLOCK_X, BLOCK_Y, STEP_D, DOT, PRECISION,
    )  # fmt: skip
    if allowed is not None:
        taken = tl.load(allowed + item, mask=there, other=0) != 0
        scores = tl.where(taken[None, :], scores, float("-inf"))
    place = query.to(tl.int64)[:, None] * n_items + item[None, :]
    tl.store(keys + place, sortable(scores), mask=asked[:, None] & there[None, :])


@triton.jit
def _key_of(
    queries, table, allowed, query, item, there, dim, row_stride, column_stride, BLOCK_D: tl.constexpr
):  # fmt: skip
    """Keys of the scores of one query with some items; :data:`LEAST` for one that is not there."""
    line = tl.zeros_like(item) + query
    score = dot_of_rows(queries, table, line, item, there, dim, dim, 1, row_stride, column_stride, BLOCK_D)
    if allowed is not None:
        score = tl.where(tl.load(allowed + item, mask=there, other=0) != 0, score, float("-inf"))
    return tl.where(there, sortable(score), LEAST)


@kernel
def candidates_kernel(
    queries,
    table,
    allowed,
    groups,
    keys,
    n_taken,
    n_items,
    dim,
    row_stride,
    column_stride,
    GROUP: tl.constexpr,
    BLOCK_SLOTS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Keys of the items in one query's groups, ``(Q, n_taken * GROUP)``."""
    query = tl.program_id(0).to(tl.int64)
    slot = tl.program_id(1) * BLOCK_SLOTS + tl.arange(0, BLOCK_SLOTS)
    filled = slot < n_taken * GROUP
    group = tl.load(groups + query * n_taken + slot // GROUP, mask=filled, other=0).to(tl.int64)
    item = group * GROUP + slot % GROUP
    key = _key_of(
        queries, table, allowed, query, item, filled & (item < n_items), dim, row_stride, column_stride, BLOCK_D
    )
    tl.store(keys + query * (n_taken * GROUP) + slot, key, mask=filled)


@triton.jit
def _keys(
    keys,
    queries,
    table,
    allowed,
    query,
    nth,
    n,
    n_keys,
    enough,
    dim,
    row_stride,
    column_stride,
    GROUP: tl.constexpr,
    MEND: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Some keys of a row: those that are written down, or of the items in groups whose maximum is ``enough``."""
    there = nth < n
    if MEND:
        maximum = tl.load(keys + query * n_keys + nth // GROUP, mask=there, other=0).to(tl.int32) << 16
        there &= widened(maximum) >= enough
        key = _key_of(queries, table, allowed, query, nth.to(tl.int64), there, dim, row_stride, column_stride, BLOCK_D)
    else:
        key = tl.load(keys + query * n_keys + nth, mask=there, other=0).to(tl.int32)
        if keys.dtype.element_ty == tl.int16:
            key = key << 16
        key = tl.where(there, key, LEAST)
    return key


@kernel
def select_kernel(
    keys,
    chosen,
    of_query,
    of_table,
    groups,
    flags,
    queries,
    table,
    allowed,
    n_queries,
    n,
    n_keys,
    k,
    n_taken,
    dim,
    row_stride,
    column_stride,
    GROUP: tl.constexpr,
    BITS: tl.constexpr,
    MEND: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The k largest of one row, in ascending order of their places: by bisection of the bits of their keys.

    Of maxima, it notes what those left out are at most. Of candidates, whether the k-th best reaches that. To mend, it
    leaves at once where it does.
    """
    query = tl.program_id(0).to(tl.int64)
    enough = LEAST
    wanted = True
    if MEND:
        wanted = tl.load(flags + query) != 0
        enough = sortable(tl.load(of_query + 3 * n_queries + query))
    if wanted:
        threshold = tl.full((), LEAST, tl.int32)  # the largest number that k keys reach
        high = threshold  # two bits at a time: what takes long is going through the keys
        for _ in range(BITS // 2):
            low = (high >> 1) & 0x7FFFFFFF
            one, two, three = threshold ^ low, threshold ^ high, threshold ^ high ^ low
            reach_one = tl.zeros((BLOCK,), tl.int32)
            reach_two = tl.zeros((BLOCK,), tl.int32)
            reach_three = tl.zeros((BLOCK,), tl.int32)
            for first in range(0, n, BLOCK):
                key = _keys(
                    keys, queries, table, allowed, query, first + tl.arange(0, BLOCK), n, n_keys, enough, dim,
                    row_stride, column_stride, GROUP, MEND, BLOCK_D,
                )  # fmt: skip
                reach_one += (key >= one).to(tl.int32)
                reach_two += (key >= two).to(tl.int32)
                reach_three += (key >= three).to(tl.int32)
            threshold = tl.where(tl.sum(reach_one, axis=0) >= k, one, threshold)
            threshold = tl.where(tl.sum(reach_two, axis=0) >= k, two, threshold)
            threshold = tl.where(tl.sum(reach_three, axis=0) >= k, three, threshold)
            high = low >> 1
        found = tl.zeros((BLOCK,), tl.int32)
        for first in range(0, n, BLOCK):
            key = _keys(
                keys, queries, table, allowed, query, first + tl.arange(0, BLOCK), n, n_keys, enough, dim,
                row_stride, column_stride, GROUP, MEND, BLOCK_D,
            )  # fmt: skip
            found += (key > threshold).to(tl.int32)
        n_equal = k - tl.sum(found, axis=0)  # so many of those that equal the threshold are taken
        before = tl.full((), 0, tl.int32)
        equal_before = before
        if threshold > LEAST:  # else there are fewer than k, which only a bound that is none can bring about
            for first in range(0, n, BLOCK):
                nth = first + tl.arange(0, BLOCK)
                key = _keys(
                    keys, queries, table, allowed, query, nth, n, n_keys, enough, dim,
                    row_stride, column_stride, GROUP, MEND, BLOCK_D,
                )  # fmt: skip
                equal = (key == threshold).to(tl.int32)
                rank = equal_before + tl.cumsum(equal, axis=0)
                taken = ((key > threshold) | ((equal != 0) & (rank <= n_equal))).to(tl.int32)
                place = before + tl.cumsum(taken, axis=0) - 1
                item = nth.to(tl.int64)
                if GROUP > 0 and not MEND:
                    group = tl.load(groups + query * n_taken + nth // GROUP, mask=taken != 0, other=0)
                    item = group.to(tl.int64) * GROUP + nth % GROUP
                tl.store(chosen + query * k + place, item, mask=taken != 0)
                before += tl.sum(taken, axis=0)
                equal_before += tl.sum(equal, axis=0)
        if of_query is not None and not MEND:
            bound = of_query + 3 * n_queries + query
            if GROUP == 0:
                left_out = tl.where(n > k, number(widened(threshold)), float("-inf"))
                tl.store(bound, left_out)
            else:
                score = number(threshold)
                scaled = score * tl.load(of_query + 2 * n_queries + query) * tl.load(of_table)
                sure = (scaled >= tl.load(bound)) | (score != score)
                tl.store(flags + query, tl.where(sure, 0, 1))
                tl.store(bound, scaled)

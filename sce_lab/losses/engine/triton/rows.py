"""Rows of a matrix, and their inner products, in a program."""

import triton
import triton.language as tl


@triton.jit
def load_rows(table, rows, there, first, dim, row_stride, column_stride, BLOCK_D: tl.constexpr):
    """``table[rows, first : first + BLOCK_D]``; 0 for rows that are not ``there``, and beyond column ``dim``."""
    columns = first + tl.arange(0, BLOCK_D)
    # 64 bits: a table may have more than 2 ** 31 elements, and lie in memory column by column
    places = rows.to(tl.int64)[:, None] * row_stride + columns.to(tl.int64)[None, :] * column_stride
    return tl.load(table + places, mask=there[:, None] & (columns < dim)[None, :], other=0.0)


@triton.jit
def products(
    outputs,
    table,
    positions,
    items,
    with_position,
    with_item,
    dim,
    x_stride,
    x_column,
    w_stride,
    w_column,
    BLOCK_X: tl.constexpr,
    BLOCK_Y: tl.constexpr,
    STEP_D: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Inner products of positions and items, ``(X, Y)``, 0 where there is none.

    They are added up over a few dimensions at a time: more would not fit into the registers.
    """
    result = tl.zeros((BLOCK_X, BLOCK_Y), tl.float32)
    for first in range(0, dim, STEP_D):
        x = load_rows(outputs, positions, with_position, first, dim, x_stride, x_column, STEP_D)
        w = load_rows(table, items, with_item, first, dim, w_stride, w_column, STEP_D)
        result = tl.dot(x.to(DOT), tl.trans(w.to(DOT)), result, input_precision=PRECISION)
    return result


@triton.jit
def dot_of_rows(
    outputs, table, x_rows, w_rows, there, dim, x_stride, x_column, w_stride, w_column, BLOCK_D: tl.constexpr
):
    """Inner products of pairs of rows, one pair a line; ``x_rows`` may be a single one for all."""
    result = tl.sum(tl.zeros((w_rows.shape[0], BLOCK_D), tl.float32), axis=1)
    for first in range(0, dim, BLOCK_D):
        x = load_rows(outputs, x_rows, there, first, dim, x_stride, x_column, BLOCK_D).to(tl.float32)
        w = load_rows(table, w_rows, there, first, dim, w_stride, w_column, BLOCK_D).to(tl.float32)
        result += tl.sum(x * w, axis=1)
    return result

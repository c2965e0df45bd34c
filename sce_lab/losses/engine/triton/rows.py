"""Loading rows of a matrix into a program."""

import triton
import triton.language as tl


@triton.jit
def load_rows(table, rows, there, first, dim, row_stride, column_stride, BLOCK_D: tl.constexpr):
    """``table[rows, first : first + BLOCK_D]``; 0 for rows that are not ``there``, and beyond column ``dim``."""
    columns = first + tl.arange(0, BLOCK_D)
    places = rows.to(tl.int64)[:, None] * row_stride + columns[None, :] * column_stride
    return tl.load(table + places, mask=there[:, None] & (columns < dim)[None, :], other=0.0)

"""Which cells of a block are in an earlier one, too: what a sum over distinct items leaves out."""

import torch
from torch import Tensor

from .problem import Problem
from .tiles import is_fake

WORD = 64  # blocks whose bits share a number


class Repeats:
    """The blocks of each position and of each item, as bits: a cell is in block b if both have bit b.

    Memory: ``8 * n_blocks / 64`` bytes for each position and each item of any block; time: two operations on integers
    for a cell and a word.
    """

    def __init__(self, problem: Problem) -> None:
        rows, items, bias = problem.blocks
        (n_blocks, _), n_positions = rows.shape, len(problem.outputs)
        self.touched = torch.empty_like(items).view(-1)[: len(problem.table)] if is_fake(items) else torch.unique(items)
        there = torch.ones_like(items, dtype=torch.bool) if bias is None else bias > -torch.inf
        self.of_position = _bits(rows.clamp(min=0), rows >= 0, n_positions)  # (n_words, N)
        self.of_item = _bits(torch.searchsorted(self.touched, items), there, len(self.touched))  # (n_words, T)
        word = torch.arange(-(-n_blocks // WORD), device=rows.device).unsqueeze(0)
        block = torch.arange(n_blocks, device=rows.device).unsqueeze(1)
        earlier = torch.where(block // WORD > word, -1, 0)  # all bits of earlier words, ...
        self.earlier = torch.where(block // WORD == word, _bit(block) - 1, earlier)  # ... those below in its own

    def fill(self, logits: Tensor, blocks: slice | Tensor, positions: Tensor, items: Tensor, value: float) -> None:
        """Set cells of ``logits (n_b, n_x, n_y)`` to ``value`` where position and item share an earlier block.

        Args:
            logits: of a tile.
            blocks: the n_b blocks.
            positions: ``(n_b, n_x)``.
            items: ``(n_b, n_y)``.
            value: to set.
        """
        place = torch.searchsorted(self.touched, items)
        found = torch.zeros_like(logits, dtype=torch.int64)
        for word, (of_position, of_item) in enumerate(zip(self.of_position, self.of_item)):
            mine = of_position[positions] & self.earlier[blocks, word].unsqueeze(1)  # (n_b, n_x)
            if is_fake(mine) or mine.is_cuda or mine.any():
                found |= mine.unsqueeze(2) & of_item[place].unsqueeze(1)
            if is_fake(mine):  # one word takes what another does
                break
        logits.masked_fill_(found != 0, value)


def _bits(members: Tensor, there: Tensor, n: int) -> Tensor:
    """Bits ``(n_words, n)`` of who is where, for ``members (n_blocks, m)``, each at most once in a block."""
    n_blocks = len(members)
    block = torch.arange(n_blocks, device=members.device).unsqueeze(1)
    n_words = -(-n_blocks // WORD)
    bits = torch.zeros(n_words * n, dtype=torch.int64, device=members.device)
    bit = _bit(block).where(there, 0)
    return bits.scatter_add_(0, (block // WORD * n + members).flatten(), bit.flatten()).view(n_words, n)


def _bit(block: Tensor) -> Tensor:
    return torch.ones_like(block) << (block % WORD)

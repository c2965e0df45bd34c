"""Sequences within a batch: which positions share what belongs to one user."""

from typing import NamedTuple

import torch
from torch import Tensor

from .engine import is_fake

LONGEST_PIECE = 16  # positions; more of them would share a lookup of the same rows, but leave more slots empty


class Pieces(NamedTuple):
    """Sequences cut into pieces of m positions, so that they make rectangles."""

    rows: Tensor  # (P, m) positions of each piece, -1 where there is none
    sequence: Tensor  # (P,) the sequence it is a part of
    n_sequences: int


def cut_sequences(lengths: Tensor | None, target_shape: torch.Size, device: torch.device) -> Pieces:
    """The pieces of sequences of these ``lengths (S,)``, which stand one behind the other in the N positions.

    Without lengths they are the rows of a target ``(B, L)``. With lengths on a GPU it waits for them: leave them on the
    CPU.

    Raises:
        ValueError: there are no lengths and no rows, or the lengths do not add up to N.
    """
    if lengths is None:
        if len(target_shape) < 2:
            raise ValueError(
                'shared_negatives="sequence" needs to know the sequences: give lengths, one number for each of those '
                f"that stand one behind the other, or a target (B, L); got a target of shape {tuple(target_shape)}"
            )
        n_sequences, length = target_shape[:-1].numel(), target_shape[-1]
        m = max(min(length, LONGEST_PIECE), 1)
        per = -(-length // m)
        piece = torch.arange(n_sequences * per, device=device)
        sequence, nth = piece // max(per, 1), piece % max(per, 1)
        return Pieces(_rows(sequence * length, nth, length, m), sequence, n_sequences)
    n_positions, n_sequences = target_shape.numel(), len(lengths)
    known = not is_fake(lengths)
    wrong = lengths.dim() != 1 or lengths.is_floating_point() or lengths.dtype == torch.bool
    lengths = lengths if wrong else lengths.long()  # sums of small integers wrap around
    if wrong or (known and (int(lengths.sum()) != n_positions or bool((lengths < 0).any()))):
        raise ValueError(
            f"lengths must be (S,) whole numbers that add up to the {n_positions} positions, got "
            f"{int(lengths.sum()) if known else '?'} in a tensor of {lengths.dtype} and shape {tuple(lengths.shape)}"
        )
    m = max(min(round(n_positions / max(n_sequences, 1)), LONGEST_PIECE), 1)
    counts = (lengths + m - 1) // m
    most = n_positions // m + n_sequences  # of a sequence all pieces but the last are full
    n_pieces = int(counts.sum()) if known else most
    every = torch.arange(n_sequences, device=lengths.device)
    sequence = torch.repeat_interleave(every, counts, output_size=n_pieces) if known else every.new_zeros(n_pieces)
    nth = torch.arange(n_pieces, device=lengths.device) - (counts.cumsum(0) - counts)[sequence]
    start = (lengths.cumsum(0) - lengths)[sequence]
    rows = _rows(start, nth, lengths[sequence].unsqueeze(1), m)
    return Pieces(rows.to(device), sequence.to(device), n_sequences)


def _rows(start: Tensor, nth: Tensor, length: int | Tensor, m: int) -> Tensor:
    """Positions of each ``nth`` piece of a sequence that begins at ``start`` ``(P,)``."""
    offset = (nth * m).unsqueeze(1) + torch.arange(m, device=nth.device)  # (P, m)
    return torch.where(offset < length, start.unsqueeze(1) + offset, -1)

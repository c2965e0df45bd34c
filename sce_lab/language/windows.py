"""Windows of a text as batches: each position predicts the word that comes next."""

from __future__ import annotations

import numpy as np
import torch

from sce_lab.data.batches import Batch, Packed


def training_batch(tokens: np.ndarray, n_windows: int, length: int, seed: int, step: int) -> Batch:
    """The batch of a step: windows that begin anywhere in the text.

    It depends on ``seed`` and ``step`` and nothing else, so all losses are trained on the same batches.

    Args:
        tokens: ``(T,)``.
        n_windows: windows, B.
        length: positions of each, L; the batch has ``N = B * L``.
        seed, step: which batch.

    Raises:
        ValueError: the text is shorter than a window and the word after it.
    """
    _check(tokens, length)
    rng = np.random.default_rng([seed, step])
    return _batch(tokens, rng.integers(0, len(tokens) - length, n_windows), length)


def evaluation_batches(tokens: np.ndarray, n_windows: int, length: int, at_a_time: int = 32) -> list[Batch]:
    """Windows spread evenly over a text, none overlapping another: at most as many as the text has.

    The first positions of a window see little of the text before them, as in training.

    Raises:
        ValueError: as :func:`training_batch`.
    """
    _check(tokens, length)
    most = (len(tokens) - 1) // length
    n_windows = min(n_windows, most)
    starts = length * (np.arange(n_windows) * most // n_windows)
    return [_batch(tokens, starts[at : at + at_a_time], length) for at in range(0, n_windows, at_a_time)]


def _batch(tokens: np.ndarray, starts: np.ndarray, length: int) -> Batch:
    index = (starts[:, None] + np.arange(length)).ravel()
    positions = torch.arange(length).repeat(len(starts))
    inputs = Packed(torch.from_numpy(tokens[index]), positions, ((len(starts), length),))
    return Batch(inputs, torch.from_numpy(tokens[index + 1]))


def _check(tokens: np.ndarray, length: int) -> None:
    if len(tokens) < length + 1:
        raise ValueError(
            f"a window has {length} positions and the word after them, and the text has {len(tokens)} words: "
            "take shorter windows or a longer text"
        )

"""Random numbers that a page of JavaScript and Python draw alike: the same seed gives the same, digit for digit."""

from __future__ import annotations

import numpy as np

#: What each stream of a seed is for. ``core.js`` has the same numbers.
CENTERS, MIX, NEGATIVES = 1, 2, 3


def uniforms(seed: int, stream: int, n: int) -> np.ndarray:
    """``n`` numbers in [0, 1): mulberry32, which scrambles a 32-bit counter. All sums and products are modulo 2^32."""
    start = (seed * 0x9E3779B1 + stream * 0x85EBCA6B) % 2**32
    counter = (np.uint32(start) + np.arange(1, n + 1, dtype=np.uint32) * np.uint32(0x6D2B79F5)).astype(np.uint32)
    t = (counter ^ (counter >> 15)) * (counter | np.uint32(1))
    t = (t + (t ^ (t >> 7)) * (t | np.uint32(61))) ^ t
    return (t ^ (t >> 14)) / 2.0**32


def normals(seed: int, stream: int, n: int) -> np.ndarray:
    """``n`` standard normal numbers, by Box and Muller: two of them from two uniform ones."""
    u = uniforms(seed, stream, n + n % 2).reshape(-1, 2)
    radius, angle = np.sqrt(-2 * np.log(1 - u[:, 0])), 2 * np.pi * u[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()[:n]


def centers(positions: np.ndarray, n_buckets: int, mix_x: bool, seed: int) -> np.ndarray:
    """Bucket centres ``(n_buckets, D)``: standard normal, or with Mix ``Omega X`` for a standard normal ``Omega``."""
    n_positions, dim = positions.shape
    if mix_x:
        return normals(seed, MIX, n_buckets * n_positions).reshape(n_buckets, n_positions) @ positions
    return normals(seed, CENTERS, n_buckets * dim).reshape(n_buckets, dim)


def negatives(catalog_size: int, k: int, seed: int) -> np.ndarray:
    """``k`` independent uniform draws from the catalog, ``(k,)``."""
    return np.floor(uniforms(seed, NEGATIVES, k) * catalog_size).astype(np.int64)

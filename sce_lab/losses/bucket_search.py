"""How buckets are filled, and the uniform negatives that stand for what they leave out."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .buckets import BucketSizes, checked_centers, draw_centers, mean_rows, moved_centers
from .draws import draw
from .engine import Blocks, How, topk
from .inputs import Inputs, accumulation_dtype, flatten_negatives
from .sharded_search import fill_from_all


class Buckets(NamedTuple):
    """What the buckets hold."""

    rows: Tensor  # (n_buckets, bucket_size_x) positions
    items: Tensor  # (n_buckets, bucket_size_y)


class Search(NamedTuple):
    """How buckets are filled."""

    mix_x: bool
    kmeans_steps: int
    centers: Tensor | None
    items_near: str
    generator: torch.Generator | None
    workspace_bytes: int


@torch.no_grad()
def fill(
    inputs: Inputs,
    linear_weight: Tensor,
    sizes: tuple[int | None, int | None, int | None],
    search: Search,
    how: How,
) -> Buckets:
    """Draw centres, and find the positions and the items of each. That is a choice: it has no gradient."""
    if inputs.everyone is not None:
        dtype = accumulation_dtype(inputs.outputs.dtype, linear_weight.dtype)
        return Buckets(*fill_from_all(inputs.outputs, inputs.everyone, sizes, search, len(linear_weight), dtype))
    outputs, valid = inputs.outputs, inputs.valid
    mix_x, kmeans_steps, centers, items_near, generator, workspace_bytes = search
    n_positions, catalog_size = len(outputs), len(linear_weight)
    if centers is not None and sizes[0] is None:
        sizes = (len(centers), *sizes[1:])
    asked = BucketSizes.asked(*sizes, n_positions, catalog_size).clamped(n_positions, catalog_size)
    dtype = accumulation_dtype(outputs.dtype, linear_weight.dtype)
    if centers is None:
        centers = draw_centers(outputs, valid, asked.n_buckets, mix_x, generator, dtype)
    else:
        centers = checked_centers(centers, outputs, dtype, n_buckets=asked.n_buckets)
    if kmeans_steps > 0:
        centers = moved_centers(centers, outputs, valid, kmeans_steps)
    rest = (workspace_bytes, how.deterministic, how.backend)
    rows = topk(centers, outputs.detach(), asked.bucket_size_x, valid, *rest)
    if items_near == "positions":
        centers = mean_rows(outputs, rows, valid, dtype)
    return Buckets(rows, topk(centers, linear_weight.detach(), asked.bucket_size_y, None, *rest))


def draw_negatives(k: int, given: Tensor | None, linear_weight: Tensor, generator: torch.Generator | None) -> Tensor:
    """``k`` uniform draws from the catalog, or those that were given ``(k,)``."""
    catalog_size = len(linear_weight)
    if given is None:
        return draw(torch.randint, catalog_size, (k,), device=linear_weight.device, generator=generator)
    return flatten_negatives(given, torch.Size(), catalog_size)


@torch.no_grad()
def with_negatives(buckets: Buckets, drawn: Tensor, inputs: Inputs, linear_weight: Tensor, for_all: bool) -> Blocks:
    """The buckets, and after them blocks of the same width: positions and the negatives ``(k,)`` they share."""
    (rows, items), k = buckets, len(drawn)
    valid = inputs.valid if inputs.everyone is None else inputs.everyone.valid
    n_x, n_positions = rows.shape[1], len(valid)
    n_blocks = -(-n_positions // max(n_x, 1))
    mine = torch.arange(n_blocks * n_x, device=rows.device)
    mine = mine.where(mine < n_positions, -1)
    if not for_all:
        covered = torch.zeros_like(valid).index_fill(0, rows.flatten(), True)
        mine = mine.where((mine >= 0) & ~covered[mine], -1)
    mine = mine.view(n_blocks, n_x)

    n_y = max(items.shape[1], k)
    dtype = accumulation_dtype(inputs.outputs.dtype, linear_weight.dtype)
    weight = torch.full((1, k), math.log(len(linear_weight) / k), dtype=dtype, device=rows.device)
    sampled = Blocks.of(None, *_wide(drawn.unsqueeze(0), weight, n_y))
    own = Blocks.of(None, *_wide(items, torch.zeros_like(items, dtype=dtype), n_y))
    return Blocks(
        torch.cat([rows, mine]),
        torch.cat([own.items, sampled.items.expand(len(mine), -1)]),
        torch.cat([own.bias, sampled.bias.expand(len(mine), -1)]),
    )


def _wide(items: Tensor, bias: Tensor, n_y: int) -> tuple[Tensor, Tensor]:
    """``n_y`` columns, the new ones with items that are not there."""
    more = n_y - items.shape[1]
    return F.pad(items, (0, more)), F.pad(bias, (0, more), value=-math.inf)

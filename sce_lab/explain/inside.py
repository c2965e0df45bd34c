"""What happens inside the engine, made visible on problems small enough to watch."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor, nn

from sce_lab.losses import LossModule, SCELoss, scalable_cross_entropy_reference
from sce_lab.memory import Timeline, real_timeline
from sce_lab.training import TrainingConfig


class ReadableSCELoss(LossModule, function=scalable_cross_entropy_reference, label="SCE, readable"):
    """Module around :func:`sce_lab.losses.scalable_cross_entropy_reference`, to be measured beside the lean one."""


def beating(queries: Tensor, table: Tensor, k: int, size: int) -> pd.DataFrame:
    """How many scores of a chunk are among the k best so far, chunk after chunk.

    If rows come in no order, the next of n rows is among the k best of a query with probability k / n.

    Args:
        queries: ``(Q, D)``.
        table: ``(C, D)``.
        k: how many are kept.
        size: rows of a chunk, at least k.

    Returns:
        Columns ``chunk`` (from 1), ``seen`` (rows before it), ``share`` (of its scores that beat the smallest of the k
        best before it, mean over queries), ``expected`` (k over the rows seen on average while it is searched).
    """
    best, rows = queries.new_empty(len(queries), 0), []
    for number, part in enumerate(table.split(size)):
        scores = queries @ part.T  # (Q, size)
        seen = number * size
        if seen:
            share = float((scores > best.amin(dim=1, keepdim=True)).float().mean())
            rows.append({"chunk": number + 1, "seen": seen, "share": share, "expected": k / seen})
        best = torch.cat([best, scores], dim=1).topk(k, dim=1).values
    return pd.DataFrame(rows)


def running_sums(logits: Tensor, size: int) -> pd.DataFrame:
    """A log-sum-exp as it grows, tile by tile, of one position's ``logits (C,)``.

    Returns:
        Columns ``tile`` (from 1), ``largest`` (of the tile), ``m`` (the largest so far), ``s`` (sum of exp(logit - m)
        so far), ``log_sum`` (m + log s), ``rescaled`` (whether m has changed, so that the old sum had to be).
    """
    m, s, rows = torch.tensor(-torch.inf), torch.tensor(0.0), []
    for number, tile in enumerate(logits.split(size)):
        new = torch.maximum(m, tile.amax())
        s = s * (m - new).exp() + (tile - new).exp().sum()
        row = {"tile": number + 1, "largest": float(tile.amax()), "m": float(new), "s": float(s)}
        rows.append(row | {"log_sum": float(new + s.log()), "rescaled": bool(new > m) and number > 0})
        m = new
    return pd.DataFrame(rows)


def two_timelines(
    catalog_size: int, config: TrainingConfig, workspace_bytes: int, **sizes: int
) -> Mapping[str, Timeline]:
    """A real step with SCE as the paper writes it, and one with SCE as it is run: ``"readable"`` and ``"lean"``.

    Args:
        catalog_size: items C.
        config: model and batch; its loss does not count.
        workspace_bytes: of the lean one.
        sizes: ``n_buckets``, ``bucket_size_x``, ``bucket_size_y`` of both.
    """
    losses: dict[str, nn.Module] = {
        "readable": ReadableSCELoss(**sizes),
        "lean": SCELoss(**sizes, workspace_bytes=workspace_bytes),
    }
    for loss in losses.values():
        loss.generator = torch.Generator().manual_seed(0)
    return {name: real_timeline(config, catalog_size, loss=loss) for name, loss in losses.items()}

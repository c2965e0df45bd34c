"""Predictions side by side, as tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from sce_lab.losses import LOSSES
from sce_lab.memory.devices import DEVICES
from sce_lab.memory.fit import largest, suggest_sce
from sce_lab.memory.formulas import workspace_formula
from sce_lab.memory.heads import HEADS, PUBLISHED_HEADS, predict_head
from sce_lab.memory.measure import timed_step
from sce_lab.memory.predict import predict_memory
from sce_lab.memory.roofline import count_work, this_machine
from sce_lab.memory.use import format_bytes, format_count, format_seconds
from sce_lab.training import TrainingConfig

#: The paper's best settings of SCE (section 4): n_buckets = bucket_size_x, bucket_size_y; and the data set's items.
PAPER = {"Beauty": (202, 256, 12_101), "Behance": (261, 64, 32_434), "Gowalla": (882, 256, 173_511)}


def formulas(configs: Iterable[TrainingConfig], catalog_size: int) -> pd.DataFrame:
    """A row a loss: its workspace as a formula, what that gives, and what the prediction says."""
    rows = []
    for config in configs:
        formula = workspace_formula(config, catalog_size, config.batch_size * config.max_length)
        rows.append(
            {
                "loss": LOSSES[config.loss].label,
                # A line may break between terms, not within one.
                "formula, in bytes": " + ".join(
                    term.replace(" ", "\N{NO-BREAK SPACE}") for term, _, _ in formula.terms
                ),
                "gives": format_bytes(formula.bytes),
                "the code takes": format_bytes(predict_memory(config, catalog_size).loss_workspace),
                "what it means": formula.note,
            }
        )
    return pd.DataFrame(rows)


def ratios(catalogs: Iterable[int], settings: Mapping[str, tuple[int, int, int]] = PAPER) -> pd.DataFrame:
    """How many times the peak of SCE cross-entropy needs, in the paper's settings, over catalogs of several sizes.

    How many positions N a batch has follows from the paper's rule, ``n_buckets = 2 sqrt(N)``.

    Columns ``setting``, ``catalog_size``, ``ratio``, ``own`` (whether that is the data set's own catalog).
    """
    rows = []
    for name, (n_buckets, bucket_size_y, items) in settings.items():
        n = (n_buckets // 2) ** 2
        sizes = {"n_buckets": n_buckets, "bucket_size_x": n_buckets, "bucket_size_y": bucket_size_y}
        sce = TrainingConfig(loss="sce", loss_settings=sizes, batch_size=n // 20, max_length=20)
        ce = dataclasses.replace(sce, loss="ce", loss_settings={})
        for c in sorted({*catalogs, items}):
            ratio = predict_memory(ce, c).peak / predict_memory(sce, c).peak
            rows.append({"setting": f"{name}: N = {n:,}", "catalog_size": c, "ratio": ratio, "own": c == items})
    return pd.DataFrame(rows)


def own_catalogs(ratios: pd.DataFrame) -> pd.DataFrame:
    """Of :func:`ratios`, the rows of the data sets' own catalogs, for people."""
    own = ratios[ratios["own"]]
    return pd.DataFrame(
        {
            "the paper's setting": own["setting"].tolist(),
            "items of the data set": [f"{c:,}" for c in own["catalog_size"]],
            "cross-entropy / SCE": [f"{ratio:.0f} times" for ratio in own["ratio"]],
        }
    )


def ends(configs: Iterable[TrainingConfig], names: Iterable[str]) -> pd.DataFrame:
    """Where each loss ends: ``device``, ``usable`` (bytes), ``loss``, and ``catalog_size``, the largest that fits."""
    configs, rows = list(configs), []
    for name in names:
        device = DEVICES[name]
        for config in configs:
            items = largest("catalog_size", config, device.usable)
            rows.append({"device": device.name, "usable": device.usable, "loss": config.loss, "catalog_size": items})
    return pd.DataFrame(rows)


def devices(configs: Iterable[TrainingConfig], names: Iterable[str], catalog_size: int) -> pd.DataFrame:
    """A row a device: the largest catalog with each loss, and settings of SCE for a catalog of ``catalog_size``."""
    configs, rows = list(configs), []
    for _, of_device in ends(configs, names).groupby("device", sort=False):
        budget = int(of_device["usable"].iloc[0])
        row = {"device": of_device["device"].iloc[0], "to use": format_bytes(budget)}
        for loss, items in zip(of_device["loss"], of_device["catalog_size"]):
            row[f"items, {LOSSES[loss].label}"] = _three_digits(items)
        sizes = suggest_sce(budget, configs[-1], catalog_size)
        found = "{n_buckets} buckets of {bucket_size_x} × {bucket_size_y}".format(**sizes) if sizes else "does not fit"
        rows.append(row | {f"SCE for {catalog_size:,} items": found})
    return pd.DataFrame(rows)


def work(configs: Iterable[TrainingConfig], catalog_size: int, **shape: int) -> pd.DataFrame:
    """A row a loss: ``loss``, ``operations`` of a step, and ``seconds``, an estimate of its least time on this machine.

    ``shape`` is as in :func:`sce_lab.memory.count_work`.
    """
    rows = []
    for config in configs:
        here = this_machine(device=config.device)
        counted = count_work(config, catalog_size, **shape)
        rows.append({"loss": config.loss, "operations": counted.flops, "seconds": counted.seconds(here)})
    return pd.DataFrame(rows)


def times(configs: Iterable[TrainingConfig], catalog_size: int, *, repeats: int = 5) -> pd.DataFrame:
    """A row a loss: operations and bytes of a step, the least time that takes (an estimate), and a real step's time."""
    rows = []
    for config in configs:
        here = this_machine(device=config.device)
        counted = count_work(config, catalog_size)
        rows.append(
            {
                "loss": LOSSES[config.loss].label,
                "operations": format_count(counted.flops),
                "bytes moved": format_count(counted.bytes),
                "estimate, here": format_seconds(counted.seconds(here)),
                "measured, here": format_seconds(timed_step(config, catalog_size, repeats=repeats)),
                "estimate, H100": format_seconds(counted.seconds(DEVICES["h100"])),
            }
        )
    return pd.DataFrame(rows)


def heads() -> pd.DataFrame:
    """What others measured on the heads of language models, and what that loss and SCE are predicted to take here."""
    rows = []
    for row in PUBLISHED_HEADS:
        head = HEADS[row.head]
        ours = {loss: predict_head(head, loss, row.n_tokens) for loss in ("ce" if row.held else "cce", "sce")}
        sizes = [use.total if row.with_inputs else use.peak for use in ours.values()]
        rows.append(
            {
                "head": head.name,
                "tokens": f"{row.n_tokens:,}",
                "measured by others": row.what,
                "": format_bytes(row.nbytes),
                "predicted here": format_bytes(sizes[0]),
                "SCE here": format_bytes(sizes[1]),
                "counted": "all" if row.with_inputs else "beyond inputs",
                "where it stands": f"{row.source.removeprefix('github.com/')}, {Path(row.file).name}, {row.commit[:7]}",
            }
        )
    return pd.DataFrame(rows)


def _three_digits(n: int) -> str:
    """Rounded down: ``largest`` is no more precise."""
    unit = 10 ** max(len(str(n)) - 3, 0)
    return f"{n // unit * unit:,}"

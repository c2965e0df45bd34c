"""Which machine for how many items: an estimate from makers' numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from sce_lab.distributed.predict import predict_rank
from sce_lab.losses import LOSSES, make_loss
from sce_lab.losses.buckets import BucketSizes
from sce_lab.memory import DEVICES, Work, count_work, format_bytes, format_seconds
from sce_lab.training import TrainingConfig


@dataclass(frozen=True)
class Machine:
    """Devices and what connects them.

    Attributes:
        title: for people.
        device: a key of :data:`sce_lab.memory.DEVICES`.
        n: how many.
        link: bytes a second that one device sends, at best.
        source: where the link's speed is from.
    """

    title: str
    device: str
    n: int
    link: float
    source: str


_PCIE4, _PCIE5 = "PCI Express 4.0, 16 lanes, one way", "PCI Express 5.0, 16 lanes, one way"
MACHINES = (
    Machine("one A100, 80 GB", "a100_80", 1, 0.0, ""),
    Machine("one H200", "h200", 1, 0.0, ""),
    Machine("four L4 in one server", "l4", 4, 32e9, _PCIE4),
    Machine("eight RTX 4090 in one server", "rtx_4090", 8, 32e9, _PCIE4),
    Machine("eight A100, 80 GB, NVLink", "a100_80", 8, 300e9, "NVIDIA A100 datasheet: 600 GB/s both ways"),
    Machine("eight H100, NVLink", "h100", 8, 450e9, "NVIDIA H100 datasheet: 900 GB/s both ways"),
    Machine("64 L4, 100 Gb/s Ethernet each", "l4", 64, 12.5e9, "100 Gb/s"),
    Machine("64 H100, 400 Gb/s InfiniBand each", "h100", 64, 50e9, "NVIDIA DGX H100 datasheet: one ConnectX-7 a GPU"),
)
"""Machines to compare."""


def least_seconds(config: TrainingConfig, catalog_size: int, machine: Machine) -> tuple[float, float]:
    """The least time of a step: of what a device computes, and of what it sends. An estimate, as on a roofline.

    A rank has its share of the batch in the encoder, and in the loss all positions with its share of the items: of the
    catalog, of those drawn, or of those of each bucket.
    """
    n, share = machine.n, -(-catalog_size // machine.n)
    encoder = count_work(dataclasses.replace(config, batch_size=-(-config.batch_size // n)), share).operations
    fewer = {name: -(-items // n) for name, items in _items_of(config, catalog_size).items()}
    loss = count_work(dataclasses.replace(config, loss_settings=config.loss_settings | fewer), share).operations
    in_loss = ("loss_forward", "loss_backward")
    parts = [encoder[~encoder["phase"].isin(in_loss)], loss[loss["phase"].isin(in_loss)]]
    computing = Work(pd.concat(parts)).seconds(DEVICES[machine.device])
    return computing, predict_rank(config, catalog_size, n).sent / machine.link if machine.link else 0.0


def _items_of(config: TrainingConfig, catalog_size: int) -> dict[str, int]:
    """How many items the loss looks at, by setting, whether that was set or is the default."""
    loss = make_loss(config.loss, **config.loss_settings)
    usual = {"n_negatives": 0, "bucket_size_y": BucketSizes.paper_rule(1, catalog_size).bucket_size_y}
    return {name: getattr(loss, name) or default for name, default in usual.items() if hasattr(loss, name)}


def which_machine(
    configs: Iterable[TrainingConfig], catalog_size: int, machines: Iterable[Machine] = MACHINES
) -> pd.DataFrame:
    """A row a machine and loss, for people; every number is an estimate."""
    rows, configs = [], list(configs)
    for machine in machines:
        device = DEVICES[machine.device]
        for config in configs:
            use = predict_rank(config, catalog_size, machine.n)
            computing, sending = least_seconds(config, catalog_size, machine)
            fits = use.memory.needed <= device.usable
            rows.append(
                {
                    "machine": machine.title,
                    "loss": LOSSES[config.loss].label,
                    "a device needs": format_bytes(use.memory.needed),
                    "of": format_bytes(device.usable),
                    "fits": "yes" if fits else "no",
                    "computing": f"≥ {format_seconds(computing)}",
                    "sent": format_bytes(use.sent),
                    "sending": f"≥ {format_seconds(sending)}" if sending else "",
                }
            )
    return pd.DataFrame(rows)

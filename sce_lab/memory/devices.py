"""Well-known machines: how much memory they have, how fast it is, how fast they multiply."""

from __future__ import annotations

from dataclasses import dataclass

_GB, _GIB = 10**9, 2**30


@dataclass(frozen=True)
class Device:
    """A machine as its maker describes it.

    Attributes:
        name: for people.
        memory: bytes.
        reserved: bytes of it that are gone before training begins (an estimate): the operating system, Python with
            PyTorch, or CUDA's context.
        bandwidth: bytes a second between memory and processor, at best; 0 where nobody says.
        flops: float32 operations a second at best, without tensor cores; 0 where nobody says.
        source: where memory, bandwidth and speed are from.
    """

    name: str
    memory: int
    reserved: int
    bandwidth: float
    flops: float
    source: str

    @property
    def usable(self) -> int:
        """Bytes for training."""
        return self.memory - self.reserved


def _gpu(name: str, gigabytes: float, bandwidth: float, teraflops: float, source: str) -> Device:
    # Makers of GPUs count GB as 2**30 where it is the size of memory chips (all but the newest).
    return Device(name, int(gigabytes * _GIB), _GIB, bandwidth * _GB, teraflops * 1e12, source)


_DDR4 = "two channels of DDR4-3200, 2 x 25.6 GB/s (JEDEC JESD79-4)"
DEVICES = {
    "binder": Device("Binder", 2 * _GIB, _GIB // 2, 0, 0, "mybinder.readthedocs.io, about: memory at most 2 GB"),
    "laptop_8": Device("Laptop, 8 GB", 8 * _GIB, 4 * _GIB, 51.2 * _GB, 0, _DDR4),
    "laptop_16": Device("Laptop, 16 GB", 16 * _GIB, 5 * _GIB, 51.2 * _GB, 0, _DDR4),
    "t4": _gpu("T4", 16, 300, 8.1, "NVIDIA T4 datasheet"),
    "l4": _gpu("L4", 24, 300, 30.3, "NVIDIA L4 datasheet"),
    "rtx_4090": _gpu("RTX 4090", 24, 1008, 82.6, "NVIDIA Ada GPU architecture whitepaper"),
    "a100_40": _gpu("A100, 40 GB", 40, 1555, 19.5, "NVIDIA A100 datasheet (SXM)"),
    "a100_80": _gpu("A100, 80 GB", 80, 2039, 19.5, "NVIDIA A100 datasheet (SXM)"),
    "h100": _gpu("H100", 80, 3350, 67, "NVIDIA H100 datasheet (SXM)"),
    "h200": _gpu("H200", 141 * _GB / _GIB, 4800, 67, "NVIDIA H200 datasheet (SXM)"),
    "b200": _gpu("B200", 180 * _GB / _GIB, 8000, 75, "NVIDIA HGX B200 datasheet, an eighth of the board"),
}

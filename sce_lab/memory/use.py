"""Bytes of a training step, by what they are for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of one training step.

    Each part is that part at its own largest; they need not be largest together, so ``peak``, the most that was alive
    at any moment, is at most about their sum.

    Attributes:
        parameters: weights of the model, the item table first among them.
        gradients: gradients of all parameters.
        optimizer_state: what Adam keeps, two numbers a parameter.
        activations: what the encoder's forward pass leaves for its backward pass.
        loss_workspace: the most the loss held at once, forward or backward, beyond its inputs and their gradients.
        peak: the most bytes alive at any moment of the step.
    """

    parameters: int
    gradients: int
    optimizer_state: int
    activations: int
    loss_workspace: int
    peak: int

    def as_dict(self) -> dict[str, int]:
        """Field name to bytes."""
        return dataclasses.asdict(self)

    @property
    def needed(self) -> int:
        """Bytes that a training takes: its largest step, and the copy that is kept of the best weights."""
        return self.peak + self.parameters


def format_bytes(n: float) -> str:
    """``1536`` to ``"1.5 KiB"``: three significant digits and a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(n) < 999.5 or unit == "TiB":
            return f"{n:.3g} {unit}" if abs(n) < 999.5 else f"{n:,.0f} {unit}"
        n /= 1024
    raise AssertionError("unreachable")

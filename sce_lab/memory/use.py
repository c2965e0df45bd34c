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


def format_count(n: float) -> str:
    """``1234567`` to ``"1.23 M"``; beyond millions of millions as a power of ten."""
    if n >= 999.5e12:
        mantissa, exponent = f"{n:.2e}".split("e")
        return f"{mantissa} × {power_of_ten(int(exponent))}"
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if n >= 0.9995 * unit:
            return f"{n / unit:.3g} {name}"
    return f"{n:,.0f}"


def power_of_ten(exponent: int) -> str:
    """``15`` to ``"10¹⁵"``."""
    return "10" + str(exponent).translate(_RAISED)


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_seconds(seconds: float) -> str:
    """``0.0312`` to ``"31 ms"``, ``7300`` to ``"2 h"``: two significant digits and the unit that people would say."""
    units = ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"))
    size, name = next((unit for unit in units if seconds >= 0.995 * unit[0]), units[-1])
    n = seconds / size
    return f"{n:.2g} {name}" if n < 99.5 else f"{n:,.0f} {name}"

"""Numbers and sentences for people."""

from __future__ import annotations


def capitalised(sentence: str) -> str:
    """The sentence with a capital at its beginning, unless it begins with a name: of a setting, of a file."""
    first = sentence.split(maxsplit=1)[0] if sentence.strip() else ""
    return sentence[0].upper() + sentence[1:] if first.rstrip(",:").isalpha() else sentence


def counted(n: int, what: str) -> str:
    """``1, "user"`` to "1 user", ``2000, "user"`` to "2,000 users"."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def short_count(n: float) -> str:
    """``1234567`` to ``"1.23 M"``; beyond millions of millions as a power of ten."""
    if n >= 999.5e12:
        mantissa, exponent = f"{n:.2e}".split("e")
        return f"{mantissa} × 10{exponent.lstrip('+0').translate(_RAISED)}"
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if n >= 0.9995 * unit:
            return f"{n / unit:.3g} {name}"
    return f"{n:,.0f}"


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

"""Numbers and sentences for people."""

from __future__ import annotations

from collections.abc import Sequence


def capitalised(sentence: str) -> str:
    """The sentence with a capital at its beginning, unless it begins with a name: of a setting, of a file."""
    first = sentence.split(maxsplit=1)[0] if sentence.strip() else ""
    return sentence[0].upper() + sentence[1:] if first.rstrip(",:").isalpha() else sentence


def listed(names: Sequence[str]) -> str:
    """``A``, ``A and B``, ``A, B and C``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def counted(n: int, what: str) -> str:
    """``1, "user"`` to "1 user", ``2000, "user"`` to "2,000 users"."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")

"""Telling one's own echo from a person's move."""

from __future__ import annotations

import threading


class OwnMoves(threading.local):
    """True in a thread while that thread itself sets widgets, as ``with`` says: their observers then have no news.

    A flag for all threads would say only that somebody sets something: what a person moves in that moment, in another
    thread, would be taken for an echo and lost.
    """

    _depth = 0

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *error: object) -> None:
        self._depth -= 1

    def __bool__(self) -> bool:
        return self._depth > 0

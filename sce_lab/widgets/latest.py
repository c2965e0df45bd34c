"""Doing the newest request only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Hands requests to ``work`` in a background thread; of those that arrive while it is busy only the newest is kept.

    A slider that is dragged sends dozens of values a second, each worth tens of milliseconds of work: done one after
    the other, the answer to the last would come seconds late. The thread ends when there is nothing left to do.
    """

    def __init__(self, work: Callable[[T], None]) -> None:
        self._work = work
        self._changed = threading.Condition()
        self._request: list[T] = []  # the newest that waits, or nothing
        self._busy = False
        self._error: BaseException | None = None

    def submit(self, request: T) -> None:
        """Do ``request`` next, in place of any that still waits. Returns at once."""
        with self._changed:
            self._request = [request]
            if not self._busy:
                self._busy = True
                threading.Thread(target=self._run, name="sce-lab-latest", daemon=True).start()

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until everything is done.

        Raises:
            TimeoutError: it takes longer than ``timeout`` seconds.
            Exception: what ``work`` failed with since the last time somebody asked.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._busy, timeout):
                raise TimeoutError(f"not done after {timeout:g} s")
            error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._request:
                    self._busy = False
                    self._changed.notify_all()
                    return
                request = self._request.pop()
            try:
                self._work(request)
            except BaseException as error:
                self._error = error

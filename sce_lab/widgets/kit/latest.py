"""Doing the newest request only."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
#: Of the threads.
NAME = "sce-lab-latest"


class Latest(Generic[T]):
    """Hands requests to ``work`` in a background thread; of those that arrive while it is busy only the newest is kept.

    A slider that is dragged sends dozens of values a second, each worth tens of milliseconds of work: done one after
    the other, the answer to the last would come seconds late. The thread ends when there is nothing left to do.

    Args:
        work: does a request.
        ahead: makes ready what may be asked for after a request, bit by bit: it is iterated over while there is nothing
            else to do, and given up when there is. Nobody waits for it, and an error only ends it.
    """

    def __init__(self, work: Callable[[T], None], ahead: Callable[[T], Iterable[None]] = lambda _: ()) -> None:
        self._work, self._ahead = work, ahead
        self._changed = threading.Condition()
        self._request: list[T] = []  # the newest that waits, or nothing
        self._busy = self._alive = False
        self._error: BaseException | None = None

    def submit(self, request: T) -> None:
        """Do ``request`` next, in place of any that still waits. Returns at once."""
        with self._changed:
            self._request, self._busy = [request], True
            if not self._alive:
                self._alive = True
                threading.Thread(target=self._run, name=NAME, daemon=True).start()

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
        ahead: Iterator[None] | None = None
        while True:
            with self._changed:
                requests, self._request = self._request, []
                if not requests:
                    self._busy = False
                    self._changed.notify_all()
                    if ahead is None:
                        self._alive = False
                        return
            try:
                for request in requests:
                    self._work(request)
                    ahead = iter(self._ahead(request))
            except BaseException as error:
                self._error, ahead = error, None
            if not requests and (_ending.is_set() or not _goes_on(ahead)):
                ahead = None


def _goes_on(ahead: Iterator[None] | None) -> bool:
    """Does a bit of what is made ready ahead; False when that was all of it."""
    try:
        return ahead is not None and next(ahead, _END) is not _END
    except Exception:
        return False  # it will be said if it is asked for


_END = object()
_ending = threading.Event()


@atexit.register
def _end() -> None:
    """A daemon thread inside torch while the interpreter is taken apart can crash it: what nobody waits for ends."""
    _ending.set()
    for thread in threading.enumerate():
        if thread.name == NAME:
            thread.join(5.0)

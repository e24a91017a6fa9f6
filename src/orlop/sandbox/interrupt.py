"""A verb's end, asked for by another thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from orlop.errors import WrongStateError

T = TypeVar("T")


class InterruptedVerbError(WrongStateError):
    """Nobody wants the verb's outcome any more."""


class Interrupt:
    """A wish that a verb ends soon. It is remembered, so the verb need not have begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked = False
        self._end: Callable[[], None] | None = None

    def ask(self) -> None:
        """End what can be ended now, and whatever the verb comes to later."""
        with self._lock:
            self.asked = True
            if self._end is not None:
                self._end()

    def check(self) -> None:
        """Raise InterruptedVerbError once it has been asked."""
        if self.asked:
            raise InterruptedVerbError("it was interrupted")

    @contextmanager
    def ending(self, end: Callable[[], None]) -> Iterator[None]:
        """Have ask() call *end* during the block, and not a moment longer.

        InterruptedVerbError, in place of whatever the block raises, where it has been asked
        before the block's end; before its begin, the block is not entered.
        """
        with self._lock:
            self.check()
            self._end = end
        try:
            yield
        finally:
            with self._lock:
                self._end = None
            self.check()

    def during(self, verb: Callable[[], T]) -> T:
        """Return what *verb* does, to which this is the current() one."""
        before = _current.set(self)
        try:
            return verb()
        finally:
            _current.reset(before)


def current() -> Interrupt:
    """Return that of the verb which is under way in this thread; else one that nobody asks."""
    return _current.get(None) or Interrupt()


_current: ContextVar[Interrupt | None] = ContextVar("interrupt", default=None)

"""Ctrl-C, SIGTERM and a lost terminal, for what must not be torn in the middle of a step."""

from __future__ import annotations

import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Within it a signal raises KeyboardInterrupt at the next check(), a second one at once.

    After that none does: what was begun is being ended.
    """

    def __init__(self) -> None:
        self._asked = False
        self._ending = False
        self._previous: list[Any] = []

    def __enter__(self) -> Self:
        self._previous = [signal.signal(number, self._handle) for number in _SIGNALS]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in zip(_SIGNALS, self._previous, strict=True):
            signal.signal(number, handler)

    def check(self) -> None:
        """KeyboardInterrupt where a signal has come."""
        if self._asked and not self._ending:
            self._ending = True
            raise KeyboardInterrupt

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked:
            self.check()
        self._asked = True

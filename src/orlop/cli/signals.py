"""Signals that this process hands on to a container.

By _signal, not signal, whose enums cost 5 ms at the start of every `orlop run`;
the names and numbers are the same. docs/decisions/cli-start.md.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # has no stub; used as signal is

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any

SIGWINCH = 28
#: What a user or a service manager sends to a process; not those that stop or continue it.
_FORWARDED = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO")


class Forwarding:
    """Within it, signals go to *deliver* by number; what comes before start() is kept for then."""

    def __init__(self, deliver: Callable[[int], None], *, enabled: bool = True) -> None:
        self._deliver = deliver
        self._enabled = enabled
        self._started = False
        self._early: list[int] = []
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Forwarding:
        if self._enabled:
            for name in _FORWARDED:
                number = getattr(_signal, f"SIG{name}")
                self._previous[number] = _signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            _signal.signal(number, _signal.SIG_DFL if handler is None else handler)

    def start(self) -> None:
        """The container runs: deliver what came early, and the rest as it comes."""
        self._started = True
        early, self._early = self._early, []
        for number in early:
            self._deliver(number)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._started:
            self._deliver(number)
        else:
            self._early.append(number)


def on_resize(action: Callable[[], object]) -> None:
    """Call *action* whenever the terminal changes its size."""
    _signal.signal(SIGWINCH, lambda _number, _frame: action())

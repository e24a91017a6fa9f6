"""What a `with` block closes at its end, by whatever exception."""

from types import TracebackType
from typing import Protocol, Self

from orlop.errors import WrongStateError


def not_open(what: str, *, was_started: bool) -> WrongStateError:
    """Return the error of using *what* before its start, or after its end."""
    if was_started:
        return WrongStateError(f"the {what} has been closed")
    return WrongStateError(f"the {what} is not started", hint="use `with`, or start()")


class Closed(Protocol):
    """What it gives to the block it says itself."""

    def close(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Closing(Closed, Protocol):
    """Gives itself to the block."""

    def __enter__(self) -> Self:
        return self

"""A command that could not be run."""

from collections.abc import Collection, Iterator, Sequence

from orlop.errors import WrongStateError
from orlop.model.timeline import Step
from orlop.sandbox.result import StreamName, Usage
from orlop.sandbox.way import End, Size


class Refused:
    """See Handle: it has ended, with *exit_code*, and says *why* as a shell would."""

    def __init__(self, why: str, *, exit_code: int) -> None:
        self._said = f"{why}\n".encode()
        self._end = End(exit_code, Usage())

    @property
    def readable(self) -> Collection[int]:
        return (-1,) if self._said else ()

    @property
    def writable(self) -> int:
        return -1

    @property
    def pending(self) -> bool:
        return True

    def receive(self, ready: Collection[int]) -> Iterator[tuple[StreamName, bytes]]:
        said, self._said = self._said, b""
        yield "stderr", said

    def send(self, data: bytes | memoryview) -> int:
        raise BrokenPipeError

    def end_input(self) -> None:
        """There is none."""

    @property
    def ended(self) -> bool:
        return True

    def end(self) -> End:
        return self._end

    def steps(self) -> Sequence[Step]:
        return ()

    def kill(self) -> None:
        """There is nothing to kill."""

    def resize(self, size: Size) -> None:
        raise WrongStateError(f"the command does not run: it has no terminal of {size.rows} rows")

    def close(self) -> None:
        """There is nothing to close."""

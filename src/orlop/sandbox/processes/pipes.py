"""The streams of a command as pipes: what the fast path and the runs of a template share."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence

from orlop.client.failure import check_descriptors
from orlop.errors import WrongStateError
from orlop.sandbox.result import StreamName
from orlop.sandbox.way import End, Size

_MOST_BYTES = 64 << 10
_NAMES: Sequence[StreamName] = ("stdout", "stderr")


class PipeHandle:
    """A Handle as far as pipes go. A subclass starts the command, and learns of its end."""

    def __init__(self) -> None:
        self.writable = -1
        self._outputs: dict[int, StreamName] = {}
        self._end: End | None = None

    def _open_pipes(self, theirs: list[int]) -> None:
        """Open them, *theirs* for the caller to close; ExhaustedError where there are too many."""
        try:
            reader, self.writable = os.pipe()
            theirs.append(reader)
            os.set_blocking(self.writable, False)
            for name in _NAMES:
                reader, writer = os.pipe()
                self._outputs[reader] = name
                theirs.append(writer)
                os.set_blocking(reader, False)
        except OSError as error:
            check_descriptors(error)
            raise

    def _receive(self, ready: Collection[int]) -> Iterator[tuple[StreamName, bytes]]:
        """Yield what has come through those that are *ready*."""
        for fd in [fd for fd in self._outputs if fd in ready]:
            data = self._read(fd)
            if data:
                yield self._outputs[fd], data
            elif data is not None:
                del self._outputs[fd]
                os.close(fd)

    def _drain(self) -> Iterator[tuple[StreamName, bytes]]:
        """Give what is left of the output; who runs on in the background may hold it open."""
        while self._outputs:
            fd, name = next(iter(self._outputs.items()))
            while data := self._read(fd):
                yield name, data
            del self._outputs[fd]
            os.close(fd)

    def _read(self, fd: int) -> bytes | None:
        try:
            return os.read(fd, _MOST_BYTES)
        except BlockingIOError:
            return None

    def send(self, data: bytes | memoryview) -> int:
        try:
            return os.write(self.writable, data)
        except BlockingIOError:
            return 0

    def end_input(self) -> None:
        if self.writable >= 0:
            os.close(self.writable)
            self.writable = -1

    @property
    def ended(self) -> bool:
        return self._end is not None

    def end(self) -> End:
        if self._end is None:
            raise WrongStateError("the process has not ended", hint="read its output first")
        return self._end

    def resize(self, size: Size) -> None:
        raise WrongStateError("the command has no terminal", hint=f"terminal(rows={size.rows})")

    def _close_pipes(self) -> None:
        self.end_input()
        close_all(self._outputs)
        self._outputs.clear()


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors."""
    for fd in fds:
        os.close(fd)

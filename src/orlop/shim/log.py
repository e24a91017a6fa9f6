"""A container's log: its output, cut into lines, goes to files and to a log driver."""

import time
from collections.abc import Sequence
from typing import Protocol

from orlop.shim.logfile import cut
from orlop.shim.unfinished import Unfinished


class Sink(Protocol):
    """Where a log goes. It never raises: the container must run on."""

    def append(self, pieces: Sequence[bytes], stream: str, time_ns: int) -> None:
        """Take *pieces*, each whole lines or a part of one line. cut() says how long they are."""

    def close(self) -> None:
        """Expect no more."""


class Log:
    """Output on its way to *sinks*.

    The file *unfinished* keeps the unfinished line. With *resume* the log goes on where a writer
    was killed, in the middle of a line.
    """

    def __init__(self, unfinished: str, sinks: Sequence[Sink], *, resume: bool = False) -> None:
        self._sinks = sinks
        self._unfinished = Unfinished(unfinished, resume=resume)

    def write(self, stream: str, data: bytes) -> None:
        """Append output; an unfinished line waits for its end, or for close()."""
        pieces, rest = cut(self._unfinished.get(stream) + data)
        if pieces:
            self._append(pieces, stream)
        self._unfinished.set(stream, rest)

    def close(self) -> None:
        """Write the lines that will find no end, and let go of the sinks."""
        for stream, rest in self._unfinished.take_all().items():
            if rest:
                self._append([rest], stream)
        for sink in self._sinks:
            sink.close()

    def _append(self, pieces: Sequence[bytes], stream: str) -> None:
        time_ns = time.time_ns()
        for sink in self._sinks:
            sink.append(pieces, stream, time_ns)

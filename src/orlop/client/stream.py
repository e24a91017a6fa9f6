"""Docker's framing of two output streams in one connection.

Each frame: one byte for the stream (0 stdin, 1 stdout, 2 stderr), three zero
bytes, the length as 32 bits big-endian, the bytes. Docker Engine API, "Attach to
a container", "Stream format". With a terminal there are no frames.
"""

from __future__ import annotations

from orlop.errors import CorruptError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

STDOUT = 1
STDERR = 2
_STATUS = 4  # Orlop's own: the exit code and more numbers, in decimal, where it was asked for
#: The media type of a framed stream, API 1.42 and later.
FRAMED = "application/vnd.docker.multiplexed-stream"
_HEADER_BYTES = 8
_STREAMS = (STDOUT, STDOUT, STDERR, STDERR, _STATUS)  # 3 is an error of the engine's


class Demultiplexer:
    """Takes bytes as they arrive, gives (stream, bytes) as soon as there are any.

    A frame is passed on in parts as it arrives: its length is no reason to
    wait or to hold it in memory.
    """

    def __init__(self) -> None:
        self._status = b""
        self._header = b""
        self._stream = STDOUT
        self._left = 0

    @property
    def status(self) -> int | None:
        """The exit code, if it was sent."""
        return next(iter(self._numbers()), None)

    @property
    def usage(self) -> list[int]:
        """What a command with a group has used, if it was sent: shim/usage.py."""
        return self._numbers()[1:]

    def _numbers(self) -> list[int]:
        words = self._status.split()
        return [int(word) for word in words] if all(word.isdigit() for word in words) else []

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the parts of frames in *data*; CorruptError for what is no frame."""
        position = 0
        while position < len(data):
            if self._left:
                part = data[position : position + self._left]
                self._left -= len(part)
                position += len(part)
                if self._stream == _STATUS:
                    self._status += part
                else:
                    yield self._stream, part
                continue
            wanted = _HEADER_BYTES - len(self._header)
            self._header += data[position : position + wanted]
            position += wanted
            if len(self._header) == _HEADER_BYTES:
                self._start(self._header)
                self._header = b""

    def _start(self, header: bytes) -> None:
        if header[0] > _STATUS or header[1:4] != b"\0\0\0":
            raise CorruptError(f"not a frame of a multiplexed stream: {header!r}")
        self._stream = _STREAMS[header[0]]
        self._left = int.from_bytes(header[4:], "big")

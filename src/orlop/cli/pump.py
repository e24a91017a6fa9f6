"""Between this process's input and output and a container's: bytes both ways until the end.

stdin  --read-->  waiting  --send-->  engine        (read only when nothing waits)
stdout, stderr  <--write--  frames  <--receive--  engine
"""

from __future__ import annotations

import posix
import select

from orlop.client.stream import STDERR, Demultiplexer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.cli.terminal import DetachKeys
    from orlop.client.http import RawStream

_READ_BYTES = 64 << 10
_ERROR = select.POLLERR | select.POLLHUP


class Pump:
    """Moves bytes until the container's output ends or the user detaches.

    *stdin* None: input is not attached. *framed*: output comes as
    orlop.client.stream says; else it is a terminal's. Which descriptors output
    goes to is *outputs*: (for stdout, for stderr).
    """

    def __init__(
        self,
        stream: RawStream,
        *,
        stdin: int | None,
        framed: bool,
        detach: DetachKeys | None = None,
        outputs: tuple[int, int] = (1, 2),
    ) -> None:
        self._stream = stream
        self._stdin = stdin
        self._frames = Demultiplexer() if framed else None
        self._detach = detach
        self._stdout, self._stderr = outputs
        self._waiting = b""
        self._detached = False

    @property
    def status(self) -> int | None:
        """The exit code that the engine told at the end of the frames, if it did."""
        return self._frames.status if self._frames is not None else None

    def run(self) -> bool:
        """Move bytes; return whether the user detached."""
        while not self._detached and self._serve(self._ready()):
            pass
        return self._detached

    def _ready(self) -> dict[int, int]:
        """Wait until something can be done; return the events of each descriptor."""
        if self._stream.pending:
            return {self._stream.fileno(): select.POLLIN}
        poll = select.poll()
        poll.register(
            self._stream.fileno(), select.POLLIN | (select.POLLOUT if self._waiting else 0)
        )
        if self._stdin is not None and not self._waiting:
            poll.register(self._stdin, select.POLLIN)
        return dict(poll.poll())

    def _serve(self, ready: dict[int, int]) -> bool:
        """Do what *ready* descriptors ask for; False at the end of the output."""
        events = ready.get(self._stream.fileno(), 0)
        if events & select.POLLOUT:
            self._send()
        if events & (select.POLLIN | _ERROR) and not self._receive():
            return False
        if self._stdin in ready:
            self._read()
        return True

    def _receive(self) -> bool:
        data = self._stream.receive()
        if self._frames is None:
            write(self._stdout, data)
        else:
            for stream, part in self._frames.feed(data):
                write(self._stderr if stream == STDERR else self._stdout, part)
        return bool(data)

    def _read(self) -> None:
        """Take what is typed or piped in, and pass it on as far as it goes."""
        try:
            data = posix.read(self._stdin, _READ_BYTES) if self._stdin is not None else b""
        except OSError:  # EIO: the terminal is gone
            data = b""
        if not data:
            self._stdin = None  # nothing waits, or we would not have read
            self._stream.end_input()
            return
        if self._detach is not None:
            data, self._detached = self._detach.feed(data)
        self._waiting += data
        self._send()

    def _send(self) -> None:
        """Send what fits. To wait for room could be to wait for ourselves to read output."""
        try:
            self._waiting = self._waiting[self._stream.try_send(self._waiting) :]
        except OSError:  # it reads no more; its output may go on
            self._waiting = b""
            self._stdin = None


def write(descriptor: int, data: bytes) -> None:
    """Write all of *data*."""
    while data:
        data = data[posix.write(descriptor, data) :]

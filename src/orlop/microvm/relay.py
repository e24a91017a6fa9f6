"""Streams of processes in a virtual machine, moved between the agent's channel and descriptors.

The guest is hostile. It may send output only within the window of each stream, so what waits to be
written is bounded; what waits to be sent to it is bounded by not listening to it meanwhile.
"""

import os
import select
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from orlop.errors import CorruptError, UnavailableError
from orlop.model import guestwire as wire
from orlop.model.guestwire import CREDIT_BYTES, MOST_PAYLOAD, WINDOW, Decoder, Frame
from orlop.model.light import NamedTuple

_CHUNK = 1 << 16
_MOST_UNSENT = 1 << 20


class End(NamedTuple):
    """How a process ended, or why it did not begin."""

    status: int
    reason: str = ""


class Ports(NamedTuple):
    """Descriptors of this host for a process's streams; they stay the caller's."""

    stdin: int
    stdout: int
    stderr: int


class Stream:
    """One process in the guest."""

    def __init__(self, ports: Ports, ended: Callable[[End], None]) -> None:
        self.ports = ports
        self.ended = ended
        self.credit = WINDOW  # input that the guest takes yet
        self.input_open = True
        self.unwritten: dict[int, deque[bytes]] = {wire.STDOUT: deque(), wire.STDERR: deque()}
        self.unwritten_bytes = 0
        self.started = False
        self.end: End | None = None

    def port(self, kind: int) -> int:
        """Return where output of this kind goes."""
        return self.ports.stdout if kind == wire.STDOUT else self.ports.stderr


class Relay:
    """All streams over one channel. add(), then turn() until it is over."""

    def __init__(
        self, channel: socket.socket, *, on_question: Callable[[int, bytes], None] | None = None
    ) -> None:
        channel.settimeout(0)
        self._channel = channel
        self._on_question = on_question
        self._decoder = Decoder()
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._streams: dict[int, Stream] = {}
        self._number = 1 << 16  # those before were the agent's at the start

    def add(self, kind: int, what: bytes, ports: Ports, ended: Callable[[End], None]) -> int:
        """Ask for a process; *ended* is called once, when all its output is written."""
        self._number += 1
        for frame in wire.request(kind, self._number, what):
            self._send(frame)
        for fd in ports:
            os.set_blocking(fd, False)
        self._streams[self._number] = Stream(ports, ended)
        return self._number

    def has_started(self, stream: int) -> bool:
        """Whether the program of a process runs."""
        return stream in self._streams and self._streams[stream].started

    def signal(self, stream: int, number: int) -> None:
        """Send a signal to a process; one that has ended gets none."""
        if stream in self._streams:
            self._send(Frame(wire.SIGNAL, stream, str(number).encode()))

    def resize(self, stream: int, height: int, width: int) -> None:
        """Set the size of a process's terminal."""
        if stream in self._streams:
            self._send(Frame(wire.RESIZE, stream, f"{height} {width}".encode()))

    def answer(self, number: int, message: bytes) -> None:
        """Answer a question of the guest."""
        if self._unsent_bytes < _MOST_UNSENT:
            self._send(Frame(wire.ANSWER, number, message))

    def interests(self) -> Iterator[tuple[int, int]]:
        """Yield descriptors and what poll(2) is to wait for; one may come twice."""
        is_full = self._unsent_bytes > _MOST_UNSENT
        events = (0 if is_full else select.POLLIN) | (select.POLLOUT if self._unsent else 0)
        yield self._channel.fileno(), events
        for stream in self._streams.values():
            if stream.input_open and stream.credit and not is_full:
                yield stream.ports.stdin, select.POLLIN
            for kind, waiting in stream.unwritten.items():
                if waiting:
                    yield stream.port(kind), select.POLLOUT

    def move(self, fd: int, events: int) -> None:
        """Do what poll(2) has reported. Raises UnavailableError when the machine has ended.

        Raises CorruptError if the guest breaks the protocol.
        """
        if fd == self._channel.fileno():
            if events & select.POLLOUT:
                self._flush()
            if events & ~select.POLLOUT:
                self._receive()
            return
        for number, stream in list(self._streams.items()):
            if fd == stream.ports.stdin and stream.input_open and events & ~select.POLLOUT:
                self._read(number, stream)
            for kind in stream.unwritten:
                if fd == stream.port(kind) and stream.unwritten[kind]:
                    self._write(number, stream, kind)

    def _receive(self) -> None:
        try:
            data = self._channel.recv(_CHUNK)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            raise UnavailableError("the virtual machine has ended")
        for frame in self._decoder.feed(data):
            if frame.kind == wire.QUESTION:
                if self._on_question is not None:
                    self._on_question(frame.stream, frame.payload)
            elif stream := self._streams.get(frame.stream):
                self._take(frame, stream)

    def _take(self, frame: Frame, stream: Stream) -> None:
        kind, payload = frame.kind, frame.payload
        if kind in stream.unwritten:
            stream.unwritten_bytes += len(payload)
            if stream.unwritten_bytes > WINDOW or stream.end is not None:
                raise CorruptError("the virtual machine sends more output than it was granted")
            if payload:
                stream.unwritten[kind].append(payload)
                self._write(frame.stream, stream, kind)
        elif kind == wire.CREDIT and len(payload) == CREDIT_BYTES.size:
            stream.credit = min(WINDOW, stream.credit + CREDIT_BYTES.unpack(payload)[0])
        elif kind in (wire.EXITED, wire.FAILED):
            stream.end = _end(kind, payload)
            self._finish(frame.stream, stream)
        elif kind == wire.STARTED:
            stream.started = True
        else:
            raise CorruptError(f"the virtual machine sends a frame of kind {kind}")

    def _read(self, number: int, stream: Stream) -> None:
        try:
            data = os.read(stream.ports.stdin, min(stream.credit, MOST_PAYLOAD))
        except BlockingIOError:
            return
        except OSError:  # a terminal that was hung up
            data = b""
        stream.credit -= len(data)
        stream.input_open = bool(data)
        self._send(Frame(wire.STDIN, number, data))

    def _write(self, number: int, stream: Stream, kind: int) -> None:
        waiting, written = stream.unwritten[kind], 0
        while waiting:
            try:
                count = os.write(stream.port(kind), waiting[0])
            except BlockingIOError:
                break
            except OSError:  # nobody reads it
                count = len(waiting[0])
            written += count
            rest = waiting.popleft()[count:]
            if rest:
                waiting.appendleft(rest)
                break
        if written:
            stream.unwritten_bytes -= written
            self._send(Frame(wire.CREDIT, number, CREDIT_BYTES.pack(written)))
        self._finish(number, stream)

    def _finish(self, number: int, stream: Stream) -> None:
        if stream.end is None or any(stream.unwritten.values()):
            return
        if self._streams.pop(number, None) is not None:
            stream.ended(stream.end)

    def _send(self, frame: Frame) -> None:
        data = frame.encode()
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        self._flush()

    def _flush(self) -> None:
        with suppress(BlockingIOError, ConnectionError):  # its end is found by _receive()
            while self._unsent:
                count = self._channel.send(self._unsent[0])
                self._unsent_bytes -= count
                rest = self._unsent.popleft()[count:]
                if rest:
                    self._unsent.appendleft(rest)


def _end(kind: int, payload: bytes) -> End:
    number, _, reason = payload.partition(b" ")
    if not number.isdigit() or len(number) > 3 or int(number) > 255:
        raise CorruptError("a virtual machine reports an exit status that is none")
    return End(int(number), reason.decode(errors="replace") if kind == wire.FAILED else "")

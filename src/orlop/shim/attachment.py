"""A client attached to a process: what it is sent, what it types, and the keys that let it go."""

import errno
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable

from orlop.shim.loop import READ, WRITE, Loop

FULL = 1 << 20  # bytes queued for one client before its process has to wait
LOW = FULL // 2
PATIENCE_S = 10.0  # a client that takes nothing for so long, and holds its process up, is dropped
_LAST_PATIENCE_S = 600.0  # with one whose process has ended: it may be a pager
_INPUT_BLOCK = 32 << 10
_HEADER = struct.Struct(">BxxxI")
_STREAM_NUMBERS = {"stdout": 1, "stderr": 2}
_STATUS = 4  # no stream of Docker's: the exit code
_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"


def parse_keys(text: str) -> bytes:
    """Return the bytes that "ctrl-p,ctrl-q" stands for; ValueError for what is no key."""
    keys = bytearray()
    for key in filter(None, text.split(",")):
        name = key.removeprefix("ctrl-")
        if len(name) != 1 or (name != key and name.lower() not in _CONTROL):
            raise ValueError(f"no such key: {key!r}")
        keys += name.encode() if name == key else bytes([_CONTROL.index(name.lower())])
    return bytes(keys)


class DetachKeys:
    """Looks for the sequence in what a client types; holds a part of it back until it is clear."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what is input for the process, and whether the sequence was typed."""
        if not self._keys:
            return data, False
        data, self._held = self._held + data, b""
        found = data.find(self._keys)
        if found >= 0:
            return data[:found], True
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if data.endswith(self._keys[:length]):
                self._held = data[-length:]
                return data[:-length], False
        return data, False


class Attachment:
    """One client's socket, ours from now on, and its bounded queue of output.

    Until begin() nothing is read from it: it waits for its process.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        *,
        streams: frozenset[str],
        detach_keys: bytes,
        pending: bytes | None,
        tell_status: bool = False,
    ) -> None:
        self.streams = streams
        self.framed: bool | None = None  # as the client asked; None: unless there is a terminal
        self.multiplex = True
        self.wants_input = pending is not None
        self.closed = False
        self.size = 0  # bytes queued
        self.on_room: Callable[[], None] | None = None  # called when little is queued again
        self._queue: deque[bytes] = deque()
        self._loop = loop
        self._socket = sock
        self._keys = DetachKeys(detach_keys)
        self._pending = pending or b""
        self._tell_status = tell_status
        self._progress = time.monotonic()
        self._reading = False
        self._ending = False
        self._on_input: Callable[[Attachment, bytes], None] | None = None
        self._on_gone: Callable[[Attachment], None] | None = None
        sock.settimeout(0)
        loop.watch(sock.fileno(), self._ready, events=0)

    def begin(
        self,
        *,
        on_input: "Callable[[Attachment, bytes], None]",
        on_gone: "Callable[[Attachment], None]",
        use_keys: bool,
    ) -> None:
        """Start: *on_input* gets what it types, b"" for its end; *on_gone* that it left."""
        self._on_input, self._on_gone = on_input, on_gone
        if not use_keys:
            self._keys = DetachKeys(b"")
        self._reading = True
        pending, self._pending = self._pending, b""
        if pending and self.wants_input:
            self._typed(pending)
        self._watch()

    def on_waiting_gone(self, callback: "Callable[[Attachment], None]") -> None:
        """Call *callback* when it leaves before begin()."""
        self._on_gone = callback

    def send(self, stream: str, data: bytes) -> None:
        """Queue output, framed if it is to be; drop the client when it has not moved for long."""
        if self.closed or stream not in self.streams:
            return
        if self.multiplex:
            data = _frame(_STREAM_NUMBERS[stream], data)
        self._enqueue(data)
        self._flush()

    def end(self, status: str | None = None) -> None:
        """No more output: close once everything queued, and the exit code, is sent."""
        if self.closed:
            return
        if self._tell_status and self.multiplex and status is not None:
            self._enqueue(_frame(_STATUS, status.encode()))
            self._flush()
        self._ending = True
        if not self._queue:
            self.drop()
        else:
            self._watch()

    def _enqueue(self, data: bytes) -> None:
        if not self._queue:
            self._progress = time.monotonic()
        self._queue.append(data)
        self.size += len(data)

    def drop(self) -> None:
        """Close now. Unread input is thrown away first, or the peer would see a reset."""
        if self.closed:
            return
        self.closed = True
        self._loop.forget(self._socket.fileno())
        try:
            while self._socket.recv(_INPUT_BLOCK):
                pass
        except OSError:
            pass
        self._socket.close()
        self._queue.clear()
        self.size = 0
        if self._on_gone is not None:
            self._on_gone(self)

    def pause_input(self, *, pause: bool) -> None:
        """Stop reading what it types while the process does not take it."""
        if not self.closed:
            self._reading = not pause
            self._watch()

    @property
    def stuck(self) -> bool:
        """Whether it has taken nothing for too long: PATIENCE_S if its process waits for it."""
        idle_s = time.monotonic() - self._progress if self._queue else 0.0
        if self._ending:
            return idle_s > _LAST_PATIENCE_S
        return self.size > FULL and idle_s > PATIENCE_S

    def _watch(self) -> None:
        if self.closed:
            return
        events = (READ if self._reading else 0) | (WRITE if self._queue else 0)
        self._loop.watch(self._socket.fileno(), self._ready, events=events)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & READ and self._reading and not self.closed:
            self._read()
        elif not events & (READ | WRITE) and not self.closed:
            self.drop()  # hung up on both sides

    def _read(self) -> None:
        try:
            data = self._socket.recv(_INPUT_BLOCK)
        except BlockingIOError:
            return
        except OSError:
            self.drop()
            return
        if not data:
            self._reading = False
            self._watch()
        if not self.wants_input or self._on_input is None:
            return
        self._typed(data)

    def _typed(self, data: bytes) -> None:
        text, detach = self._keys.feed(data)
        if self._on_input is not None and (text or not data):
            self._on_input(self, text)
        if detach:
            self.drop()

    def _flush(self) -> None:
        while self._queue:
            data = self._queue[0]
            try:
                sent = self._socket.send(data, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
            except OSError:
                self.drop()
                return
            self._progress = time.monotonic()
            self.size -= sent
            if sent < len(data):
                self._queue[0] = data[sent:]
            else:
                self._queue.popleft()
        if self._ending and not self._queue:
            self.drop()
            return
        self._watch()
        if self.size < LOW and self.on_room is not None:
            self.on_room()


def _frame(stream: int, data: bytes) -> bytes:
    return _HEADER.pack(stream, len(data)) + data


class Input:
    """The writing side of a process's stdin, with what it has not taken yet."""

    def __init__(self, loop: Loop, fd: int, *, on_room: Callable[[], None]) -> None:
        self._loop = loop
        self._fd = fd
        self._queue = b""
        self._ending = False
        self._on_room = on_room

    @property
    def full(self) -> bool:
        return bool(self._queue)

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def write(self, data: bytes) -> None:
        """Queue *data*; the caller stops giving more while full."""
        if not self.closed:
            self._queue += data
            self._ready(WRITE)

    def finish(self) -> None:
        """Close once everything is taken: the process sees the end of its input."""
        self._ending = True
        if not self._queue:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._queue = b""

    def _ready(self, events: int) -> None:
        try:
            if events & WRITE:
                self._queue = self._queue[os.write(self._fd, self._queue) :]
            elif events:
                self._queue = b""
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.EPIPE and error.errno != errno.EIO:
                raise
            self.close()
            self._on_room()
            return
        if self._queue:
            self._loop.watch(self._fd, self._ready, events=WRITE)
            return
        self._loop.forget(self._fd)
        if self._ending:
            self.close()
        self._on_room()

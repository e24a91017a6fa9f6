"""A connection that carries protocol.py's messages: one JSON object per datagram, with descriptors.

SEQPACKET keeps the messages apart and in order, and a killed peer is an end of
file. Nothing here blocks: what a peer does not take is queued, up to a limit,
beyond which the peer is too slow and the connection is closed.
"""

import contextlib
import errno
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from orlop.shim.failure import failure
from orlop.shim.loop import READ, WRITE, Loop

MAX_MESSAGE = 1 << 20  # bytes
MAX_QUEUED = 4096  # messages
_MAX_FDS = 253  # SCM_MAX_FD
_SO_SNDBUFFORCE = 32
_SO_PEERCRED = struct.Struct("3i")
_MAX_SUN_PATH = 107
# Plain numbers: arithmetic on the enums costs more than the call they go to.
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_SPACE = socket.CMSG_SPACE(_MAX_FDS * 4)
_NOSIGNAL = int(socket.MSG_NOSIGNAL)
_CUT_SHORT = int(socket.MSG_TRUNC)
_FDS_LOST = int(socket.MSG_CTRUNC)

Message = dict[str, Any]

_TOO_MANY = OSError(errno.EMFILE, os.strerror(errno.EMFILE))

LATER = object()  # what a request is answered with that is answered later

_buffer = bytearray(MAX_MESSAGE)  # one for all: a message is decoded before the next is read


class LostDescriptorsError(ValueError):
    """A message that is whole came without its descriptors: we may have no more open files."""

    def __init__(self, message: Message) -> None:
        super().__init__("too many open files")
        self.message = message


class Channel:
    """One end of a connection, in a loop.

    *on_message* gets the channel, the message and its descriptors, which it then
    owns. *on_close* is called once, when the peer has gone, is too slow, or talks
    nonsense; not after close().
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        *,
        on_message: Callable[["Channel", Message, list[int]], None],
        on_close: Callable[["Channel"], None],
    ) -> None:
        self.subscribed = False
        self._loop = loop
        self._socket = sock
        self._on_message = on_message
        self._on_close = on_close
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        self.closed = False
        sock.settimeout(0)
        widen(sock)
        loop.watch(sock.fileno(), self._ready)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send, or queue with descriptors of its own; a closed channel swallows it."""
        if self.closed:
            return
        data = encode(message)
        if not self._queue and self._try_send(data, fds):
            return
        if self.closed:
            return
        if len(self._queue) >= MAX_QUEUED:
            self._fail()
            return
        self._queue.append((data, [os.dup(fd) for fd in fds]))
        self._loop.watch(self._socket.fileno(), self._ready, events=READ | WRITE)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        for _, fds in self._queue:
            close_all(fds)
        self._queue.clear()

    def _fail(self) -> None:
        if not self.closed:
            self.close()
            self._on_close(self)

    def _try_send(self, data: bytes, fds: Sequence[int]) -> bool:
        try:
            send_datagram(self._socket, data, fds)
        except BlockingIOError:
            return False
        except OSError:
            self._fail()
            return False
        return True

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        for _ in range(16):  # then let others have their turn
            if self.closed or not self._receive():
                return

    def _flush(self) -> None:
        while self._queue and self._try_send(*self._queue[0]):
            close_all(self._queue.popleft()[1])
        if not self._queue and not self.closed:
            self._loop.watch(self._socket.fileno(), self._ready, events=READ)

    def _receive(self) -> bool:
        try:
            received = receive_datagram(self._socket)
        except BlockingIOError:
            return False
        except LostDescriptorsError as error:
            return self._refused(error)
        except (OSError, ValueError):
            received = None
        if received is None:
            self._fail()
            return False
        self._on_message(self, *received)
        return True

    def _refused(self, error: LostDescriptorsError) -> bool:
        """Answer a request that lost its descriptors; what is no request cannot be answered."""
        if "seq" not in error.message:
            self._fail()
            return False
        self.send({"seq": error.message["seq"], "error": failure(_TOO_MANY)})
        return True


def encode(message: Message) -> bytes:
    """Return the datagram; ValueError when it would be longer than MAX_MESSAGE."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_MESSAGE:
        raise ValueError(f"message of {len(data)} bytes is longer than {MAX_MESSAGE}")
    return data


def send_datagram(sock: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    """Send one datagram with descriptors; BlockingIOError where the peer's queue is full."""
    if not fds:
        sock.send(data, _NOSIGNAL)
        return
    rights = struct.pack(f"{len(fds)}i", *fds)
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], _NOSIGNAL)


def receive_datagram(sock: socket.socket) -> tuple[Message, list[int]] | None:
    """Return the next message and its descriptors, or None at the end of the connection.

    LostDescriptorsError where this process can have no more of them, ValueError for what
    is not a whole JSON object; what came of its descriptors is closed.
    """
    count, ancillary, flags, _ = sock.recvmsg_into([_buffer], _SPACE, _CLOEXEC)
    fds: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.extend(struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4]))
    if count == 0:
        close_all(fds)
        return None
    try:
        message = None if flags & _CUT_SHORT else json.loads(_buffer[:count])
    except ValueError:
        message = None
    if not isinstance(message, dict):
        close_all(fds)
        raise ValueError("not a whole message")  # noqa: TRY004 - the peer's fault, not a caller's type
    if flags & _FDS_LOST:
        close_all(fds)
        raise LostDescriptorsError(message)
    return message, fds


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def widen(sock: socket.socket) -> None:
    """Let one datagram be MAX_MESSAGE long: the send buffer bounds it."""
    with contextlib.suppress(PermissionError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, 2 * MAX_MESSAGE)


def listen(path: str) -> socket.socket:
    """Listen at *path*, mode 0600, in place of what a dead process left there."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        mask = os.umask(0o177)
        try:
            with _short(path) as short:
                sock.bind(short)
        finally:
            os.umask(mask)
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock


def connect(path: str) -> socket.socket:
    """Connect to *path*, blocking; OSError where nobody listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _short(path) as short:
            sock.connect(short)
        widen(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def accept(listener: socket.socket) -> socket.socket | None:
    """Return the next connection of one who may command us: root, or who we run as.

    None if it has gone again, or is another's. unix(7), SO_PEERCRED.
    """
    try:
        sock, _ = listener.accept()
    except OSError:
        return None
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _SO_PEERCRED.size)
    if _SO_PEERCRED.unpack(credentials)[1] in (0, os.geteuid()):
        return sock
    sock.close()
    return None


@contextlib.contextmanager
def _short(path: str) -> Any:
    """Yield a name for *path* that fits an address, whatever its length."""
    if len(os.fsencode(path)) <= _MAX_SUN_PATH:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)

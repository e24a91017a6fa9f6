"""JSON messages with descriptors, over a unix socket, for an event loop."""

import array
import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

_MOST_BYTES = 64 << 10
_MOST_FDS = 8


class Message(NamedTuple):
    """The descriptors are the receiver's to close."""

    body: dict[str, Any]
    fds: list[int]

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


class Messages:
    """One end of a socket whose other end says one thing, and waits for the answer."""

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(0)
        self._socket = end

    async def receive(self) -> Message:
        """Return the next message; ConnectionResetError where there is no other end."""
        while True:
            try:
                return self._receive()
            except BlockingIOError:
                await readable(self._socket.fileno())

    @property
    def ended(self) -> bool:
        """Whether the other end is gone, and nothing is left to be received."""
        try:
            return not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _receive(self) -> Message:
        fds = array.array("i")
        space = socket.CMSG_SPACE(_MOST_FDS * fds.itemsize)
        data, given, *_ = self._socket.recvmsg(_MOST_BYTES, space, socket.MSG_CMSG_CLOEXEC)
        for level, kind, piece in given:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(piece[: len(piece) - len(piece) % fds.itemsize])
        message = Message({}, list(fds))
        try:
            body = msgspec.json.decode(data, type=dict[str, Any]) if data else {}
        except msgspec.MsgspecError as error:
            message.close()
            raise ConnectionResetError(f"not a message: {error}") from None
        if not data:
            message.close()
            raise ConnectionResetError("the other end is gone")
        return message._replace(body=body)

    def send(self, body: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Send it; ConnectionError where nobody is there, BlockingIOError where nobody reads."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._socket.sendmsg([msgspec.json.encode(body)], rights, socket.MSG_NOSIGNAL)

    def shut(self) -> None:
        """Let who waits for a message have none, and the other end see that nobody is here."""
        with contextlib.suppress(OSError):  # it was quicker
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()


async def readable(fd: int) -> None:
    """Wait until *fd* can be read from; nobody else may wait for the same."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(fd, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

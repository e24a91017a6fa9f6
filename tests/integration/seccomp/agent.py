"""A seccomp agent: takes listeners from a runtime, and answers what they notify."""

import array
import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# <linux/seccomp.h>
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_CONTINUE = 1


class Agent:
    """A process of its own, for who starts containers has no threads.

    *answers* are by number of the call: an errno to fail with, or None to let it be
    made, as all calls are that are not named.
    """

    def __init__(self, path: Path, answers: Mapping[int, int | None]) -> None:
        self.path = path
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen()
        self._told, telling = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._told)
            try:
                _serve(self._server, telling, answers)
            finally:
                os._exit(0)
        os.close(telling)
        self._lines = os.fdopen(self._told)

    def state(self) -> dict[str, Any]:
        """Return the next container process state that came in."""
        while True:
            kind, value = json.loads(self._lines.readline())
            if kind == "state":
                assert isinstance(value, dict)
                return value

    def close(self) -> list[int]:
        """End the agent; the numbers of the calls it was asked about and has not told yet."""
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)
        self._server.close()
        with self._lines as lines:
            told = [json.loads(line) for line in lines]
        return [value for kind, value in told if kind == "call"]


@contextlib.contextmanager
def agent(path: Path, answers: Mapping[int, int | None]) -> Iterator[Agent]:
    made = Agent(path, answers)
    try:
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            made.close()


def _serve(server: socket.socket, telling: int, answers: Mapping[int, int | None]) -> None:
    poller = select.poll()
    poller.register(server, select.POLLIN)
    while True:
        for fd, event in poller.poll():
            if fd == server.fileno():
                poller.register(_accept(server, telling), select.POLLIN)
            elif event & select.POLLIN:
                _answer(fd, telling, answers)
            else:  # nobody is left who has the filter
                poller.unregister(fd)
                os.close(fd)


def _accept(server: socket.socket, telling: int) -> int:
    with server.accept()[0] as connection:
        data, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4 * 4))
        while (state := _whole(data)) is None:  # not to the end of file: runc may hold it open
            data += connection.recv(4096)
    fds = array.array("i")
    for _, kind, payload in ancillary:
        assert kind == socket.SCM_RIGHTS
        fds.frombytes(payload)
    _tell(telling, "state", state | {"descriptors": len(fds)})
    return fds[0]


def _whole(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _answer(listener: int, telling: int, answers: Mapping[int, int | None]) -> None:
    request = bytearray(_NOTIFICATION.size)
    with contextlib.suppress(FileNotFoundError):  # whoever asked is dead
        fcntl.ioctl(listener, _RECEIVE, request)
        identity, _, _, number, *_ = _NOTIFICATION.unpack(request)
        _tell(telling, "call", number)
        error = answers.get(number)
        flags = _CONTINUE if error is None else 0
        fcntl.ioctl(listener, _SEND, _RESPONSE.pack(identity, 0, -(error or 0), flags))


def _tell(telling: int, kind: str, value: object) -> None:
    os.write(telling, json.dumps([kind, value]).encode() + b"\n")

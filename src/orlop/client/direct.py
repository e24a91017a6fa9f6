"""The quick way to a sandbox, from a client: a socket on which descriptors go along.

    with connections(settings).lent() as connection:
        made = connection.request({"op": "start", "options": …, "args": …}, fds)["id"]
        exit_ = connection.exit_of(made)

A connection is used by one thread at a time, and by one sandbox or command: what ends is
told on it. See api/direct.py for the messages.
"""

from __future__ import annotations

import atexit
import errno
import json
import os
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from orlop import errors
from orlop.client.failure import check_descriptors
from orlop.client.tracing import traceparent
from orlop.errors import OrlopError, UnavailableError, UnsupportedError
from orlop.model.pool import ObjectPool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orlop.client.address import Settings

SOCKET_NAME = "sandboxes.sock"
_MOST_BYTES = 1 << 20
_MOST_SENT = _MOST_BYTES - (1 << 16)  # the engine passes it on with words of its own
_MOST_IDLE = 64
_ABSENT = (FileNotFoundError, ConnectionRefusedError)
_TRIES = 3  # an engine that is dying may take connections yet
_TO_ALL = 0  # the number of what is no answer to one request, but the last word


class UnheardError(UnavailableError):
    """The engine has gone, and had not read the request: it can be made again.

    Linux, net/unix/af_unix.c, unix_release_sock(): such a connection is reset, others end.
    """


class Connection:
    """One connection; its end is the end of the sandboxes that were started on it."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_BYTES)
        try:
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise
        self._seq = 0
        self._exits: dict[str, dict[str, Any]] = {}
        self._pid = os.getpid()

    def fileno(self) -> int:
        """Readable when there is an exit to take, or the engine is gone. -1 once closed."""
        return self._socket.fileno()

    def request(self, message: dict[str, Any], fds: Sequence[int] = ()) -> Any:
        """Ask, and wait for the answer. OrlopError as it was answered."""
        return self.answer(self.post(message, fds))

    def answer(self, seq: int) -> Any:
        """Return the answer to the request *seq*, waiting for it; others before it are lost."""
        while True:
            answer = self._receive()
            if answer is not None and answer.get("seq") in (seq, _TO_ALL):
                return _answered(answer)

    def post(self, message: dict[str, Any], fds: Sequence[int] = ()) -> int:
        """Send a request without waiting; return its number."""
        self._seq += 1
        request = {**message, "seq": self._seq}
        if parent := traceparent():
            request["traceparent"] = parent
        data = json.dumps(request).encode()
        if len(data) > _MOST_SENT:
            raise UnsupportedError(f"a request of {len(data)} bytes is too long")
        try:
            if fds:
                socket.send_fds(self._socket, [data], fds)
            else:
                self._socket.send(data)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise UnsupportedError(f"a request of {len(data)} bytes is too long") from None
            cls = UnheardError if isinstance(error, ConnectionError) else UnavailableError
            raise cls(f"the engine has gone: {error.strerror}") from error
        return self._seq

    def exit_of(self, key: str) -> dict[str, Any]:
        """Return the exit of a sandbox or a command, by its id, waiting for it."""
        while key not in self._exits:
            self._receive()
        return self._exits.pop(key)

    def has_exit(self, key: str) -> bool:
        """Whether it has come, with the answer to a request: then fileno() is not readable."""
        return key in self._exits

    def take_exit(self, key: str) -> dict[str, Any] | None:
        """Return it without waiting, once fileno() is readable; None if that was another's."""
        if key not in self._exits:
            self._receive()
        return self._exits.pop(key, None)

    def _receive(self) -> dict[str, Any] | None:
        """Take one message; return it if it is an answer."""
        try:
            data = self._socket.recv(_MOST_BYTES)
        except ConnectionResetError as error:  # there was something that it has not read
            data = self._socket.recv(_MOST_BYTES)  # its last word
            if not data:
                raise UnheardError("the engine has gone", hint="try again") from error
        except OSError as error:
            raise UnavailableError(f"the engine has gone: {error.strerror}") from error
        if not data:
            raise UnavailableError("the engine has gone", hint="try again")
        message: dict[str, Any] = json.loads(data)
        if "exit" not in message:
            return message
        self._exits[message.get("exec", message["exit"])] = message
        return None

    def close(self) -> None:
        """Close it, and so end its sandboxes; again is no error."""
        self._socket.close()

    @property
    def is_ours(self) -> bool:
        """Whether it is of this process and not of one that was forked from."""
        return self._pid == os.getpid()


class Connections:
    """Connections to one engine that are not in use."""

    def __init__(self, settings: Settings, path: str) -> None:
        self._settings = settings
        self._path = path
        self._idle = ObjectPool(
            end=Connection.close, check=_is_quiet, reset=_is_open, size=_MOST_IDLE
        )

    def take(self) -> Connection:
        """Return one that is the caller's; UnsupportedError where the engine has no such way."""
        try:
            return self._idle.get(None, self._connect)
        except OSError as error:
            check_descriptors(error)
            raise UnavailableError(f"cannot reach the engine: {error.strerror}") from error

    def _connect(self) -> Connection:
        try:
            return Connection(self._path)
        except _ABSENT:
            from orlop.client.client import Client  # whose first request starts the engine

            with Client(self._settings) as client:
                client.system.version()
        try:
            return Connection(self._path)
        except _ABSENT:
            raise UnsupportedError("the engine has no socket for descriptors") from None

    def ask(self, message: dict[str, Any], fds: Sequence[int] = ()) -> tuple[Connection, Any]:
        """Make a request on a connection that is the caller's then; return both.

        It is made again where the engine has gone before it has read it, and only then: no
        command runs twice.
        """
        for _ in range(_TRIES - 1):
            with suppress(UnheardError):
                return self._ask(message, fds)
            self.close_idle()  # they lead to the same engine
        return self._ask(message, fds)

    def _ask(self, message: dict[str, Any], fds: Sequence[int]) -> tuple[Connection, Any]:
        connection = self.take()
        with self._left_well(connection):
            return connection, connection.request(message, fds)

    @contextmanager
    def _left_well(self, connection: Connection) -> Iterator[None]:
        """Where the body raises, keep what a request was only refused on, and close all others."""
        try:
            yield
        except UnheardError:
            connection.close()
            raise
        except OrlopError:
            self.give_back(connection)
            raise
        except BaseException:
            connection.close()
            raise

    def close_idle(self) -> None:
        """Close those that are not in use."""
        self._idle.empty()

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next; nothing that was started on it may be there any more."""
        self._idle.give_back(connection)

    @contextmanager
    def lent(self) -> Iterator[Connection]:
        """Lend one while inside; it is kept unless the body raises what is no refusal."""
        connection = self.take()
        with self._left_well(connection):
            yield connection
        self.give_back(connection)


def connections(settings: Settings) -> Connections:
    """Return those to the engine that *settings* mean; UnsupportedError if it is no local one."""
    path = settings.address.path
    if path is None:
        raise UnsupportedError("descriptors go to an engine of this machine only")
    beside = os.path.join(os.path.dirname(path), SOCKET_NAME)
    found = _all.get(beside)
    if found is None:
        if not _all:
            atexit.register(close_idle)
        found = _all.setdefault(beside, Connections(settings, beside))
    return found


def close_idle() -> None:
    """Close all connections that are not in use."""
    for found in _all.values():
        found.close_idle()


_all: dict[str, Connections] = {}


def _is_open(connection: Connection) -> bool:
    """Whether it can be kept: open, and not that of the process that forked us."""
    return connection.is_ours and connection.fileno() >= 0


def _is_quiet(connection: Connection) -> bool:
    """Whether it is ours, and nothing has come on it, such as its end."""
    if not connection.is_ours:
        return False
    try:
        connection._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _answered(answer: dict[str, Any]) -> Any:
    failure = answer.get("error")
    if failure is None:
        return answer.get("ok")
    raise errors.error_of(failure)

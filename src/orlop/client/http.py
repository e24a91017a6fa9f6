"""HTTP/1.1 as the engine speaks it, blocking, over one connection.

Not http.client, whose imports (email, ssl, re) cost more than the whole request
here. One request at a time; a response is read to its end before the next one,
or its connection is closed. RFC 9112.
"""

from __future__ import annotations

import _socket

from orlop.client.address import Address
from orlop.client.failure import check_descriptors
from orlop.client.tracing import traceparent
from orlop.errors import (
    AlreadyExistsError,
    CommandNotExecutableError,
    CommandNotFoundError,
    CorruptError,
    ImageNotFoundError,
    InvalidArgumentError,
    NotFoundError,
    NotRunningError,
    OrlopError,
    PermissionDeniedError,
    UnavailableError,
    WrongStateError,
    class_of,
)
from orlop.model import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

    Body = bytes | Iterable[bytes]

_RECEIVE_BYTES = 64 << 10  # malloc maps larger ones anew each time
_HEAD_LIMIT = 256 << 10


class Response:
    """A response whose body may still be on its way."""

    def __init__(self, connection: Connection, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._connection = connection
        self._pieces = connection.body(status, headers)

    def __iter__(self) -> Iterator[bytes]:
        """The body in the pieces in which it arrives, each handed on at once."""
        return self._pieces

    def read(self) -> bytes:
        """Return the (rest of the) body."""
        return b"".join(self._pieces)

    def json(self) -> Any:
        """Return the body's JSON value; None for an empty body."""
        body = self.read()
        return jsontext.loads(body) if body else None

    def lines(self) -> Iterator[bytes]:
        """The body line by line, without their ends, as they arrive."""
        rest = b""
        for piece in self._pieces:
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                if line.strip():
                    yield line
        if rest.strip():
            yield rest

    def close(self) -> None:
        """Give up the rest of the body, and the connection with it."""
        self._connection.close()


class RawStream:
    """A connection after its upgrade: bytes both ways, an end of each way of its own."""

    def __init__(
        self, connected: _socket.socket, early: bytes, *, headers: Mapping[str, str]
    ) -> None:
        self._socket = connected
        self._early = early
        self.headers = headers  # of the answer that began it

    @property
    def media_type(self) -> str:
        """What the engine says that the bytes are."""
        return self.headers.get("content-type", "")

    def fileno(self) -> int:
        """The descriptor, for poll(2); see pending()."""
        return self._socket.fileno()

    @property
    def pending(self) -> bool:
        """Whether bytes are here that poll(2) does not know of."""
        return bool(self._early)

    def receive(self, limit: int = _RECEIVE_BYTES) -> bytes:
        """Return what is there, waiting if nothing is; b"" at the end."""
        if self._early:
            early, self._early = self._early, b""
            return early
        try:
            return self._socket.recv(limit)
        except ConnectionResetError:
            return b""

    def try_send(self, data: bytes | memoryview) -> int:
        """Send as much of *data* as fits now; return how many bytes. OSError if nobody reads."""
        try:
            return self._socket.send(data, _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def send_with(self, data: bytes, descriptors: Sequence[int]) -> None:
        """Send *data*, a few bytes, and *descriptors* with them. Over a unix socket only."""
        from array import array  # for templates alone

        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", descriptors))
        self._socket.sendmsg([data], [rights], _socket.MSG_NOSIGNAL)

    def end_input(self) -> None:
        """Say that no more will be sent; receiving goes on."""
        try:  # noqa: SIM105 (contextlib costs 3 ms to import)
            self._socket.shutdown(_socket.SHUT_WR)
        except OSError:  # the other side was quicker
            pass

    def close(self) -> None:
        """Close both ways."""
        self._socket.close()


class Connection:
    """One connection to the engine; made when first used and again after it was lost."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: _socket.socket | None = None
        self._received = bytearray()

    @property
    def usable(self) -> bool:
        """Whether a request can be sent: connected, idle, and not closed by the other side."""
        if self._socket is None or self._received:
            return False
        try:
            self._socket.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False  # the end, or bytes of an answer that nobody read

    def fileno(self) -> int:
        """The descriptor, for poll(2); -1 while it is not connected."""
        return -1 if self._socket is None else self._socket.fileno()

    def shut(self) -> None:
        """End it for who waits for an answer in another thread, as if the engine had gone."""
        if self._socket is not None:
            try:  # noqa: SIM105 (contextlib costs 3 ms to import)
                self._socket.shutdown(_socket.SHUT_RDWR)
            except OSError:  # the other side was quicker
                pass

    def connect(self) -> None:
        """Connect now. OSError as connect(2) has it: ENOENT, ECONNREFUSED with no engine there.

        ExhaustedError where there is no descriptor for it.
        """
        path, tcp = self._address.path, self._address.tcp
        try:
            if tcp is None:
                made = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            else:
                made = _socket.socket(_socket.AF_INET6 if ":" in tcp[0] else _socket.AF_INET)
        except OSError as error:
            check_descriptors(error)
            raise
        try:
            made.connect(tcp if tcp is not None else path or "")
        except BaseException:
            made.close()
            raise
        self._socket = made

    def close(self) -> None:
        """Close it; a later request connects anew."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._received.clear()

    def request(
        self,
        method: str,
        target: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request and return its response, whatever its status, once its head is here."""
        self.send(method, target, body=body, headers=headers)
        return self.receive()

    def send(
        self,
        method: str,
        target: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a request only, so that another connection's can be under way; receive() follows.

        A body that is not bytes is sent in chunks as it is produced. If the
        engine answers and stops reading in the middle of it, that is no error
        here: the answer says why.
        """
        if self._socket is None:
            self.connect()
        head = f"{method} {target} HTTP/1.1\r\nHost: orlop\r\n"
        for name, value in (headers or {}).items():
            head += f"{name}: {value}\r\n"
        if parent := traceparent():
            head += f"traceparent: {parent}\r\n"
        if body is None or isinstance(body, bytes):
            length = (
                f"Content-Length: {len(body or b'')}\r\n"
                if body is not None or method != "GET"
                else ""
            )
            self._send((head + length + "\r\n").encode() + (body or b""))
            return
        self._send((head + "Transfer-Encoding: chunked\r\n\r\n").encode())
        try:
            for piece in body:
                if piece:
                    self._send(b"%x\r\n%b\r\n" % (len(piece), piece))
            self._send(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass

    def receive(self) -> Response:
        """Return the response to what was sent, once its head is here."""
        while True:
            status, headers = self._head()
            if status == 101 or status >= 200:  # other 1xx are only news
                return Response(self, status, headers)

    def upgrade(self) -> tuple[_socket.socket, bytes]:
        """Give the socket away as a raw stream, with what has already arrived on it."""
        if self._socket is None:
            raise UnavailableError("the engine closed the connection")
        given, early = self._socket, bytes(self._received)
        self._socket = None
        self._received.clear()
        return given, early

    def body(self, status: int, headers: Mapping[str, str]) -> Iterator[bytes]:
        """The pieces of a response's body as its head frames it."""
        if status in (101, 204, 304):
            return iter(())
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._chunks()
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"]))
        return self._until_close()

    def _send(self, data: bytes) -> None:
        connected = self._socket
        if connected is None:
            raise UnavailableError("the engine closed the connection")
        connected.sendall(data, _socket.MSG_NOSIGNAL)

    def _receive(self) -> bool:
        """Wait for more bytes; False at the end of the stream."""
        data = b"" if self._socket is None else self._socket.recv(_RECEIVE_BYTES)
        self._received += data
        return bool(data)

    def receive_head(self) -> tuple[int, dict[str, str]]:
        """Return status and headers alone: the response to HEAD has no body, whatever it says."""
        return self._head()

    def _head(self) -> tuple[int, dict[str, str]]:
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            if len(self._received) > _HEAD_LIMIT:
                raise CorruptError("the engine's answer has no end of its headers")
            if not self._receive():
                self.close()
                raise UnavailableError(
                    "the engine closed the connection without an answer",
                    hint="see engine.log in its run folder",
                )
        lines = self._received[:end].decode("latin-1").split("\r\n")
        del self._received[: end + 4]
        version, _, rest = lines[0].partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdecimal():
            raise CorruptError(f"{self._address} does not speak HTTP: {lines[0][:80]!r}")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return int(rest[:3]), headers

    def _take(self, limit: int) -> bytes:
        """Return at least one and at most *limit* bytes of the body."""
        if not self._received and not self._receive():
            self.close()
            raise UnavailableError("the engine closed the connection in the middle of an answer")
        data = bytes(self._received[:limit])
        del self._received[:limit]
        return data

    def _exactly(self, count: int) -> Iterator[bytes]:
        while count:
            data = self._take(count)
            count -= len(data)
            yield data

    def _line(self) -> bytes:
        while (end := self._received.find(b"\n")) < 0:
            if not self._receive():
                self.close()
                raise UnavailableError(
                    "the engine closed the connection in the middle of an answer"
                )
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line.strip()

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._line().partition(b";")[0], 16):
            yield from self._exactly(size)
            self._line()
        while self._line():  # trailers
            pass

    def _until_close(self) -> Iterator[bytes]:
        while self._received or self._receive():
            yield self._take(_RECEIVE_BYTES)
        self.close()


def check(response: Response) -> Response:
    """Return *response* if it is a success; else raise its error with the engine's message."""
    if response.status < 400:
        return response
    raise error_of(response.status, response.read())


def error_of(status: int, body: bytes) -> OrlopError:
    """Return the error that the engine's {"message": …, "kind": …} tells of."""
    kind = None
    try:
        answer = jsontext.loads(body)
        message, kind = str(answer["message"]), answer.get("kind")
    except (AttributeError, CorruptError, KeyError, TypeError):
        message = body.decode(errors="replace").strip() or f"the engine answered {status}"
    return (class_of(str(kind)) if kind else _guessed(status, message))(message)


#: What dockerd says, whose errors have no kind.
_WORDS: tuple[tuple[str, type[OrlopError]], ...] = (
    ("no such image", ImageNotFoundError),
    ("already in use", AlreadyExistsError),
    ("is not running", NotRunningError),
    ("executable file not found", CommandNotFoundError),
    ("no such file or directory", CommandNotFoundError),
    ("permission denied", CommandNotExecutableError),
)


def _guessed(status: int, message: str) -> type[OrlopError]:
    """Return what an error without a kind may be, by its *message*, else by its *status*."""
    text = message.lower()
    found = (kind for words, kind in _WORDS if words in text and kind.status == status)
    usual = (NotFoundError, WrongStateError, PermissionDeniedError, UnavailableError)
    by_status = (kind for kind in usual if kind.status == status)
    other = InvalidArgumentError if status < 500 else OrlopError
    return next(found, None) or next(by_status, other)

"""Messages between the HTTP protocol and the handlers: requests and responses."""

import asyncio
import collections
import socket
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import NamedTuple

import msgspec

from orlop.errors import InvalidArgumentError, UnavailableError

#: Bytes of a body that may wait for a handler before we stop receiving.
BODY_HIGH_WATER = 256 << 10

#: Bytes of documents that are being read into memory, for all clients together.
MOST_HELD_BYTES = 32 << 20

#: Docker's clients' spellings of "no"; any other value means "yes".
_FALSE = frozenset(("", "0", "no", "false", "none"))


class Body:
    """A request's body while it arrives. Reading it lets more of it arrive.

    An iterator over the bytes, in pieces as the client sent them. A client
    that goes away before the end makes the reader raise ConnectionResetError.
    """

    _held_bytes = 0  # by read(), for all bodies

    def __init__(self, *, on_first_read: Callable[[], None], on_room: Callable[[], None]) -> None:
        self._pieces: collections.deque[bytes] = collections.deque()
        self._waiting_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._on_first_read: Callable[[], None] | None = on_first_read
        self._on_room: Callable[[], None] | None = on_room
        self.ended = False
        self.lost = False

    @property
    def full(self) -> bool:
        """Whether no more should be received, because so much waits to be read."""
        return self._waiting_bytes >= BODY_HIGH_WATER

    def feed(self, piece: bytes) -> None:
        """Append a piece from the parser."""
        self._pieces.append(piece)
        self._waiting_bytes += len(piece)
        self._wake()

    def end(self, *, lost: bool = False) -> None:
        """End the body; *lost* if the client went away before its end.

        It releases the connection, because the two would be a cycle until the next collection.
        """
        self.lost = lost and not self.ended
        self.ended = True
        self._on_first_read = self._on_room = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._on_first_read is not None:
            self._on_first_read()
            self._on_first_read = None
        while not self._pieces:
            if self.lost:
                raise ConnectionResetError("the client went away in the middle of a request")
            if self.ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        piece = self._pieces.popleft()
        self._waiting_bytes -= len(piece)
        if self._on_room is not None and not self.full:
            self._on_room()
        return piece

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            InvalidArgumentError: it is larger than *limit_bytes*.
            UnavailableError: clients send more at once than the engine has memory for.
        """
        pieces = []
        size = 0
        try:
            async for piece in self:
                size += len(piece)
                Body._held_bytes += len(piece)
                if size > limit_bytes:
                    raise InvalidArgumentError(f"request body is larger than {limit_bytes} bytes")
                if Body._held_bytes > MOST_HELD_BYTES:
                    raise UnavailableError(
                        f"the engine is busy: clients send more than {MOST_HELD_BYTES} bytes",
                        hint="try again",
                    )
                pieces.append(piece)
            return b"".join(pieces)
        finally:
            Body._held_bytes -= size


class Query:
    """The parameters after the "?", read with the types that Docker's clients use."""

    def __init__(self, text: str) -> None:
        self._values = urllib.parse.parse_qs(text, keep_blank_values=True) if text else {}

    def text(self, name: str, default: str = "") -> str:
        values = self._values.get(name)
        return values[0] if values else default

    def texts(self, name: str) -> list[str]:
        return list(self._values.get(name, ()))

    def flag(self, name: str, *, default: bool = False) -> bool:
        values = self._values.get(name)
        return values[0].strip().lower() not in _FALSE if values else default

    def integer(self, name: str) -> int | None:
        """Return the number, None if not given; InvalidArgumentError if it is not one."""
        text = self.text(name)
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise InvalidArgumentError(
                f"parameter {name} must be a whole number, not {text[:100]!r}"
            ) from None


class Peer(NamedTuple):
    """The process at the other end of the socket (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


class Request:
    """A request whose headers have arrived. The body may still be arriving."""

    __slots__ = (
        "body",
        "headers",
        "http_1_0",
        "keep_alive",
        "method",
        "path",
        "peer",
        "query",
        "upgrade",
    )

    def __init__(self, *, method: str, target: str, headers: Mapping[str, str], body: Body) -> None:
        path, _, query = target.partition("?")
        if path.startswith("http://"):
            path = "/" + path[7:].partition("/")[2]
        self.method = method
        self.path = urllib.parse.unquote(path) if "%" in path else path
        self.query = Query(query)
        self.headers = headers
        self.body = body
        self.keep_alive = True
        self.http_1_0 = False
        self.upgrade = False
        self.peer: Peer | None = None


class Response(NamedTuple):
    """A complete answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}

    @staticmethod
    def message(status: int, message: str) -> "Response":
        """Return an error in the form that Docker's clients read."""
        return Response(status, msgspec.json.encode({"message": message}))


class Stream(NamedTuple):
    """An answer whose headers are sent at once and whose *pieces* follow."""

    pieces: AsyncIterator[bytes]
    content_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = {}


class Hijack(NamedTuple):
    """An answer after which the connection is no longer HTTP.

    *take* gets the client's socket and the bytes that the client has sent early. It closes
    the socket, unless it raises.
    """

    take: Callable[[socket.socket, bytes], Awaitable[None]]
    content_type: str = "application/vnd.docker.raw-stream"
    headers: Mapping[str, str] = {}


Reply = Response | Stream | Hijack
Handler = Callable[[Request], Awaitable[Reply]]

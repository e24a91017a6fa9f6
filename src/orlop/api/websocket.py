"""WebSockets, the server's side. RFC 6455."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping
from wsproto.utilities import LocalProtocolError, RemoteProtocolError, generate_accept_token

from orlop.api.messages import Request
from orlop.errors import InvalidArgumentError

_VERSION = "13"
_CHUNK = 64 << 10
_NORMAL = 1000


class Piece(NamedTuple):
    """A part of a message, as it arrives; whether it is the last one."""

    data: bytes
    is_last: bool


def offered(request: Request) -> list[str]:
    """Return the subprotocols that the client speaks."""
    text = request.headers.get("sec-websocket-protocol", "")
    return [word for word in map(str.strip, text.split(",")) if word]


def accept(request: Request, protocols: Sequence[str] = ()) -> dict[str, str]:
    """Return the headers that accept *request*, with the first of *protocols* that it offers.

    InvalidArgumentError if it is not an upgrade, or offers none of the *protocols*.
    """
    headers = request.headers
    key = headers.get("sec-websocket-key", "")
    if headers.get("upgrade", "").lower() != "websocket" or not key:
        raise InvalidArgumentError(
            "this is for a websocket", hint="send Upgrade: websocket and Sec-WebSocket-Key"
        )
    if headers.get("sec-websocket-version") != _VERSION:
        raise InvalidArgumentError(f"only version {_VERSION} of websockets is spoken here")
    answer = {"Sec-WebSocket-Accept": generate_accept_token(key.encode("latin-1")).decode()}
    if protocols:
        theirs = offered(request)
        chosen = next((one for one in protocols if one in theirs), None)
        if chosen is None:
            raise InvalidArgumentError(
                "no subprotocol of the websocket is known",
                hint=f"offer one of {', '.join(protocols)}",
            )
        answer["Sec-WebSocket-Protocol"] = chosen
    return answer


class WebSocket:
    """A connection after its upgrade; *pending* is what came after the request."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pending: bytes
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._connection = Connection(ConnectionType.SERVER, trailing_data=pending)

    @classmethod
    async def open(cls, client: socket.socket, pending: bytes) -> "WebSocket":
        """Take over *client*."""
        return cls(*await asyncio.open_connection(sock=client), pending)

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield what the client sends, until it closes, goes, or breaks the protocol."""
        with suppress(ConnectionError, RemoteProtocolError, LocalProtocolError):
            while True:
                for event in self._connection.events():
                    match event:
                        case Message(data=data):
                            raw = data.encode() if isinstance(data, str) else bytes(data)
                            yield Piece(raw, event.message_finished)
                        case Ping() | CloseConnection():
                            self._writer.write(self._connection.send(event.response()))
                            if isinstance(event, CloseConnection):
                                await self._writer.drain()
                                return
                data = await self._reader.read(_CHUNK)
                self._connection.receive_data(data or None)

    async def send(self, data: bytes) -> None:
        """Send a binary message; ConnectionError if the client is gone."""
        try:
            self._writer.write(self._connection.send(BytesMessage(data=data)))
        except LocalProtocolError as error:  # closing has begun
            raise ConnectionResetError("the client has closed the websocket") from error
        await self._writer.drain()

    async def end(self) -> None:
        """Send that there is no more; the client may be gone."""
        with suppress(ConnectionError, LocalProtocolError):
            self._writer.write(self._connection.send(CloseConnection(code=_NORMAL)))
            await self._writer.drain()

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

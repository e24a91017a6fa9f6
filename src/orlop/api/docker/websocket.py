"""A container's streams over a WebSocket: binary messages, both outputs in one. RFC 6455.

client <-- messages --> _Relay <-- socket pair --> the stdio process, as for any attach
"""

import asyncio
import contextlib
import socket

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError, generate_accept_token

from orlop.api.messages import Request
from orlop.errors import InvalidArgumentError

_VERSION = "13"
_CHUNK = 64 << 10
_ENDED = 1000  # the normal closure
#: Timeout for writes to a client that may be gone.
_CLOSING_S = 5.0


def accept(request: Request) -> dict[str, str]:
    """Return the headers that accept *request*; InvalidArgumentError if it is not an upgrade."""
    headers = request.headers
    key = headers.get("sec-websocket-key", "")
    if headers.get("upgrade", "").lower() != "websocket" or not key:
        raise InvalidArgumentError(
            "this is for a websocket", hint="send Upgrade: websocket and Sec-WebSocket-Key"
        )
    if headers.get("sec-websocket-version") != _VERSION:
        raise InvalidArgumentError(f"only version {_VERSION} of websockets is spoken here")
    return {"Sec-WebSocket-Accept": generate_accept_token(key.encode("latin-1")).decode()}


async def relay(client: socket.socket, pending: bytes, ours: socket.socket) -> None:
    """Copy bytes between *client*'s messages and *ours* until one of them ends; close both."""
    them = await asyncio.open_connection(sock=client)
    us = await asyncio.open_connection(sock=ours)
    with ours.dup() as to_stdio:
        try:
            await _Relay(them, us[0], to_stdio, pending).run()
        finally:
            for _, writer in (them, us):
                writer.close()


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Relay:
    """*to_stdio* is not a stream's: a failure to write to one loses what it has still to read."""

    def __init__(
        self,
        client: _Streams,
        from_stdio: asyncio.StreamReader,
        to_stdio: socket.socket,
        pending: bytes,
    ) -> None:
        self._from_client, self._to_client = client
        self._from_stdio = from_stdio
        self._to_stdio = to_stdio
        self._takes_input = True
        self._connection = Connection(ConnectionType.SERVER, trailing_data=pending)

    async def run(self) -> None:
        up = asyncio.create_task(self._up())
        down = asyncio.create_task(self._down())
        done, _ = await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        if up in done:  # the client is gone
            down.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(up, _CLOSING_S)
        await asyncio.gather(up, down, return_exceptions=True)

    async def _up(self) -> None:
        """Write the client's data, until it closes or breaks the protocol."""
        with contextlib.suppress(ConnectionError, RemoteProtocolError, LocalProtocolError):
            while await self._take():
                data = await self._from_client.read(_CHUNK)
                self._connection.receive_data(data or None)

    async def _take(self) -> bool:
        """Handle the received data; False once the client has closed."""
        for event in self._connection.events():
            match event:
                case BytesMessage(data=data):
                    await self._give(bytes(data))
                case TextMessage(data=text):
                    await self._give(text.encode())
                case Ping() | CloseConnection():
                    self._to_client.write(self._connection.send(event.response()))
                    if isinstance(event, CloseConnection):
                        await self._to_client.drain()
                        return False
        return True

    async def _give(self, data: bytes) -> None:
        """Give the container its input; what comes after its end is dropped."""
        if self._takes_input:
            try:
                await asyncio.get_running_loop().sock_sendall(self._to_stdio, data)
            except ConnectionError:
                self._takes_input = False

    async def _output(self) -> bytes:
        """Return the next piece of output; none at its end, though input was left over."""
        with contextlib.suppress(ConnectionError):
            return await self._from_stdio.read(_CHUNK)
        return b""

    async def _down(self) -> None:
        """Send the container's output, and its end."""
        with contextlib.suppress(ConnectionError, LocalProtocolError):
            while data := await self._output():
                self._to_client.write(self._connection.send(BytesMessage(data=data)))
                await self._to_client.drain()
            self._to_client.write(self._connection.send(CloseConnection(code=_ENDED)))
            await self._to_client.drain()

"""A container's streams over a WebSocket: binary messages, both outputs in one.

client <-- messages --> _Relay <-- socket pair --> the stdio process, as for any attach
"""

import asyncio
import contextlib
import socket

from orlop.api.websocket import WebSocket

_CHUNK = 64 << 10
#: Timeout for writes to a client that may be gone.
_CLOSING_S = 5.0


async def relay(client: socket.socket, pending: bytes, ours: socket.socket) -> None:
    """Copy bytes between *client*'s messages and *ours* until one of them ends; close both."""
    them = await WebSocket.open(client, pending)
    reader, writer = await asyncio.open_connection(sock=ours)
    with ours.dup() as to_stdio:
        try:
            await _Relay(them, reader, to_stdio).run()
        finally:
            them.close()
            writer.close()


class _Relay:
    """*to_stdio* is not a stream's: a failure to write to one loses what it has still to read."""

    def __init__(
        self, client: WebSocket, from_stdio: asyncio.StreamReader, to_stdio: socket.socket
    ) -> None:
        self._client = client
        self._from_stdio = from_stdio
        self._to_stdio = to_stdio
        self._takes_input = True

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
        async for piece in self._client.pieces():
            await self._give(piece.data)

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
        with contextlib.suppress(ConnectionError):
            while data := await self._output():
                await self._client.send(data)
            await self._client.end()

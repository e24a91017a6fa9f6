"""Streams over a websocket, told apart by the first byte of each message.

v4.channel.k8s.io, and v5 with which a client can end a stream: a message of 255 and its number.
"""

from collections.abc import AsyncIterator
from contextlib import suppress

from orlop.api.cri.streaming.streams import Inflow
from orlop.api.websocket import WebSocket

_END = 255
_MOST_DATA = 32 << 10


class Channel:
    """One stream, both ways."""

    def __init__(self, websocket: WebSocket, number: int) -> None:
        self.inflow = Inflow()
        self._websocket = websocket
        self._number = bytes([number])

    async def read(self) -> bytes:
        """Return the next bytes; none at the end."""
        return await self.inflow.read()

    async def write(self, data: bytes) -> None:
        """Send; ConnectionError if the client has gone. Empty data is a message, too."""
        for at in range(0, max(len(data), 1), _MOST_DATA):
            await self._websocket.send(self._number + data[at : at + _MOST_DATA])

    async def end(self) -> None:
        """Do nothing: only the end of the connection ends what a client receives."""


class Channels:
    """A websocket with a fixed number of streams; run() reads it to its end."""

    def __init__(self, websocket: WebSocket, count: int) -> None:
        self._websocket = websocket
        self.all = [Channel(websocket, number) for number in range(count)]

    async def run(self) -> None:
        """Read until the client goes."""
        number: int | None = None  # of the message that is coming in
        try:
            async for piece in self._websocket.pieces():
                data = piece.data
                if number is None and data:
                    number, data = data[0], data[1:]
                if number == _END and data:
                    self._end(data[0])
                elif number is not None and number < len(self.all):
                    await self.all[number].inflow.put(data)
                if piece.is_last:
                    number = None
        finally:
            for channel in self.all:
                channel.inflow.finish()

    async def end(self) -> None:
        """End the connection."""
        for channel in self.all:
            channel.inflow.drop()
        await self._websocket.end()

    def _end(self, number: int) -> None:
        if number < len(self.all):
            self.all[number].inflow.finish()


class WebSocketPipe:
    """The bytes of a websocket's messages, in which another protocol is carried."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._pieces = _bytes(websocket)

    async def read(self) -> bytes:
        """Return the next bytes; none at the end."""
        return await anext(self._pieces, b"")

    async def write(self, data: bytes) -> None:
        """Send; ConnectionError if the client has gone."""
        await self._websocket.send(data)

    async def end(self) -> None:
        """Send that there is no more."""
        with suppress(ConnectionError):
            await self._websocket.end()

    def close(self) -> None:
        """Close it."""
        self._websocket.close()


async def _bytes(websocket: WebSocket) -> AsyncIterator[bytes]:
    async for piece in websocket.pieces():
        if piece.data:
            yield piece.data

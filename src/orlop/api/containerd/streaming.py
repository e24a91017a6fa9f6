"""The service Streaming: streams that a client opens by id, for another call to use."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from orlop.api.containerd import v1
from orlop.errors import (
    AlreadyExistsError,
    ExhaustedError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)

_MOST_STREAMS = 256
_MOST_QUEUED = 64
_LONGEST_ID = 256
_WINDOW = 64 << 10  # bytes that a client may send before it is asked for more
_PIECE = 32 << 10
_TYPES = "containerd.types.transfer"


class Channel:
    """A stream that a client has opened. What is sent waits while the client does not read it."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[AnyMessage | None] = asyncio.Queue(_MOST_QUEUED)
        self.sent: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(_MOST_QUEUED)
        self.over = asyncio.Event()

    async def send(self, name: str, message: Message) -> None:
        """Send a message whose type clients know by *name*; UnavailableError if they have gone."""
        value = {"type_url": f"{_TYPES}.{name}", "value": message.SerializeToString()}
        await self._unless_over(self.sent.put(value))

    def try_send(self, name: str, message: Message) -> None:
        """Send a message, unless the client is behind."""
        if not self.sent.full():
            value = {"type_url": f"{_TYPES}.{name}", "value": message.SerializeToString()}
            self.sent.put_nowait(value)

    async def receive(self, kind: type[Message]) -> Any:
        """Return the next message; None at the end. InvalidArgumentError if it is none."""
        given = await self._unless_over(self.received.get())
        if given is None:
            return None
        try:
            return kind.FromString(given.value)
        except DecodeError:
            raise InvalidArgumentError("a message of the stream cannot be read") from None

    async def _unless_over(self, work: Any) -> Any:
        doing, ending = asyncio.ensure_future(work), asyncio.ensure_future(self.over.wait())
        try:
            await asyncio.wait({doing, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise UnavailableError("the client has closed the stream")
            return doing.result()
        finally:
            doing.cancel()
            ending.cancel()

    async def data(self) -> AsyncIterator[bytes]:
        """Yield the bytes that the client sends, until it ends them."""
        window = 0
        while True:
            if window < _WINDOW:
                await self.send("WindowUpdate", v1.WindowUpdate(update=_WINDOW))
                window += _WINDOW
            message = await self.receive(v1.Data)
            if message is None:
                return
            window -= len(message.data)
            yield message.data

    async def send_data(self, pieces: AsyncIterator[bytes]) -> None:
        """Send bytes, as many as the client asks for."""
        window = 0
        async for data in pieces:
            rest = memoryview(data)
            while rest:
                while window <= 0 or not self.received.empty():
                    update = await self.receive(v1.WindowUpdate)
                    if update is None:
                        raise UnavailableError("the client has closed the stream")
                    window += update.update
                piece = rest[: min(_PIECE, window)]
                await self.send("Data", v1.Data(data=bytes(piece)))
                window -= len(piece)
                rest = rest[len(piece) :]

    async def close(self) -> None:
        """Send the end, after what was sent before."""
        if not self.over.is_set():
            await self._unless_over(self.sent.put(None))


class Channels:
    """All streams of one engine that are open."""

    def __init__(self) -> None:
        self._open: dict[str, Channel] = {}

    def add(self, stream_id: str) -> Channel:
        """Open a stream; AlreadyExistsError."""
        if not stream_id or len(stream_id) > _LONGEST_ID:
            raise InvalidArgumentError(f"a stream's id has 1 to {_LONGEST_ID} characters")
        if stream_id in self._open:
            raise AlreadyExistsError(f"the stream {stream_id} is open")
        if len(self._open) >= _MOST_STREAMS:
            raise ExhaustedError(f"{_MOST_STREAMS} streams are open")
        self._open[stream_id] = Channel()
        return self._open[stream_id]

    def get(self, stream_id: str) -> Channel:
        """Return the stream; NotFoundError if it is not open."""
        try:
            return self._open[stream_id]
        except KeyError:
            raise NotFoundError(f"no stream {stream_id[:200]}") from None

    def remove(self, stream_id: str) -> None:
        """Forget the stream: its client has gone, or it is at its end."""
        self._open.pop(stream_id).over.set()


class StreamingCalls:
    """Opens streams."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def Stream(self, requests: AsyncIterator[AnyMessage]) -> AsyncGenerator[AnyMessage, None]:
        first = await anext(requests, None)
        if first is None:
            raise InvalidArgumentError("the call names no stream")
        try:
            stream_id = v1.StreamInit.FromString(first.value).id
        except DecodeError:
            raise InvalidArgumentError("the call names no stream") from None
        channel = self._channels.add(stream_id)
        receiving = asyncio.ensure_future(_receive(requests, channel))
        try:
            yield AnyMessage(type_url="google.protobuf.Empty")
            while (message := await channel.sent.get()) is not None:
                yield AnyMessage(**message)
        finally:
            self._channels.remove(stream_id)
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)


async def _receive(requests: AsyncIterator[AnyMessage], channel: Channel) -> None:
    async for message in requests:
        await channel.received.put(message)
    await channel.received.put(None)

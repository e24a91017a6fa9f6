"""A SPDY/3.1 connection: the streams that a client opens.

There is no flow control, as in the clients and servers of Kubernetes: what is not read stops the
whole connection.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress

from orlop.api.cri.streaming.spdy_frames import (
    Data,
    Decoder,
    Encoder,
    Frame,
    Opened,
    Pinged,
    Reset,
    data_frames,
    leaving_frame,
    ping_frame,
    reset_frame,
)
from orlop.api.cri.streaming.streams import Inflow, Pipe

_MOST_STREAMS = 512  # open at once


class SpdyStream:
    """One stream, both ways."""

    def __init__(self, pipe: Pipe, number: int, headers: Mapping[str, str]) -> None:
        self.number = number
        self.headers = headers
        self.inflow = Inflow()
        self._pipe = pipe
        self._ended = False

    async def read(self) -> bytes:
        """Return the next bytes; none at the end."""
        return await self.inflow.read()

    async def write(self, data: bytes) -> None:
        """Send; ConnectionError if the client has gone."""
        if self._ended:
            raise ConnectionResetError("the stream has ended")
        for frame in data_frames(self.number, data):
            await self._pipe.write(frame)

    async def end(self) -> None:
        """Send that there is no more; no error if the client has gone."""
        if not self._ended:
            self._ended = True
            with suppress(ConnectionError):
                for frame in data_frames(self.number, b"", is_last=True):
                    await self._pipe.write(frame)

    def reset(self) -> None:
        """Take note that the client has dropped it."""
        self._ended = True
        self.inflow.drop()


class SpdySession:
    """A connection with streams; run() reads it to its end."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._decoder = Decoder()
        self._encoder = Encoder()
        self._streams: dict[int, SpdyStream] = {}
        self._opened: asyncio.Queue[SpdyStream | None] = asyncio.Queue()
        self._last = 0

    async def opened(self) -> AsyncGenerator[SpdyStream, None]:
        """Yield the streams that the client opens."""
        while (stream := await self._opened.get()) is not None:
            yield stream

    async def run(self) -> None:
        """Read until the client goes; ValueError if it breaks the protocol."""
        try:
            while data := await self._pipe.read():
                for frame in self._decoder.feed(data):
                    await self._handle(frame)
        except ConnectionError:
            return
        finally:
            for stream in self._streams.values():
                stream.inflow.finish()
            self._opened.put_nowait(None)

    async def end(self) -> None:
        """End all streams and the connection, in this order."""
        for stream in self._streams.values():
            stream.inflow.drop()
            await stream.end()
        with suppress(ConnectionError):
            await self._pipe.write(leaving_frame(self._last))
        await self._pipe.end()

    def forget(self, stream: SpdyStream) -> None:
        """Drop what still comes on a stream that is done with."""
        stream.inflow.drop()
        self._streams.pop(stream.number, None)

    async def _handle(self, frame: Frame) -> None:
        match frame:
            case Opened():
                await self._open(frame)
            case Data(stream=number) if number in self._streams:
                inflow = self._streams[number].inflow
                await inflow.put(frame.data)
                if frame.is_last:
                    inflow.finish()
            case Reset(stream=number) if number in self._streams:
                self._streams.pop(number).reset()
            case Pinged(number=number):
                await self._pipe.write(ping_frame(number))

    async def _open(self, frame: Opened) -> None:
        if frame.stream <= self._last or len(self._streams) >= _MOST_STREAMS:
            await self._pipe.write(reset_frame(frame.stream))
            return
        self._last = frame.stream
        stream = SpdyStream(self._pipe, frame.stream, frame.headers)
        if frame.is_last:
            stream.inflow.finish()
        self._streams[stream.number] = stream
        await self._pipe.write(self._encoder.reply(stream.number))
        self._opened.put_nowait(stream)

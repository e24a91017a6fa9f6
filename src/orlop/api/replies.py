"""Write a Reply to a connection."""

import contextlib
import socket
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from typing import Protocol

from orlop.api.messages import Hijack, Reply, Request, Response, Stream

_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Writer(Protocol):
    """The part of a connection that replies use."""

    async def write(self, data: bytes) -> None:
        """Send; ConnectionResetError if the client is gone."""

    async def detach(self, last: bytes) -> tuple[socket.socket, bytes]:
        """Send *last* and give the socket away, with the bytes that the client sent early."""

    @property
    def common_headers(self) -> str:
        """Headers that every answer has, each ended by CR LF."""


async def send(writer: Writer, request: Request, reply: Reply) -> None:
    """Write *reply* as the answer to *request*; clear request.keep_alive if it ends by closing."""
    if isinstance(reply, Response):
        await _send_response(writer, request, reply)
    elif isinstance(reply, Stream):
        await _send_stream(writer, request, reply)
    else:
        await _hijack(writer, request, reply)


async def _send_response(writer: Writer, request: Request, reply: Response) -> None:
    bodiless = reply.status in (204, 304)
    framing = "" if bodiless else f"Content-Length: {len(reply.body)}\r\n"
    content_type = reply.content_type if reply.body else ""
    head = _head(writer, request, reply.status, content_type, reply.headers, framing)
    await writer.write(head if bodiless or request.method == "HEAD" else head + reply.body)


async def _send_stream(writer: Writer, request: Request, reply: Stream) -> None:
    if request.http_1_0:
        request.keep_alive = False
    framing = "" if request.http_1_0 else "Transfer-Encoding: chunked\r\n"
    head = _head(writer, request, reply.status, reply.content_type, reply.headers, framing)
    async with contextlib.AsyncExitStack() as stack:
        if isinstance(reply.pieces, AsyncGenerator):
            stack.push_async_callback(reply.pieces.aclose)
        await writer.write(head)
        if request.method == "HEAD":
            return
        async for piece in reply.pieces:
            if request.http_1_0:
                await writer.write(piece)
            elif piece:  # an empty chunk would end the body
                await writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    if not request.http_1_0:
        await writer.write(b"0\r\n\r\n")


async def _hijack(writer: Writer, request: Request, reply: Hijack) -> None:
    if request.upgrade:
        protocol = request.headers.get("upgrade", "tcp")
        head = f"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n"
    else:
        head = "HTTP/1.1 200 OK\r\n"
    if reply.content_type:
        head += f"Content-Type: {reply.content_type}\r\n"
    head += writer.common_headers
    head += "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items()) + "\r\n"
    client, pending = await writer.detach(head.encode("latin-1"))
    try:
        await reply.take(client, pending)
    except BaseException:
        client.close()
        raise


def _head(
    writer: Writer,
    request: Request,
    status: int,
    content_type: str,
    headers: Mapping[str, str],
    framing: str,
) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n", writer.common_headers, framing]
    if content_type:
        lines.append(f"Content-Type: {content_type}\r\n")
    lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
    if not request.keep_alive:
        lines.append("Connection: close\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1", "replace")

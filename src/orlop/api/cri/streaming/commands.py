"""Commands and attachments, with a client's streams."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

from orlop.api.cri import v1
from orlop.api.cri.streaming.streams import Sink, Source
from orlop.engine.engine import Engine
from orlop.engine.execs.messages import ClientStreams
from orlop.engine.requests import AttachRequest
from orlop.errors import OrlopError
from orlop.model.container import ExecOptions

_HEAD = struct.Struct(">BxxxI")  # of a frame: stream, size
_STDOUT, _STDERR, _STATUS = 1, 2, 4
_MOST_RESIZES = 4096  # bytes of one


class Client(NamedTuple):
    """The streams of a client; None for what it does not want."""

    stdin: Source | None
    stdout: Sink | None
    stderr: Sink | None
    error: Sink
    resize: Source | None


Resize = Callable[[int, int], Awaitable[None]]  # height, width


async def execute(engine: Engine, request: v1.ExecRequest, client: Client) -> None:
    """Run a command, and tell the client how it ended. It is killed if this is cancelled."""
    options = ExecOptions(
        command=tuple(request.cmd),
        terminal=request.tty,
        attach_stdin=request.stdin,
        attach_stdout=request.stdout,
        attach_stderr=request.stderr and not request.tty,
        grouped=True,
    )
    async with _told(client.error):
        exec_id = await engine.execs.create(request.container_id, options)
        ours, theirs = socket.socketpair()

        async def resize(height: int, width: int) -> None:
            await engine.execs.resize(exec_id, height=height, width=width)

        try:
            with ours, theirs:
                await engine.execs.start(exec_id, ClientStreams(theirs, tell_status=True))
                status = await _converse(ours, client, resize)
        except asyncio.CancelledError:
            with suppress(OrlopError):
                await engine.execs.kill(exec_id)
            raise
        await _tell(client.error, _ended(status))


async def attach(engine: Engine, request: v1.AttachRequest, client: Client) -> None:
    """Join the client to a container's streams until one of them ends."""

    async def resize(height: int, width: int) -> None:
        await engine.containers.resize(request.container_id, height=height, width=width)

    async with _told(client.error):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            asked = AttachRequest(
                stdin=request.stdin,
                stdout=request.stdout,
                stderr=request.stderr and not request.tty,
                detach_keys="",
            )
            await engine.containers.attach(request.container_id, theirs, asked)
            await _converse(ours, client, resize)
        await _tell(client.error, _ended(0))


async def _converse(ours: socket.socket, client: Client, resize: Resize) -> int | None:
    """Copy between the client and a process, until the process has ended; return its exit code."""
    ours.setblocking(False)  # noqa: FBT003 - has no keyword
    reader, writer = await asyncio.open_connection(sock=ours.dup())
    helpers = [asyncio.ensure_future(_type(client.stdin, ours))]
    if client.resize is not None:
        helpers.append(asyncio.ensure_future(_resize(client.resize, resize)))
    try:
        return await _show(reader, client)
    finally:
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        writer.close()


async def _type(source: Source | None, process: socket.socket) -> None:
    """Give a process its input."""
    if source is None:
        return
    loop = asyncio.get_running_loop()
    with suppress(OSError):  # it takes no more
        while data := await source.read():
            await loop.sock_sendall(process, data)
        process.shutdown(socket.SHUT_WR)


async def _show(reader: asyncio.StreamReader, client: Client) -> int | None:
    """Send the client what a process writes; return its exit code, None if it was not told."""
    sinks = {_STDOUT: client.stdout, _STDERR: client.stderr}
    with suppress(asyncio.IncompleteReadError, ConnectionResetError):
        while True:
            stream, size = _HEAD.unpack(await reader.readexactly(_HEAD.size))
            data = await reader.readexactly(size)
            if stream == _STATUS:
                return int(data.split()[0])  # after it is what the process has used
            sink = sinks.get(stream)
            if sink is not None:
                await sink.write(data)
    return None


async def _resize(source: Source, resize: Resize) -> None:
    """Change the terminal's size whenever the client says so: {"Width": 80, "Height": 24}."""
    decoder, text = json.JSONDecoder(), ""
    while data := await source.read():
        text = (text + data.decode(errors="replace")).lstrip()
        while text:
            try:
                size, end = decoder.raw_decode(text)
                height, width = int(size["Height"]), int(size["Width"])
            except json.JSONDecodeError:  # the rest is to come
                break
            except (KeyError, TypeError, ValueError):
                return
            text = text[end:].lstrip()
            if 0 < height < 65536 and 0 < width < 65536:
                with suppress(OrlopError):
                    await resize(height, width)
        if len(text) > _MOST_RESIZES:
            return


@asynccontextmanager
async def _told(error: Sink) -> AsyncIterator[None]:
    """Tell the client of an error in the block."""
    try:
        yield
    except OrlopError as failure:
        await _tell(error, _status("Failure", str(failure), reason="InternalError", code=500))


async def _tell(error: Sink, status: dict[str, object]) -> None:
    with suppress(ConnectionError):
        await error.write(json.dumps(status).encode())


def _ended(exit_code: int | None) -> dict[str, object]:
    """Return a Status, as Kubernetes' API has it, for a process that has ended."""
    if exit_code == 0:
        return _status("Success")
    if exit_code is None:
        message = "the process has ended, and its exit code is not known"
        return _status("Failure", message, reason="InternalError", code=500)
    return _status(
        "Failure",
        f"command terminated with non-zero exit code: {exit_code}",
        reason="NonZeroExitCode",
        details={"causes": [{"reason": "ExitCode", "message": str(exit_code)}]},
    )


def _status(status: str, message: str = "", **more: object) -> dict[str, object]:
    said: dict[str, object] = {"message": message} if message else {}
    return {"metadata": {}, "status": status, **said, **more}

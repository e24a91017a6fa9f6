"""Processes in running containers."""

import socket

from orlop.api.docker.answers import NO_CONTENT, json, stream_type
from orlop.api.docker.attach import hand_over, size_of
from orlop.api.docker.parse_container import parse_console_size, parse_exec
from orlop.api.docker.render_container import render_exec
from orlop.api.docker.routing import Call
from orlop.api.docker.wire import ExecCreate, ExecStart, read_json
from orlop.api.messages import Hijack, Reply, Response
from orlop.engine.execs.messages import ClientStreams


async def create(call: Call) -> Reply:
    """POST /containers/{name}/exec.

    With ?start=1, which Docker does not have, it is started at once: the answer is that of
    POST /exec/{name}/start, with the header Orlop-Exec-Id, and frames end with the exit code.
    """
    body = await read_json(call.request, ExecCreate)
    exec_id = await call.engine.execs.create(call.name, parse_exec(body))
    if call.query.flag("start"):
        return _converse(call, exec_id, size=None, plain=bool(body.tty), tell_status=True)
    return json({"Id": exec_id}, status=201)


async def start(call: Call) -> Reply:
    """POST /exec/{name}/start."""
    body = await read_json(call.request, ExecStart)
    process = call.engine.execs.get(call.name)
    size = parse_console_size(body.console_size)
    if body.detach:
        await call.engine.execs.start(process.id, size=size)
        return Response(200)
    call.engine.execs.check_start(process.id)  # while a refusal can still have a status
    return _converse(call, process.id, size=size, plain=bool(body.tty), tell_status=False)


def _converse(
    call: Call, exec_id: str, *, size: tuple[int, int] | None, plain: bool, tell_status: bool
) -> Hijack:
    """Start the process on the connection. Its output is *plain* bytes, or in frames."""

    async def take(client: socket.socket, pending: bytes) -> None:
        streams = ClientStreams(client, pending, tell_status=tell_status, framed=not plain)
        starting = call.engine.execs.start(exec_id, streams, size=size)
        await hand_over(client, starting, terminal=plain)

    kind = stream_type(terminal=plain, version=call.version)
    return Hijack(take, kind, {"Orlop-Exec-Id": exec_id})


async def resize(call: Call) -> Reply:
    """POST /exec/{name}/resize."""
    height, width = size_of(call)
    await call.engine.execs.resize(call.name, height=height, width=width)
    return Response(200)


async def inspect(call: Call) -> Reply:
    """GET /exec/{name}/json."""
    return json(render_exec(await call.engine.execs.settled(call.name)))


async def kill(call: Call) -> Reply:
    """POST /exec/{name}/kill, which Docker does not have: with all that it has started."""
    await call.engine.execs.kill(call.name)
    return NO_CONTENT

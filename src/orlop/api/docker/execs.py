"""Processes in running containers."""

import socket

from orlop.api.docker.answers import NO_CONTENT, json, stream_type
from orlop.api.docker.attach import hand_over, size_of
from orlop.api.docker.parse_container import parse_exec
from orlop.api.docker.render_container import render_exec
from orlop.api.docker.routing import Call
from orlop.api.docker.wire import ExecCreate, ExecStart, read_json
from orlop.api.messages import Hijack, Reply, Response
from orlop.engine.execs import ClientStreams
from orlop.errors import InvalidArgumentError


async def create(call: Call) -> Reply:
    """POST /containers/{name}/exec.

    With ?start=1, which Docker does not have, it is started at once: the answer is that of
    POST /exec/{name}/start, with the header Orlop-Exec-Id, and frames end with the exit code.
    """
    body = await read_json(call.request, ExecCreate)
    size = _console_size(body)
    exec_id = await call.engine.execs.create(call.name, parse_exec(body))
    if call.query.flag("start"):
        return _converse(call, exec_id, size=size, tell_status=True)
    return json({"Id": exec_id}, status=201)


async def start(call: Call) -> Reply:
    """POST /exec/{name}/start."""
    body = await read_json(call.request, ExecStart)
    process = call.engine.execs.get(call.name)
    size = _console_size(body)
    if body.detach:
        await call.engine.execs.start(process.id, size=size)
        return Response(200)
    call.engine.execs.check_start(process.id)  # while a refusal can still have a status
    return _converse(call, process.id, size=size, tell_status=False)


def _converse(
    call: Call, exec_id: str, *, size: tuple[int, int] | None, tell_status: bool
) -> Hijack:
    """Start the process on the connection."""
    terminal = call.engine.execs.get(exec_id).options.terminal

    async def take(client: socket.socket, pending: bytes) -> None:
        streams = ClientStreams(client, pending, tell_status=tell_status)
        starting = call.engine.execs.start(exec_id, streams, size=size)
        await hand_over(client, starting, terminal=terminal)

    kind = stream_type(terminal=terminal, version=call.version)
    return Hijack(take, kind, {"Orlop-Exec-Id": exec_id})


def _console_size(body: ExecCreate | ExecStart) -> tuple[int, int] | None:
    """Return height and width of the client's terminal, None if it does not say."""
    size = body.console_size
    if size is None:
        return None
    if len(size) != 2 or not all(0 <= n < 65536 for n in size):
        raise InvalidArgumentError("ConsoleSize must be a terminal's height and width")
    return (size[0], size[1]) if all(size) else None


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

"""The quick way to a sandbox: `sandboxes.sock`, where a client sends its own streams along.

One JSON object a datagram (SEQPACKET), requests with "op" and "seq". A sandbox is its
connection's: it ends when that does, or the process that opened it.

    start    options (the body of POST /containers/create), disk?, args?, env?, folder?,
             lifetime?, timeout? (of the args; both in seconds), timeline?; descriptors:
             stdin, stdout, stderr, or none where there are no args
             -> {"id": …, "steps"?}; with count, and no args, -> {"ids": […]}, all or none
    fork     id, count, disk?  -> {"ids": […]}, each for one "start" with fork: its id, which
             begins with a copy of the files; until then they are this connection's
    exec     id, args, env?, folder?, user?, timeout?, timeline?; descriptors as above
             -> {"exec": …, "steps"?}
    kill     id, exec      with all that it has started, also after its own end
    close    id, or ids    -> answered when they are gone

Any may have "traceparent", of W3C Trace Context.

Answers are {"seq", "ok"} or {"seq", "error": {"kind", "message", "hint"}}; what ends is told
by {"exit": id, "exec"?, "status", "signal", "oom", "timed_out", "usage", "time_ns"}. The
kind "unsupported" means that such a sandbox, or command, has to be started over HTTP.
"""

import array
import asyncio
import contextlib
import logging
import os
import re
import resource
import socket
import stat
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from orlop.api.docker.parse_container import parse_create
from orlop.api.docker.wire import Create
from orlop.api.intake import Intake
from orlop.api.late import bound
from orlop.engine.engine import Engine
from orlop.engine.execs.messages import Command
from orlop.engine.fork_sources import Fork
from orlop.engine.networks.modes import has_own_namespace
from orlop.engine.owner import describe
from orlop.engine.recipes import Recipe
from orlop.engine.sandboxes import Terms
from orlop.engine.telemetry.asked import Asked, asked
from orlop.errors import (
    InvalidArgumentError,
    NotFoundError,
    OrlopError,
    UnsupportedError,
    failure_of,
)
from orlop.model.container import ContainerOptions
from orlop.model.timeline import OFF, Recorder

log = logging.getLogger(__name__)

_MOST_BYTES = 1 << 20
_MOST_FDS = 8
_CREDENTIALS = struct.Struct("3i")
_SPACE = socket.CMSG_SPACE(_MOST_FDS * 4)
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)
_CUT_SHORT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_STREAMS = 3
_LONGEST_S = 1e9
_MOST_AT_ONCE = 1024
_MOST_UNDER_WAY = 32  # requests of a connection
_PAUSE_S = 0.1  # where there is no descriptor for another connection
_NO_LINGER = struct.pack("ii", 0, 0)
_is_exec = re.compile("[0-9a-f]{1,64}").fullmatch

_buffer = bytearray(_MOST_BYTES)  # a message is decoded before the next is read


class Request(msgspec.Struct):
    """Any of the requests."""

    op: str
    seq: int
    options: msgspec.Raw = msgspec.Raw(b"")
    disk: int = 0
    lifetime: float = 0.0
    timeout: float = 0.0
    args: list[str] = []
    env: list[str] = []
    folder: str = ""
    user: str = ""
    timeline: bool = False
    traceparent: str = ""
    count: int = 1
    fork: str = ""
    id: str = ""
    ids: list[str] = []
    exec: str = ""


_decode = msgspec.json.Decoder(Request).decode
_decode_options = msgspec.json.Decoder(Create).decode
_encode = msgspec.json.Encoder().encode


class DirectServer:
    """Listens at *path* while it is open."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine = engine
        self._path = path
        self._listener = bound(path, socket.SOCK_SEQPACKET)
        self._listener.listen(1024)
        self.connections: set[Connection] = set()
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.intake = Intake(limit, gone=engine.sandboxes.turns.drop)
        engine.telemetry.queues["held_back_connections"] = lambda: self.intake.held_back
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(64):
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # it would be told again at once
                log.warning("no connection can be accepted", extra={"why": str(error)})
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listener)
                loop.call_later(_PAUSE_S, self._accept_again)
                return
            try:
                self.connections.add(Connection(self._engine, client, self))
            except OrlopError as error:
                with client, contextlib.suppress(OSError):
                    client.send(_encode({"seq": 0, "error": failure_of(error)}))

    def _accept_again(self) -> None:
        if self._listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Listen no more; sandboxes stay, for an engine that comes after us."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        for connection in list(self.connections):
            connection.leave()


class Connection:
    """One client's."""

    def __init__(self, engine: Engine, client: socket.socket, server: DirectServer) -> None:
        """ExhaustedError where there are too many; *client* stays the caller's then."""
        self._engine = engine
        self._client = client
        self._siblings = server.connections
        self._sandboxes: set[str] = set()
        self._forks: set[str] = set()  # that are to be started
        self._closed = self._paused = False
        self._under_way = 0
        client.setblocking(False)  # noqa: FBT003
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self._owner = describe(_CREDENTIALS.unpack(credentials)[0])
        self._share = server.intake.join(self._owner, self._end)
        asyncio.get_running_loop().add_reader(client, self._ready)

    def _ready(self) -> None:
        while not self._share.has_had_turn and not self._closed:
            if self._share.is_full or self._under_way >= _MOST_UNDER_WAY:
                self._pause()
                return
            try:
                received = self._receive()
            except BlockingIOError:
                return
            except OSError:
                received = None
            if received is None:
                self._end()
                return
            self._under_way += 1
            self._engine.background(self._serve(*received))

    def _pause(self) -> None:
        """Read no more until something is done."""
        self._paused = True
        asyncio.get_running_loop().remove_reader(self._client)
        if self._share.is_full:
            self._share.wait(self._go_on)

    def _go_on(self) -> bool:
        if self._closed or not self._paused:
            return False
        self._paused = False
        asyncio.get_running_loop().add_reader(self._client, self._ready)
        return True

    def _receive(self) -> tuple[Request, list[int]] | None:
        count, ancillary, flags, _ = self._client.recvmsg_into([_buffer], _SPACE, _CLOEXEC)
        fds = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        if not count and not fds:
            return None
        try:
            whole = bytes(memoryview(_buffer)[: 0 if flags & _CUT_SHORT else count])
            request = _decode(whole)
        except (ValueError, RecursionError) as error:  # msgspec's errors are such
            log.debug("a client talks nonsense", extra={"why": str(error)})
            _close(fds.tolist())
            self._tell(
                {"seq": 0, "error": failure_of(InvalidArgumentError(f"no request: {error}"))}
            )
            return None
        self._share.begin(count)
        return request, fds.tolist()

    async def _serve(self, request: Request, fds: list[int]) -> None:
        asked.set(Asked(request.timeline, request.traceparent))
        try:
            answer = await self._do(request, fds)
        except OrlopError as error:
            self._tell({"seq": request.seq, "error": failure_of(error)})
        except Exception as error:
            log.exception("a request has failed")
            self._tell({"seq": request.seq, "error": failure_of(OrlopError(repr(error)))})
        else:
            self._tell({"seq": request.seq, "ok": answer})
        finally:
            _close(fds)
            self._under_way -= 1
            self._share.done()
            if self._under_way < _MOST_UNDER_WAY and not self._share.is_full:
                self._go_on()

    async def _do(self, request: Request, fds: list[int]) -> Any:
        if request.op == "start":
            return await self._start(request, fds)
        if request.op == "exec":
            _check_streams(fds)
            return await self._exec(request, fds)
        if request.op == "fork":
            return await self._fork(request)
        if request.op == "kill":
            if not _is_exec(request.exec):
                raise InvalidArgumentError(f"invalid exec {request.exec[:100]!r}")
            return await self._engine.execs.kill_command(request.id, request.exec)
        if request.op == "close":
            ids = request.ids or [request.id]
            await asyncio.gather(*map(self._engine.sandboxes.close, ids))
            return None
        raise InvalidArgumentError(f"unknown op {request.op[:50]!r}")

    async def _start(self, request: Request, fds: list[int]) -> Any:
        if request.args or fds:
            _check_streams(fds)
            if not request.args:
                raise InvalidArgumentError("no command specified")
        _check_count(request.count, most=1 if request.args or request.fork else _MOST_AT_ONCE)
        _check_seconds("lifetime", request.lifetime)
        if not 0 <= request.disk < 1 << 62:
            raise InvalidArgumentError(f"invalid disk {request.disk!r}", hint="bytes")
        if request.fork:
            return await self._start_fork(request, fds)
        options = bytes(request.options)
        key = b"%d %s" % (request.disk, options)
        recipe = await self._engine.recipes.of(
            key, lambda: _options(options), disk_bytes=request.disk
        )
        if request.count == 1:
            return self._told(await self._start_one(recipe, request, fds), request)
        starts = (self._start_one(recipe, request, ()) for _ in range(request.count))
        made = await asyncio.gather(*starts, return_exceptions=True)
        ids = [one for one in made if isinstance(one, str)]
        for error in made:
            if isinstance(error, BaseException):
                await asyncio.gather(*map(self._engine.sandboxes.close, ids))
                raise error
        return {"ids": ids}

    async def _fork(self, request: Request) -> Any:
        _check_count(request.count)
        sources = self._engine.fork_sources
        ids = await sources.prepare(request.id, count=request.count, disk_bytes=request.disk)
        self._forks = {*sources.waiting(self._forks), *ids}
        if self._closed:
            sources.drop(ids)
        return {"ids": ids}

    async def _start_fork(self, request: Request, fds: Sequence[int]) -> Any:
        sources, disk_bytes = self._engine.fork_sources, request.disk
        async with sources.taken(request.fork, disk_bytes=disk_bytes) as fork:
            recipe = await self._recipe_of_fork(request, fork)
            return self._told(await self._start_one(recipe, request, fds, fork), request)

    async def _recipe_of_fork(self, request: Request, fork: Fork) -> Recipe:
        """Return the recipe of the options with the image that was forked, whatever its name."""
        options, recipes = bytes(request.options), self._engine.recipes
        key, disk_bytes = b"%d %s" % (request.disk, options), request.disk
        with contextlib.suppress(NotFoundError):
            recipe = await recipes.of(key, lambda: _options(options), disk_bytes=disk_bytes)
            if recipe.container.image == fork.image:
                return recipe
        key = b"%s %s" % (fork.image.encode(), key)
        return await recipes.of(
            key, lambda: replace(_options(options), image=fork.image), disk_bytes=disk_bytes
        )

    async def _start_one(
        self, recipe: Recipe, request: Request, fds: Sequence[int], fork: Fork | None = None
    ) -> str:
        sandboxes = self._engine.sandboxes
        terms = Terms(self._owner, request.lifetime, fork)
        made = await sandboxes.start(
            recipe, _command(request), fds, terms, ended=self._sandbox_ended
        )
        if self._closed:
            sandboxes.end(made)
        elif sandboxes.knows(made):
            self._sandboxes.add(made)
        return made

    def _told(self, made: str, request: Request) -> dict[str, Any]:
        """Return the answer to a start, with its steps if they were asked for."""
        if not request.timeline:
            return {"id": made}
        return {"id": made, "steps": self._engine.timeline(made)}

    async def _exec(self, request: Request, fds: list[int]) -> dict[str, Any]:
        times = Recorder("engine") if request.timeline else OFF
        made = await self._engine.execs.run(
            request.id, _command(request), fds, ended=self._command_ended, times=times
        )
        return {"exec": made, "steps": times.steps} if request.timeline else {"exec": made}

    def _sandbox_ended(self, exit_: dict[str, Any]) -> None:
        self._sandboxes.discard(exit_["id"])
        self._tell(_exit(exit_))

    def _command_ended(self, exit_: dict[str, Any]) -> None:
        self._tell({**_exit(exit_), "exec": exit_["exec_id"]})

    def _tell(self, message: dict[str, Any]) -> None:
        """Send it; who does not read is cut off."""
        if self._closed:
            return
        try:
            self._client.send(_encode(message))
        except OSError:
            self._end()

    def _end(self) -> None:
        """The client has gone: so do its sandboxes."""
        self.leave()
        for container_id in self._sandboxes:
            self._engine.sandboxes.end(container_id)

    def leave(self) -> None:
        """Let go of the client."""
        if self._closed:
            return
        self._closed = True
        self._engine.fork_sources.drop(self._forks)
        self._siblings.discard(self)
        asyncio.get_running_loop().remove_reader(self._client)
        self._client.close()
        self._share.leave(self._end)


def _options(text: bytes) -> ContainerOptions:
    """Return the options of a create body; those that no recipe can have are not taken."""
    try:
        options = parse_create(_decode_options(text))
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"invalid options: {error}") from None
    if not has_own_namespace(options.network) or options.network.startswith("ns:"):
        raise UnsupportedError("networks of others are the usual way's")
    return options


def _command(request: Request) -> Command:
    texts = (*request.args, *request.env, request.folder, request.user)
    if any("\0" in text for text in texts):
        raise InvalidArgumentError("a command cannot hold a NUL character")
    if any(text.find("=") < 1 for text in request.env):
        raise InvalidArgumentError("variables are of the form NAME=value")
    if request.folder and not request.folder.startswith("/"):
        raise InvalidArgumentError(f"the folder {request.folder[:200]!r} is not absolute")
    _check_seconds("timeout", request.timeout)
    return Command(request.args, request.env, request.folder, request.user, request.timeout)


def _check_seconds(what: str, seconds: float) -> None:
    if not 0 <= seconds < _LONGEST_S:
        raise InvalidArgumentError(f"invalid {what} {seconds!r}")


def _check_count(count: int, *, most: int = _MOST_AT_ONCE) -> None:
    if not 1 <= count <= most:
        raise InvalidArgumentError(
            f"{count} sandboxes cannot be started in one request",
            hint=f"1 to {_MOST_AT_ONCE}, without a command",
        )


def _check_streams(fds: list[int]) -> None:
    if len(fds) != _STREAMS:
        raise InvalidArgumentError(f"{len(fds)} descriptors, not stdin, stdout and stderr")


def _exit(exit_: dict[str, Any]) -> dict[str, Any]:
    return {
        "exit": exit_["id"],
        "status": exit_["status"],
        "signal": exit_["signal"],
        "oom": exit_["oom"],
        "timed_out": exit_.get("timed_out", False),
        "usage": exit_.get("usage", []),
        "time_ns": exit_.get("time_ns", 0),
    }


def _close(fds: list[int]) -> None:
    """Close what has come along, without waiting for what it holds to be sent."""
    for fd in fds:
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                sock = socket.socket(fileno=fd)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                sock.detach()
        with contextlib.suppress(OSError):
            os.close(fd)

"""Further processes in running containers."""

import asyncio
import base64
import contextlib
import secrets
import socket
import time
from typing import Any, NamedTuple

from msgspec.structs import replace

from orlop.engine.containers.bundle import Bundles
from orlop.engine.containers.cgroup import cgroup_of, running_cgroup
from orlop.engine.context import Context
from orlop.engine.limits import TimeLimits
from orlop.engine.records import in_its_name, short
from orlop.engine.settled import started
from orlop.engine.spec import exec_process
from orlop.engine.telemetry.asked import asked
from orlop.engine.threads import in_thread
from orlop.errors import (
    CommandNotFoundError,
    NotFoundError,
    NotRunningError,
    OrlopError,
    UnavailableError,
    WrongStateError,
)
from orlop.model.container import Container, Exec, ExecOptions, Status
from orlop.model.timeline import Step, steps_of
from orlop.runtime.cgroups import group
from orlop.runtime.cgroups.control import alive

_SETTLE_S = 2.0
_ENDING_S = 1.0  # until a process is seen to have ended that is ending
_KILL_S = 10.0
_AGAIN_S = 0.05
_LONGEST_START_S = 60.0
_SIGKILL = 9
_KEPT_FINISHED = 256  # of all containers together: clients ask for the exit code afterwards


class ClientStreams(NamedTuple):
    """Who gets a process's streams."""

    socket: socket.socket
    pending: bytes = b""  # what the client has sent early
    tell_status: bool = False  # let frames end with one that holds the exit code
    framed: bool = True  # Docker's frames, or plain bytes


class Execs:
    """Asked for first, then started once; forgotten with their container."""

    def __init__(self, context: Context, bundles: Bundles) -> None:
        self._context = context
        self._bundles = bundles
        self._execs: dict[str, Exec] = {}
        self._ends: dict[str, asyncio.Future[int]] = {}
        self._starts: dict[str, asyncio.Event] = {}  # that somebody waits for
        self._killed: set[str] = set()  # that are to end
        self._limits = TimeLimits[str](self._time_over)

    async def create(self, ref: str, options: ExecOptions) -> str:
        """Return the id of a process to be started in the container *ref*."""
        found = await started(self._context, self._context.records.find(ref))
        container = self._usable(found.id)
        exec_ = self._made(container.id, options)
        self._execs[exec_.id] = exec_
        self._drop_old()
        self._announce(container, "exec_create", exec_)
        return exec_.id

    async def start(
        self,
        exec_id: str,
        client: ClientStreams | None = None,
        *,
        size: tuple[int, int] | None = None,
        within_s: float | None = None,
    ) -> None:
        """Start it; its streams are the *client*'s from then on, without one nobody's.

        *size* is height and width. What does not come to its program *within_s* is undone.
        The socket belongs to the engine once this returns, and stays the caller's when it
        raises. Returns when the process runs.
        """
        self.check_start(exec_id)
        exec_ = self.get(exec_id)
        begun = time.monotonic_ns()
        try:
            await self._run(exec_, client, _message(exec_, size, within_s=within_s))
        except OrlopError:
            if client is not None and client.tell_status and exec_id in self._execs:
                refused = self._execs[exec_id]  # maybe before it was asked for
                self._execs[exec_id] = replace(refused, exit_code=refused.exit_code or 126)
            raise
        if asked.get().timeline and exec_id in self._execs:
            whole = Step("exec", "engine", begun, time.monotonic_ns())
            ran = self._execs[exec_id]
            self._execs[exec_id] = replace(ran, steps=(whole, *ran.steps))
        self._context.telemetry.done("exec", exec_.container, (), begin_ns=begun)
        if client is not None:
            client.socket.close()

    def check_start(self, exec_id: str) -> None:
        """Raise what start() would, before the connection is handed over."""
        exec_ = self.get(exec_id)
        if exec_.running or exec_.exit_code is not None:
            raise WrongStateError(f"Error: Exec command {exec_id} is already running")
        self._usable(exec_.container)

    async def _run(
        self, exec_: Exec, client: ClientStreams | None, message: dict[str, Any]
    ) -> None:
        container = self._usable(exec_.container)
        options = exec_.options
        self._context.live(container.id).altered |= options.privileged
        fds: tuple[int, ...] = ()
        if client is not None:
            message["attach"] = _attach_message(exec_, client)
            fds = (client.socket.fileno(),)
        self._ends[exec_.id] = asyncio.get_running_loop().create_future()
        self._execs[exec_.id] = replace(exec_, running=True)
        self._announce(container, "exec_start", exec_)  # before its end can be told
        try:
            told = await self._context.shim.request(message, fds)
        except OrlopError as failure:
            if exec_.id in self._killed:  # before its program was reached
                self._failed(exec_, code=128 + _SIGKILL)
                return
            error = in_its_name(await self._explained(failure, container), container)
            is_told = client is not None and client.tell_status  # Docker 26 has 126 for all
            is_missing = isinstance(error, CommandNotFoundError)
            self._failed(exec_, code=127 if is_told and is_missing else 126)
            raise error from failure
        steps = tuple(steps_of(told.get("steps", ())))
        ran = self._execs[exec_.id]  # and may have ended
        pid = told["pid"] if ran.running else 0
        self._execs[exec_.id] = replace(ran, pid=pid, steps=steps)
        if options.limit_s and ran.running:
            self._limits.begin(exec_.id, options.limit_s)
        if exec_.id in self._starts:
            self._starts[exec_.id].set()

    def _announce(self, container: Container, action: str, exec_: Exec) -> None:
        program, *arguments = exec_.options.command
        words = f"{action}: {program} {' '.join(arguments)}"  # Docker's, the last space too
        self._context.announce(container, words, execID=exec_.id)

    async def _explained(self, failure: OrlopError, container: Container) -> OrlopError:
        """Return what is wrong where the shim cannot say: its end kills what is started in it."""
        records = self._context.records
        is_unknown = type(failure) is OrlopError or isinstance(failure, WrongStateError)
        deadline = time.monotonic() + _ENDING_S
        while is_unknown and time.monotonic() < deadline and alive(container.pid):  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(_AGAIN_S)
        is_there = records.has(container.id) and records.get(container.id).running
        if is_there and alive(container.pid):
            return failure
        return WrongStateError(f"container {container.id} has ended")

    def _failed(self, exec_: Exec, *, code: int) -> None:
        """Let the client find what Docker's does: an exit code."""
        self._killed.discard(exec_.id)
        self._execs[exec_.id] = replace(exec_, exit_code=code)
        self._ends.pop(exec_.id).cancel()
        self._context.spawn(self._remove_group(exec_))

    def ended(self, exit_: dict[str, Any]) -> None:
        """Take in that the shim tells of the end of one."""
        exec_id = exit_["exec_id"]
        exec_ = self._execs.get(exec_id)
        if exec_ is not None:
            self._execs[exec_id] = replace(
                exec_,
                running=False,
                pid=0,
                exit_code=exit_["status"],
                usage=tuple(exit_.get("usage", ())),
                timed_out=self._limits.ended(exec_id) and exit_["signal"] == _SIGKILL,
                oom_killed=bool(exit_.get("oom")),
            )
            if self._context.records.has(exec_.container):
                container = self._context.records.get(exec_.container)
                code = str(exit_["status"])
                self._context.announce(container, "exec_die", execID=exec_id, exitCode=code)
        self._killed.discard(exec_id)
        end = self._ends.pop(exec_id, None)
        if end is not None and not end.done():
            end.set_result(exit_["status"])
        message = {"op": "forget", "id": exit_["id"], "exec_id": exec_id}
        self._context.spawn(self._forget(message))
        if exec_ is not None and exec_.options.grouped:
            self._context.spawn(self._remove_group(exec_))

    async def _forget(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OrlopError):
            await self._context.shim.request(message)

    async def kill(self, exec_id: str) -> None:
        """Kill it; one that is grouped with all that it has started, also after its own end.

        Returns when it has ended. WrongStateError if it does not.
        """
        end = self._ends.get(self.get(exec_id).id)
        if end is not None:
            self._killed.add(exec_id)
        deadline = asyncio.get_running_loop().time() + _KILL_S
        while True:
            await self._kill_once(self.get(exec_id))
            if end is None:  # it has ended before, and left others behind
                await self._remove_group(self.get(exec_id))
            if end is None or end.done():  # else it may have been on its way, and not there yet
                return
            if asyncio.get_running_loop().time() > deadline:
                raise WrongStateError(f"process {short(exec_id)} did not end, even when killed")
            await asyncio.wait({end}, timeout=_AGAIN_S)

    def _time_over(self, exec_id: str) -> None:
        self._context.spawn(self._kill_late(exec_id))

    async def _kill_late(self, exec_id: str) -> None:
        with contextlib.suppress(NotFoundError, WrongStateError, UnavailableError):
            await self.kill(exec_id)

    async def _kill_once(self, exec_: Exec) -> None:
        container = self._context.records.get(exec_.container)
        if exec_.options.grouped:
            with running_cgroup(container) as cgroup:
                await in_thread(group.kill, cgroup, _group(exec_))
            return
        message = {"op": "signal", "id": exec_.container, "exec_id": exec_.id, "signal": 9}
        with contextlib.suppress(NotFoundError, WrongStateError):
            await self._context.shim.request(message)

    async def _remove_group(self, exec_: Exec) -> None:
        if not exec_.options.grouped or not self._context.records.has(exec_.container):
            return
        container = self._context.records.get(exec_.container)
        await in_thread(group.remove, cgroup_of(container), _group(exec_))

    async def capture(
        self, container_id: str, options: ExecOptions, *, timeout_s: float, limit: int
    ) -> tuple[int | None, str]:
        """Run a command and return its exit code and the start of its output.

        After *timeout_s* the engine kills the command, and the exit code is None.
        """
        exec_ = self._made(container_id, options)
        self._execs[exec_.id] = exec_
        self._announce(self._context.records.get(container_id), "exec_create", exec_)
        ours, theirs = socket.socketpair()
        begun = time.monotonic()
        try:
            with ours:
                try:
                    within_s = min(timeout_s, _LONGEST_START_S)
                    await self.start(exec_.id, ClientStreams(theirs), within_s=within_s)
                except OrlopError as error:
                    if time.monotonic() - begun < timeout_s:
                        raise
                    return None, str(error)
                end = self._ends.get(exec_.id)
                left_s = max(0.0, timeout_s - (time.monotonic() - begun))
                is_over, data = await self._collect(ours, timeout_s=left_s, limit=2 * limit)
                output = demultiplexed(data)[:limit].decode(errors="replace")
                if not is_over:
                    await self._kill_once(exec_)
                    return None, output
                if end is not None:
                    await asyncio.wait({end}, timeout=_SETTLE_S)
                return self._execs[exec_.id].exit_code, output
        finally:
            theirs.close()
            self._execs.pop(exec_.id, None)

    @staticmethod
    async def _collect(
        stream: socket.socket, *, timeout_s: float, limit: int
    ) -> tuple[bool, bytes]:
        """Return whether *stream* ended in time, and the first *limit* bytes of it."""
        stream.settimeout(0)
        loop = asyncio.get_running_loop()
        data = bytearray()
        try:
            async with asyncio.timeout(timeout_s):
                while block := await loop.sock_recv(stream, 65536):
                    data += block[: max(0, limit - len(data))]
        except TimeoutError:
            return False, bytes(data)
        return True, bytes(data)

    def get(self, exec_id: str) -> Exec:
        """Return what it is now; NotFoundError "No such exec instance: …"."""
        try:
            return self._execs[exec_id]
        except KeyError:
            raise NotFoundError(f"No such exec instance: {exec_id[:100]}") from None

    async def settled(self, exec_id: str) -> Exec:
        """As get(), but of a process that has just ended wait to be told its exit code.

        The end of its streams reaches a client before the shim's word reaches us, and
        clients ask for the exit code at once.
        """
        exec_ = self.get(exec_id)
        end = self._ends.get(exec_id)
        if exec_.running and end is not None and exec_.pid and not alive(exec_.pid):
            await asyncio.wait({end}, timeout=_SETTLE_S)
        return self._execs.get(exec_id, exec_)

    def of(self, container_id: str) -> list[str]:
        """Return the ids of those that run in the container."""
        return [e.id for e in self._execs.values() if e.container == container_id and e.running]

    async def resize(self, exec_id: str, *, height: int, width: int) -> None:
        """Change its terminal's size; of one that is being started, when it runs.

        A process without a terminal is left alone, as Docker does.
        """
        exec_ = self.get(exec_id)
        if exec_.running and not exec_.options.terminal:
            return
        if not exec_.pid and exec_.exit_code is None:
            started = self._starts.setdefault(exec_id, asyncio.Event())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(started.wait(), _SETTLE_S)
            self._starts.pop(exec_id, None)
        message = {"op": "resize", "id": exec_.container, "exec_id": exec_id}
        await self._context.shim.request({**message, "height": height, "width": width})

    def forget_container(self, container_id: str) -> None:
        for exec_id in [e.id for e in self._execs.values() if e.container == container_id]:
            self._limits.ended(exec_id)
            del self._execs[exec_id]

    def _drop_old(self) -> None:
        """Forget the oldest finished ones, and those never started."""
        if len(self._execs) <= 2 * _KEPT_FINISHED:
            return
        idle = [exec_id for exec_id, exec_ in self._execs.items() if not exec_.running]
        for exec_id in idle[:-_KEPT_FINISHED]:
            del self._execs[exec_id]

    def _usable(self, container_id: str) -> Container:
        container = self._context.records.get(container_id)
        if container.status == Status.PAUSED:
            raise WrongStateError(
                f"Container {short(container.id)} is paused, unpause the container before exec"
            )
        if not container.running:
            raise NotRunningError(f"container {container.id} is not running")
        return container

    def _made(self, container_id: str, options: ExecOptions) -> Exec:
        """Return a process for the container; InvalidArgumentError for one that cannot be."""
        process = exec_process(self._bundles.read(container_id), options)
        exec_id = secrets.token_hex(32)
        return Exec(id=exec_id, container=container_id, options=options, process=process)


def _group(exec_: Exec) -> str:
    return f"exec-{short(exec_.id)}"


def _message(
    exec_: Exec, size: tuple[int, int] | None, *, within_s: float | None
) -> dict[str, Any]:
    """Return the shim's op "exec"."""
    options, process = exec_.options, exec_.process.copy()
    size = size or options.console_size
    if size is not None and options.terminal:
        process["consoleSize"] = {"height": size[0], "width": size[1]}
    message: dict[str, Any] = {
        "op": "exec",
        "id": exec_.container,
        "exec_id": exec_.id,
        "process": process,
        "io": {
            "terminal": options.terminal,
            "stdin": options.attach_stdin,
            "stdin_once": True,
        },
    }
    if options.grouped:
        message["group"] = _group(exec_)
    if within_s is not None:
        message["timeout_s"] = within_s
    if asked.get().timeline:
        message["timeline"] = True
    return message


def _attach_message(exec_: Exec, client: ClientStreams) -> dict[str, Any]:
    options = exec_.options
    return {
        "key": f"{exec_.container}/{exec_.id}",
        "wait": True,
        "stdin": options.attach_stdin,
        "stdout": options.attach_stdout,
        "stderr": options.attach_stderr,
        "detach_keys": options.detach_keys or ("" if options.grouped else "ctrl-p,ctrl-q"),
        "pending": base64.b64encode(client.pending).decode(),
        "tell_status": client.tell_status,
        "multiplex": client.framed,
    }


def demultiplexed(data: bytes) -> bytes:
    """Return the payload of Docker's 8-byte frames, whole or cut short."""
    out = bytearray()
    position = 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "big")
        out += data[position + 8 : position + 8 + size]
        position += 8 + size
    return bytes(out)

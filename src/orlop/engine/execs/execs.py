"""Further processes in running containers."""

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from msgspec.structs import replace

from orlop.engine.containers.bundle import Bundles
from orlop.engine.containers.cgroup import cgroup_of, running_cgroup
from orlop.engine.containers.kind import bundle_of, is_in_machine, kind_of
from orlop.engine.context import Context
from orlop.engine.execs.capture import Captured, collect
from orlop.engine.execs.messages import (
    KILLED,
    ClientStreams,
    Command,
    Ended,
    attach_message,
    command_message,
    exec_message,
    group_of,
)
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
    UnsupportedError,
    WrongStateError,
)
from orlop.model import oci
from orlop.model.container import Container, Exec, ExecOptions, Status
from orlop.model.timeline import OFF, Recorder, Step, steps_of
from orlop.runtime.cgroups import group
from orlop.runtime.cgroups.control import alive

_SETTLE_S = 2.0
_ENDING_S = 1.0  # until a process is seen to have ended that is ending
_KILL_S = 10.0
_AGAIN_S = 0.05
_LONGEST_START_S = 60.0
_SIGKILL = 9
_KEPT_FINISHED = 256  # of all containers together: clients ask for the exit code afterwards
_COMMANDS_AT_ONCE = 256  # being started: the shim holds some twenty descriptors for each
_KILLS_AT_ONCE = 64
_MOST_SHARED = 256


class _Direct(NamedTuple):
    """A process with its client's own streams. Only that client knows of it: it has no record."""

    container: str
    ended: Ended


class Execs:
    """Created first, then started once; forgotten with their container. Or started by run()."""

    def __init__(self, context: Context, bundles: Bundles) -> None:
        self._context = context
        self._bundles = bundles
        self._execs: dict[str, Exec] = {}
        self._ends: dict[str, asyncio.Future[int]] = {}
        self._starts: dict[str, asyncio.Event] = {}  # that somebody waits for
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}  # who waits for ends
        self._killed: set[str] = set()  # that are to end
        self._limits = TimeLimits[str](self._time_over)
        self._direct: dict[str, _Direct] = {}
        self._at_once = asyncio.Semaphore(_COMMANDS_AT_ONCE)
        self._kills_at_once = asyncio.Semaphore(_KILLS_AT_ONCE)
        self._shared: dict[tuple[str, str], dict[str, Any]] = {}  # by bundle and user

    async def create(self, ref: str, options: ExecOptions) -> str:
        """Return the id of a process to be started in the container *ref*."""
        found = await started(self._context, self._context.records.find(ref))
        container = self._usable(found.id)
        exec_ = self._made(container.id, options)
        self._execs[exec_.id] = exec_
        self._drop_old()
        self._announce(container, "exec_create", exec_)
        return exec_.id

    async def add(self, ref: str, options: ExecOptions, process: dict[str, Any]) -> str:
        """As create(), but for a *process* as config.json has it, which its client has made."""
        found = await started(self._context, self._context.records.find(ref))
        container = self._usable(found.id)
        given = cast("oci.Process", process)
        exec_ = Exec(
            id=secrets.token_hex(32), container=container.id, options=options, process=given
        )
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
            await self._run(exec_, client, exec_message(exec_, size, within_s=within_s))
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
        if is_in_machine(container):
            from orlop.engine.machines import stand_in  # not for an engine that has none

            message["process"] = stand_in(container, message["process"])
        fds: tuple[int, ...] = ()
        if client is not None:
            message["attach"] = attach_message(exec_, client)
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
        self._execs[exec_.id] = replace(ran, pid=pid, last_pid=told["pid"], steps=steps)
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
        self._execs[exec_.id] = replace(exec_, exit_code=code, finished_ns=time.time_ns())
        self._ends.pop(exec_.id).cancel()
        self._tell_waiting(exec_.id)
        self._context.spawn(self._remove_group(exec_))

    def ended(self, exit_: dict[str, Any]) -> None:
        """Take in that the shim tells of the end of one."""
        exec_id = exit_["exec_id"]
        is_late = self._limits.ended(exec_id) and exit_["signal"] == _SIGKILL
        if (direct := self._direct.pop(exec_id, None)) is not None:
            direct.ended({**exit_, "timed_out": is_late})
            return
        exec_ = self._execs.get(exec_id)
        if exec_ is not None:
            self._execs[exec_id] = replace(
                exec_,
                running=False,
                pid=0,
                exit_code=exit_["status"],
                finished_ns=exit_.get("time_ns", 0),
                usage=tuple(exit_.get("usage", ())),
                timed_out=is_late,
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
        self._tell_waiting(exec_id)
        message = {"op": "forget", "id": exit_["id"], "exec_id": exec_id}
        self._context.spawn(self._forget(message))
        if exec_ is not None and exec_.options.grouped:
            self._context.spawn(self._remove_group(exec_))

    async def wait(self, exec_id: str) -> None:
        """Return when it has ended, or is forgotten; also of one that is not started yet."""
        if self.get(exec_id).exit_code is not None:
            return
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(exec_id, [])
        waiting.append(over)
        try:
            await over
        finally:
            waiting.remove(over)

    def _tell_waiting(self, exec_id: str) -> None:
        for over in self._waiting.pop(exec_id, ()):
            if not over.done():
                over.set_result(None)

    async def signal(self, exec_id: str, signal: int) -> None:
        """Send it a signal; NotFoundError if it does not run."""
        exec_ = self.get(exec_id)
        if not exec_.running:
            raise NotFoundError(f"process {short(exec_id)} does not run")
        message = {"op": "signal", "id": exec_.container, "exec_id": exec_.id, "signal": signal}
        await self._context.shim.request(message)

    async def close_stdin(self, exec_id: str) -> None:
        """End its input."""
        exec_ = self.get(exec_id)
        message = {"op": "close_stdin", "id": exec_.container, "exec_id": exec_.id}
        await self._context.shim.request(message)

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
            if (direct := self._direct.get(exec_id)) is not None:
                await self.kill_command(direct.container, exec_id)
            else:
                await self.kill(exec_id)

    async def _kill_once(self, exec_: Exec) -> None:
        container = self._context.records.get(exec_.container)
        if exec_.options.grouped:
            if not kind_of(container).has_own_cgroup:
                await self.kill_command(container.id, exec_.id)
                return
            with running_cgroup(container) as cgroup:
                await in_thread(group.kill, cgroup, group_of(exec_.id))
            return
        message = {"op": "signal", "id": exec_.container, "exec_id": exec_.id, "signal": 9}
        with contextlib.suppress(NotFoundError, WrongStateError):
            await self._context.shim.request(message)

    async def _remove_group(self, exec_: Exec) -> None:
        if not exec_.options.grouped or not self._context.records.has(exec_.container):
            return
        container = self._context.records.get(exec_.container)
        await in_thread(group.remove, cgroup_of(container), group_of(exec_.id))

    async def run(
        self,
        container_id: str,
        command: Command,
        fds: Sequence[int],
        *,
        ended: Ended,
        times: Recorder = OFF,
    ) -> str:
        """Start *command* in a container by a recipe, with its client's streams; return its id.

        *ended* is called with its exit. Into *times*, unless they are OFF, go its steps.
        """
        live = self._context.live(container_id)
        async with live.commands, live.gate.passed(), self._at_once:
            if not self._context.records.has(container_id):
                raise NotFoundError(f"no sandbox {short(container_id)}: it has ended")
            container, begun = self._usable(container_id), time.monotonic_ns()
            exec_id = secrets.token_hex(8)
            process = self._process(container, command.user)
            message = command_message(container, exec_id, command, process)
            message["timed"] = times is not OFF
            since = times.now()
            self._direct[exec_id] = _Direct(container_id, ended)
            try:
                answer = await self._context.shim.request(message, fds)
            except BaseException:
                self._direct.pop(exec_id, None)
                raise
            if command.limit_s and exec_id in self._direct:
                self._limits.begin(exec_id, command.limit_s)
            times.note("shim", since)
            times.add(steps_of(answer.get("steps", ())))
            times.note("exec", begun)
            self._context.telemetry.done("exec", container_id, (), begin_ns=begun)
            return exec_id

    def _process(self, container: Container, user: str) -> dict[str, Any]:
        """Return what all processes of *user* in containers by one recipe have in common."""
        if kind_of(container).has_own_cgroup:
            raise UnsupportedError(f"container {container.name} was not started by a recipe")
        key = (bundle_of(container), user)
        if key not in self._shared:
            config = self._bundles.read(container.id)
            made = exec_process(config, ExecOptions(command=("",), user=user))
            while len(self._shared) >= _MOST_SHARED:
                del self._shared[next(iter(self._shared))]
            self._shared[key] = {**made, "args": ["-"], "env": [], "cwd": "/"}
        return self._shared[key]

    async def kill_command(self, container_id: str, exec_id: str) -> None:
        """Kill a process that run() has started, with all that it has started."""
        message = {"op": "kill_exec", "id": container_id, "group": group_of(exec_id)}
        async with self._kills_at_once:
            await self._context.shim.request(message)

    def cut(self, container_id: str) -> None:
        """Say that the time of a container's commands is over, because its own is."""
        for exec_id, direct in self._direct.items():
            if direct.container == container_id:
                self._limits.cut(exec_id)

    def lost(self) -> None:
        """Take note that the shim is gone, and what run() has started with it."""
        for exec_id, direct in list(self._direct.items()):
            self.ended({"id": direct.container, "exec_id": exec_id, **KILLED})

    async def capture(
        self, container_id: str, options: ExecOptions, *, timeout_s: float, limit: int
    ) -> Captured:
        """Run a command and return its exit code and the first *limit* bytes of its frames.

        After *timeout_s* the engine kills the command, as it does if this is cancelled.
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
                    return Captured(None, why=str(error))
                end = self._ends.get(exec_.id)
                left_s = max(0.0, timeout_s - (time.monotonic() - begun))
                is_over, data = await collect(ours, timeout_s=left_s, limit=limit)
                if not is_over:
                    await self._kill_once(exec_)
                    return Captured(None, data)
                if end is not None:
                    await asyncio.wait({end}, timeout=_SETTLE_S)
                return Captured(self._execs[exec_.id].exit_code, data)
        except asyncio.CancelledError:
            self._context.spawn(self._end(exec_))
            raise
        finally:
            theirs.close()
            self._execs.pop(exec_.id, None)

    async def _end(self, exec_: Exec) -> None:
        with contextlib.suppress(OrlopError):
            await self._kill_once(exec_)

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
            self._tell_waiting(exec_id)

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

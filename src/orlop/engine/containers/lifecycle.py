"""Start, stop, kill, pause: what moves a container, and what its end sets in motion."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from orlop.engine.answers import Finished
from orlop.engine.containers import logs
from orlop.engine.containers.bundle import Bundles, layer_keys
from orlop.engine.containers.cgroup import cgroup_of, running_cgroup
from orlop.engine.containers.health import Health
from orlop.engine.containers.kind import is_in_machine, kind_of
from orlop.engine.context import Context, Live
from orlop.engine.joining import open_namespaces
from orlop.engine.networks.networks import Networks
from orlop.engine.pods.spaces import Joined
from orlop.engine.records import in_its_name, short
from orlop.engine.threads import in_thread
from orlop.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    InvalidArgumentError,
    NotFoundError,
    NotRunningError,
    OrlopError,
    UnavailableError,
    WrongStateError,
)
from orlop.model.container import Container, HealthState, Status, Step
from orlop.model.signals import signal_number
from orlop.model.timeline import steps_of

if TYPE_CHECKING:
    from orlop.engine.machines import Machines

log = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 10
_KILL_WAIT_S = 10
_REPLACED_S = 10.0  # a dead shim has a successor long before
_RETRY_S = 0.02
_SIGKILL = 9
_END_IN_MACHINE = 64  # microvm/supervisor.py
_MACHINE_ENDS_S = 3.0


class Lifecycle:
    def __init__(
        self, context: Context, *, bundles: Bundles, health: Health, networks: Networks
    ) -> None:
        self._context = context
        self._bundles = bundles
        self.networks = networks
        self._health = health

    @functools.cached_property
    def _machines(self) -> "Machines":
        from orlop.engine.machines import Machines  # not for an engine that has none

        return Machines(self._context)

    async def start(self, container_id: str, *, images: int | None = None) -> bool:
        """Run it; False where it runs already. It waits for who else changes it.

        Once begun it goes on though the caller is cancelled: a process that runs
        is never one that nobody has recorded.
        """
        return await asyncio.shield(self._context.spawn(self._start_in_turn(container_id, images)))

    async def _start_in_turn(self, container_id: str, images: int | None) -> bool:
        live = self._context.live(container_id)
        async with live.lock:
            container = self._context.records.get(container_id)
            if container.status == Status.PAUSED:
                raise WrongStateError("cannot start a paused container, try unpause instead")
            if container.running:
                return False
            await self._start(container, images)
        return True

    async def _start(self, container: Container, images: int | None) -> None:
        container.check(Step.START)
        telemetry = self._context.telemetry
        times = telemetry.recorder()
        begun = since = times.now()
        try:
            if not container.snapshot:  # a client's is ready since its task was made
                await self._context.stacks.make_ready(layer_keys(container))  # gone with a reboot
            self._bundles.prepare(container)
            since = times.note("prepare_bundle", since)
            with open_namespaces(self._bundles.joined(container)) as others:
                async with (
                    self.networks.joined(container) as (joined, own),
                    self._context.spaces.joined(container) as (shared, mounts),
                ):
                    since = times.note("join_networks", since)
                    with _starting(self._context.live(container.id)):
                        given = Joined({**others, **own, **shared}, mounts)
                        started = await self._run(joined, given, images)
                        since = times.note("ask_shim", since)
                        await self._record_start(joined, started)
                        times.note("record_start", since)
        except OrlopError as failure:
            error = in_its_name(failure, container)
            telemetry.failed(container.id, error, times.steps)
            await self._failed(container, error)
            raise error from failure
        times.add(steps_of(started.get("steps", ())))
        telemetry.done("start", container.id, times.steps, begin_ns=begun)

    async def _record_start(self, container: Container, started: dict[str, Any]) -> None:
        if self._context.records.get(container.id).running:  # it was found running
            return
        running = _running(container, pid=started["pid"], time_ns=started["time_ns"])
        try:
            self._context.records.save(running)
        except OrlopError:  # what is not recorded must not run
            await self._undo(running)
            raise
        self._seen_running(running)

    async def _undo(self, running: Container) -> None:
        """Kill what was just started; the shim has let go of it when this returns."""
        over = asyncio.get_running_loop().create_future()
        self._context.live(running.id).unrecorded[running.pid] = over
        await in_thread(cgroup_of(running).kill)
        await asyncio.wait({over}, timeout=_KILL_WAIT_S)

    async def _run(self, container: Container, given: Joined, images: int | None) -> dict[str, Any]:
        """Have the shim start it, and where the shim dies ask the next what became of it."""
        begun_ns = time.time_ns()
        try:
            message = self._bundles.start_message(container)
            if is_in_machine(container):
                message = await self._machines.start_message(container, message)
            await logs.complete(message["io"]["log"], container)
            if self._context.telemetry.is_detailed():
                message["timeline"] = True
            if given.namespaces:
                message["namespaces"] = list(given.namespaces)
            if given.mounts:
                message["mounts"] = list(given.mounts)
            descriptors = [*given.namespaces.values(), *given.mounts.values()]
            if images is not None:
                message["op"] = "restore"
                descriptors.append(images)
            started: dict[str, Any] = await self._context.shim.request(message, descriptors)
        except UnavailableError as error:
            found = await self._adopted(container)
            if found is None:
                raise error from None
            return {"pid": found["pid"], "time_ns": begun_ns}
        return started

    async def _adopted(self, container: Container) -> dict[str, Any] | None:
        """Return what the shim that comes after a dead one says of the container's process."""
        deadline = time.monotonic() + _REPLACED_S
        while True:
            try:
                listed = await self._context.shim.request({"op": "list"})
            except UnavailableError:
                if time.monotonic() > deadline:
                    return None
                await asyncio.sleep(_RETRY_S)
            else:
                mine = (i for i in listed if i["id"] == container.id and "exec_id" not in i)
                # but not the end of the run before, which is stored and not yet forgotten
                new = (i for i in mine if i.get("time_ns") != container.finished_ns)
                return next(new, None)

    def started(self, container: Container, *, pid: int, time_ns: int) -> None:
        """Record what an engine that crashed could not: its process runs."""
        running = _running(container, pid=pid, time_ns=time_ns)
        self._context.records.note(running)
        self._seen_running(running)

    def _seen_running(self, running: Container) -> None:
        live = self._context.live(running.id)
        live.stopping, live.begun_s, live.pid = False, time.monotonic(), running.pid
        self._context.announce_volumes(running, "mount")
        self._context.announce(running, "start")
        self._health.watch(running)

    async def _failed(self, container: Container, error: OrlopError) -> None:
        is_commands = isinstance(error, (CommandNotFoundError, CommandNotExecutableError))
        code = error.exit_code if is_commands else 128
        failed = replace(container, error=str(error), exit_code=code)
        self._context.records.note(failed)
        message = {"op": "detach", "key": container.id, "message": ""}
        with contextlib.suppress(OrlopError):
            await self._context.stdio.request(message)

    async def kill(self, container_id: str, signal: int) -> None:
        """Send *signal*. SIGKILL reaches every process, and kill returns when they have ended.

        Raises WrongStateError if the container is not running, or survives SIGKILL.
        """
        container = self._context.records.get(container_id)
        if not container.running:
            raise WrongStateError(
                f"Cannot kill container: {container.name}: Container {short(container.id)}"
                " is not running"
            )
        if signal in (_SIGKILL, parse_signal(container.options.stop_signal or "SIGTERM")):
            self._mark_stopped(container)
        over = self.next_exit(container_id) if signal == _SIGKILL else None
        await self._signal(container, signal)
        self._context.announce(container, "kill", signal=str(signal))
        if over is not None:
            await _killed(over, container)

    async def stop(self, container_id: str, *, timeout_s: int | None, signal: int | None) -> bool:
        """Ask it to end, and kill it after the timeout; False where it is not running."""
        container = self._context.records.get(container_id)
        live = self._context.live(container_id)
        if container.status == Status.RESTARTING:
            await self._give_up(container_id)
            return True
        if not container.running:
            return False
        if timeout_s is None:
            timeout_s = container.options.stop_timeout_s
        if timeout_s is None:
            timeout_s = _STOP_TIMEOUT_S
        wanted = signal or parse_signal(container.options.stop_signal or "SIGTERM")
        begun = time.monotonic_ns()
        self._mark_stopped(container)
        live.stopping = True
        over = self.next_exit(container_id)
        with contextlib.suppress(WrongStateError, NotFoundError):
            await self._signal(container, wanted)
        self._context.announce(container, "kill", signal=str(wanted))
        if not await _within(over, timeout_s):
            self._context.announce(container, "kill", signal=str(_SIGKILL))
            with contextlib.suppress(WrongStateError, NotFoundError):
                await self._signal(container, _SIGKILL)
            await _killed(over, container)
        self._context.telemetry.done("stop", container_id, (), begin_ns=begun)
        return True

    def _mark_stopped(self, container: Container) -> None:
        if not container.stopped_by_user:
            self._context.records.note(replace(container, stopped_by_user=True))

    async def _signal(self, container: Container, signal: int) -> None:
        if signal == _SIGKILL and kind_of(container).has_own_cgroup:
            if not is_in_machine(container) or not await self._end_in_machine(container):
                await in_thread(cgroup_of(container).kill)
            return
        if container.status == Status.PAUSED:  # a frozen process would never see it
            await self.unpause(container.id)
        await self._context.shim.request({"op": "signal", "id": container.id, "signal": signal})

    async def _end_in_machine(self, container: Container) -> bool:
        """Kill the process in a guest that still answers; its writes come to its disk."""
        over = self.next_exit(container.id)
        with contextlib.suppress(OrlopError):
            if container.status == Status.PAUSED:
                await self.unpause(container.id)
            message = {"op": "signal", "id": container.id, "signal": _END_IN_MACHINE}
            await self._context.shim.request(message)
            return await _within(over, _MACHINE_ENDS_S)
        return False

    async def _give_up(self, container_id: str) -> None:
        """Take a container that waits for its next try out of its restart policy's hands."""
        live = self._context.live(container_id)
        async with live.lock:
            container = self._context.records.get(container_id)
            if container.status != Status.RESTARTING:
                return
            if live.retry is not None:
                live.retry.cancel()
            given_up = replace(
                container, status=container.moved(Step.GIVE_UP), stopped_by_user=True
            )
            self._context.records.note(given_up)

    async def pause(self, container_id: str) -> None:
        live = self._context.live(container_id)
        async with live.lock, live.gate.closed():
            container = self._running(container_id)
            if container.status == Status.PAUSED:
                raise WrongStateError(f"Container {short(container.id)} is already paused")
            status = container.moved(Step.PAUSE)
            with running_cgroup(container) as cgroup:
                await in_thread(cgroup.freeze)
            self._context.records.note(replace(container, status=status))
        self._context.announce(container, "pause")

    async def unpause(self, container_id: str) -> None:
        async with self._context.live(container_id).lock:
            container = self._running(container_id)
            if container.status != Status.PAUSED:
                raise WrongStateError(f"Container {short(container.id)} is not paused")
            with running_cgroup(container) as cgroup:
                await in_thread(cgroup.thaw)
            running = replace(container, status=container.moved(Step.UNPAUSE))
            self._context.records.note(running)
        self._context.announce(container, "unpause")

    def _running(self, container_id: str) -> Container:
        container = self._context.records.get(container_id)
        if not container.running:
            raise NotRunningError(f"Container {short(container.id)} is not running")
        return container

    def next_exit(self, container_id: str) -> "asyncio.Future[Finished]":
        """Return what is resolved at the container's next end."""
        future: asyncio.Future[Finished] = asyncio.get_running_loop().create_future()
        self._context.live(container_id).exits.append(future)
        return future

    def ended(self, container: Container, exit_: dict[str, Any]) -> Container:
        """Record the exit that the shim tells of, and say so."""
        over = replace(
            container,
            status=container.moved(Step.EXIT),
            pid=0,
            finished_ns=exit_["time_ns"],
            exit_code=exit_["status"],
            oom_killed=bool(exit_.get("oom")),
            endpoints=(),
            ports=(),
            moving=False,
        )
        self._context.records.note(over)
        self._context.telemetry.ended(over, exit_)
        self.networks.ended(container)
        if over.oom_killed:
            self._context.announce(over, "oom")
        self._context.announce_volumes(over, "unmount")
        duration_s = max(0, over.finished_ns - over.started_ns) // 1_000_000_000
        self._context.announce(
            over, "die", exitCode=str(over.exit_code), execDuration=str(duration_s)
        )
        return over


@contextlib.contextmanager
def _starting(live: Live) -> Iterator[None]:
    """Let others wait for the record of a start."""
    live.starting = asyncio.get_running_loop().create_future()
    try:
        yield
    finally:
        live.starting.set_result(None)
        live.starting = None


def _running(container: Container, *, pid: int, time_ns: int) -> Container:
    """Return the record of it once its process runs."""
    by_policy = container.status == Status.RESTARTING
    return replace(
        container,
        status=container.moved(Step.START),
        pid=pid,
        started_ns=time_ns,
        exit_code=0,
        error="",
        restart_count=container.restart_count if by_policy else 0,
        oom_killed=False,
        stopped_by_user=False,
        health=HealthState() if container.health is not None else None,
    )


async def _within(future: "asyncio.Future[Finished]", timeout_s: float) -> bool:
    """Whether it was resolved in time; a negative time is for ever."""
    done, _ = await asyncio.wait({future}, timeout=timeout_s if timeout_s >= 0 else None)
    return bool(done)


async def _killed(over: "asyncio.Future[Finished]", container: Container) -> None:
    """Wait for the end of a container that was sent SIGKILL."""
    if not await _within(over, _KILL_WAIT_S):
        raise WrongStateError(f"container {container.name} did not end, even when killed")


def parse_signal(text: str) -> int:
    """Return the number of SIGTERM, TERM or 15; InvalidArgumentError "Invalid signal: …"."""
    try:
        number = signal_number(text)
    except ValueError:
        number = 0
    if not number:
        raise InvalidArgumentError(f"Invalid signal: {text[:50]}")
    return number

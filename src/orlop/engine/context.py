"""What the use cases share: the stores, the shim, the records, and who waits for what."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from functools import cached_property
from typing import Any, TypeVar

from orlop.engine.answers import Finished
from orlop.engine.events import Events
from orlop.engine.gate import Gate
from orlop.engine.images.stacking import Stacks
from orlop.engine.images.workers import Workers
from orlop.engine.pods.spaces import Spaces
from orlop.engine.records import Records
from orlop.engine.settings import Settings
from orlop.engine.shimlink import Link
from orlop.engine.telemetry.telemetry import Telemetry
from orlop.engine.threads import in_thread
from orlop.errors import OrlopError, UnsupportedError
from orlop.model.container import Container
from orlop.snapshots import choose
from orlop.snapshots.interface import Snapshots
from orlop.store.content import Content
from orlop.store.metadata import Metadata

log = logging.getLogger(__name__)

T = TypeVar("T")
_SWEEP_AFTER_S = 1.0
_MOST_PAUSE_S = 30.0
_COMMANDS = 8
_NO = "of which nothing is known"
_MOUNTED_BY_CLIENTS = ("overlay", "native")


class Live:
    """What is known of a container only while the engine runs."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()  # held by what changes the container
        self.gate = Gate()  # which its commands pass
        self.commands = asyncio.Semaphore(_COMMANDS)  # that are being started by a recipe
        self.exits: list[asyncio.Future[Finished]] = []
        self.removals: list[asyncio.Future[Finished]] = []
        self.starting: asyncio.Future[None] | None = None  # until the start is recorded, or failed
        self.unrecorded: dict[int, asyncio.Future[None]] = {}  # ends of what must not run, by pid
        self.health: asyncio.Task[None] | None = None
        self.retry: asyncio.Task[None] | None = None
        self.begun_s: float | None = None  # of time.monotonic(), if this engine has started it
        self.retries = 0  # since it last ran for a while
        self.restarts = 0  # requests that start it again after this end: no auto-remove
        self.pid = 0  # of its last start by this engine, which may be over
        self.stopping = False  # somebody waits for its end: no restart
        self.altered = False  # a privileged process was started in it


class Context:
    """Made by Engine.open(); the shim links are set there."""

    def __init__(
        self, settings: Settings, content: Content, metadata: Metadata, snapshots: Snapshots
    ) -> None:
        self.settings = settings
        self.content = content
        self.metadata = metadata
        self.snapshots = snapshots
        self.events = Events()
        self.telemetry = Telemetry()
        self.lacks: dict[str, str] = {}  # protections that this host cannot give, and why
        self.workers = Workers(settings.run, settings.layer_budget)
        self.stacks = Stacks(settings, snapshots, self.workers)
        self.records = Records(metadata, behind=self.sweep_soon)
        self.shim: Link
        self.shim_build = ""  # as it says itself
        self.stdio: Link
        self.spaces = Spaces(lambda: self.shim)
        self._lives: dict[str, Live] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sweep: asyncio.Task[None] | None = None
        self._unswept = False

    @cached_property
    def clients_driver(self) -> Snapshots:
        """The driver of snapshots that clients mount; UnsupportedError if there is none.

        The mounts of EROFS layers are made by descriptor, which no client can.
        """
        if self.snapshots.name in _MOUNTED_BY_CLIENTS:
            return self.snapshots
        return choose.snapshots(str(self.settings.snapshots), _MOUNTED_BY_CLIENTS[0])

    def snapshot_of(self, container: Container) -> tuple[Snapshots, str]:
        """Return the driver and the snapshot with a container's root; UnsupportedError."""
        if container.rootfs:
            raise UnsupportedError(f"the root of container {container.name} is a folder, {_NO}")
        if container.snapshot:
            return self.clients_driver, container.snapshot
        return self.snapshots, container.id

    def drivers(self) -> list[Snapshots]:
        """Return the drivers in use."""
        is_used = (self.settings.snapshots / _MOUNTED_BY_CLIENTS[0]).is_dir()
        with suppress(UnsupportedError):
            if is_used and self.clients_driver is not self.snapshots:
                return [self.snapshots, self.clients_driver]
        return [self.snapshots]

    def live(self, container_id: str) -> Live:
        """Return it; of a container that is gone, a fresh one that nobody keeps."""
        if not self.records.has(container_id):
            return self._lives.get(container_id, Live())
        return self._lives.setdefault(container_id, Live())

    def forget(self, container_id: str) -> None:
        self._lives.pop(container_id, None)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run *work* in the background; ended with the engine."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def sweep_soon(self) -> None:
        """Have what removed snapshots left deleted in a while: a removal only sets it aside.

        What a full disk kept us from writing is written after that.
        """
        self._unswept = True
        if self._sweep is None or self._sweep.done():
            self._sweep = self.spawn(self._sweep_all())

    async def _sweep_all(self) -> None:
        pause_s = _SWEEP_AFTER_S
        while self._unswept or self.records.is_behind or self.metadata.images.is_behind:
            await asyncio.sleep(pause_s)
            pause_s = _SWEEP_AFTER_S if self._unswept else min(2 * pause_s, _MOST_PAUSE_S)
            self._unswept = False
            for driver in await in_thread(self.drivers):
                await self._try(in_thread(driver.collect), "sweep snapshots")
            await self._try(self._catch_up(), "write what a full disk did not take")

    async def _catch_up(self) -> None:
        self.records.catch_up()
        if self.metadata.images.is_behind:
            await in_thread(self.metadata.images.publish)

    @staticmethod
    async def _try(work: Coroutine[Any, Any, object], what: str) -> None:
        try:
            await work
        except (OSError, OrlopError) as error:
            log.warning("cannot %s", what, extra={"why": str(error)})

    async def cancel_all(self) -> None:
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def announce_volumes(self, container: Container, action: str) -> None:
        """Publish that a container mounts its volumes ("mount"), or no longer does ("unmount")."""
        for mount in container.mounts:
            if mount.type == "volume":
                attributes = {"container": container.id, "driver": "local"}
                if action == "mount":
                    attributes["destination"] = mount.target
                    attributes["read/write"] = "false" if mount.read_only else "true"
                    attributes["propagation"] = mount.propagation
                self.events.publish("volume", action, id=mount.source, attributes=attributes)

    def announce(self, container: Container, action: str, **more: str) -> None:
        """Publish an event about *container*."""
        attributes = {**container.options.labels, "image": container.image_name}
        attributes |= {"name": container.name, **more}
        if container.options.pod:
            attributes["pod"] = container.options.pod
        self.events.publish("container", action, id=container.id, attributes=attributes)
        if not action.startswith("exec_"):  # health checks would fill the log
            log.info("container event", extra={"action": action, "container": container.id, **more})

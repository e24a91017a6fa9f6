"""Putting right what an engine that died left: records, processes, files."""

import contextlib
import logging
import os
import shutil
import time
from typing import Any

from orlop.engine.containers.exits import Exits
from orlop.engine.containers.health import Health
from orlop.engine.containers.kind import bundle_of
from orlop.engine.containers.lifecycle import Lifecycle
from orlop.engine.containers.removal import Removal
from orlop.engine.context import Context
from orlop.engine.sandboxes import Sandboxes
from orlop.engine.threads import in_thread
from orlop.engine.volumes import Volumes
from orlop.errors import OrlopError
from orlop.model.container import Container, Status

log = logging.getLogger(__name__)

_UNKNOWN_EXIT = 255  # the machine went down, or nobody saw the end


class Reconciler:
    """Compares the records with what the shim says. Run at start, and when the shim was lost."""

    def __init__(
        self, context: Context, *, lifecycle: Lifecycle, exits: Exits, sandboxes: Sandboxes
    ) -> None:
        self._context = context
        self._sandboxes = sandboxes
        self._lifecycle = lifecycle
        self._exits = exits

    async def run(self, health: Health) -> None:
        """Make every record true: running, ended with its status, or going."""
        processes = await self._context.shim.request({"op": "list"})
        mine = {item["id"]: item for item in processes if "exec_id" not in item}
        for container_id in [container.id for container in self._context.records.all()]:
            item = mine.pop(container_id, None)
            if self._context.records.has(container_id):  # not removed while we waited
                await self._settle(self._context.records.get(container_id), item, health)
        for item in mine.values():
            if "sandbox" not in item:
                await self._discard(item)
            elif not self._sandboxes.knows(item["id"]):
                self._sandboxes.adopt(item)
        for item in processes:
            if "exec_id" in item and not item.get("running"):
                await self._forget(item)

    async def _settle(
        self, container: Container, item: dict[str, Any] | None, health: Health
    ) -> None:
        if item is not None and item.get("running"):
            self._adopt(container, item, health)
        elif item is not None:
            if _is_recorded(container, item):
                await self._forget(item)
                self._exits.follow(container)
                return
            if not container.running:  # started, and over, before the start was recorded
                self._lifecycle.started(container, pid=item["pid"], time_ns=item["time_ns"])
            await self._exits.handle(item)
        elif container.running:
            await self._exits.handle(_lost(container))

    def _adopt(self, container: Container, item: dict[str, Any], health: Health) -> None:
        if not container.running:
            started_ns = container.started_ns or container.created_ns
            self._lifecycle.started(container, pid=item["pid"], time_ns=started_ns)
        else:
            health.watch(container)

    async def _discard(self, item: dict[str, Any]) -> None:
        """End a process that no record speaks of: its container was being removed."""
        with contextlib.suppress(OrlopError):
            if item.get("running"):
                await self._context.shim.request({"op": "signal", "id": item["id"], "signal": 9})
            else:
                await self._forget(item)

    async def _forget(self, item: dict[str, Any]) -> None:
        message = {"op": "forget", "id": item["id"]}
        if "exec_id" in item:
            message["exec_id"] = item["exec_id"]
        with contextlib.suppress(OrlopError):
            await self._context.shim.request(message)


async def resume(context: Context, *, exits: Exits, removal: Removal, fresh: bool) -> None:
    """Go on with removals and restart policies; *fresh*: the machine has booted since."""
    for container in context.records.all():
        if container.status in (Status.REMOVING, Status.DEAD):
            await _remove(removal, container)
        elif container.status == Status.RESTARTING:
            exits.resume(container)
        elif container.status == Status.EXITED and container.options.auto_remove:
            await _remove(removal, container)
        elif container.status == Status.EXITED and container.started_ns:
            again = _starts_at_boot(container) if fresh else exits.wants_restart(container)
            if again:
                exits.resume_stopped(container)


def _starts_at_boot(container: Container) -> bool:
    policy = container.options.restart.name
    return policy == "always" or (policy == "unless-stopped" and not container.stopped_by_user)


async def _remove(removal: Removal, container: Container) -> None:
    try:
        await removal.remove(container.id, volumes=container.options.auto_remove)
    except OrlopError as error:
        log.warning("removal failed", extra={"container": container.id, "why": error})


async def discard_orphans(context: Context, volumes: Volumes) -> None:
    """Remove snapshots, folders and volumes that no record speaks of."""
    await in_thread(_discard_orphans, context, volumes)


def _discard_orphans(context: Context, volumes: Volumes) -> None:
    containers = context.records.all()
    known = {name for one in containers for name in (one.id, bundle_of(one))}
    kept = set(known)
    if context.metadata.has_clients:
        kept |= {one.value.name for one in context.metadata.clients.snapshots.list_all()}
    for driver in context.drivers():
        for name in driver.snapshots() - kept:
            driver.remove(name)
    for folder in (context.settings.bundles, context.settings.containers):
        with contextlib.suppress(FileNotFoundError):
            for name in set(os.listdir(folder)) - known:
                shutil.rmtree(folder / name, ignore_errors=True)
    volumes.discard_orphans()


def _is_recorded(container: Container, exit_: dict[str, Any]) -> bool:
    """Whether the engine before us stored this exit, and died before it could say so."""
    if container.status in (Status.REMOVING, Status.DEAD):
        return True
    return not container.running and container.finished_ns == exit_["time_ns"]


def _lost(container: Container) -> dict[str, Any]:
    """Return the exit of a container whose end nobody saw: it is of now, as dockerd's is."""
    return {
        "id": container.id,
        "pid": container.pid,
        "status": _UNKNOWN_EXIT,
        "signal": 0,
        "time_ns": max(container.started_ns, time.time_ns()),
        "oom": False,
    }

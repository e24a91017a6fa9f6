"""What follows a container's end: its policy starts it again, removes it, or leaves it."""

import asyncio
import contextlib
import logging
import time
from typing import Any

from msgspec.structs import replace

from orlop.engine.answers import Finished
from orlop.engine.containers.health import Health
from orlop.engine.containers.lifecycle import Lifecycle
from orlop.engine.containers.removal import Removal
from orlop.engine.context import Context, Live
from orlop.errors import OrlopError
from orlop.model.container import Container, RestartPolicy, Status, Step

log = logging.getLogger(__name__)

_AGAIN_S = 1.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 60.0
_GOOD_RUN_S = 10.0  # one that ran so long starts afresh


class Exits:
    def __init__(
        self, context: Context, *, lifecycle: Lifecycle, removal: Removal, health: Health
    ) -> None:
        self._context = context
        self._lifecycle = lifecycle
        self._removal = removal
        self._health = health

    async def handle(self, exit_: dict[str, Any]) -> None:
        """Take in one exit of a container; its shim may tell of it more than once."""
        container_id = exit_["id"]
        if self._context.records.has(container_id):
            live = self._context.live(container_id)
            if (over := live.unrecorded.pop(exit_["pid"], None)) is not None:
                over.set_result(None)
            async with live.lock:
                await self._settle(container_id, exit_, live)
        else:
            await self._forget(container_id)

    async def told(self, exit_: dict[str, Any]) -> None:
        """Take in an exit that the shim tells of, and try again where it cannot be stored."""
        while True:
            try:
                await self.handle(exit_)
            except OrlopError as error:
                why = {"container": exit_["id"], "why": str(error)}
                log.warning("an exit cannot be recorded", extra=why)
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    async def _forget(self, container_id: str) -> None:
        with contextlib.suppress(OrlopError):
            await self._context.shim.request({"op": "forget", "id": container_id})

    async def _settle(self, container_id: str, exit_: dict[str, Any], live: Live) -> None:
        container = self._context.records.get(container_id)
        if not container.running or (container.pid and container.pid != exit_["pid"]):
            await self._forget(container_id)
            return
        self._health.stop(container_id)
        container = self._lifecycle.ended(container, exit_)
        if self._context.records.is_stored(container_id):
            self._context.spawn(self._forget(container_id))
        finished = Finished(exit_code=container.exit_code, error=container.error)
        again = not live.stopping and self.wants_restart(container)
        if again:
            self._retry_later(container, live)
        resolve(live.exits, finished)
        if not again and not live.restarts and container.options.auto_remove:
            try:
                await self._removal.remove_locked(container_id, volumes=True)
            except OrlopError as error:
                log.warning("auto-remove failed", extra={"container": container_id, "why": error})

    def wants_restart(self, container: Container) -> bool:
        """Whether its restart policy starts it again after this end."""
        return should_restart(container.options.restart, container, container.restart_count)

    def _retry_later(self, container: Container, live: Live) -> None:
        if _ran_s(container, live) > _GOOD_RUN_S:
            live.retries = 0
        pause_s = min(_FIRST_PAUSE_S * 2**live.retries, _LONGEST_PAUSE_S)
        live.retries = min(live.retries + 1, 20)
        waiting = replace(
            container,
            status=container.moved(Step.RETRY),
            restart_count=container.restart_count + 1,
        )
        self._context.records.note(waiting)
        live.retry = self._context.spawn(self._retry(container.id, pause_s))

    async def _retry(self, container_id: str, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        await self._lifecycle.networks.settled.wait()  # which takes what it has no record of
        while self._context.records.has(container_id):
            container = self._context.records.get(container_id)
            if container.status != Status.RESTARTING:
                return
            try:
                await self._lifecycle.start(container_id)
            except OrlopError as error:
                log.warning("restart failed", extra={"container": container_id, "why": error})
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                await asyncio.sleep(pause_s)
            else:
                return

    def follow(self, container: Container) -> None:
        """Let its policy act on an exit that an engine before us stored, and no more than that."""
        if container.status == Status.EXITED and self.wants_restart(container):
            self._retry_later(container, self._context.live(container.id))

    def resume(self, container: Container) -> None:
        """Go on with the policy of a container that an engine before us left waiting."""
        live = self._context.live(container.id)
        if live.retry is None or live.retry.done():
            live.retry = self._context.spawn(self._retry(container.id, _FIRST_PAUSE_S))

    def resume_stopped(self, container: Container) -> None:
        """Start again, by its policy, a container that ended with the machine."""
        waiting = replace(container, status=container.moved(Step.RETRY))
        self._context.records.note(waiting)
        self.resume(waiting)


def _ran_s(container: Container, live: Live) -> float:
    """Return how long it ran, whatever the clock was set to meanwhile, if that can be told."""
    if live.begun_s is not None:
        return time.monotonic() - live.begun_s
    return (container.finished_ns - container.started_ns) / 1e9


def should_restart(policy: RestartPolicy, container: Container, count: int) -> bool:
    """Decide as Docker does: what the user stopped stays stopped."""
    if container.stopped_by_user:
        return False
    if policy.name in ("always", "unless-stopped"):
        return True
    if policy.name != "on-failure" or container.exit_code == 0:
        return False
    return not policy.maximum_retry_count or count < policy.maximum_retry_count


def resolve(futures: "list[asyncio.Future[Finished]]", finished: Finished) -> None:
    """Tell everyone who waits."""
    for future in futures:
        if not future.done():
            future.set_result(finished)
    futures.clear()

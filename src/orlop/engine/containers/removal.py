"""Removing containers."""

import contextlib
import time

from msgspec.structs import replace

from orlop.engine.answers import Finished
from orlop.engine.containers.bundle import Bundles
from orlop.engine.context import Context
from orlop.engine.threads import in_thread
from orlop.engine.volumes import Volumes
from orlop.errors import OrlopError, WrongStateError
from orlop.model.container import Container, Status, Step
from orlop.store.faults import fault


class Removal:
    def __init__(self, context: Context, *, bundles: Bundles, volumes: Volumes) -> None:
        self._context = context
        self._bundles = bundles
        self._volumes = volumes

    async def remove(self, container_id: str, *, volumes: bool) -> None:
        """Remove a container that does not run; WrongStateError, in Docker's words, if it does."""
        async with self._context.live(container_id).lock:
            await self.remove_locked(container_id, volumes=volumes)

    async def remove_locked(self, container_id: str, *, volumes: bool) -> None:
        """Do it for who holds the container's lock. What fails leaves it dead, to try again."""
        begun = time.monotonic_ns()
        container = self._context.records.get(container_id)
        _check(container)
        live = self._context.live(container_id)
        if live.retry is not None:
            live.retry.cancel()
        if container.status != Status.REMOVING:  # an engine before us died in the middle
            container = replace(container, status=container.moved(Step.REMOVE))
        self._context.records.note(container)  # from here on it can only go
        try:
            await in_thread(self._discard, container)
        except (OSError, OrlopError) as error:
            known = fault(error, "its files") if isinstance(error, OSError) else None
            why = str(known or error)
            self._context.records.note(
                replace(container, status=container.moved(Step.BURY), error=why)
            )
            raise WrongStateError(f"cannot remove container {container.name}: {why}") from error
        self._context.records.remove(container_id)
        self._context.forget(container_id)
        self._context.sweep_soon()
        if volumes and any(mount.type == "volume" for mount in container.mounts):
            self._volumes.remove_anonymous(container)
        self._context.telemetry.done("remove", container_id, (), begin_ns=begun)
        self._context.announce(container, "destroy")
        finished = Finished(exit_code=container.exit_code, error=container.error)
        for future in (*live.exits, *live.removals):
            if not future.done():
                future.set_result(finished)
        with contextlib.suppress(OrlopError):
            await self._context.stdio.request({"op": "detach", "key": container_id})

    def _discard(self, container: Container) -> None:
        self._context.snapshots.remove(container.id)
        self._bundles.remove(container.id)


def _check(container: Container) -> None:
    if container.running:
        how = "paused" if container.status == Status.PAUSED else "running"
        raise WrongStateError(
            f'cannot remove container "/{container.name}": container is {how}: '
            "stop the container before removing or force remove"
        )

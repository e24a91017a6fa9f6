"""Sandboxes: containers that are removed when the process that asked for them is gone.

Or when their time is over, if they were given one, kept or not.

Two things say that it is: its connection ends, which is how a client lets go, and its
process ends, which a connection that a child of it has inherited would hide. Who the
process was is in the container's record, so that an engine that comes after a dead one,
and has no connection, knows it too.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from orlop.engine.answers import Finished
from orlop.engine.containers.containers import Containers
from orlop.engine.context import Context
from orlop.engine.deadlines import Deadline, after
from orlop.engine.owner import UNKNOWN, describe, open_process
from orlop.errors import NotFoundError, OrlopError, WrongStateError
from orlop.model.container import ContainerOptions, Status

log = logging.getLogger(__name__)

_HELD_WITHIN_S = 5.0
_PAUSES_S = (0.05, 0.5, 2.0, 10.0)


class Terms(NamedTuple):
    """On which a sandbox is had."""

    pid: int  # the process that asks for it, 0 if unknown
    keep: bool = False  # it does not go with that process
    lifetime_s: float | None = None


class Owners:
    """Whose sandboxes are whose, and until when."""

    def __init__(self, context: Context, containers: Containers) -> None:
        self._context = context
        self._containers = containers
        self._unheld: dict[str, asyncio.TimerHandle] = {}

    async def open(self, options: ContainerOptions, terms: Terms, *, name: str | None) -> str:
        """Make and start a container; return its id.

        It is removed unless hold() follows soon, or it is to be kept: so a client that went
        away meanwhile leaves nothing.
        """
        options = owned(options, terms)
        return await asyncio.shield(self._context.spawn(self._open(options, name)))

    async def _open(self, options: ContainerOptions, name: str | None) -> str:
        created = await self._containers.create(options, name=name)
        await self._containers.start(created.id)  # which removes it where it cannot be started
        self.begun([created.id])
        return created.id

    def begun(self, container_ids: Sequence[str]) -> None:
        """Mind containers that have just been started."""
        loop = asyncio.get_running_loop()
        for container_id in container_ids:
            options = self._options_of(container_id)
            if options.owner:
                timer = loop.call_later(_HELD_WITHIN_S, self._give_up, container_id)
                self._unheld[container_id] = timer
            elif options.expires_ns:
                self._context.spawn(self._watch(container_id, None))

    def _give_up(self, container_id: str) -> None:
        del self._unheld[container_id]
        self._context.spawn(self._end(container_id))

    def unheld(self, ref: str) -> str:
        """Return the id of a sandbox that waits for its hold(); WrongStateError for any other."""
        container = self._containers.get(ref)
        if container.id not in self._unheld:
            raise WrongStateError(f"sandbox {container.name} does not wait to be held")
        return container.id

    def hold(self, container_id: str, client: socket.socket) -> None:
        """Keep the container for as long as *client* is open, which belongs to the engine now."""
        timer = self._unheld.pop(container_id, None)
        if timer is not None:
            timer.cancel()
        self._context.spawn(self._watch(container_id, client))

    def resume(self) -> None:
        """Watch the owners that an engine before us has left; end what has none."""
        for container in self._context.records.all():
            if container.options.owner or container.options.expires_ns:
                begun = container.status != Status.CREATED  # else nobody knows its id
                work = self._watch(container.id, None) if begun else self._end(container.id)
                self._context.spawn(work)

    async def _watch(self, container_id: str, client: socket.socket | None) -> None:
        """End the container when its owner is gone."""
        loop = asyncio.get_running_loop()
        gone = loop.create_future()
        removed = asyncio.ensure_future(self._containers.wait(container_id, condition="removed"))
        with contextlib.ExitStack() as stack:
            stack.callback(_drop, removed)
            if client is not None:
                stack.enter_context(client)
                client.settimeout(0)
                loop.add_reader(client, _read_on, client, gone)
                stack.callback(loop.remove_reader, client)
            options = self._options_of(container_id)
            owner = options.owner
            process = open_process(owner)
            if process is not None:
                stack.callback(os.close, process)
                loop.add_reader(process, _resolve, gone)
                stack.callback(loop.remove_reader, process)
            elif owner and (client is None or owner != UNKNOWN):
                _resolve(gone)
            if options.expires_ns:
                left_s = Deadline(options.expires_ns, options.expires_boot).left_s()
                stack.callback(loop.call_later(left_s, _resolve, gone).cancel)
            await asyncio.wait({gone, removed}, return_when=asyncio.FIRST_COMPLETED)
        await self._end(container_id)

    def _options_of(self, container_id: str) -> ContainerOptions:
        if not self._context.records.has(container_id):
            return ContainerOptions(owner=UNKNOWN)
        return self._context.records.get(container_id).options

    async def _end(self, container_id: str) -> None:
        for pause_s in _PAUSES_S:
            try:
                await self._containers.remove(container_id, force=True, volumes=True)
            except NotFoundError:
                return
            except OrlopError as error:  # it is being started, or removed by somebody else
                why = {"container": container_id, "why": str(error)}
                log.warning("a sandbox cannot be removed", extra=why)
                await asyncio.sleep(pause_s)
            else:
                return


def owned(options: ContainerOptions, terms: Terms) -> ContainerOptions:
    """Return *options* with the *terms* in them."""
    if terms.lifetime_s is not None:
        options = replace(options, **after(terms.lifetime_s)._asdict())
    if terms.keep:
        return options
    return replace(options, owner=describe(terms.pid), auto_remove=True)


def _read_on(client: socket.socket, gone: asyncio.Future[None]) -> None:
    """Throw away what a client says; resolve *gone* at its end."""
    try:
        if client.recv(4096):
            return
    except BlockingIOError:
        return
    except OSError:
        pass
    _resolve(gone)


def _drop(waiting: asyncio.Future[Finished]) -> None:
    waiting.cancel()
    if waiting.done() and not waiting.cancelled():
        waiting.exception()  # seen: the container was gone before


def _resolve(gone: asyncio.Future[None]) -> None:
    if not gone.done():
        gone.set_result(None)

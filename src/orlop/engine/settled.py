"""Waiting for the record of a start or an exit that has happened.

An attached client sees the first output of a container, and the end of its streams, before
the shim tells the engine of the start, or of the exit. What the client asks for next must
find a container that runs, or has ended.
"""

import asyncio

from orlop.engine.answers import Finished
from orlop.engine.context import Context
from orlop.errors import NotFoundError
from orlop.model.container import Container
from orlop.runtime.cgroups.control import alive

_SETTLE_S = 5.0


async def started(context: Context, container: Container) -> Container:
    """Return *container* as it is once a start that is under way is recorded, or has failed."""
    starting = context.live(container.id).starting
    if container.running or starting is None:
        return container
    await asyncio.wait({starting})
    return context.records.get(container.id)


async def settled(context: Context, container: Container) -> Container:
    """Return *container* as it is once the engine has recorded a start or exit that has happened.

    A container that is removed at its end is returned as it was.
    """
    container = await started(context, container)
    if not container.running or alive(container.pid):
        return container
    exits = context.live(container.id).exits
    future: asyncio.Future[Finished] = asyncio.get_running_loop().create_future()
    exits.append(future)
    await asyncio.wait({future}, timeout=_SETTLE_S)
    if future in exits:
        exits.remove(future)
    try:
        return context.records.get(container.id)
    except NotFoundError:
        return container

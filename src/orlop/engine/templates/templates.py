"""All templates: made, found, and cleared away when their container is gone."""

import asyncio
import contextlib
import secrets
import shutil
import socket
from collections.abc import Coroutine, Sequence
from typing import Any, cast

from orlop.engine.containers.bundle import Bundles
from orlop.engine.containers.containers import Containers
from orlop.engine.context import Context
from orlop.engine.owners import Owners, Terms
from orlop.engine.spec.idranges import mappings
from orlop.engine.templates.child import discard
from orlop.engine.templates.messages import Message, Messages
from orlop.engine.templates.request import Wanted, container_options, zygote_options
from orlop.engine.templates.template import GoneError, Place, Template
from orlop.engine.templates.zygote import Door, Zygote
from orlop.engine.threads import in_thread
from orlop.errors import InvalidArgumentError, NotFoundError, OrlopError, UnavailableError
from orlop.model.container import ContainerOptions
from orlop.model.oci import IDMapping, Resources
from orlop.runtime import cgroups

_CGROUPS = "/orlop/template-"
_END_S = 5.0
_STREAMS = 4  # stdin, stdout, stderr, code


class Templates:
    """By the id of their container. What is left of an engine that died, its folder names."""

    def __init__(self, context: Context, containers: Containers, owners: Owners) -> None:
        self._context = context
        self._bundles = Bundles(context)
        self._containers = containers
        self._owners = owners
        self._folder = context.settings.run / "templates"
        self._known: dict[str, asyncio.Future[Template]] = {}

    async def open(
        self, options: ContainerOptions, wanted: Wanted, terms: Terms, *, name: str | None
    ) -> str:
        """Start its container and return the id; find() waits until it is warm.

        As owners.open(): it is removed unless it is held soon.
        """
        token = secrets.token_hex(8)
        place = self._folder / token
        place.mkdir(mode=0o700, parents=True)
        door = Door(place / "control")
        try:
            full = container_options(options, wanted, str(door.path))
            container_id = await self._owners.open(full, terms, name=name)
        except BaseException:
            door.close()
            await in_thread(self._sweep, token)
            raise
        ready = asyncio.get_running_loop().create_future()
        ready.add_done_callback(_seen)
        self._known[container_id] = ready
        told = zygote_options(options, wanted, filters=str(self._context.settings.run / "seccomp"))
        self._context.spawn(self._tend(container_id, token, door, told))
        return container_id

    async def _tend(self, container_id: str, token: str, door: Door, told: dict[str, Any]) -> None:
        """Be there for as long as its container is."""
        removed = asyncio.ensure_future(self._containers.wait(container_id, condition="removed"))
        warming = asyncio.ensure_future(self._warm(container_id, token, door, told))
        ready, template = self._known[container_id], None
        why = "the engine has ended"
        try:
            await asyncio.wait({removed, warming}, return_when=asyncio.FIRST_COMPLETED)
            if warming.done():
                try:
                    template = await warming
                    ready.set_result(template)
                    template.fill()
                except InvalidArgumentError as error:
                    ready.set_exception(error)
                except (OrlopError, OSError) as error:
                    why = str(error)
                    await asyncio.wait({removed}, timeout=_END_S)  # which says more
            why = _reason((await removed).exit_code)
        except NotFoundError:
            why = "the template's process has ended"
        finally:
            warming.cancel()
            removed.cancel()
            door.close()
            if not ready.done():
                ready.set_exception(UnavailableError(why))
            await _to_its_end(self._clear(container_id, token, template, why))

    async def _clear(
        self, container_id: str, token: str, template: Template | None, why: str
    ) -> None:
        if template is not None:
            await template.close(why)
        self._known.pop(container_id, None)
        await in_thread(self._sweep, token)

    async def _warm(
        self, container_id: str, token: str, door: Door, told: dict[str, Any]
    ) -> Template:
        zygote = Zygote(await door.accept())
        try:
            user = await zygote.begin(told)
            options = self._containers.get(container_id).options
            config = await in_thread(self._bundles.read, container_id)
            limits = cast("Resources", dict(config["linux"]["resources"]))
            rules = limits.pop("devices", [])
            groups = _CGROUPS + token
            await in_thread(cgroups.create, groups, {"devices": rules})
            uids, gids = mappings(options.userns)
            place = Place(groups, limits, _outside(user["uid"], uids), _outside(user["gid"], gids))
        except BaseException:
            await zygote.close()
            raise
        return Template(zygote, place, spawn=self._context.spawn)

    async def find(self, container_id: str) -> Template:
        """Return it once it is warm; InvalidArgumentError with why it never will be."""
        ready = self._known.get(self._containers.get(container_id).id)
        if ready is None:
            raise NotFoundError(f"container {container_id} is no template")
        return await asyncio.shield(ready)

    async def converse(self, template: Template, client: socket.socket) -> None:
        """Run what the *client* sends, one after the other, until it goes."""
        messages = Messages(client)
        coming = asyncio.ensure_future(messages.receive())
        try:
            while True:
                message = await coming
                coming = asyncio.ensure_future(messages.receive())
                messages.send(await _answer(template, message, coming))
        except OSError:
            pass  # it went
        finally:
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                (await coming).close()
            messages.close()

    async def sweep(self) -> None:
        """Clear away what templates of an engine that died have left."""
        with contextlib.suppress(FileNotFoundError):
            for token in sorted(path.name for path in self._folder.iterdir()):
                await in_thread(self._sweep, token)

    def _sweep(self, token: str) -> None:
        groups = _CGROUPS + token
        for name in cgroups.names(groups):
            discard(cgroups.open(f"{groups}/{name}"))
        discard(cgroups.open(groups))
        shutil.rmtree(self._folder / token, ignore_errors=True)


async def _answer(
    template: Template, message: Message, over: asyncio.Future[Message]
) -> dict[str, Any]:
    """Return what became of a run; it is over when the client says anything more, or goes."""
    try:
        timeout_s = message.body.get("timeout_s")
        if len(message.fds) != _STREAMS or not isinstance(timeout_s, float | int | None):
            raise InvalidArgumentError("a run needs three streams and its code")
        ended = await template.run(message.fds, timeout_s=timeout_s, over=over)
    except OrlopError as error:
        return {"error": str(error), "gone": isinstance(error, GoneError)}
    finally:
        message.close()
    return ended._asdict()


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for all of *work*, though we be cancelled meanwhile: nobody comes after us."""
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


def _outside(inside: int, mapping: Sequence[IDMapping]) -> int:
    """Return what an id that the template has told is on this machine."""
    for piece in mapping:
        if 0 <= inside - piece["containerID"] < piece["size"]:
            return piece["hostID"] + inside - piece["containerID"]
    raise InvalidArgumentError(f"the template has no user or group {inside}")


def _reason(exit_code: int) -> str:
    killed = " (it was killed: more memory may help)" if exit_code == 137 else ""
    return f"the template's process has ended with {exit_code}{killed}"


def _seen(ready: asyncio.Future[Template]) -> None:
    if not ready.cancelled():
        ready.exception()  # so that asyncio does not warn where nobody asks

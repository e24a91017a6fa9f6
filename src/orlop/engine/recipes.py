"""Recipes: what sandboxes with the same options have in common, made ready once.

A recipe has all that a container has, bundle, snapshot and leases, but is none: the shim
knows it, and starts any number of sandboxes by it.
"""

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import NamedTuple

import msgspec

from orlop.engine.containers.bundle import Bundles
from orlop.engine.containers.containers import Containers
from orlop.engine.containers.kind import bundle_of
from orlop.engine.context import Context
from orlop.engine.images.images import Images
from orlop.errors import OrlopError, UnsupportedError
from orlop.model.container import Container, ContainerOptions
from orlop.model.oci import Config

_MOST = 64
_IDLE_S = 600.0
_LOOK_S = 60.0
_REFUSED_S = 10.0  # until what is unsupported is looked at again


class Recipe(NamedTuple):
    """What the engine knows of one. *container* is what its sandboxes are but for their names."""

    container: Container
    config: Config
    undo: ExitStack
    sources: tuple[tuple[str, int, int], ...]  # host paths that are mounted: device, inode
    shim: int  # that knows it: how many were lost before
    again: Callable[[], Awaitable["Recipe"]]  # gives another such, when that shim is lost

    @property
    def id(self) -> str:
        return self.container.id

    @property
    def sysctls(self) -> dict[str, str]:
        """Settings of its sandboxes' network namespaces, by their names."""
        return self.config.get("linux", {}).get("sysctl", {})

    @property
    def may_change_networks(self) -> bool:
        """Whether its sandboxes may change what they have of networks.

        Root may write below /proc/sys without any capability, where it can be written to.
        """
        process, linux = self.config.get("process", {}), self.config.get("linux", {})
        bounding = process.get("capabilities", {}).get("bounding", ())
        may_all = "CAP_NET_ADMIN" in bounding or "CAP_SYS_ADMIN" in bounding
        return may_all or "/proc/sys" not in linux.get("readonlyPaths", ())

    def is_true(self, image: str) -> bool:
        """Whether it still stands for what its options say."""
        return self.container.image == image and all(
            _identity(path) == (device, inode) for path, device, inode in self.sources
        )


class Recipes:
    """Those in use, by the options as a client has written them: *key*."""

    def __init__(
        self, context: Context, *, containers: Containers, images: Images, bundles: Bundles
    ) -> None:
        self._context = context
        self._containers = containers
        self._images = images
        self._bundles = bundles
        self._known: dict[bytes, Recipe] = {}  # oldest use first
        self._refused: dict[bytes, tuple[float, UnsupportedError]] = {}
        self._making: dict[bytes, asyncio.Task[Recipe]] = {}
        self._used_s: dict[bytes, float] = {}
        self._leaving: list[Recipe] = []  # dropped, but there are sandboxes by them

    async def of(
        self, key: bytes, parse: Callable[[], ContainerOptions], *, disk_bytes: int = 0
    ) -> Recipe:
        """Return the recipe of *key*, made where there is none, with the options of *parse*.

        Its sandboxes may write *disk_bytes*; 0: 1 GiB.

        Raises:
            UnsupportedError: such containers start in the usual way only.
            OrlopError: as Containers.create().
        """
        now = asyncio.get_running_loop().time()
        recipe = self._known.get(key)
        if recipe is not None:
            if recipe.is_true(self._images.resolve(recipe.container.image_name).id):
                self._used_s[key] = now
                return recipe
            self._drop(key)
        refused = self._refused.get(key)
        if refused is not None and now - refused[0] < _REFUSED_S:
            raise refused[1]
        making = self._making.get(key)
        if making is None:
            making = self._context.spawn(self._make(key, parse, disk_bytes))
            self._making[key] = making
        return await asyncio.shield(making)

    async def _make(
        self, key: bytes, parse: Callable[[], ContainerOptions], disk_bytes: int
    ) -> Recipe:
        self._evict()
        undo = ExitStack()
        try:
            container = await self._containers.prepare(parse(), undo)
            message = {**self._bundles.start_message(container), "op": "recipe"}
            message["disk_bytes"] = disk_bytes
            message["template"] = msgspec.to_builtins(container)  # for an engine after this one
            sources = tuple(
                (mount.source, *_identity(mount.source))
                for mount in container.mounts
                if mount.type == "bind"
            )
            await self._context.shim.settle(message)
            shim = self._context.shim.losses
            config = self._bundles.read(container.id)
        except UnsupportedError as error:
            undo.close()
            self._refused[key] = (asyncio.get_running_loop().time(), error)
            while len(self._refused) > _MOST:
                del self._refused[next(iter(self._refused))]
            raise
        except BaseException:
            undo.close()
            raise
        finally:
            del self._making[key]
        again = functools.partial(self.of, key, parse, disk_bytes=disk_bytes)
        recipe = Recipe(container, config, undo, sources, shim, again)
        if not self._known and not self._leaving:
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)
        self._known[key] = recipe
        self._used_s[key] = asyncio.get_running_loop().time()
        return recipe

    def _look(self) -> None:
        """Drop what is not in use now and then, for it keeps images and mounted folders."""
        self._evict()
        self._let_go()
        if self._known or self._leaving:
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _evict(self) -> None:
        """Drop those that nobody has asked for in a while, or the oldest of too many."""
        now, used = asyncio.get_running_loop().time(), self._used()
        by_use = sorted(self._used_s, key=self._used_s.__getitem__)
        idle = [key for key in by_use if self._known[key].id not in used]
        for place, key in enumerate(idle):
            if len(by_use) - place >= _MOST or now - self._used_s[key] > _IDLE_S:
                self._drop(key)

    def _used(self) -> set[str]:
        """Return the ids of the recipes that sandboxes still use."""
        return {bundle_of(container) for container in self._context.records.all()}

    def _drop(self, key: bytes) -> None:
        recipe = self._known.pop(key)
        del self._used_s[key]
        self._context.spawn(self._forget(recipe))

    async def _forget(self, recipe: Recipe) -> None:
        with suppress(OrlopError):  # the shim that knew it is gone
            await self._context.shim.request({"op": "drop_recipe", "id": recipe.id})
        self._leaving.append(recipe)
        self._let_go()

    def _let_go(self) -> None:
        """Take away what dropped ones have on disk, once they have no sandboxes."""
        used = self._used()
        for recipe in [recipe for recipe in self._leaving if recipe.id not in used]:
            self._leaving.remove(recipe)
            recipe.undo.close()

    def lost(self) -> None:
        """Take note that the shim which knew them is gone."""
        for recipe in self._known.values():
            recipe.undo.close()
        self._known.clear()
        self._used_s.clear()

    def close(self) -> None:
        """Take away what they have on disk, but for those by which sandboxes run on."""
        used = self._used()
        for key in [key for key, recipe in self._known.items() if recipe.id in used]:
            del self._known[key]  # an engine after this one removes it when nobody needs it
        self.lost()


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)

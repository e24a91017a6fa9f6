"""The engine: every use case, one object."""

import asyncio
import contextlib
import functools
import logging
import stat
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orlop.engine import reconcile
from orlop.engine.containers.bundle import Bundles
from orlop.engine.containers.containers import Containers
from orlop.engine.containers.exits import Exits
from orlop.engine.containers.health import Health
from orlop.engine.containers.kind import kind_of
from orlop.engine.containers.lifecycle import Lifecycle
from orlop.engine.containers.removal import Removal
from orlop.engine.context import Context
from orlop.engine.execs.execs import Execs
from orlop.engine.fork_sources import ForkSources
from orlop.engine.forks import Forks
from orlop.engine.images.images import Images
from orlop.engine.networks.networks import Networks
from orlop.engine.owners import Owners
from orlop.engine.pods.pods import Pods
from orlop.engine.recipes import Recipes
from orlop.engine.sandboxes import Sandboxes
from orlop.engine.settings import Settings
from orlop.engine.shimlink import Link
from orlop.engine.system import System
from orlop.engine.telemetry.gauges import Gauges
from orlop.engine.telemetry.telemetry import Telemetry
from orlop.engine.templates.templates import Templates
from orlop.engine.threads import in_thread
from orlop.engine.volumes import Volumes
from orlop.errors import NotFoundError, OrlopError
from orlop.model.container import Container
from orlop.model.timeline import Step
from orlop.shim.launch import launch
from orlop.snapshots.choose import snapshots
from orlop.store.content import Content
from orlop.store.faults import explained
from orlop.store.metadata import Metadata

if TYPE_CHECKING:
    from orlop.engine.builds.builds import Builds
    from orlop.engine.namespaces.clients import Clients

log = logging.getLogger(__name__)

_SHIM_SOON_S = 1.0
_SHIM_ANSWERS_S = 5.0
_OURS = 0o700
_MARK = ".dockerenv"  # programs look for it to know that they are in a container
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Engine:
    """All that a client can ask for. Used from one event loop only."""

    _shim_since = 0.0
    _replacing: asyncio.Task[None] | None = None

    def __init__(self, context: Context) -> None:
        self.settings = context.settings
        self.events = context.events
        self._context = context
        bundles = Bundles(context)
        self.volumes = Volumes(context)
        self.execs = Execs(context, bundles)
        self._health = Health(context, self.execs)
        self.networks = Networks(context, bundles)
        self._lifecycle = lifecycle = Lifecycle(
            context, bundles=bundles, health=self._health, networks=self.networks
        )
        self.images = Images(context, hold=self._hold)
        self.containers = Containers(
            context,
            bundles=bundles,
            images=self.images,
            volumes=self.volumes,
            execs=self.execs,
            lifecycle=self._lifecycle,
        )
        self.pods = Pods(context, containers=self.containers, networks=self.networks)
        self.owners = Owners(context, self.containers)
        self.sandboxes = Sandboxes(context, execs=self.execs, networks=self.networks)
        self.recipes = Recipes(
            context, containers=self.containers, images=self.images, bundles=bundles
        )
        self.templates = Templates(context, self.containers, self.owners)
        self.forks = Forks(context, self.containers, self.owners)
        self._removal = Removal(context, bundles=bundles, volumes=self.volumes)
        self._exits = Exits(
            context, lifecycle=lifecycle, removal=self._removal, health=self._health
        )
        self._reconciler = reconcile.Reconciler(
            context, lifecycle=lifecycle, exits=self._exits, sandboxes=self.sandboxes
        )
        self.system = System(
            context, images=self.images, containers=self.containers, volumes=self.volumes
        )

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["Engine"]:
        """Take possession of the state and put right what a crash left; let go at the end.

        Containers run on when the engine is closed. The caller sees to it that no
        other engine holds this state.
        """
        async with AsyncExitStack() as stack:
            context = await in_thread(_open, settings)
            stack.callback(context.metadata.close)
            engine = cls(context)
            stack.push_async_callback(engine._close)
            await engine._begin()
            yield engine

    async def _begin(self) -> None:
        settings = self.settings
        self._gauges = Gauges(self._context, self.networks)
        fresh = await in_thread(_is_first_since_boot, settings)
        self._context.shim = Link(
            str(settings.shim_socket),
            greeting={"op": "subscribe"},
            on_event=self._heard,
            on_lost=self._shim_lost,
        )
        self._context.stdio = Link(str(settings.stdio_socket))
        await in_thread(launch, str(settings.run))
        await self._greet_shim()
        await self._context.shim.request({"op": "drop_recipe"})
        await self._reconciler.run(self._health)
        await self.pods.reconcile()
        await self.templates.sweep()
        await self.networks.reconcile()
        await reconcile.resume(self._context, exits=self._exits, removal=self._removal, fresh=fresh)
        await self.forks.resume()
        if settings.builds.exists():
            await self.builds.resume()
        self.owners.resume()
        await reconcile.discard_orphans(self._context, self.volumes)
        await in_thread(_mark_boot, settings)
        self._context.sweep_soon()

    @functools.cached_property
    def builds(self) -> "Builds":
        """Builds of images: loaded when the first one comes."""
        from orlop.engine.builds.builds import Builds

        return Builds(self._context, images=self.images, containers=self.containers)

    @functools.cached_property
    def fork_sources(self) -> ForkSources:
        """What forks of sandboxes by recipes begin with."""
        return ForkSources(self._context, self.forks)

    @functools.cached_property
    def clients(self) -> "Clients":
        """What containerd's clients keep; loaded for the first of them."""
        from orlop.engine.namespaces.clients import Clients

        return Clients(
            self._context, images=self.images, containers=self.containers, execs=self.execs
        )

    @property
    def telemetry(self) -> Telemetry:
        """Where it is told how long things took."""
        return self._context.telemetry

    async def metrics(self, *, openmetrics: bool = False) -> str:
        """Return what Prometheus reads."""
        return await self._gauges.text(openmetrics=openmetrics)

    def timeline(self, ref: str) -> Sequence[Step]:
        """Return the steps of a container, which may be gone, that was started with timeline=1."""
        with contextlib.suppress(NotFoundError):
            ref = self.containers.get(ref).id
        return self.telemetry.timelines.of(ref)

    async def _close(self) -> None:
        await self._context.cancel_all()
        await self.networks.close()
        self.recipes.close()
        await self.images.close()
        self._context.spaces.close()
        for name in ("shim", "stdio"):
            link: Link | None = getattr(self._context, name, None)
            if link is not None:
                link.close()

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work* beside everything else; ended with the engine."""
        self._context.spawn(work)

    def _heard(self, message: dict[str, Any]) -> None:
        if message.get("event") != "exit":
            return
        if "exec_id" in message:
            self.execs.ended(message)
        elif self.sandboxes.knows(message["id"]):
            self.sandboxes.heard(message)
        else:
            self._context.spawn(self._exits.told(message))

    def _shim_lost(self) -> None:
        self.recipes.lost()
        self.sandboxes.lost()
        self.execs.lost()
        log.warning("the shim has gone; starting another")
        if self._replacing is None or self._replacing.done():
            self._replacing = self._context.spawn(self._replace_shim())

    async def _greet_shim(self) -> None:
        """Learn which shim it is."""
        told = await self._context.shim.request({"op": "hello"})
        self._context.shim_build = told.get("build", "an older Orlop")

    async def _replace_shim(self) -> None:
        """Start another shim, which adopts what runs, and hear what happened meanwhile.

        The next shim may be killed as the last one was: this goes on until one has told all.
        """
        loop, link = asyncio.get_running_loop(), self._context.shim
        told = False
        while not told:
            if loop.time() - self._shim_since < _SHIM_SOON_S:
                await asyncio.sleep(_SHIM_SOON_S)  # it dies at once: do not spin
            self._shim_since, losses = loop.time(), link.losses
            try:
                await in_thread(launch, str(self.settings.run))
                await asyncio.wait_for(self._greet_shim(), _SHIM_ANSWERS_S)
                await self._context.spaces.hold_again()
                await self._reconciler.run(self._health)
                told = losses == link.losses
            except (OrlopError, TimeoutError) as error:
                why = str(error) or "it does not answer"
                log.warning("the shim cannot be replaced yet", extra={"why": why})

    @asynccontextmanager
    async def _hold(self, container: Container) -> AsyncIterator[None]:
        """Keep the container's processes from running while inside."""
        if not kind_of(container).shows_pauses:
            async with self.forks.still(container):
                yield
            return
        await self._lifecycle.pause(container.id)
        try:
            yield
        finally:
            with contextlib.suppress(OrlopError):
                await self._lifecycle.unpause(container.id)


def _open(settings: Settings) -> Context:
    for folder in (settings.root, settings.run):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _close_to_others(folder)
    for folder in (settings.containers, settings.volumes, settings.bundles):
        folder.mkdir(mode=0o700, exist_ok=True)
    content = Content.create(settings.content)
    metadata = Metadata(settings.metadata, content, spare=settings.run)
    try:
        driver = snapshots(str(settings.snapshots), settings.snapshotter)
        try:
            driver.show_everywhere(_MARK)
        except OSError as error:  # a disk that is full or read-only keeps no engine from starting
            log.warning("no container has /.dockerenv", extra={"why": str(error)})
        return Context(settings, content, metadata, driver)
    except BaseException:
        metadata.close()
        raise


def _close_to_others(folder: Path) -> None:
    if stat.S_IMODE(folder.stat().st_mode) != _OURS:
        with explained(f"the folder {folder}"):
            folder.chmod(_OURS)


def _is_first_since_boot(settings: Settings) -> bool:
    """Whether no engine of this root has run since the machine came up."""
    try:
        return (settings.root / "boot").read_text() != _boot_id()
    except FileNotFoundError:
        return True


def _mark_boot(settings: Settings) -> None:
    """Let the next engine know that this one ran since the machine came up."""
    if not _is_first_since_boot(settings):
        return
    try:
        (settings.root / "boot").write_text(_boot_id())
    except OSError as error:
        log.warning("the boot cannot be marked", extra={"why": str(error)})


def _boot_id() -> str:
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read()

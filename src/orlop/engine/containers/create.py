"""Making a container: nothing of it is left when a step fails."""

import logging
import os
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from msgspec.structs import replace

from orlop.engine import spec
from orlop.engine.answers import Created, ImageRecord
from orlop.engine.containers import logs, names
from orlop.engine.containers.bundle import Bundles, layer_keys, needs_others
from orlop.engine.containers.id_ranges import IDRanges
from orlop.engine.containers.kind import is_in_machine
from orlop.engine.containers.lifecycle import parse_signal
from orlop.engine.containers.merge import merge, wanted_mounts
from orlop.engine.context import Context
from orlop.engine.images.host import HOST, host_base
from orlop.engine.images.images import Images
from orlop.engine.networks.networks import Networks
from orlop.engine.spec.process import rlimit
from orlop.engine.threads import in_thread
from orlop.engine.volumes import Volumes
from orlop.errors import InvalidArgumentError, NotFoundError, OrlopError, UnsupportedError
from orlop.model.container import Container, ContainerOptions, HealthState, MountPoint
from orlop.model.digest import Digest
from orlop.model.image import Process
from orlop.model.platform import host_platform, parse_platform, preference
from orlop.runtime.allowance import refused
from orlop.runtime.cgroups.layout import counts_swap
from orlop.runtime.plan import plan_rlimits
from orlop.store.faults import explained

log = logging.getLogger(__name__)

_LONGEST_NAME = 64  # sethostname(2)


class Creation:
    def __init__(
        self,
        context: Context,
        *,
        bundles: Bundles,
        images: Images,
        volumes: Volumes,
        networks: Networks,
    ) -> None:
        self._context = context
        self._networks = networks
        self._bundles = bundles
        self._images = images
        self._volumes = volumes
        self._id_ranges = IDRanges(context.records)

    async def create(
        self, options: ContainerOptions, name: str | None, *, image: ImageRecord | None = None
    ) -> Created:
        """Make the container; see Containers.create."""
        records, times = self._context.records, self._context.telemetry.recorder()
        begun = since = times.now()
        image = image or self._images.resolve(options.image)
        _check_platform(options, image)
        options = self._limited(self._by_id(self._networks.resolve(options)))
        name = self._checked(name)
        container = self._describe(options, image, name)
        if is_in_machine(container):
            from orlop.engine import machines  # not for an engine that has none

            machines.check(container.options, image.id)
        await logs.attributes_of(container)  # refuses what no start could do
        warnings = _warnings(options, image)
        since = times.note("resolve", since)
        with (
            records.reserve_name(container),
            self._id_ranges.chosen(container.options.userns) as userns,
            self._context.metadata.leases.hold() as lease,
            ExitStack() as undo,
        ):
            container = replace(container, options=replace(container.options, userns=userns))
            lease.add(*(Digest(key) for key in container.layers))
            await self._images.make_ready(image)  # after the lease: now they stay
            since = times.note("image_ready", since)
            with explained(f"what container {name} needs"):
                container = await self._resolve_mounts(container, undo)
                since = times.note("resolve_mounts", since)
                await self._make(container, undo, size_bytes=container.options.disk_bytes or 0)
                since = times.note("make_folders", since)
            records.add(container)  # from here on it exists
            undo.pop_all()
        times.note("record", since)
        self._context.telemetry.done("create", container.id, times.steps, begin_ns=begun)
        self._context.announce(container, "create")
        return Created(id=container.id, warnings=warnings)

    def _limited(self, options: ContainerOptions) -> ContainerOptions:
        """Return *options* with the engine's limit of a disk where they have none."""
        if options.disk_bytes is not None:
            return options
        return replace(options, disk_bytes=self._context.settings.container_disk_bytes)

    def _checked(self, name: str | None) -> str:
        """Return *name*, which can be taken, or a new one."""
        records = self._context.records
        if name is None:
            name = names.generate(records.is_taken)
        names.check_name(name)
        records.check_name(name)
        return name

    async def add(self, container: Container) -> None:
        """Make a container whose config.json and root its client has made.

        InvalidArgumentError, AlreadyExistsError because of its name.
        """
        records = self._context.records
        names.check_name(container.name)
        with records.reserve_name(container), ExitStack() as undo:
            with explained(f"what container {container.name} needs"):
                undo.callback(_undone, self._bundles.remove, container.id)
                self._bundles.folder(container.id).mkdir(mode=0o700, parents=True)
                self._bundles.write(container)
            records.add(container)  # from here on it exists
            undo.pop_all()
        self._context.announce(container, "create")

    def _by_id(self, options: ContainerOptions) -> ContainerOptions:
        """Return *options* with the ids of containers to be joined: names can change."""
        return replace(options, ipc=self._owner(options.ipc), pid=self._owner(options.pid))

    def _owner(self, mode: str) -> str:
        kind, separator, ref = mode.partition(":")
        if kind != "container" or not separator:
            return mode
        try:
            return f"container:{self._context.records.find(ref).id}"
        except NotFoundError as error:  # which a client would take for the image, and pull it
            raise InvalidArgumentError(str(error)) from None

    async def prepare(self, options: ContainerOptions, undo: ExitStack) -> Container:
        """Make all that a container needs, and none: what others are started by has it.

        It stays until *undo* is closed. UnsupportedError where each container would need
        something of its own.
        """
        image = self._images.resolve(options.image)
        _check_platform(options, image)
        options = replace(options, entrypoint=(), command=("-",))  # each start has its own
        container = self._describe(self._networks.resolve(options), image, "recipe")
        _check_shared(container)
        lease = undo.enter_context(self._context.metadata.leases.hold())
        lease.add(*(Digest(key) for key in container.layers))
        await self._images.make_ready(image)
        with explained("what a recipe needs"):
            container = await self._resolve_mounts(container, undo)
            await self._make(container, undo)
        return container

    def _describe(self, options: ContainerOptions, image: ImageRecord, name: str) -> Container:
        container_id = secrets.token_hex(32)
        merged = merge(options, image.config)
        _check_process(merged)
        argv = spec.command(merged, Process())
        check = merged.health
        checked = check is not None and bool(check.test) and check.test[0] != "NONE"
        return Container(
            id=container_id,
            name=name,
            options=merged,
            image=image.id,
            image_name=options.image,
            created_ns=time.time_ns(),
            path=argv[0],
            args=argv[1:],
            health=HealthState() if checked else None,
            driver=self._context.snapshots.name,
            layers=image.layers,
            log_path=logs.path_of(merged.log, self._bundles.folder(container_id)),
        )

    async def _resolve_mounts(self, container: Container, undo: ExitStack) -> Container:
        """Make the volumes that are missing, and look at the host folders."""
        inherited = self._inherited(container.options.volumes_from)
        mounts = []
        for mount in wanted_mounts(container.options, inherited):
            if mount.type == "bind":
                _check_bind(mount)
            mounts.append(self._volumes.resolve(mount, undo) if mount.type == "volume" else mount)
        return replace(container, mounts=tuple(mounts))

    def _inherited(self, sources: tuple[str, ...]) -> list[MountPoint]:
        """Return the mounts of the containers of --volumes-from: NAME[:ro|rw]."""
        mounts: list[MountPoint] = []
        for text in sources:
            ref, _, mode = text.partition(":")
            if mode not in ("", "ro", "rw", "z", "Z"):
                raise InvalidArgumentError(f"invalid mode {mode!r} of volumes-from {ref!r}")
            try:
                source = self._context.records.find(ref)
            except NotFoundError as error:  # which a client would take for the image, and pull it
                raise InvalidArgumentError(str(error)) from None
            for mount in source.mounts:
                mounts.append(replace(mount, read_only=mount.read_only or mode == "ro"))
        return mounts

    async def _make(self, container: Container, undo: ExitStack, *, size_bytes: int = 0) -> None:
        """Make what is on disk: folder, bundle, snapshot; fill new volumes from the image."""
        undo.callback(_undone, self._bundles.remove, container.id)
        self._bundles.folder(container.id).mkdir(mode=0o700, parents=True)
        logs.make_file(container)
        undo.callback(_undone, self._context.snapshots.remove, container.id)
        base = host_base() if container.image == HOST else ()
        snapshots, keys = self._context.snapshots, layer_keys(container)
        if snapshots.copies or size_bytes:
            await in_thread(snapshots.prepare, container.id, keys, base=base, size_bytes=size_bytes)
        else:
            snapshots.prepare(container.id, keys, base=base)
        if not needs_others(container.options):  # else known only at start
            self._bundles.write(container)
        fresh = [m for m in container.mounts if m.type == "volume" and not m.no_copy]
        if any(self._volumes.is_empty(mount) for mount in fresh):
            await in_thread(self._volumes.fill, container, fresh)


def _check_shared(container: Container) -> None:
    wanted = wanted_mounts(container.options, [])
    if any(mount.type == "volume" and not mount.source for mount in wanted):
        raise UnsupportedError("a volume of its own is no recipe's")
    options = container.options
    if is_in_machine(container):
        raise UnsupportedError("no recipe makes a virtual machine")
    if container.health is not None or options.terminal or needs_others(options):
        raise UnsupportedError(
            "no recipe has health checks, terminals, links or others' namespaces"
        )
    if options.userns not in ("", "host"):
        raise UnsupportedError("a user namespace of its own is no recipe's")
    if options.disk_bytes:
        raise UnsupportedError("a disk of its own is no recipe's")
    if options.init:
        raise UnsupportedError("a recipe's first process has no init before it")


def _undone(undo: Callable[[str], object], container_id: str) -> None:
    """Undo a step; if that fails the next engine does it, and the first failure is told."""
    try:
        undo(container_id)
    except (OSError, OrlopError) as error:
        log.warning("cannot undo", extra={"container": container_id, "why": error})


def _check_process(options: ContainerOptions) -> None:
    """Refuse what the kernel would only refuse at the start, and with fewer words."""
    if options.stop_signal:
        parse_signal(options.stop_signal)
    if not -1000 <= options.oom_score_adj <= 1000:
        raise InvalidArgumentError(
            f"invalid oom-score-adj {options.oom_score_adj}", hint="-1000 to 1000"
        )
    path = options.network.removeprefix("ns:")
    if path != options.network and not os.path.exists(path):
        raise InvalidArgumentError(f"no network namespace at {path[:200]}")
    if len(os.fsencode(options.hostname)) > _LONGEST_NAME:
        raise InvalidArgumentError(
            f"invalid hostname {options.hostname[:80]!r}", hint=f"at most {_LONGEST_NAME} bytes"
        )


def _check_platform(options: ContainerOptions, image: ImageRecord) -> None:
    """Refuse an image for another platform; clients then pull the one that was asked for."""
    if not options.platform:
        return
    wanted, actual = parse_platform(options.platform), image.config.platform.normalized()
    if actual not in preference(wanted):
        raise NotFoundError(
            f"image with reference {options.image} was found but does not match the specified"
            f" platform: wanted {wanted}, actual: {actual}"
        )


def _check_bind(mount: MountPoint) -> None:
    """-v makes a missing folder, --mount refuses."""
    if not mount.source.startswith("/"):
        raise InvalidArgumentError(
            f"invalid mount path: '{mount.source[:200]}' mount path must be absolute"
        )
    if os.path.exists(mount.source):
        return
    if not mount.create_host_path:
        raise InvalidArgumentError(
            'invalid mount config for type "bind": bind source path does not exist: '
            + mount.source[:500]
        )
    try:
        Path(mount.source).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgumentError(
            f"cannot make host folder {mount.source[:500]}: {error.strerror}"
        ) from error


def _warnings(options: ContainerOptions, image: ImageRecord) -> tuple[str, ...]:
    warnings = []
    actual, here = image.config.platform, host_platform()
    if not options.platform and actual not in preference(here):
        warnings.append(
            f"The requested image's platform ({actual}) does not match the detected host platform"
            f" ({here}) and no specific platform was requested"
        )
    if options.network == "host" and (options.port_bindings or options.publish_all):
        warnings.append("Published ports are discarded when using host network mode")
    if (options.resources.memory_bytes or 0) > 0 and not counts_swap():
        warnings.append(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted."
            " Memory limited without swap."
        )
    limits = plan_rlimits(map(rlimit, options.resources.ulimits))
    return (*warnings, *refused(limits, options.oom_score_adj or None))

"""Volumes: named folders that outlive containers."""

import errno
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from msgspec.structs import replace

from orlop.engine.answers import Pruned, VolumeAnswer
from orlop.engine.containers.bundle import layer_keys
from orlop.engine.context import Context
from orlop.engine.filters import label_matches, refuse_unknown, truth
from orlop.engine.requests import NO_FILTERS, Filters
from orlop.engine.threads import in_thread
from orlop.engine.volume_sources import check_options, has_folder, open_folder
from orlop.errors import InvalidArgumentError, NotFoundError, UnsupportedError, WrongStateError
from orlop.layers.copy import copy_folder
from orlop.layers.removal import remove_tree
from orlop.model.container import Container, MountPoint, Volume
from orlop.snapshots.view import open_root
from orlop.store.faults import FULL, explained

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_GONE = ".gone-"  # no volume's name begins so
_FILTERS = frozenset({"name", "label", "label!", "dangling", "driver"})
log = logging.getLogger(__name__)


class Volumes:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._stored = context.metadata.volumes

    async def create(
        self,
        name: str = "",
        *,
        driver: str = "local",
        options: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
    ) -> VolumeAnswer:
        """Make a volume, or return the one of that name; without a name, an anonymous one."""
        if driver not in ("", "local"):
            raise NotFoundError(f"no volume driver {driver[:100]!r}", hint="there is only local")
        check_options(options or {})
        volume = self._find(name) if name else None
        return self._answer(volume or self._make(name, labels or {}, options or {}))

    def list(self, filters: Filters = NO_FILTERS) -> "Sequence[VolumeAnswer]":
        refuse_unknown(filters, _FILTERS)
        used = self._users()
        return [
            self._answer(volume)
            for volume in self._stored.list()
            if _matches(volume, filters, used=volume.name in used)
        ]

    def get(self, name: str) -> VolumeAnswer:
        """Return the volume; NotFoundError "get NAME: no such volume"."""
        volume = self._find(name)
        if volume is None:
            raise NotFoundError(f"get {name[:200]}: no such volume")
        return self._answer(volume)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove it and what is in it; WrongStateError while a container has it."""
        volume = self._find(name)
        if volume is None:
            if force:
                return
            raise NotFoundError(f"get {name[:200]}: no such volume")
        users = self._users().get(name, ())
        if users:
            raise WrongStateError(f"remove {name}: volume is in use - [{', '.join(users)}]")
        aside = self._put_aside(name)
        self._announce(volume, "destroy")
        await in_thread(_delete, aside)

    async def prune(self, filters: Filters = NO_FILTERS) -> Pruned:
        """Remove what no container has: anonymous ones, with filter all=true named ones too."""
        refuse_unknown(filters, _FILTERS | {"all"})
        every = truth(filters, "all", default=False)
        names = [v.name for v in self._stored.list() if self._prunable(v, filters, every=every)]
        reclaimed = 0
        for name in names:
            reclaimed += await in_thread(tree_size, self.folder(name))
            await self.remove(name)
        return Pruned(names=tuple(names), reclaimed=reclaimed)

    def _prunable(self, volume: Volume, filters: Filters, *, every: bool) -> bool:
        asked = {name: values for name, values in filters.items() if name != "all"}
        used = volume.name in self._users()
        return not used and (every or volume.anonymous) and _matches(volume, asked, used=False)

    def folder(self, name: str) -> Path:
        return self._context.settings.volumes / name

    # For containers

    def resolve(self, mount: MountPoint, undo: ExitStack) -> MountPoint:
        """Return the mount with the name of its volume, which is made if it is missing."""
        volume = self._find(mount.source) if mount.source else None
        if volume is None:
            check_options(mount.driver_options)
            volume = self._make(mount.source, mount.labels, mount.driver_options)
            name = volume.name
            undo.callback(_delete, self.folder(name))
            undo.callback(self._stored.remove, name)
        resolved = replace(mount, source=volume.name, driver_options=volume.options)
        if mount.subpath:
            self._check_subpath(resolved)
        return resolved

    def is_empty(self, mount: MountPoint) -> bool:
        """Return whether what *mount* shows of its volume is an empty folder."""
        with self._opened(mount) as folder:
            return folder is not None and _is_empty(folder)

    @contextmanager
    def _opened(self, mount: MountPoint) -> Iterator[int | None]:
        """Open what *mount* shows; None if that is no folder, or only a container mounts it."""
        folder = None
        if has_folder(mount):
            with suppress(FileNotFoundError, NotADirectoryError):
                folder = open_folder(mount, self._context.settings.volumes)
        try:
            yield folder
        finally:
            if folder is not None:
                os.close(folder)

    def _check_subpath(self, mount: MountPoint) -> None:
        """Refuse what lies outside the volume, or gets there over a link."""
        path = os.path.normpath(mount.subpath)
        if os.path.isabs(path) or path.split("/")[0] == "..":
            raise InvalidArgumentError(
                'invalid mount config for type "volume": '
                "subpath must be a relative path within the volume"
            )
        if not has_folder(mount):
            raise UnsupportedError(f"volume {mount.source} has no subpaths, by its type")
        try:
            with self._opened(mount):
                pass
        except OSError as error:
            raise InvalidArgumentError(
                f"cannot access subpath {mount.subpath[:200]!r} of volume {mount.source}:"
                f" {'it leads out' if error.errno == errno.EXDEV else error.strerror}"
            ) from error

    def fill(self, container: Container, mounts: Sequence[MountPoint]) -> None:
        """Copy what the image has at each volume's target into it, if it is empty."""
        snapshots = self._context.snapshots
        mounted = snapshots.mounts(container.id, layer_keys(container), readonly=True)
        root = open_root([mount for mount in mounted if mount.target in ("", "/")])
        try:
            for mount in mounts:
                with self._opened(mount) as folder:
                    if folder is not None and _is_empty(folder):
                        copy_folder(root, mount.target, folder)
        finally:
            os.close(root)

    def remove_anonymous(self, container: Container) -> None:
        """Remove the nameless volumes of a container that is gone, unless another has them."""
        users = self._users()
        for mount in container.mounts:
            volume = self._find(mount.source) if mount.type == "volume" else None
            if volume is None or not volume.anonymous or users.get(volume.name):
                continue
            aside = self._put_aside(volume.name)
            self._context.spawn(in_thread(_delete, aside))
            self._announce(volume, "destroy")

    def _put_aside(self, name: str) -> Path:
        """Forget the volume, and return where its folder is to be deleted, in its own time."""
        aside = self._context.settings.volumes / f"{_GONE}{secrets.token_hex(8)}"
        self._stored.remove(name)
        with suppress(FileNotFoundError):
            try:
                self.folder(name).rename(aside)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                return self.folder(name)  # a full disk may lack the block for one more name
        return aside

    def users_of(self, name: str) -> int:
        return len(self._users().get(name, ()))

    def discard_orphans(self) -> None:
        """Remove folders that no record speaks of: an engine was killed while it made them."""
        known = {volume.name for volume in self._stored.list()}
        with suppress(FileNotFoundError), os.scandir(self._context.settings.volumes) as entries:
            for entry in entries:
                if entry.name not in known and entry.is_dir(follow_symlinks=False):
                    _delete(Path(entry.path))

    def _make(self, name: str, labels: dict[str, str], options: dict[str, str]) -> Volume:
        if name and not _NAME.fullmatch(name):
            raise InvalidArgumentError(
                f'create {name[:200]}: "{name[:200]}" includes invalid characters for a local'
                " volume name, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )
        volume = Volume(
            name=name or secrets.token_hex(32),
            created_ns=time.time_ns(),
            labels=labels,
            options=options,
            anonymous=not name,
        )
        data = self.folder(volume.name) / "_data"
        with explained(f"volume {volume.name}"), ExitStack() as undo:
            undo.callback(_delete, self.folder(volume.name))
            data.mkdir(mode=0o755, parents=True)
            data.chmod(0o755)
            self._stored.add(volume)  # from here on it exists
            undo.pop_all()
        self._announce(volume, "create")
        return volume

    def _find(self, name: str) -> Volume | None:
        with suppress(NotFoundError):
            return self._stored.get(name)
        return None

    def _users(self) -> dict[str, tuple[str, ...]]:
        users: dict[str, tuple[str, ...]] = {}
        for container in self._context.records.all():
            for mount in container.mounts:
                if mount.type == "volume":
                    users[mount.source] = (*users.get(mount.source, ()), container.id)
        return users

    def _answer(self, volume: Volume) -> VolumeAnswer:
        return VolumeAnswer(volume=volume, mountpoint=str(self.folder(volume.name) / "_data"))

    def _announce(self, volume: Volume, action: str) -> None:
        attributes = {"driver": volume.driver}
        self._context.events.publish("volume", action, id=volume.name, attributes=attributes)


def _matches(volume: Volume, filters: Filters, *, used: bool) -> bool:
    names = filters.get("name", ())
    if names and not any(part in volume.name for part in names):
        return False
    if filters.get("driver") and volume.driver not in filters["driver"]:
        return False
    if "dangling" in filters and truth(filters, "dangling", default=False) == used:
        return False
    return label_matches(volume.labels, filters)


def _is_empty(folder: int) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _delete(folder: Path) -> None:
    """Delete a volume's folder, however deep; what cannot be now goes when the engine starts."""
    try:
        remove_tree(os.fspath(folder))
    except OSError as error:
        why = {"folder": str(folder), "why": error.strerror}
        log.warning("a volume's files cannot be deleted", extra=why)


def tree_size(folder: Path) -> int:
    """Return the bytes the files below take on disk; of those whose paths can be told."""
    total, pending = 0, [os.fspath(folder)]
    while pending:
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                with suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total

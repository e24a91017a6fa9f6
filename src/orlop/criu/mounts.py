"""The host's mounts in a container, and the mounts for CRIU that replace them.

CRIU dumps and restores the container's own file systems. It calls bind mounts from the host
external, and dumps only their name, which is their mount point. At a restore we map the names
to mounts made from the bundle's configuration; paths of the host in an image have no effect.
"""

from __future__ import annotations

import os
import stat

from orlop.criu.mountinfo import Mounted, mounts_of
from orlop.kernel.idmap import open_user_namespace
from orlop.kernel.mount import (
    MountAttr,
    MountFlag,
    Unmount,
    mount,
    mount_setattr,
    move_mount,
    umount,
)
from orlop.kernel.namespaces import Namespace, setns, unshare
from orlop.kernel.paths import make_directories, make_file, open_in_root
from orlop.model.light import Iterator, NamedTuple, Sequence
from orlop.model.light_context import contextmanager
from orlop.runtime.child import ContainerPlan
from orlop.runtime.filesystems import bind, filesystem
from orlop.runtime.mounts import bind_source
from orlop.runtime.options import Special
from orlop.runtime.plan import IDMap, MountKind, MountPlan
from orlop.runtime.rootfs import assemble

_CGROUP = ("cgroup", "cgroup2")
_IDMAPS = frozenset((Special.IDMAP, Special.RIDMAP))
_SLAVE = int(MountFlag.REC | MountFlag.SLAVE)


class External(NamedTuple):
    """A mount of the host: its place in the container, and CRIU's name or source for it."""

    mountpoint: str
    source: str


class Stage(NamedTuple):
    """The mounts from which CRIU restores."""

    root: str
    external: list[External]
    places: list[tuple[str, MountPlan]]  # the place of each mount of the bundle
    mounted: dict[str, Mounted]  # the kernel's view of root and sources, by path

    def has_distinct_slaves(self) -> bool:
        """Whether two external mounts have the same master group, and show different folders.

        CRIU's newer mount code copies the group from one of them to the other, which the
        kernel refuses. criu/mount-v2.c, restore_one_sharing_group().
        """
        folders: dict[str, str] = {}
        return any(
            folders.setdefault(mounted.master, mounted.root) != mounted.root
            for external in self.external
            if (mounted := self.mounted.get(external.source)) and mounted.master
        )


# At a checkpoint


def external_mounts(pid: int, plan: ContainerPlan, rootfs: str) -> list[External]:
    """Return the host's mounts in the container of process *pid*, by name."""
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        places = {resolved(root, planned.destination): planned for planned in plan.mounts}
    finally:
        os.close(root)
    of_host = {mounted.mountpoint for mounted in mounts_of("self")}
    nodes = {device["path"] for device in plan.devices} if _has_host_nodes(plan) else set()
    found = []
    for mounted in mounts_of(pid):
        place = _place(mounted.mountpoint, places)
        planned = places.get(place)
        name = mounted.mountpoint
        rest = name[len(place.rstrip("/")) :]
        if planned is None:
            external = bool(rest.strip("/")) and os.path.realpath(rootfs) + rest in of_host
        elif planned.kind is MountKind.BIND:
            external = not rest or os.path.realpath(planned.source) + rest in of_host
        elif is_staged(planned):
            external = not rest
        elif planned.kind is MountKind.CGROUP:
            external = mounted.fstype in _CGROUP
        else:
            name = name if nodes else os.devnull  # the latter was runc's to begin with
            external = mounted.fstype == "devtmpfs" and (not nodes or name in nodes)
        if external:
            found.append(External(mounted.mountpoint, name))
    return found


def is_staged(plan: MountPlan) -> bool:
    """Whether we mount it, not CRIU: bind mounts, and overlays of the host's folders."""
    return plan.kind is MountKind.BIND or plan.fstype == "overlay"


def _place(mountpoint: str, places: dict[str, MountPlan]) -> str:
    """Return the innermost of *places* that contains *mountpoint*, "/" if none."""
    while mountpoint != "/" and mountpoint not in places:
        mountpoint = os.path.dirname(mountpoint)
    return mountpoint


def resolved(root: int, path: str) -> str:
    """Return the true path of *path* inside *root*."""
    try:
        fd = open_in_root(root, path)
    except OSError:
        return os.path.normpath(path)
    try:
        return _path_below(root, fd)
    finally:
        os.close(fd)


def _path_below(root: int, fd: int) -> str:
    top = os.readlink(f"/proc/self/fd/{root}").rstrip("/")
    return os.readlink(f"/proc/self/fd/{fd}")[len(top) :] or "/"


def _has_host_nodes(plan: ContainerPlan) -> bool:
    return Namespace.USER in plan.namespaces.new


# At a restore


@contextmanager
def own_mounts() -> Iterator[None]:
    """Enter a copy of our mount namespace, which disappears with the processes started there."""
    with _on_a_visit():
        unshare(Namespace.MOUNT)
        mount("", "/", flags=_SLAVE)
        yield


def protect_root(pid: int) -> None:
    """Make the root of process *pid* read-only: CRIU does not, and needs a writable one."""
    fd = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _on_a_visit():
            setns(fd, Namespace.MOUNT)
            root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                mount_setattr(root, set_=int(MountAttr.RDONLY))
            finally:
                os.close(root)
    finally:
        os.close(fd)


@contextmanager
def _on_a_visit() -> Iterator[None]:
    """Return to our mount namespace and working directory at the end."""
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield
    finally:
        setns(home, Namespace.MOUNT)
        os.fchdir(here)
        os.close(home)
        os.close(here)


def stage(plan: ContainerPlan, folder: str) -> Stage:
    """Mount the container's root and all its external mounts below *folder*, an empty one.

    For a private mount namespace.
    """
    mount("orlop", folder, fstype="tmpfs", data="mode=0700,size=64k")
    stage_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        root = _attach(stage_fd, "root", assemble(plan.root))
        try:
            external, places = _stage_mounts(plan, folder, stage_fd, root)
        finally:
            os.close(root)
    finally:
        os.close(stage_fd)
    mounted = {mounted.mountpoint: mounted for mounted in mounts_of("self")}
    return Stage(f"{folder}/root", external, places, mounted)


def _stage_mounts(
    plan: ContainerPlan, folder: str, stage_fd: int, root: int
) -> tuple[list[External], list[tuple[str, MountPlan]]]:
    external = _below(f"{folder}/root", "")
    places: list[tuple[str, MountPlan]] = []
    covered: list[str] = []  # where CRIU will put file systems with contents of the image's
    attached: list[str] = []
    for number, planned in enumerate(plan.mounts):
        source, fd = f"{folder}/{number}", -1
        if is_staged(planned):
            fd = _attach(stage_fd, str(number), _made(planned, plan.namespaces.idmap))
        place = os.path.normpath(planned.destination)
        if not _is_below(place, covered):
            target = _make_target(root, planned, fd)
            place = _path_below(root, target)
            if fd >= 0:  # for the mount points in it
                copy = bind(source, recursive=True)
                move_mount(copy, target)
                os.close(copy)
                attached.append(f"{folder}/root{place}")
            os.close(target)
        if fd >= 0:
            os.close(fd)
            external += [External(place, source), *_below(source, place)]
        elif planned.kind is MountKind.FILESYSTEM:
            covered.append(place)
        external += _cgroup_mounts(plan, planned, place)
        places.append((place, planned))
    for path in reversed(attached):
        umount(path, Unmount.DETACH)
    if plan.masked:  # runc's images call so what covers a file
        external.append(External(os.devnull, os.devnull))
    if _has_host_nodes(plan):
        external += [External(device["path"], device["path"]) for device in plan.devices]
    return external, places


def _made(planned: MountPlan, idmap: IDMap | None) -> int:
    """Make a staged mount, detached."""
    if planned.kind is not MountKind.BIND:
        return filesystem(planned.fstype, planned.source, planned.options)
    mapped = planned.idmap or (idmap if planned.options.special & _IDMAPS else None)
    if mapped is None:
        return bind_source(planned, userns_fd=None, locked=idmap is not None)
    userns = open_user_namespace(mapped.uids, mapped.gids)
    try:
        return bind_source(planned, userns_fd=userns, locked=idmap is not None)
    finally:
        os.close(userns)


def _make_target(root: int, planned: MountPlan, source: int) -> int:
    """Open the mount point; if the root lacks it, make it as a start would."""
    if source >= 0 and not stat.S_ISDIR(os.fstat(source).st_mode):
        return make_file(root, planned.destination)
    return make_directories(root, planned.destination)


def _is_below(place: str, covered: Sequence[str]) -> bool:
    return any(place.startswith(f"{above}/") for above in covered)


def _attach(stage_fd: int, name: str, fd: int) -> int:
    """Mount *fd* at a new *name* of the stage, and return the opened mount."""
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.mkdir(name, dir_fd=stage_fd)
    else:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=stage_fd))
    target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=stage_fd)
    move_mount(fd, target)
    os.close(target)
    return fd


def _below(path: str, place: str) -> list[External]:
    """Return the mounts below *path*, which the container has at *place*."""
    return [
        External(place + mounted.mountpoint[len(path) :], mounted.mountpoint)
        for mounted in mounts_of("self")
        if mounted.mountpoint.startswith(f"{path}/")
    ]


def _cgroup_mounts(plan: ContainerPlan, planned: MountPlan, place: str) -> list[External]:
    if planned.kind is not MountKind.CGROUP:
        return []
    return [
        External(f"{place}/{name}" if name else place, path) for name, path in plan.cgroup_folders
    ]

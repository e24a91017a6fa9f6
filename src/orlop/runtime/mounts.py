"""Steps: the container's mounts, first made detached, then attached inside its root.

pivot_root happens in between. Sources are host paths and are opened before it;
destinations are the image's and are resolved after it, when no host path can be
reached. A destination is opened once, under the root, and mounted on by
descriptor, so swapping a link meanwhile has no effect.
"""

import errno
import os
import stat

from orlop.kernel.mount import (
    MountAttr,
    MountFlag,
    Unmount,
    clone_mount,
    mount,
    mount_points,
    mount_setattr,
    move_mount,
    pivot_root,
    umount,
)
from orlop.kernel.namespaces import Namespace
from orlop.kernel.paths import (
    FileSystem,
    file_system_type,
    make_directories,
    make_file,
    open_in_root,
    open_plain,
)
from orlop.model.light_context import suppress
from orlop.runtime.child import Child, take
from orlop.runtime.copyup import copy_up
from orlop.runtime.failure import StepError
from orlop.runtime.filesystems import (
    bind,
    filesystem,
    reconfigure,
    set_attributes,
    set_bind_attributes,
    set_locked_attributes,
)
from orlop.runtime.neighbour import bind_from_neighbour, is_of_neighbour
from orlop.runtime.options import Options, Special
from orlop.runtime.plan import MountKind, MountPlan
from orlop.runtime.rootfs import assemble

_SHARED = ("shared", "rshared")
_RECURSIVE_SLAVE = int(MountFlag.REC | MountFlag.SLAVE)
_RECURSIVE_PRIVATE = int(MountFlag.REC | MountFlag.PRIVATE)
_RDONLY = int(MountAttr.RDONLY)
_MADE_HERE = (MountKind.FILESYSTEM, MountKind.BIND)
_LINKLESS = frozenset(("proc", "sysfs"))
#: Files that tools like LXCFS put in place of the kernel's own.
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        *("cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo", "stat", "swaps"),
        *("sys/crypto/fips_enabled", "sys/kernel/ns_last_pid", "uptime"),
    )
)
_CGROUP_ROOT = Options(set_=int(MountAttr.NOSUID | MountAttr.NODEV | MountAttr.NOEXEC))


def cut_propagation(child: Child) -> None:
    """Stop our mounts from propagating to the host, as far as the bundle allows."""
    wanted = child.plan.propagation
    if wanted in _SHARED:
        mount("", "/", flags=int(MountFlag.PRIVATE))
    elif wanted.endswith("private"):
        mount("", "/", flags=_RECURSIVE_PRIVATE)
    else:
        mount("", "/", flags=_RECURSIVE_SLAVE)


def make_root(child: Child) -> None:
    """Make the root file system, detached."""
    if child.root < 0:
        child.root = assemble(child.plan.root)


def make_mounts(child: Child) -> None:
    """Make every mount except the root, detached."""
    for index, plan in enumerate(child.plan.mounts):
        if index not in child.mounts and plan.kind in _MADE_HERE and not _is_like_its_target(plan):
            child.mounts[index] = _made(child, plan)
        if plan.fstype == "proc" and plan.kind is MountKind.FILESYSTEM:
            child.proc = child.mounts[index]


def bind_source(plan: MountPlan, *, userns_fd: int | None, locked: bool) -> int:
    """Make a bind mount for a child that may not; with *userns_fd*, id-mapped by it.

    If *locked*, it keeps the flags of its source, because it is for a user namespace.
    """
    special = plan.options.special
    fd = bind(plan.source, recursive=Special.RBIND in special)
    mount_setattr(fd, propagation=int(MountFlag.SLAVE), recursive=True)
    if locked:
        set_locked_attributes(fd, plan.source, plan.options)
    else:
        set_bind_attributes(fd, plan.options)
    if userns_fd is not None:
        recursive = Special.RIDMAP in special
        mount_setattr(fd, set_=int(MountAttr.IDMAP), userns_fd=userns_fd, recursive=recursive)
    return fd


def make_cgroup_mounts(child: Child) -> None:
    """Make the mounts that show the container its own cgroup: one, or one per hierarchy."""
    for index, plan in enumerate(child.plan.mounts):
        if plan.kind is MountKind.CGROUP:
            child.mounts[index] = _cgroup(child, plan)


def open_device(plan: MountPlan) -> int:
    """Mount a disk for a child whose cgroup may deny the device."""
    fd = filesystem(plan.fstype, plan.source, plan.options)
    set_attributes(fd, Options(propagation=plan.options.propagation))
    return fd


def enter_root(child: Child) -> None:
    """Pivot to the root and detach the host's mounts. pivot_root(2), NOTES."""
    host = os.open("/", os.O_PATH | os.O_CLOEXEC)
    move_mount(child.root, host)
    os.fchdir(child.root)
    _leave(child, host)


def _leave(child: Child, host: int) -> None:
    """Enter the root, our working directory, and detach the mounts of *host*, the old root.

    Mounts that are shared would be unmounted on the host too. mount_namespaces(7).
    """
    pivot_root(".", ".")
    if child.plan.propagation in _SHARED:
        mount_setattr(host, propagation=int(MountFlag.PRIVATE), recursive=True)
    os.close(host)
    umount(".", Unmount.DETACH)
    os.chdir("/")


def place_root(child: Child) -> None:
    """Attach the root at its path on the host, so that earlier steps find it there.

    In a mount namespace that is not only ours the root is used where it is, unless it has
    to be read-only.
    """
    plan = child.plan
    path = os.path.realpath(plan.root_path)
    if Namespace.MOUNT not in plan.namespaces.new and not plan.root_readonly:
        take(child.root)
        child.root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return
    if plan.propagation in _SHARED and Namespace.MOUNT in plan.namespaces.new:
        _make_private(path)
    target = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    move_mount(child.root, target)
    os.close(target)


def change_root(child: Child) -> None:
    """Enter the root that place_root() has attached, by chroot."""
    os.fchdir(child.root)
    if Namespace.MOUNT not in child.plan.namespaces.new:
        os.chroot(".")
        os.chdir("/")
        return
    host = os.open("/", os.O_PATH | os.O_CLOEXEC)
    if not child.plan.no_pivot:
        _leave(child, host)
        return
    _take_kernel_mounts_away(os.path.realpath(child.plan.root_path))
    move_mount(child.root, host)
    os.close(host)
    os.chroot(".")
    os.chdir("/")


def _take_kernel_mounts_away(root: str) -> None:
    """Unmount every proc and sysfs that is not below *root*; cover those that cannot be unmounted.

    Without pivot_root they stay in the mount namespace, and the kernel lets a process in a
    user namespace mount a proc or sysfs if an unmasked one exists. user_namespaces(7).
    """
    for place, kind in reversed(mount_points()):
        if kind not in ("proc", "sysfs") or f"{place}/".startswith(f"{root}/"):
            continue
        mount("", place, flags=_RECURSIVE_PRIVATE)
        try:
            umount(place, Unmount.DETACH)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
            mount("tmpfs", place, fstype="tmpfs")


def _make_private(path: str) -> None:
    """Make mounts on *path* private, so that peers of the mount it is in do not get them."""
    while True:
        try:
            return mount("", path, flags=int(MountFlag.PRIVATE))
        except OSError as error:
            if error.errno != errno.EINVAL or path == "/":
                raise
            path = os.path.dirname(path)


def attach_mounts(child: Child) -> None:
    """Attach the mounts in order, making missing destinations."""
    for index, plan in enumerate(child.plan.mounts):
        fd = child.mounts.get(index, -1)
        try:
            if plan.kind is MountKind.INSIDE:
                fd = _copy_of_inside(child, plan)
            elif fd < 0 and _is_like_its_target(plan):
                fd = _made_like_its_target(child, plan)
            if fd < 0:
                _remount(child, plan)
                continue
            _attach(child, plan, fd)
        except OSError as error:
            raise _about(error, plan) from None
        if fd != child.proc:
            os.close(fd)


def finish_root(child: Child) -> None:
    """Set the root's propagation, and make it read-only if requested."""
    if Namespace.MOUNT not in child.plan.namespaces.new:
        if child.plan.root_readonly:
            mount_setattr(child.root, set_=_RDONLY)
        return
    wanted = child.plan.propagation.removeprefix("r") or "private"
    if wanted in ("shared", "private", "unbindable"):
        mount_setattr(child.root, propagation=int(MountFlag[wanted.upper()]))
    if child.plan.root_readonly:
        mount_setattr(child.root, set_=_RDONLY)


def protect_dev(child: Child) -> None:
    """Make /dev read-only, which was writable until we had made its files."""
    if child.plan.seals_dev:
        dev = open_in_root(child.root, "/dev")
        mount_setattr(dev, set_=_RDONLY)
        os.close(dev)


def _made(child: Child, plan: MountPlan) -> int:
    options = plan.fillable
    if plan.kind is MountKind.BIND:
        make = bind_from_neighbour if is_of_neighbour(plan.source) else bind
        fd = make(plan.source, recursive=Special.RBIND in options.special)
        set_bind_attributes(fd, options)
        return fd
    try:
        context = child.contexts.pop() if plan.fstype == "proc" and child.contexts else -1
        fd = filesystem(plan.fstype, plan.source, options, context=context)
    except PermissionError:
        source = _shown_by_the_host(child, plan)
        if not source:
            raise
        fd = bind(source, recursive=True)
        mount_setattr(fd, set_=options.set_, recursive=True)
    if options.propagation:
        set_attributes(fd, Options(propagation=options.propagation))
    return fd


def _copy_of_inside(child: Child, plan: MountPlan) -> int:
    """Return a bind mount of a path in the root, with everything mounted there so far."""
    source = open_in_root(child.root, plan.source)
    try:
        fd = clone_mount(source, recursive=Special.RBIND in plan.options.special)
    finally:
        os.close(source)
    set_bind_attributes(fd, plan.options)
    return fd


def _cgroup(child: Child, plan: MountPlan) -> int:
    folders = child.plan.cgroup_folders
    if len(folders) == 1 and not folders[0][0]:
        fd = _cgroup_folder(child, folders[0][1])
        set_attributes(fd, plan.options)
        return fd
    words = (("mode", "755"), ("size", "64k"))
    return filesystem("tmpfs", "tmpfs", _CGROUP_ROOT._replace(filesystem=words))


def _shown_by_the_host(child: Child, plan: MountPlan) -> str:
    """Return the host's path of a file system that a user namespace may not mount, or ""."""
    if plan.fstype == "sysfs":
        return "/sys"
    if plan.fstype == "proc" and Namespace.PID not in child.plan.namespaces.new:
        return "/proc"  # shows the same processes
    return ""


def _remount(child: Child, plan: MountPlan) -> None:
    """Change the options of an existing mount."""
    target = open_in_root(child.root, plan.destination)
    try:
        reconfigure(target, plan.options)
    finally:
        os.close(target)


def _attach(child: Child, plan: MountPlan, fd: int) -> None:
    existed = True
    try:
        target = _open_target(child.root, plan, fd)
    except FileNotFoundError:
        existed = False
        target = _make_target(child.root, plan, fd)
    try:
        if existed:
            _refuse_inside_proc(plan, fd, target)
        if Special.COPY_UP in plan.options.special and plan.fstype == "tmpfs" and existed:
            _fill_from(target, fd)
        if plan.is_sealed:
            mount_setattr(fd, set_=_RDONLY)
        if existed:
            _check_kinds(plan, fd, target)
        move_mount(fd, target)
    finally:
        os.close(target)
    if plan.kind is MountKind.CGROUP:
        _attach_hierarchies(child, plan, fd)


def _open_target(root: int, plan: MountPlan, fd: int) -> int:
    if plan.fstype in _LINKLESS:
        try:
            return open_plain(root, plan.destination, os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise StepError(
                f"{plan.fstype} cannot be mounted on {plan.destination!r}: it is a symbolic link",
                number=errno.ELOOP,
            ) from None
    return open_in_root(root, plan.destination)


def _make_target(root: int, plan: MountPlan, fd: int) -> int:
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        return make_directories(root, plan.destination)
    return make_file(root, plan.destination)


def _refuse_inside_proc(plan: MountPlan, fd: int, target: int) -> None:
    """Refuse to mount inside /proc: a link of the image may lead there, and we write to it."""
    if (
        file_system_type(target) == FileSystem.PROC
        and plan.destination not in _PROC_FILES
        and file_system_type(fd) != FileSystem.PROC
    ):
        raise StepError(f"{plan.destination!r} cannot be mounted on: it is inside /proc")


def _check_kinds(plan: MountPlan, fd: int, target: int) -> None:
    """Explain the kernel's "invalid argument": a file on a folder, or a folder on a file."""
    ours, theirs = ("folder" if stat.S_ISDIR(os.fstat(x).st_mode) else "file" for x in (fd, target))
    if ours != theirs:
        raise StepError(
            f"{plan.source!r} on {plan.destination!r}: a {ours} cannot be mounted on a {theirs}"
            ": not a directory",  # Docker looks for these words to give advice
            number=errno.ENOTDIR,
        )


def _is_like_its_target(plan: MountPlan) -> bool:
    """Whether it is a tmpfs without a mode, which takes the mode of the folder it covers."""
    if plan.fstype != "tmpfs" or plan.kind is not MountKind.FILESYSTEM:
        return False
    return all(key != "mode" for key, _ in plan.options.filesystem)


def _made_like_its_target(child: Child, plan: MountPlan) -> int:
    options = plan.options
    with suppress(FileNotFoundError):
        target = open_in_root(child.root, plan.destination)
        mode = f"{stat.S_IMODE(os.fstat(target).st_mode):04o}"
        os.close(target)
        options = options._replace(filesystem=(("mode", mode), *options.filesystem))
    return _made(child, plan._replace(options=options))


def _fill_from(target: int, fd: int) -> None:
    opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    try:
        copy_up(target, opened)
    finally:
        os.close(opened)


def _attach_hierarchies(child: Child, plan: MountPlan, fd: int) -> None:
    folders = child.plan.cgroup_folders
    if len(folders) == 1 and not folders[0][0]:
        return
    for name, _ in folders:
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=fd)
        target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        source = child.devices.pop("cgroup:" + name)
        set_attributes(source, plan.options)
        move_mount(source, target)
        os.close(source)
        os.close(target)
        for alias in name.split(",") if "," in name else ():
            os.symlink(name, alias, dir_fd=fd)
    mount_setattr(fd, set_=plan.options.set_ & _RDONLY)


def open_hierarchies(child: Child) -> None:
    """Open our cgroup's folder in each hierarchy, while host paths are valid."""
    if len(child.plan.cgroup_folders) == 1 and not child.plan.cgroup_folders[0][0]:
        return
    if any(plan.kind is MountKind.CGROUP for plan in child.plan.mounts):
        for name, path in child.plan.cgroup_folders:
            child.devices["cgroup:" + name] = _cgroup_folder(child, path)


def _cgroup_folder(child: Child, path: str) -> int:
    fd = bind(path, recursive=False)
    if Namespace.CGROUP in child.plan.namespaces.new:
        mount_setattr(fd, propagation=int(MountFlag.PRIVATE))  # like a new mount
    return fd


def _about(error: OSError, plan: MountPlan) -> OSError:
    reason = error.strerror or os.strerror(error.errno or 0)
    is_bind = plan.kind in (MountKind.BIND, MountKind.INSIDE)
    source = f"{plan.source!r} " if is_bind else f"{plan.fstype} "
    return OSError(error.errno, f"{source}on {plan.destination!r}: {reason}")

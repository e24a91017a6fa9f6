"""From a bundle to a recipe: everything that can be looked at before there is a start.

What a procedure cannot do is refused with UnsupportedError; such a container starts in the
usual way (runtime/start.py).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from orlop.errors import UnsupportedError
from orlop.kernel.capabilities import BIT, capget, supported
from orlop.kernel.mount import MountAttr, MountFlag, mount_setattr, move_mount
from orlop.kernel.namespaces import Namespace
from orlop.kernel.paths import open_in_root, open_plain
from orlop.kernel.procedure import is_supported
from orlop.model.oci import Config, Process
from orlop.runtime import users
from orlop.runtime.allowance import within
from orlop.runtime.bundle import Bundle
from orlop.runtime.child import ContainerPlan
from orlop.runtime.container import plan_container
from orlop.runtime.filesystems import bind, filesystem, set_bind_attributes
from orlop.runtime.neighbour import is_of_neighbour
from orlop.runtime.options import Options, Special, parse
from orlop.runtime.order import Fact, facts_of
from orlop.runtime.plan import (
    MountKind,
    MountPlan,
    Namespaces,
    ProcessPlan,
    plan_namespaces,
    plan_process,
)
from orlop.runtime.recipe.recipe import Layer, ProcessRecipe, Recipe
from orlop.runtime.recipe.table import steps_of
from orlop.runtime.start import make_filter, resources_of

if TYPE_CHECKING:
    from orlop.model.oci import Resources

_ALL = (
    Namespace.MOUNT
    | Namespace.PID
    | Namespace.IPC
    | Namespace.UTS
    | Namespace.NET
    | Namespace.CGROUP
)
_FIRST = (6, 15)  # detached mounts can be cloned, and attached to each other
_PROPAGATIONS = ("", "private", "rprivate", "slave", "rslave")
_OVERLAY_KEYS = ("upperdir", "workdir")
_SYS_PTRACE = 1 << BIT["CAP_SYS_PTRACE"]
_SYS_RESOURCE = 1 << BIT["CAP_SYS_RESOURCE"]
_RDONLY = int(MountAttr.RDONLY)
_MOST_DESCRIPTORS = 200  # sent in one message
_MILD = (None, "SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_ERRNO")
_USERS = ("/etc/passwd", "/etc/group")
_TELLING = ("/", "/dev/null", "/etc", *_USERS)  # what is there is relied upon
_KERNELS = {"/proc/": "proc", "/sys/": "sysfs"}
_OWN_MODE = 0o1777  # that of a tmpfs
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Planned(NamedTuple):
    """A recipe, with what its starts take from pools."""

    recipe: Recipe
    descriptors: tuple[int, ...]  # the caller's to close
    resources: Resources
    sysctls: tuple[tuple[str, str], ...]  # of the network namespace


def plan_recipe(bundle: Bundle, *, durable: bool = False) -> Planned:
    """Look at all that starts of *bundle* have in common.

    Its rootfs is that of a snapshot which is never written to: each start has a writable
    layer of its own in its place. One that is *durable* outlives the shim; each start of it
    brings its bind mounts and its network namespace along.

    Raises:
        UnsupportedError: only the usual way can start it.
    """
    config = bundle.config
    _refuse(config, durable=durable)
    namespaces = _plan_own_namespaces(config, given=Namespace.NET if durable else Namespace(0))
    container = plan_container(bundle, namespaces, None)
    process = plan_process(config.get("process", {}))
    _refuse_plan(container, process)
    with ExitStack() as undo:
        opened: list[int] = []
        undo.callback(_close, opened)
        root = _view(bundle)
        with ExitStack() as ours:
            ours.callback(os.close, root)
            _refuse_linked_users(root)
            layers = (_root_layer(bundle, opened), *_overlays(container, opened))
            container = container._replace(mounts=tuple(_with_modes(container.mounts, root)))
            recipe = Recipe(
                container=container,
                process=_plan_process(config, process, container, root),
                layers=layers,
                binds={} if durable else _binds(bundle, container, opened),
                files={} if durable else _files(bundle, container),
                given=_given(container) if durable else {},
                durable=durable,
                targets=tuple(
                    _missing(root, os.path.dirname(plan.destination)) for plan in container.mounts
                ),
                folders=_missing(root, process.cwd),
                masked=tuple(_kinds(container.masked)),
                readonly=tuple(path for path, _ in _kinds(container.readonly)),
            )
        if len(opened) > _MOST_DESCRIPTORS:
            raise UnsupportedError(f"{len(opened)} layers and mounts are too many for a recipe")
        undo.pop_all()
    resources = resources_of(config)
    return Planned(recipe, tuple(opened), resources, container.sysctls)


def _plan_own_namespaces(config: Config, *, given: Namespace) -> Namespaces:
    """Plan namespaces that are all new, or *given* to each start in the place of new ones."""
    namespaces = plan_namespaces(config.get("linux", {}))
    joined = Namespace(0)
    for kind, _ in namespaces.join:
        joined |= kind
    if namespaces.new | joined != _ALL or joined & ~given:
        raise UnsupportedError("recipes are for containers with namespaces of their own")
    return namespaces._replace(new=_ALL, join=())


def _plan_process(
    config: Config, process: ProcessPlan, container: ContainerPlan | None, root: int
) -> ProcessRecipe:
    """Look up the process's user in the files of *root*, and compile its filter."""
    steps = _steps(config, process, container)
    who = users.find(root, process.user)
    filter_ = make_filter(config)
    if filter_ is not None and filter_.listener:
        raise UnsupportedError("a seccomp filter that asks an agent is none for a recipe")
    if config.get("linux", {}).get("seccomp", {}).get("defaultAction") not in _MILD:
        raise UnsupportedError("a seccomp filter that kills for openat2 is none for a recipe")
    may_raise = bool(capget()[0] & _SYS_RESOURCE)
    limits = tuple(limit if may_raise else within(limit) for limit in process.rlimits)
    have = capget()[1]
    plan = process._replace(rlimits=limits, capabilities=process.capabilities.within(have))
    dropped = supported() & ~process.capabilities.bounding
    return ProcessRecipe(plan, who, filter_, have, dropped, steps)


def _steps(
    config: Config, process: ProcessPlan, container: ContainerPlan | None
) -> tuple[str, ...]:
    linux = config.get("linux", {})
    rest = {
        Fact.BY_TABLE: True,
        Fact.HOOKS: config.get("hooks"),
        Fact.SCHEDULING: linux.get("personality") or linux.get("memoryPolicy"),
    }
    return steps_of(facts_of(process, container, rest))


def plan_exec_recipe(bundle: Bundle, process: Process) -> ProcessRecipe:
    """Look at what later processes of this kind have in common, in containers of *bundle*.

    Their users are looked up in the image, as those of the first processes are.
    """
    planned = plan_process(process)
    _refuse_process(planned)
    root = _view(bundle)
    try:
        return _plan_process(bundle.config, planned, None, root)
    finally:
        os.close(root)


def _refuse(config: Config, *, durable: bool) -> None:
    linux = config.get("linux", {})
    if not is_supported() or _kernel() < _FIRST:
        raise UnsupportedError("recipes need x86-64 and Linux 6.15")
    if not durable and os.path.dirname(linux.get("cgroupsPath", "/orlop/any")) != "/orlop":
        raise UnsupportedError("a recipe's cgroups are all in one place")
    if linux.get("rootfsPropagation", "") not in _PROPAGATIONS:
        raise UnsupportedError("mounts shared with the host are none of a recipe's")


def _refuse_plan(container: ContainerPlan, process: ProcessPlan) -> None:
    if container.net_devices:
        raise UnsupportedError("network devices of the host's are none of a recipe's")
    if any(not path.startswith("net/") for path, _ in container.sysctls):
        raise UnsupportedError("kernel parameters of others than networks are none of a recipe's")
    for plan in container.mounts:
        if _is_rare(plan):
            raise UnsupportedError(f"the mount on {plan.destination} is none of a recipe's")
    dev = [plan for plan in container.mounts if plan.destination == "/dev"]
    if len(dev) != 1 or dev[0].fstype != "tmpfs":
        raise UnsupportedError("a recipe needs a /dev of its own")
    if any(device["type"] == "p" for device in container.devices):
        raise UnsupportedError("fifos among the devices are none of a recipe's")
    if any(os.path.dirname(device["path"]) != "/dev" for device in container.devices):
        raise UnsupportedError("devices elsewhere than in /dev are none of a recipe's")
    _refuse_process(process)


def _is_rare(plan: MountPlan) -> bool:
    """Whether only the usual way knows how to make the mount, or whether to refuse it."""
    path = plan.destination
    special = plan.options.special - {Special.BIND, Special.RBIND}
    if plan.kind is MountKind.REMOUNT or special or plan.idmap or is_of_neighbour(plan.source):
        return True
    if plan.kind is MountKind.CGROUP and not plan.options.set_ & _RDONLY:
        return True
    return path in _TELLING or path != os.path.normpath(path) or path.startswith("/proc/")


def _refuse_process(process: ProcessPlan) -> None:
    if process.capabilities.bounding & _SYS_PTRACE:  # its memory is its launcher's at first
        raise UnsupportedError("who may trace others is none of a recipe's")


def _view(bundle: Bundle) -> int:
    """Return the root of the image, read-only and detached, to look at."""
    from orlop.runtime.rootfs import assemble

    return assemble(bundle.rootfs)


def _refuse_linked_users(root: int) -> None:
    """Have users looked up by the usual way where a mount may change who they are."""
    for path in _USERS:
        try:
            os.close(open_plain(root, path))
        except FileNotFoundError:
            continue
        except OSError:
            raise UnsupportedError(f"a recipe finds no users behind a link: {path}") from None


def _root_layer(bundle: Bundle, opened: list[int]) -> Layer:
    """Open the layers of the root; those of image files are mounted."""
    mounts: list[int] = []
    for mount in bundle.rootfs:
        if mount.target == "/":
            if mount.type != "overlay":
                break
            return _layer("/", parse(mount.options).filesystem, 0, mounts, opened)
        if mount.target:
            continue
        mounts.append(len(opened))
        opened.append(filesystem(mount.type, mount.source, parse(mount.options)))
    raise UnsupportedError("a recipe needs a root by overlay")


def _overlays(container: ContainerPlan, opened: list[int]) -> Iterator[Layer]:
    for plan in container.mounts:
        if plan.fstype == "overlay" and plan.kind is MountKind.FILESYSTEM:
            if plan.options.set_ & 1:
                raise UnsupportedError("a read-only overlay is none of a recipe's")
            options = plan.options
            yield _layer(plan.destination, options.filesystem, options.set_, [], opened)


def _layer(
    destination: str,
    options: Sequence[tuple[str, str | None]],
    attributes: int,
    mounts: Sequence[int],
    opened: list[int],
) -> Layer:
    lowers, kept, upper = [], [], ""
    for key, value in options:
        if key in ("lowerdir+", "lowerdir") and value:
            if value.startswith("mount:"):
                lowers.append(mounts[int(value.removeprefix("mount:"))])
                continue
            lowers.append(len(opened))
            opened.append(bind(value, recursive=False))  # of no namespace: for launchers to use
            mount_setattr(opened[-1], set_=_RDONLY)
        elif key == "upperdir" and value:
            upper = value
        elif key not in _OVERLAY_KEYS:
            kept.append((key, value))
    if not upper:
        raise UnsupportedError("a recipe needs roots that can be written to")
    status = os.stat(upper)
    mode = stat.S_IMODE(status.st_mode)
    return Layer(
        destination, tuple(lowers), tuple(kept), attributes, mode, status.st_uid, status.st_gid
    )


def _with_modes(mounts: Sequence[MountPlan], root: int) -> Iterator[MountPlan]:
    """Give each tmpfs without a mode that of the folder which it covers."""
    for plan in mounts:
        keys = {key for key, _ in plan.options.filesystem}
        if plan.fstype != "tmpfs" or "mode" in keys:
            yield plan
            continue
        try:
            covered = open_in_root(root, plan.destination)
        except OSError:
            mode = _OWN_MODE
        else:
            mode = stat.S_IMODE(os.fstat(covered).st_mode)
            os.close(covered)
        words = (*plan.options.filesystem, ("mode", f"{mode:o}"))
        yield plan._replace(options=plan.options._replace(filesystem=words))


def _binds(bundle: Bundle, container: ContainerPlan, opened: list[int]) -> dict[int, int]:
    """Mount them where launchers, which are in other namespaces, can copy them: below a new one."""
    found: dict[int, int] = {}
    below = -1
    for index, plan in enumerate(container.mounts):
        if plan.kind is not MountKind.BIND or is_own_file(bundle.id, plan):
            continue
        if below < 0:
            below = filesystem("tmpfs", "orlop", Options(filesystem=(("mode", "700"),)))
            opened.append(below)
        fd = bind(plan.source, recursive=Special.RBIND in plan.options.special)
        try:
            mount_setattr(fd, propagation=int(MountFlag.SLAVE), recursive=True)
            set_bind_attributes(fd, plan.options)
            target = _target(below, str(index), is_folder=_is_folder(fd))
            try:
                move_mount(fd, target)
            finally:
                os.close(target)
        finally:
            os.close(fd)
        found[index] = len(opened)
        opened.append(os.open(str(index), _PATH, dir_fd=below))
    return found


def _given(container: ContainerPlan) -> dict[int, bool]:
    plans = enumerate(container.mounts)
    return {
        index: not os.path.isdir(plan.source)
        for index, plan in plans
        if plan.kind is MountKind.BIND
    }


def _target(folder: int, name: str, *, is_folder: bool) -> int:
    if is_folder:
        os.mkdir(name, 0o700, dir_fd=folder)
    else:
        os.close(os.open(name, _NEW_FILE, 0o600, dir_fd=folder))
    return os.open(name, _PATH, dir_fd=folder)


def _is_folder(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def is_own_file(container: str, plan: MountPlan) -> bool:
    """Whether the mount is of a file that the engine has made for *container*, by its id.

    These are in a folder with that name; what users name was there before the id was.
    """
    folder = os.path.dirname(plan.source)
    return plan.kind is MountKind.BIND and os.path.basename(folder) == container


def _files(bundle: Bundle, container: ContainerPlan) -> dict[str, str]:
    files = {}
    for plan in container.mounts:
        if is_own_file(bundle.id, plan):
            with open(plan.source, errors="surrogateescape", newline="") as file:
                files[plan.destination] = file.read()
    return files


def _missing(root: int, path: str) -> tuple[str, ...]:
    """Return the folders on the way to *path* that are not there."""
    missing: list[str] = []
    while path.strip("/"):
        try:
            os.close(open_in_root(root, path, os.O_PATH | os.O_DIRECTORY))
        except FileNotFoundError:
            missing.insert(0, path)
            path = os.path.dirname(path.rstrip("/"))
        except OSError:
            break
        else:
            break
    return tuple(missing)


def _kinds(paths: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Give those that a container finds, and whether each is a folder.

    They are looked for in a proc and a sysfs of our own, as ours may be covered in places.
    """
    views: dict[str, int] = {}
    try:
        for path in paths:
            name = next((name for name in _KERNELS if path.startswith(name)), "")
            if not name:
                raise UnsupportedError(f"{path!r} is hidden or protected by the usual way alone")
            if name not in views:
                views[name] = filesystem(_KERNELS[name], _KERNELS[name], Options())
            try:
                fd = open_in_root(views[name], path.removeprefix(name))
            except (FileNotFoundError, NotADirectoryError):
                continue
            yield path, _is_folder(fd)
            os.close(fd)
    finally:
        _close([*views.values()])


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(filter(str.isdigit, minor)) or 0)

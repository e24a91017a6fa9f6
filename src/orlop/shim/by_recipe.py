"""Containers that are started by recipes: those that differ from one before in their names.

The first of a kind is made by a Python child. The second has a recipe planned, by which it and
all after it are started, if that is possible. Names, command, environment, limits, network,
bind mounts and the writable layer are each start's own; all else makes the kind.
"""

from __future__ import annotations

import marshal
import os
import resource
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from orlop.errors import OrlopError
from orlop.kernel.namespaces import Namespace, kind_of
from orlop.model.oci import Config, OCIMount
from orlop.model.pool import ObjectPool
from orlop.runtime import failure
from orlop.runtime.bundle import Bundle, Stdio
from orlop.runtime.cgroups import Cgroup
from orlop.runtime.cgroups.view import make_view
from orlop.runtime.filesystems import bind
from orlop.runtime.mounts import bind_source
from orlop.runtime.neighbour import is_of_neighbour
from orlop.runtime.networks import Network, sysfs_of
from orlop.runtime.plan import plan_mount, plan_process
from orlop.runtime.recipe.plan import plan_recipe
from orlop.runtime.recipe.recipe import Recipe
from orlop.runtime.recipe.writable import Looks, Writable
from orlop.runtime.start import keyring_name
from orlop.shim.launcher import Command, Start
from orlop.shim.launchers import Launchers

_MOST = 32  # kinds; each recipe holds its layers open
_OF_LIMIT = 128  # open files that we may have for each: a recipe is not worth a container
_ROOTS = ("erofs", "squashfs", "overlay")
_OWN_NETWORK = "/proc/self/ns/net"
_UPPER, _WORK = "upperdir=", "workdir="
_OWN = (_UPPER, _WORK)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ContainerRecipe(NamedTuple):
    """A recipe that launchers know by its *number*."""

    number: int
    recipe: Recipe
    layers: tuple[tuple[str, int, int], ...]  # path, device and inode of each


class Given(NamedTuple):
    """What a start gets besides what its bundle says."""

    stdio: Stdio
    cgroup: Cgroup
    report: int
    witness: int


class Order:
    """What a launcher is told of one start; *fds* go along. To be closed."""

    def __init__(self, start: Start, fds: list[int], opened: list[int], bundle: Bundle) -> None:
        self.start = start
        self.fds = fds
        self.bundle = bundle
        self.begun_ns = 0
        self.is_witnessed = False  # its program may run
        self.refusal: Exception | None = None  # why it is not to come to its program
        self._opened = opened

    def take(self, fds: list[int], count: int) -> None:
        """Take the first *count* of *fds* out, by which the bundle joins namespaces."""
        self._opened += fds[:count]
        del fds[:count]

    def close(self) -> None:
        """Close what was opened for it."""
        _close(self._opened)


class ContainerRecipes:
    """By kind. None: met once, or nothing for a recipe."""

    def __init__(self, launchers: Launchers, networks: ObjectPool[Network]) -> None:
        """*networks* has new ones, which are each start's for good."""
        self._launchers = launchers
        self._networks = networks
        self._kinds: dict[bytes, ContainerRecipe | None] = {}  # oldest use first
        self._hopeless: set[bytes] = set()
        self._most = min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _OF_LIMIT)

    def find(self, bundle: Bundle) -> ContainerRecipe | None:
        """Return the recipe for containers like this; None if a Python child is to make it.

        Its rootfs and namespaces must be as the message has them, its mounts not given.
        """
        if bundle.mounts or bundle.config.get("process", {}).get("terminal"):
            return None
        kind = _kind_of(bundle)
        if kind is None or kind in self._hopeless:
            return None
        is_new = kind not in self._kinds
        known = self._kinds.pop(kind, None)
        if known is None and not is_new:
            known = self._plan(kind, bundle)
        if kind not in self._hopeless:
            self._kinds[kind] = known
        while len(self._kinds) > self._most:
            self._forget(next(iter(self._kinds)))
        return known

    def _plan(self, kind: bytes, bundle: Bundle) -> ContainerRecipe | None:
        try:
            written = _Scratch(bundle)
            try:
                planned = plan_recipe(written.bundle, durable=True)
            finally:
                written.close()
        except (OrlopError, failure.StepError, OSError):  # a Python child can, or says why not
            if len(self._hopeless) >= _MOST:
                self._hopeless.clear()
            self._hopeless.add(kind)
            return None
        number = self._launchers.know(planned.recipe, planned.descriptors)
        return ContainerRecipe(number, planned.recipe, _layers(bundle))

    def _forget(self, kind: bytes) -> None:
        known = self._kinds.pop(kind)
        if known is None:
            return
        self._launchers.forget(known.number)
        sysctls = known.recipe.container.sysctls
        if all(
            one is None or one.recipe.container.sysctls != sysctls for one in self._kinds.values()
        ):
            self._networks.forget(sysctls)

    def sweep(self) -> None:
        """Let go of layers that were removed, so that their space comes back."""
        for kind, known in list(self._kinds.items()):
            if known is not None and any(_identity(one[0]) != one for one in known.layers):
                self._forget(kind)

    def order(self, known: ContainerRecipe, bundle: Bundle, given: Given) -> Order | None:
        """Return what a launcher is told of a start; None where a Python child is to make it.

        OSError: something that the bundle names cannot be had. Nothing is left open then.
        """
        opened: list[int] = []
        try:
            slots = self._slots(known, bundle, opened)
            if slots is None:
                return None
            slots |= {"report": given.report, "witness": given.witness}
            view = make_view(given.cgroup.directories)
            opened += view
            slots["cgroups"] = view[0]
            doors = given.cgroup.doors()
            opened += doors
            folder = given.cgroup.clone_fd()
            fds = [*given.stdio, *slots.values(), *doors]
            if folder is not None:
                opened.append(folder)
                fds.append(folder)
            start = Start(
                recipe=known.number,
                command=_command(known, bundle, given.stdio),
                idle=False,
                name=os.fsencode(bundle.config.get("hostname", "")),
                slots=tuple(slots),
                doors=len(doors),
                cgroup=folder is not None,
                files={},
                keyring=os.fsencode(keyring_name(bundle.id)),
                timed=bundle.manner.timed,
            )
            order = Order(start, fds, opened[:], bundle)
            opened.clear()
            return order
        finally:
            _close(opened)

    def _slots(
        self, known: ContainerRecipe, bundle: Bundle, opened: list[int]
    ) -> dict[str, int] | None:
        """Open what is this start's own, into *opened*; None where only a child can make it."""
        slots: dict[str, int] = {}

        def keep(name: str, fd: int) -> int:
            opened.append(fd)
            slots[name] = fd
            return fd

        for place, (upper, work) in enumerate(_overlays(bundle)):
            folder = os.path.commonpath((upper, work))
            opened.append(bind(folder, recursive=False))  # of no namespace: for launchers to use
            tree = opened[-1]
            if os.listdir(keep(f"upper-{place}", _open_below(tree, folder, upper))):
                return None  # its files may say who is who, or be in the way
            keep(f"work-{place}", _open_below(tree, folder, work))
        network = self._network(known, bundle)
        if network is None:
            return None
        keep("network", network[0])
        keep("system", network[1])
        for index, mount in enumerate(bundle.config.get("mounts", ())):
            if index in known.recipe.given:
                plan = plan_mount(mount, bundle.path)
                keep(f"mount-{index}", bind_source(plan, userns_fd=None, locked=False))
        return slots

    def _network(self, known: ContainerRecipe, bundle: Bundle) -> tuple[int, int] | None:
        """Return its network namespace and the sysfs of it; None where it is the host's."""
        sysctls = known.recipe.container.sysctls
        namespaces = bundle.config.get("linux", {}).get("namespaces", ())
        path = next((one.get("path", "") for one in namespaces if one["type"] == "network"), "")
        if not path:
            return self._networks.get(sysctls, partial(Network, sysctls)).hand_over()
        network = _open_joined(path)
        if network is None:
            return None
        try:
            return network, sysfs_of(network, sysctls)
        except BaseException:
            os.close(network)
            raise


class _Scratch:
    """A *bundle* with other folders to write to: a look at its root leaves its own as they are."""

    def __init__(self, bundle: Bundle) -> None:
        mounts = bundle.config.get("mounts", [])
        overlays = 1 + sum(mount.get("type") == "overlay" for mount in mounts)
        self._writable = Writable.make([Looks()] * overlays)
        places = iter(range(1, overlays))
        renamed: list[OCIMount] = [
            {**mount, "options": [*self._renamed(mount.get("options", ()), next(places))]}
            if mount.get("type") == "overlay"
            else mount
            for mount in mounts
        ]
        config: Config = {**bundle.config, "mounts": renamed}
        rootfs = tuple(
            mount._replace(options=self._renamed(mount.options, 0)) for mount in bundle.rootfs
        )
        self.bundle = bundle._replace(config=config, rootfs=rootfs)

    def _renamed(self, options: Sequence[str], place: int) -> tuple[str, ...]:
        ours = f"/proc/self/fd/{self._writable.fd}"
        names = {_UPPER: f"{ours}/upper-{place}", _WORK: f"{ours}/work-{place}"}
        begins = ((option, option[: option.find("=") + 1]) for option in options)
        return tuple(begin + names[begin] if begin in names else option for option, begin in begins)

    def close(self) -> None:
        self._writable.close()


def _kind_of(bundle: Bundle) -> bytes | None:
    """Return what starts by one recipe have in common; None for what has none."""
    if any(mount.type not in _ROOTS for mount in bundle.rootfs):
        return None
    config = bundle.config
    process, linux = config.get("process", {}), config.get("linux", {})
    mounts = [_common(mount, bundle.path) for mount in config.get("mounts", ())]
    if None in mounts:
        return None
    common = {**config, "mounts": mounts, "hostname": "", "annotations": None}
    common["process"] = {**process, "args": None, "env": None}
    joined = [(one["type"], bool(one.get("path"))) for one in linux.get("namespaces", ())]
    own = {"cgroupsPath": None, "resources": None, "namespaces": joined}
    common["linux"] = {**linux, **own}
    rootfs = [(m.type, m.source, m.target, _shared(m.options)) for m in bundle.rootfs]
    return marshal.dumps((common, rootfs), 2)


def _common(mount: OCIMount, bundle: str) -> dict[str, Any] | None:
    """Return a mount without what is each start's own; None for one that only a child can make."""
    source, options = mount.get("source", ""), mount.get("options", ())
    if mount.get("type") == "overlay":
        return {**mount, "options": _shared(options)}
    if mount.get("type") == "bind" or "bind" in options or "rbind" in options:
        if is_of_neighbour(source):
            return None
        return {**mount, "source": os.path.isdir(os.path.join(bundle, source))}
    return {**mount}


def _shared(options: Sequence[str]) -> list[str]:
    return [option for option in options if not option.startswith(_OWN)]


def _layers(bundle: Bundle) -> tuple[tuple[str, int, int], ...]:
    """Identify the layers, which are files that are mounted or folders that overlays name."""
    paths = [mount.source for mount in bundle.rootfs if mount.type != "overlay"]
    for mount in bundle.rootfs:
        named = (option.partition("=")[2] for option in mount.options if "lowerdir" in option)
        paths += [path for path in named if path.startswith("/")]
    return tuple(_identity(path) for path in paths)


def _identity(path: str) -> tuple[str, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (path, 0, 0)
    return (path, status.st_dev, status.st_ino)


def _overlays(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Give the upperdir and the workdir of each overlay, the root's first."""
    roots = [mount.options for mount in bundle.rootfs if mount.target == "/"]
    mounts = bundle.config.get("mounts", ())
    rest = [mount.get("options", ()) for mount in mounts if mount.get("type") == "overlay"]
    for options in (*roots, *rest):
        upper, work = (next(o for o in options if o.startswith(begin)) for begin in _OWN)
        yield upper.removeprefix(_UPPER), work.removeprefix(_WORK)


def _open_below(tree: int, folder: str, path: str) -> int:
    return os.open(os.path.relpath(path, folder), _FOLDER, dir_fd=tree)


def _open_joined(path: str) -> int | None:
    """Open a network namespace; None for the host's."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    if kind_of(fd) is Namespace.NET and not os.path.samestat(os.fstat(fd), os.stat(_OWN_NETWORK)):
        return fd
    os.close(fd)
    return None


def _command(known: ContainerRecipe, bundle: Bundle, stdio: Stdio) -> Command:
    process = bundle.config.get("process", {})
    plan = plan_process(process)
    env = dict(text.partition("=")[::2] for text in plan.env)
    env["HOME"] = env.get("HOME") or known.recipe.process.who.home
    is_pipe = stat.S_ISFIFO(os.fstat(stdio.stdin).st_mode)
    return Command(
        args=tuple(map(os.fsencode, plan.args)),
        env=tuple(os.fsencode(f"{name}={value}") for name, value in env.items()),
        folder=os.fsencode(plan.cwd),
        owned=(is_pipe, True, True),
    )


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())

"""Cgroups made by systemd: a scope for each container.

    cgroup = systemd.create("machine.slice:orlop:abc", resources)   # orlop-abc.scope

systemd owns the tree, makes the folder and delegates it, so freezing, killing, counting
and limits without a property work as in every cgroup. The other limits are properties of
the unit, because systemd writes them again whenever it is reloaded.

A scope needs a process. A seed process holds it until the container's first process is
in, which says so through the last of the cgroup's doors.
"""

import os
import signal

from orlop.errors import AlreadyExistsError, InvalidArgumentError, OrlopError
from orlop.model.light import Mapping, NamedTuple
from orlop.model.light_context import suppress
from orlop.model.oci import Resources
from orlop.runtime.cgroups import control
from orlop.runtime.cgroups.interface import Cgroup
from orlop.runtime.cgroups.layout import Layout, detect
from orlop.runtime.cgroups.systemd_manager import Manager, is_of_user
from orlop.runtime.cgroups.systemd_properties import Property, for_annotations, for_resources
from orlop.runtime.cgroups.v1 import V1Cgroup
from orlop.runtime.cgroups.v2 import V2Cgroup

_PREFIX = "orlop"
_PUNCTUATION = frozenset("_.@\\:-")
_SEED_AND_HEIR = 2
_LONGEST_NAME = 255
_MOST_DESCRIPTORS = (1 << 31) - 1


class Name(NamedTuple):
    slice: str
    unit: str


def create(
    cgroups_path: str,
    resources: Resources,
    *,
    container: str,
    annotations: Mapping[str, str] | None = None,
    layout: Layout | None = None,
) -> Cgroup:
    """Make a scope and return its cgroup, with its limits in force.

    *cgroups_path* is "slice:prefix:name"; "" means the default slice and a name made
    from *container*. The caller calls entered() when its process is in.

    Raises:
        AlreadyExistsError: it exists, with processes in it.
        UnavailableError, PermissionDeniedError: systemd does not answer, or refuses us.
        InvalidArgumentError and others: as cgroups.create().
    """
    layout = layout or detect()
    user = is_of_user()
    name = parse(cgroups_path, container, user=user)
    chosen = for_annotations(annotations or {})
    v1 = _v1_controllers(layout)
    scope = Scope(name.unit, v1=v1, user=user)
    resources = scope.with_room(resources)
    limits = for_resources(resources, v1=v1)
    try:
        with Manager(user=user) as manager:
            path = scope.start(manager, name.slice, container, [*limits, *chosen])
        driver = V1Cgroup if layout.v1 else V2Cgroup
        cgroup = driver.create(layout, path, resources, owner=scope)
    except (OSError, OrlopError):
        scope.remove()
        raise
    return cgroup


def open(path: str, *, layout: Layout | None = None) -> Cgroup:  # noqa: A001 - systemd.open
    """Return a handle of the cgroup at *path*, the Cgroup.path of one that create() made."""
    layout = layout or detect()
    scope = Scope(os.path.basename(path), v1=_v1_controllers(layout), user=is_of_user())
    scope.exists = True
    driver = V1Cgroup if layout.v1 else V2Cgroup
    return driver(layout, path, owner=scope)


def parse(cgroups_path: str, container: str, *, user: bool) -> Name:
    """Parse *cgroups_path*, or make a name from the container's."""
    default = "user.slice" if user else "system.slice"
    slice_, prefix, name = default, _PREFIX, container
    if cgroups_path:
        parts = cgroups_path.split(":")
        if len(parts) != 3:
            raise InvalidArgumentError(
                f"cgroupsPath {cgroups_path!r} is not in systemd's form",
                hint='as "machine.slice:orlop:name"; or use the cgroup driver cgroupfs',
            )
        slice_, prefix, name = parts[0] or default, parts[1], parts[2]
    unit = f"{prefix}-{name}.scope"
    for text in (slice_, unit):
        if not _is_unit(text):
            raise InvalidArgumentError(f"{text!r} cannot be the name of a systemd unit")
    if not name:
        raise InvalidArgumentError(f"cgroupsPath {cgroups_path!r} names no unit")
    if not slice_.endswith(".slice"):
        raise InvalidArgumentError(f"cgroupsPath {cgroups_path!r}: {slice_!r} is no slice")
    return Name(slice_, unit)


def _is_unit(text: str) -> bool:
    letters = (each in _PUNCTUATION or (each.isascii() and each.isalnum()) for each in text)
    return len(text) <= _LONGEST_NAME and all(letters)


class Scope:
    """The unit of a cgroup. See interface.Owner.

    While it does not *exist*, a unit of that name belongs to somebody else, and is left alone.
    """

    def __init__(self, unit: str, *, v1: frozenset[str], user: bool) -> None:
        self._unit = unit
        self._v1 = v1
        self._user = user
        self.exists = False
        self._seed = self._door = -1
        self._late: list[Property] = []

    def with_room(self, resources: Resources) -> Resources:
        """Allow one more process, so that seed and successor fit; the real limit follows."""
        limit = resources.get("pids", {}).get("limit")
        if limit is None or not 0 <= limit < _SEED_AND_HEIR:
            return resources
        self._late = for_resources({"pids": {"limit": limit}}, v1=self._v1)
        return {**resources, "pids": {"limit": _SEED_AND_HEIR}}

    def start(
        self, manager: Manager, slice_: str, container: str, properties: list[Property]
    ) -> str:
        """Make the unit with a seed process in it, and return its cgroup's path."""
        self._sow()
        wanted = [
            Property("Description", "s", f"container {container}"),
            Property("Slice", "s", slice_),
            Property("PIDs", "au", [self._seed]),
            *(Property(name, "b", value=True) for name in self._switches()),
            Property("DefaultDependencies", "b", value=False),
            Property("CollectMode", "s", "inactive-or-failed"),
            *properties,
        ]
        try:
            manager.start_scope(self._unit, wanted)
        except AlreadyExistsError:
            self._clear_away(manager)
            manager.start_scope(self._unit, wanted)
        self.exists = True
        return manager.control_group(self._unit)

    def doors(self) -> tuple[int, ...]:
        door, self._door = self._door, -1
        return (door,) if door >= 0 else ()

    def entered(self) -> None:
        for door in self.doors():
            os.close(door)
        self._reap()
        late, self._late = self._late, []
        if late:
            with Manager(user=self._user) as manager:
                manager.set_properties(self._unit, late)

    def enter(self, pid: int) -> None:
        with Manager(user=self._user) as manager:
            manager.attach(self._unit, pid)
        self._end_seed()
        self.entered()

    def update(self, resources: Resources) -> None:
        if properties := for_resources(resources, v1=self._v1):
            with Manager(user=self._user) as manager:
                manager.set_properties(self._unit, properties)

    def remove(self) -> None:
        self._end_seed()
        if not self.exists:
            return
        with Manager(user=self._user) as manager:
            manager.stop(self._unit)
            manager.forget_failure(self._unit)

    def _switches(self) -> tuple[str, ...]:
        disks = "BlockIOAccounting" if "blkio" in self._v1 else "IOAccounting"
        return ("Delegate", "CPUAccounting", "MemoryAccounting", "TasksAccounting", disks)

    def _clear_away(self, manager: Manager) -> None:
        """Stop an empty unit of our name that a crash has left."""
        path = manager.control_group(self._unit)
        folders = (h.mountpoint + path for h in detect().hierarchies) if path else ()
        if any(next(control.pids(folder), None) is not None for folder in folders):
            raise AlreadyExistsError(f"systemd unit {self._unit} exists, with processes in it")
        manager.stop(self._unit)
        manager.forget_failure(self._unit)

    def _sow(self) -> None:
        reader, self._door = os.pipe()
        self._seed = os.fork()
        if not self._seed:
            os.dup2(reader, 0)
            os.closerange(1, _MOST_DESCRIPTORS)
            os.read(0, 1)
            os._exit(0)
        os.close(reader)

    def _end_seed(self) -> None:
        for door in self.doors():
            os.close(door)
        if self._seed > 0:
            with suppress(ProcessLookupError):
                os.kill(self._seed, signal.SIGKILL)
        self._reap()

    def _reap(self) -> None:
        if self._seed > 0:
            with suppress(ChildProcessError):
                os.waitpid(self._seed, 0)
            self._seed = -1


def _v1_controllers(layout: Layout) -> frozenset[str]:
    return frozenset().union(*(hierarchy.controllers for hierarchy in layout.v1))

"""Driver for hosts with v1 hierarchies, with or without a v2 one beside them (hybrid).

A cgroup is a directory with the same path in every hierarchy, also in named ones: in a
hierarchy without it, a process would see the host's tree. Controllers of the v2 hierarchy
get v2 files; freezing and killing use v2 if it exists, because frozen v1 tasks cannot die.
"""

import os

from orlop.errors import AlreadyExistsError, InvalidArgumentError, OrlopError, UnsupportedError
from orlop.model.light import Iterator, Mapping, Sequence
from orlop.model.light_context import ExitStack, contextmanager, suppress
from orlop.model.oci import DeviceRule, Resources
from orlop.runtime.cgroups import control, v1_limits
from orlop.runtime.cgroups.devices import list_changes
from orlop.runtime.cgroups.files import apply, apply_all, read, read_table, write
from orlop.runtime.cgroups.interface import Load, Owner, Statistics, Write
from orlop.runtime.cgroups.layout import Layout

_SIGKILL = 9


class V1Cgroup:
    """See interface.Cgroup."""

    __slots__ = ("_by_controller", "_layout", "_owner", "_unified", "path")

    def __init__(self, layout: Layout, path: str, *, owner: Owner | None = None) -> None:
        self.path = path
        self._owner = owner
        self._layout = layout
        self._by_controller = {
            name: hierarchy.mountpoint + path
            for hierarchy in layout.v1
            for name in hierarchy.controllers
        }
        self._unified = layout.unified.mountpoint + path if layout.unified else None

    @classmethod
    def create(
        cls,
        layout: Layout,
        path: str,
        resources: Resources,
        *,
        owner: Owner | None = None,
        take: bool = False,
    ) -> "V1Cgroup":
        """Make the directories and set the limits of *resources*; a failure leaves nothing.

        Existing directories are used if an *owner* has made them, or with *take*; these are
        not removed.
        """
        cgroup = cls(layout, path, owner=owner)
        writes = cgroup._writes(resources)
        made: list[str] = []
        try:
            for directory in cgroup._all():
                if (owner or take) and os.path.isdir(directory):
                    continue
                _make(directory)
                made.append(directory)
            cgroup._check_thawed()
            if cpuset := cgroup._by_controller.get("cpuset"):
                _fill_cpuset(cpuset)
            cgroup._enforce(writes)
        except (OSError, OrlopError):
            for directory in made:
                control.remove(directory)
            raise
        return cgroup

    def renamed(self, path: str, resources: Resources) -> "V1Cgroup":
        """Rename this empty cgroup to *path*, beside it, and set the limits of *resources*.

        A failure leaves neither.

        Raises:
            AlreadyExistsError, FileExistsError: another cgroup has that name in some
                hierarchy.
        """
        cgroup = V1Cgroup(self._layout, path)
        old = [hierarchy.mountpoint + self.path for hierarchy in self._layout.v1]
        made: list[str] = []
        try:
            writes = cgroup._writes(resources)
            if cgroup._unified:
                _make(cgroup._unified)
                made.append(cgroup._unified)
            for directory, hierarchy in zip(old, self._layout.v1, strict=True):
                os.rename(directory, hierarchy.mountpoint + path)
                made.append(hierarchy.mountpoint + path)
            cgroup._check_thawed()
            cgroup._enforce(writes)
        except (OSError, OrlopError):
            for directory in (*made, *old):
                control.remove(directory)
            raise
        return cgroup

    @property
    def directories(self) -> Mapping[str, str]:
        result = {
            ",".join(sorted(hierarchy.controllers)): hierarchy.mountpoint + self.path
            for hierarchy in self._layout.v1
        }
        return result | ({"": self._unified} if self._unified else {})

    def clone_fd(self) -> int | None:
        if self._unified is None:
            return None
        return os.open(self._unified, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def doors(self) -> tuple[int, ...]:
        with ExitStack() as undo:
            opened = []
            for hierarchy in self._layout.v1:
                name = f"{hierarchy.mountpoint}{self.path}/tasks"
                opened.append(os.open(name, os.O_WRONLY | os.O_CLOEXEC))
                undo.callback(os.close, opened[-1])
            undo.pop_all()
        return (*opened, *(self._owner.doors() if self._owner else ()))

    def entered(self) -> None:
        if self._owner:
            self._owner.entered()

    def enter(self, pid: int) -> None:
        if self._owner:
            self._owner.enter(pid)
        for directory in self._all():
            write(f"{directory}/cgroup.procs", str(pid))

    def update(self, resources: Resources) -> None:
        resources = {**resources}
        rules = resources.pop("devices", None)
        if self._owner:
            self._update_owner(resources if rules is None else {**resources, "devices": rules})
        apply_all(self._place, self._writes(resources))
        if rules:
            self._change_devices(rules)

    def _update_owner(self, resources: Resources) -> None:
        """Avoid the moment in which systemd has denied all devices, and not allowed any yet."""
        assert self._owner is not None
        if "devices" not in resources or self._is_frozen():
            self._owner.update(resources)
            return
        self.freeze()
        try:
            self._owner.update(resources)
        finally:
            self.thaw()

    def _is_frozen(self) -> bool:
        if self._unified:
            return read(f"{self._unified}/cgroup.freeze") == "1"
        return read(f"{self._freezer()}/freezer.state") != "THAWED"

    def _check_thawed(self) -> None:
        freezer = self._by_controller.get("freezer")
        control.check_thawed(self.path, freezer=freezer, unified=self._unified)

    def give(self, uid: int) -> None:
        del uid

    def freeze(self, *, timeout_s: float = 10.0) -> None:
        if self._unified:
            control.freeze_v2(self._unified, timeout_s=timeout_s)
        else:
            control.freeze_v1(self._freezer(), timeout_s=timeout_s)

    def thaw(self) -> None:
        if self._unified:
            write(f"{self._unified}/cgroup.freeze", "0")
        else:
            write(f"{self._freezer()}/freezer.state", "THAWED")

    def kill(self, signal: int = _SIGKILL) -> None:
        if signal != _SIGKILL:
            control.send(self._reference(), signal)
        elif self._unified:
            control.kill_v2(self._unified)
        else:
            self._kill_by_freezing()

    def pids(self) -> Iterator[int]:
        return control.pids(self._reference())

    def statistics(self) -> Statistics:
        from orlop.runtime.cgroups import v1_statistics  # not needed at a start

        return v1_statistics.read(self._by_controller)

    def load(self) -> Load:
        from orlop.runtime.cgroups import v1_statistics  # not needed at a start

        return v1_statistics.load(self._by_controller)

    def oom_kills(self) -> int:
        memory = self._by_controller.get("memory", "")
        return read_table(f"{memory}/memory.oom_control").get("oom_kill", 0)

    def remove(self, *, timeout_s: float = control.REMOVE_TIMEOUT_S) -> None:
        if self._owner:
            self._owner.remove()
        for directory in self._all():
            control.remove(directory, timeout_s=timeout_s)

    def _all(self) -> Iterator[str]:
        return (hierarchy.mountpoint + self.path for hierarchy in self._layout.hierarchies)

    def _reference(self) -> str:
        """The directory that tells which processes are in the cgroup."""
        return self._unified or self._layout.v1[0].mountpoint + self.path

    def _freezer(self) -> str:
        try:
            return self._by_controller["freezer"]
        except KeyError:
            raise UnsupportedError("this host has no cgroup freezer") from None

    def _kill_by_freezing(self) -> None:
        """Freeze it, so that nobody forks; each process dies of its SIGKILL when thawed."""
        with suppress(TimeoutError, UnsupportedError, FileNotFoundError):
            self.freeze(timeout_s=1.0)
        control.send(self._reference(), _SIGKILL)
        with suppress(UnsupportedError, FileNotFoundError):
            self.thaw()
        with self._without_forks():
            control.kill_by_rounds(self._reference())

    @contextmanager
    def _without_forks(self) -> Iterator[None]:
        """Forbid new processes inside the block: on a busy host they could be faster than we."""
        file = f"{self._by_controller.get('pids', '')}/pids.max"
        try:
            limit = read(file)
            write(file, "0")
        except OSError:  # no such controller, or the cgroup is gone
            yield
            return
        try:
            yield
        finally:
            with suppress(FileNotFoundError):
                write(file, limit)

    def _writes(self, resources: Resources) -> list[Write]:
        """Return v1 files, and v2 files for controllers of the unified hierarchy."""
        unified = self._layout.unified.controllers if self._layout.unified else frozenset()
        wanted = [limit for limit in v1_limits.files(resources) if limit.controller not in unified]
        if unified:
            from orlop.runtime.cgroups import v2_limits  # only on hybrid hosts

            lasting: Resources = {**resources}
            lasting.pop("network", None)
            if "memory" not in unified:  # v1 needs a memory limit for a swap limit
                lasting.pop("memory", None)
            if "io" not in unified:  # v1 has other ranges of weights
                lasting.pop("blockIO", None)
            if "cpu" not in unified:
                lasting["cpu"] = v1_limits.without_realtime(resources.get("cpu", {}))
            named = [limit for limit in v2_limits.files(lasting) if limit.controller in unified]
            for limit in named:
                self._by_controller.setdefault(limit.controller, self._unified or "")
            wanted += named
        foreign = {
            name: value
            for name, value in resources.get("unified", {}).items()
            if name.partition(".")[0] not in unified
        }
        v1_limits.refuse_unified({"unified": foreign})
        for limit in wanted:
            if limit.controller not in self._by_controller:
                raise UnsupportedError(
                    f"this host has no cgroup controller {limit.controller} for {limit.field}"
                )
        return wanted

    def _enforce(self, writes: list[Write]) -> None:
        self._enable_unified(writes)
        apply_all(self._place, writes)

    def _place(self, limit: Write) -> str:
        return self._by_controller[limit.controller]

    def _change_devices(self, rules: Sequence[DeviceRule]) -> None:
        """Allow new devices before denying old ones, because processes keep running."""
        directory = self._by_controller.get("devices")
        if directory is None:
            raise UnsupportedError("this host has no cgroup controller devices for device rules")
        for file, value in list_changes(read(f"{directory}/devices.list"), rules):
            apply(directory, Write("devices", file, value, "device rule"))

    def _enable_unified(self, writes: list[Write]) -> None:
        unified = self._layout.unified
        if unified and (names := {w.controller for w in writes} & unified.controllers):
            from orlop.runtime.cgroups import v2  # for rare limits

            v2.enable(unified.mountpoint, self.path, names)


def _make(directory: str) -> None:
    """Make one directory, and its missing parents.

    A parent made here passes its cpus and memory nodes on by itself, which saves two
    writes for each child (cgroup.clone_children; cpusets.rst).
    """
    try:
        os.mkdir(directory, 0o755)
    except FileNotFoundError:
        _make_parent(os.path.dirname(directory))
        os.mkdir(directory, 0o755)
    except FileExistsError:
        raise AlreadyExistsError(
            f"cgroup {directory} exists", hint="another container, or a crash, left it"
        ) from None


def _make_parent(directory: str) -> None:
    if os.path.isdir(directory):
        return
    _make_parent(os.path.dirname(directory))
    with suppress(FileExistsError):  # another start has just made it
        os.mkdir(directory, 0o755)
    if os.path.exists(f"{directory}/cpuset.cpus"):
        _fill_cpuset(directory)
        write(f"{directory}/cgroup.clone_children", "1")


def _fill_cpuset(directory: str) -> None:
    """Inherit cpus and mems: an empty set, v1's default, accepts no process."""
    for file in ("cpuset.cpus", "cpuset.mems"):
        if read(f"{directory}/{file}"):
            continue
        parent = os.path.dirname(directory)
        value = read(f"{parent}/{file}")
        if not value:
            _fill_cpuset(parent)
            value = read(f"{parent}/{file}")
        try:
            write(f"{directory}/{file}", value)
        except OSError as error:
            raise InvalidArgumentError(
                f"cgroup {directory} cannot take its parent's {file}"
            ) from error

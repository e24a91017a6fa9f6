"""Driver for hosts with only the unified hierarchy."""

import errno
import os

from orlop.errors import (
    AlreadyExistsError,
    OrlopError,
    PermissionDeniedError,
    UnsupportedError,
    WrongStateError,
)
from orlop.kernel.idmap import is_of_host
from orlop.model.light import Iterable, Iterator, Mapping, Sequence
from orlop.model.light_context import suppress
from orlop.model.oci import DeviceRule, Memory, Resources
from orlop.runtime.cgroups import control, device_program, v2_limits
from orlop.runtime.cgroups.files import apply_all, read, read_number, read_or, read_table, write
from orlop.runtime.cgroups.interface import Load, Owner, Statistics, Write
from orlop.runtime.cgroups.layout import Layout

#: Enabled for every container, so that statistics count even without a limit.
_COUNTED = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma", "misc")

_SIGKILL = 9
_NO_LIMIT = "max"

#: The files that a cgroup's owner gets; the kernel's list, or for old kernels a fixed one.
_DELEGATE = "/sys/kernel/cgroup/delegate"
_DELEGATED = "cgroup.procs cgroup.subtree_control cgroup.threads"


class V2Cgroup:
    """See interface.Cgroup."""

    __slots__ = ("_controllers", "_directory", "_owner", "path")

    def __init__(self, layout: Layout, path: str, *, owner: Owner | None = None) -> None:
        if layout.unified is None:
            raise UnsupportedError("this host mounts no cgroup v2 hierarchy")
        self.path = path
        self._owner = owner
        self._controllers = layout.unified.controllers
        self._directory = layout.unified.mountpoint + path

    @classmethod
    def create(
        cls,
        layout: Layout,
        path: str,
        resources: Resources,
        *,
        owner: Owner | None = None,
        take: bool = False,
    ) -> "V2Cgroup":
        """Make the directory and set the limits of *resources*; a failure leaves nothing.

        An existing directory is used if an *owner* has made it, or with *take*; it is then
        not removed.
        """
        cgroup = cls(layout, path, owner=owner)
        writes = cgroup._writes(resources)
        cgroup._enable({limit.controller for limit in writes})
        made = owner is None and _make(cgroup._directory, take=take)
        try:
            control.check_thawed(path, freezer=None, unified=cgroup._directory)
            apply_all(cgroup._place, writes)
            if resources.get("devices"):
                cgroup._limit_devices(resources["devices"])
        except (OSError, OrlopError):
            if made:
                control.remove(cgroup._directory)
            raise
        return cgroup

    @property
    def directories(self) -> Mapping[str, str]:
        return {"": self._directory}

    def clone_fd(self) -> int | None:
        return os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def doors(self) -> tuple[int, ...]:
        return self._owner.doors() if self._owner else ()

    def entered(self) -> None:
        if self._owner:
            self._owner.entered()

    def enter(self, pid: int) -> None:
        if self._owner:
            self._owner.enter(pid)
        else:
            write(f"{self._directory}/cgroup.procs", str(pid))

    def update(self, resources: Resources) -> None:
        if self._owner:
            self._owner.update(resources)
        resources = self._completed(resources)
        self._check_usage(resources.get("memory", {}))
        apply_all(self._place, self._writes(resources))
        if resources.get("devices"):
            self._limit_devices(resources["devices"])

    def give(self, uid: int) -> None:
        for name in ("", *read_or(_DELEGATE, _DELEGATED).split()):
            # Not every cgroup has every file; and we may not be allowed to give them away.
            with suppress(FileNotFoundError, PermissionError):
                os.chown(f"{self._directory}/{name}", uid, -1)

    def freeze(self, *, timeout_s: float = 10.0) -> None:
        control.freeze_v2(self._directory, timeout_s=timeout_s)

    def thaw(self) -> None:
        write(f"{self._directory}/cgroup.freeze", "0")

    def kill(self, signal: int = _SIGKILL) -> None:
        if signal == _SIGKILL:
            control.kill_v2(self._directory)
        else:
            control.send(self._directory, signal)

    def pids(self) -> Iterator[int]:
        return control.pids(self._directory)

    def statistics(self) -> Statistics:
        from orlop.runtime.cgroups import v2_statistics  # not needed at a start

        return v2_statistics.read(self._directory)

    def load(self) -> Load:
        from orlop.runtime.cgroups import v2_statistics  # not needed at a start

        return v2_statistics.load(self._directory)

    def oom_kills(self) -> int:
        return read_table(f"{self._directory}/memory.events").get("oom_kill", 0)

    def remove(self, *, timeout_s: float = control.REMOVE_TIMEOUT_S) -> None:
        if self._owner:
            self._owner.remove()
        control.remove(self._directory, timeout_s=timeout_s)

    def _place(self, limit: Write) -> str:
        del limit
        return self._directory

    def _limit_devices(self, rules: Sequence[DeviceRule]) -> None:
        """Skip it in a user namespace, which may not, and whose nodes open no device."""
        try:
            device_program.put(self._directory, rules)
        except PermissionDeniedError:
            if os.geteuid() == 0 and is_of_host():
                raise

    def _completed(self, resources: Resources) -> Resources:
        """Add the current memory limit, from which a limit on swap is computed."""
        memory = resources.get("memory", {})
        now = read_number(f"{self._directory}/memory.max", -1)
        if (memory.get("swap") or 0) <= 0 or memory.get("limit") or now < 0:
            return resources
        return {**resources, "memory": {**memory, "limit": now}}

    def _check_usage(self, memory: Memory) -> None:
        """Refuse a limit below the usage, as v1 does: the kernel would kill instead."""
        limit = memory.get("limit") or 0
        if memory.get("checkBeforeUpdate") and limit > 0:
            used = read_number(f"{self._directory}/memory.current")
            if used > limit:
                raise WrongStateError(
                    f"memory.limit {limit} is below what the processes use now, {used}"
                )

    def _enable(self, needed: set[str]) -> None:
        """Enable the controllers that count, if available, and those *needed*, or raise."""
        mountpoint = self._directory.removesuffix(self.path)
        wished = needed.union(_COUNTED) & self._controllers
        try:
            enable(mountpoint, self.path, wished)
        except OrlopError:
            enable(mountpoint, self.path, needed)

    def _writes(self, resources: Resources) -> list[Write]:
        """Skip "max" for a controller that is not available: it limits nothing anyway."""
        possible = []
        for limit in v2_limits.files(resources):
            if limit.controller in self._controllers:
                possible.append(limit)
            elif limit.value != _NO_LIMIT:
                raise UnsupportedError(
                    f"no cgroup controller {limit.controller} for {limit.field} here",
                    hint="the kernel lacks it, or it is not delegated to this cgroup",
                )
        return possible


def _make(directory: str, *, take: bool) -> bool:
    """Make *directory*, or *take* an existing one; return whether it was made."""
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        if take:
            return False
        raise AlreadyExistsError(
            f"cgroup {directory} exists", hint="another container, or a crash, left it"
        ) from None
    return True


def enable(mountpoint: str, path: str, controllers: Iterable[str]) -> None:
    """Enable *controllers* down to the cgroup at *path*, making its parents as needed.

    From the top, because a cgroup can pass on only what it has. Only one read if all are
    enabled. cgroup-v2.rst, "Enabling and Disabling".

    Raises:
        WrongStateError: a cgroup on the way has processes of its own.
        PermissionDeniedError: we may not change a cgroup on the way.
    """
    wanted = set(controllers)
    parent = mountpoint + os.path.dirname(path).rstrip("/")
    with suppress(FileNotFoundError):
        if wanted <= set(read(f"{parent}/cgroup.subtree_control").split()):
            return
    directory = mountpoint
    steps = [name for name in os.path.dirname(path).split("/") if name]
    for name in (*steps, None):
        _hand_down(directory, wanted)
        if name is not None:
            directory = f"{directory}/{name}"
            with suppress(FileExistsError):
                os.mkdir(directory, 0o755)


def _hand_down(directory: str, wanted: set[str]) -> None:
    file = f"{directory}/cgroup.subtree_control"
    missing = sorted(wanted - set(read(file).split()))
    if not missing:
        return
    try:
        write(file, " ".join(f"+{name}" for name in missing))
    except OSError as error:
        raise _delegation_error(directory, missing, error) from error


def _delegation_error(directory: str, missing: list[str], error: OSError) -> OrlopError:
    names = ", ".join(missing)
    if isinstance(error, PermissionError):
        return PermissionDeniedError(
            f"cgroup {directory} may not hand down {names}",
            hint="with systemd: Delegate=yes in the unit that starts the engine",
        )
    if error.errno in (errno.ENOENT, errno.EINVAL):  # not enabled above; unknown to the kernel
        offered = read(f"{directory}/cgroup.controllers") or "nothing"
        return UnsupportedError(
            f"cgroup {directory} was not given all of {names}",
            hint=f"it has {offered}; delegate the rest in its parent's cgroup.subtree_control",
        )
    return WrongStateError(
        f"cgroup {directory} cannot hand down {names}: it has processes of its own",
        hint="move them to a cgroup below it first, or choose another --cgroup-parent",
    )

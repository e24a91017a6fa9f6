"""From config.json to what init does: checked and computed before there is a child.

Everything that can be refused without touching the kernel is refused here.
"""

import enum
import os
import resource
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from orlop.errors import InvalidArgumentError
from orlop.kernel import capabilities
from orlop.kernel.idmap import Mapping as IDMapping
from orlop.kernel.namespaces import Namespace
from orlop.model import oci
from orlop.runtime.options import SUPERBLOCK, Options, Special, for_new, parse

#: The specification's words for the namespaces.
NAMESPACES: Mapping[str, Namespace] = {
    "pid": Namespace.PID,
    "network": Namespace.NET,
    "mount": Namespace.MOUNT,
    "ipc": Namespace.IPC,
    "uts": Namespace.UTS,
    "user": Namespace.USER,
    "cgroup": Namespace.CGROUP,
    "time": Namespace.TIME,
}

_BINDS = frozenset((Special.BIND, Special.RBIND))
_PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}
_MOST_ID = (1 << 31) - 1  # larger ones wrap around in programs that keep them signed


class MountKind(enum.Enum):
    FILESYSTEM = enum.auto()
    BIND = enum.auto()
    CGROUP = enum.auto()
    REMOUNT = enum.auto()  # no mount of its own: another one's options change


class IDMap(NamedTuple):
    uids: tuple[IDMapping, ...]
    gids: tuple[IDMapping, ...]

    def host_uid(self, uid: int) -> int:
        """Return what the host calls user *uid* of the container."""
        return _outside(self.uids, uid)

    def host_gid(self, gid: int) -> int:
        """Return what the host calls group *gid* of the container."""
        return _outside(self.gids, gid)


class MountPlan(NamedTuple):
    kind: MountKind
    destination: str
    fstype: str
    source: str
    options: Options
    idmap: IDMap | None = None


class Capabilities(NamedTuple):
    bounding: int = 0
    effective: int = 0
    inheritable: int = 0
    permitted: int = 0
    ambient: int = 0


class Scheduler(NamedTuple):
    policy: int
    flags: int
    nice: int
    priority: int
    deadline: tuple[int, int, int]


class ProcessPlan(NamedTuple):
    """The process itself, first or later one of its container."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: oci.User
    umask: int
    capabilities: Capabilities
    rlimits: tuple[tuple[int, int, int], ...]
    oom_score_adj: int | None
    no_new_privileges: bool
    terminal: bool
    console_size: tuple[int, int] | None  # height, width
    apparmor: str
    selinux: str
    scheduler: Scheduler | None
    io_priority: tuple[int, int] | None


class Namespaces(NamedTuple):
    new: Namespace
    join: tuple[tuple[Namespace, str], ...]  # kind, path
    idmap: IDMap | None  # of a new user namespace
    time_offsets: str  # for /proc/self/timens_offsets


def plan_namespaces(linux: oci.Linux) -> Namespaces:
    """Say which namespaces are new and which are joined."""
    new = seen = 0  # plain numbers, for speed
    join: list[tuple[Namespace, str]] = []
    for entry in linux.get("namespaces", ()):
        kind = NAMESPACES.get(entry["type"])
        if kind is None:
            raise InvalidArgumentError(f"unknown namespace type {entry['type']!r}")
        if seen & kind.value:
            raise InvalidArgumentError(f"namespace {entry['type']} is named twice")
        seen |= kind.value
        if path := entry.get("path"):
            join.append((kind, path))
        else:
            new |= kind.value
    idmap = plan_idmap(linux.get("uidMappings"), linux.get("gidMappings"))
    if new & Namespace.USER.value and idmap is None:
        raise InvalidArgumentError("a new user namespace needs uidMappings and gidMappings")
    offsets = "".join(
        f"{clock} {value.get('secs', 0)} {value.get('nanosecs', 0)}\n"
        for clock, value in linux.get("timeOffsets", {}).items()
    )
    if offsets and not new & Namespace.TIME.value:
        raise InvalidArgumentError("time offsets need a new time namespace")
    own = idmap if new & Namespace.USER.value else None
    return Namespaces(Namespace(new), tuple(join), own, offsets)


def plan_idmap(
    uids: Iterable[oci.IDMapping] | None,
    gids: Iterable[oci.IDMapping] | None,
    where: str = "linux",
) -> IDMap | None:
    """Turn the specification's mappings into ours; None where there are none."""
    if not uids and not gids:
        return None
    if not uids or not gids:
        raise InvalidArgumentError(f"{where}: id mappings need both uidMappings and gidMappings")
    return IDMap(_mappings(uids), _mappings(gids))


def plan_mount(mount: oci.OCIMount, bundle: str, where: str = "a mount") -> MountPlan:
    """Plan one entry of config.json's mounts, which errors call *where*."""
    destination = mount.get("destination", "")
    if not destination:
        raise InvalidArgumentError(f"{where} has no destination")
    options = parse(mount.get("options", ()))
    fstype, source = mount.get("type", ""), mount.get("source", "")
    if Special.REMOUNT in options.special:
        kind = MountKind.REMOUNT
    elif options.special & _BINDS or fstype in ("bind", "none", ""):
        kind, source = MountKind.BIND, os.path.join(bundle, source)
        if options.filesystem:
            _refuse_filesystem_words(options, where)
    elif fstype in ("cgroup", "cgroup2"):
        kind = MountKind.CGROUP
    else:
        kind, options = MountKind.FILESYSTEM, for_new(options)
    idmap = plan_idmap(mount.get("uidMappings"), mount.get("gidMappings"), where)
    if idmap and kind is not MountKind.BIND:
        raise InvalidArgumentError(f"{where}: only a bind mount can have id mappings")
    return MountPlan(kind, "/" + destination.lstrip("/"), fstype, source, options, idmap)


def _refuse_filesystem_words(options: Options, where: str) -> None:
    for word, _ in options.filesystem:
        if word not in SUPERBLOCK:
            raise InvalidArgumentError(
                f"{where}: option {word!r} is for a file system, and this is a bind mount"
            )


def warnings(config: oci.Config) -> list[str]:
    """Return what a bundle had better not do, though it is done."""
    return [
        f"mounts[{index}].destination {mount['destination']!r} is not absolute, which is"
        " deprecated; it is taken as relative to /"
        for index, mount in enumerate(config.get("mounts", ()))
        if not mount.get("destination", "/").startswith("/")
    ]


def plan_process(process: oci.Process) -> ProcessPlan:
    """Check and compute what concerns the process alone."""
    args = tuple(process.get("args", ()))
    if not args or not args[0]:
        raise InvalidArgumentError("no command specified")
    env = tuple(process.get("env", ()))
    if any("\0" in text for text in (*args, *env)):
        raise InvalidArgumentError("arguments and environment cannot hold a NUL character")
    cwd = process.get("cwd") or "/"
    if not cwd.startswith("/"):
        raise InvalidArgumentError(f"working directory {cwd!r} is not an absolute path")
    user = check_user(process.get("user", {}))
    size = process.get("consoleSize")
    return ProcessPlan(
        args=args,
        env=env,
        cwd=cwd,
        user=user,
        umask=user.get("umask", 0o022),
        capabilities=plan_capabilities(process.get("capabilities")),
        rlimits=tuple(_rlimit(limit) for limit in process.get("rlimits", ())),
        oom_score_adj=process.get("oomScoreAdj"),
        no_new_privileges=process.get("noNewPrivileges", False),
        terminal=process.get("terminal", False),
        console_size=(size["height"], size["width"]) if size else None,
        apparmor=process.get("apparmorProfile", ""),
        selinux=process.get("selinuxLabel", ""),
        scheduler=_scheduler(process),
        io_priority=_io_priority(process),
    )


def check_user(user: oci.User) -> oci.User:
    """Return *user* if its numbers can be ids; InvalidArgumentError otherwise."""
    for number in (user.get("uid", 0), user.get("gid", 0), *user.get("additionalGids", ())):
        if not 0 <= number <= _MOST_ID:
            raise InvalidArgumentError(
                f"invalid user or group id {number}", hint=f"ids are 0 to {_MOST_ID}"
            )
    return user


def plan_capabilities(sets: oci.Capabilities | None) -> Capabilities:
    """Turn names into bits, leaving out what this kernel does not have."""
    if sets is None:
        return Capabilities()
    try:
        bounding = capabilities.mask(sets.get("bounding", ()))
        effective = capabilities.mask(sets.get("effective", ()))
        inheritable = capabilities.mask(sets.get("inheritable", ()))
        permitted = capabilities.mask(sets.get("permitted", ()))
        ambient = capabilities.mask(sets.get("ambient", ()))
    except KeyError as error:
        raise InvalidArgumentError(f"unknown capability {error.args[0]!r}") from None
    return Capabilities(bounding, effective, inheritable, permitted, ambient)


def plan_personality(linux: oci.Linux) -> int | None:
    """Return the number of the execution domain, or None where none is asked for."""
    wanted = linux.get("personality")
    if not wanted:
        return None
    domain = str(wanted.get("domain", ""))
    if domain not in _PERSONALITIES:
        raise InvalidArgumentError(f"unknown personality {domain!r}")
    return _PERSONALITIES[domain]


def _outside(mappings: tuple[IDMapping, ...], number: int) -> int:
    for inside, outside, size in mappings:
        if inside <= number < inside + size:
            return outside + number - inside
    raise InvalidArgumentError(f"the id mappings leave out {number}")


def _mappings(mappings: Iterable[oci.IDMapping]) -> tuple[IDMapping, ...]:
    return tuple(IDMapping(m["containerID"], m["hostID"], m["size"]) for m in mappings)


def _rlimit(limit: oci.Rlimit) -> tuple[int, int, int]:
    number = getattr(resource, limit["type"], None)
    if number is None or not limit["type"].startswith("RLIMIT_"):
        raise InvalidArgumentError(f"unknown resource limit {limit['type']!r}")
    soft, hard = (-1 if value >= 1 << 63 else value for value in (limit["soft"], limit["hard"]))
    return number, soft, hard


_POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}

_SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}


def _scheduler(process: oci.Process) -> Scheduler | None:
    wanted = process.get("scheduler")
    if not wanted:
        return None
    try:
        flags = sum(_SCHEDULER_FLAGS[flag] for flag in wanted.get("flags", ()))
        policy = _POLICIES[wanted["policy"]]
    except KeyError as error:
        raise InvalidArgumentError(f"unknown scheduler setting {error.args[0]!r}") from None
    deadline = (wanted.get("runtime", 0), wanted.get("deadline", 0), wanted.get("period", 0))
    return Scheduler(policy, flags, wanted.get("nice", 0), wanted.get("priority", 0), deadline)


def _io_priority(process: oci.Process) -> tuple[int, int] | None:
    wanted = process.get("ioPriority")
    if not wanted:
        return None
    classes = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
    if wanted.get("class") not in classes:
        raise InvalidArgumentError(f"unknown I/O priority class {wanted.get('class')!r}")
    return classes[wanted["class"]], int(wanted.get("priority", 0))

"""Plan a start from config.json: checked and computed before there is a child.

Everything that can be refused without a system call is refused here.
"""

import os
import resource

from orlop.errors import InvalidArgumentError
from orlop.kernel import capabilities
from orlop.kernel.idmap import Mapping as IDMapping
from orlop.kernel.mount import MountAttr
from orlop.kernel.namespaces import Namespace
from orlop.model import oci
from orlop.model.light import Iterable, Mapping, NamedTuple, Sequence
from orlop.model.light_enum import StrEnum
from orlop.runtime.cgroups.devices import ACCESS
from orlop.runtime.options import SUPERBLOCK, Options, Special, for_new, parse
from orlop.runtime.scheduling import (
    Affinity,
    Scheduler,
    plan_affinity,
    plan_io_priority,
    plan_scheduler,
)

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
_RDONLY = int(MountAttr.RDONLY)
_UNLABELLED = frozenset(("proc", "sysfs", "mqueue"))
#: A capability can be in the first set only if it is in the other sets. capabilities(7)
_NEEDED_SETS = {"effective": ("permitted",), "ambient": ("permitted", "inheritable")}
_CLOCKS = ("monotonic", "boottime")
_MOST_ID = (1 << 31) - 1  # larger ones wrap around in programs that store them as signed


class MountKind(StrEnum):
    FILESYSTEM = "filesystem"
    BIND = "bind"
    INSIDE = "inside"  # a bind mount of a path in the root at that point
    CGROUP = "cgroup"
    REMOUNT = "remount"  # not a mount of its own: changes another one's options


class IDMap(NamedTuple):
    uids: tuple[IDMapping, ...]
    gids: tuple[IDMapping, ...]

    def host_uid(self, uid: int) -> int:
        """Return the host's id of user *uid* of the container."""
        return _outside(self.uids, uid)

    def host_gid(self, gid: int) -> int:
        """Return the host's id of group *gid* of the container."""
        return _outside(self.gids, gid)


class MountPlan(NamedTuple):
    kind: MountKind
    destination: str
    fstype: str
    source: str
    options: Options
    idmap: IDMap | None = None

    @property
    def fillable(self) -> Options:
        """The options while files are added: a folder in memory becomes read-only last."""
        is_filled = self.fstype == "tmpfs" or self.destination == "/dev"
        if self.kind is not MountKind.FILESYSTEM or not is_filled:
            return self.options
        return self.options._replace(set_=self.options.set_ & ~_RDONLY)

    @property
    def is_sealed(self) -> bool:
        """Whether it is made read-only before it is attached."""
        is_memory = self.fstype == "tmpfs" and self.destination != "/dev"
        return is_memory and bool(self.options.set_ & _RDONLY)


class Capabilities(NamedTuple):
    bounding: int = 0
    effective: int = 0
    inheritable: int = 0
    permitted: int = 0
    ambient: int = 0

    def within(self, have: int) -> "Capabilities":
        """Return those that a process with the set *have* can give. capabilities(7)"""
        permitted, inheritable = self.permitted & have, self.inheritable & have
        return self._replace(
            effective=self.effective & permitted,
            inheritable=inheritable,
            permitted=permitted,
            ambient=self.ambient & permitted & inheritable,
        )


class Rlimit(NamedTuple):
    number: int  # <asm-generic/resource.h>
    soft: int  # -1 means no limit
    hard: int


class ProcessPlan(NamedTuple):
    """The process itself, the first or a later one of its container."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: oci.User
    umask: int
    capabilities: Capabilities
    rlimits: tuple[Rlimit, ...]
    oom_score_adj: int | None
    no_new_privileges: bool
    terminal: bool
    console_size: tuple[int, int] | None  # height, width
    apparmor: str
    selinux: str
    scheduler: Scheduler | None
    io_priority: tuple[int, int] | None
    affinity: Affinity | None

    def variable(self, name: str) -> str:
        """Return the value of environment variable *name*, "" if it has none."""
        return variable(self.env, name)


def variable(env: Sequence[str], name: str) -> str:
    """Return the value of *name* in *env*, "" if it has none; the last counts."""
    start = f"{name}="
    return next((text[len(start) :] for text in reversed(env) if text.startswith(start)), "")


class Namespaces(NamedTuple):
    new: Namespace
    join: tuple[tuple[Namespace, str], ...]  # kind, path
    idmap: IDMap | None  # of a new user namespace
    time_offsets: str  # for /proc/self/timens_offsets


def plan_namespaces(linux: oci.Linux) -> Namespaces:
    """Return which namespaces are new and which are joined."""
    new = seen = 0  # plain numbers, for speed
    join: list[tuple[Namespace, str]] = []
    for index, entry in enumerate(linux.get("namespaces", ())):
        kind = NAMESPACES.get(entry.get("type", ""))
        if kind is None or seen & kind.value:
            problem = "unknown" if kind is None else "there twice"
            raise InvalidArgumentError(
                f"linux.namespaces[{index}].type {entry.get('type', '')!r} is {problem}"
            )
        seen |= kind.value
        if path := entry.get("path"):
            if not path.startswith("/"):
                raise InvalidArgumentError(
                    f"linux.namespaces[{index}].path {path!r} is not absolute"
                )
            join.append((kind, path))
        else:
            new |= kind.value
    idmap = plan_idmap(linux.get("uidMappings"), linux.get("gidMappings"))
    if new & Namespace.USER.value and idmap is None:
        raise InvalidArgumentError(
            "a new user namespace needs linux.uidMappings and linux.gidMappings"
        )
    if idmap and not seen & Namespace.USER.value:
        raise InvalidArgumentError("a container with linux.uidMappings needs a user namespace")
    offsets = _time_offsets(linux)
    if offsets and not new & Namespace.TIME.value:
        raise InvalidArgumentError("linux.timeOffsets needs a new time namespace")
    own = idmap if new & Namespace.USER.value else None
    return Namespaces(Namespace(new), tuple(join), own, offsets)


def _time_offsets(linux: oci.Linux) -> str:
    text = ""
    for clock, offset in linux.get("timeOffsets", {}).items():
        if clock not in _CLOCKS:
            raise InvalidArgumentError(
                f"linux.timeOffsets: there is no clock {clock!r} to set",
                hint=f"clocks are {' and '.join(_CLOCKS)}",
            )
        nanoseconds = offset.get("nanosecs", 0)
        if not 0 <= nanoseconds < 1_000_000_000:
            raise InvalidArgumentError(
                f"linux.timeOffsets.{clock}.nanosecs {nanoseconds} is not less than a second"
            )
        text += f"{clock} {offset.get('secs', 0)} {nanoseconds}\n"
    return text


def plan_idmap(
    uids: Iterable[oci.IDMapping] | None,
    gids: Iterable[oci.IDMapping] | None,
    where: str = "linux",
) -> IDMap | None:
    """Convert the specification's mappings; None if there are none."""
    if not uids and not gids:
        return None
    if not uids or not gids:
        raise InvalidArgumentError(f"{where}: id mappings need both uidMappings and gidMappings")
    return IDMap(_mappings(uids, f"{where}.uidMappings"), _mappings(gids, f"{where}.gidMappings"))


def plan_mount(
    mount: oci.OCIMount, bundle: str, where: str = "a mount", label: str = ""
) -> MountPlan:
    """Plan one entry of config.json's mounts, which errors call *where*.

    Everything in a new file system gets the *label*. config-linux.md, "Mount Label".
    """
    destination = mount.get("destination", "")
    if not destination:
        raise InvalidArgumentError(f"{where} has no destination")
    options = parse(mount.get("options", ()))
    fstype, source = mount.get("type", ""), mount.get("source", "")
    if Special.REMOUNT in options.special:
        kind = MountKind.REMOUNT
    elif options.special & _BINDS or fstype in ("bind", "none", ""):
        kind, fstype, source = MountKind.BIND, "bind", os.path.join(bundle, source)
    elif fstype in ("cgroup", "cgroup2"):
        kind = MountKind.CGROUP
    else:
        kind, options = MountKind.FILESYSTEM, for_new(options)
        if label and fstype not in _UNLABELLED:
            words = (*options.filesystem, ("context", label))
            options = options._replace(filesystem=words)
    if kind is MountKind.BIND and (source == "/sys" or source.startswith("/sys/")):
        # With the cgroups below it, which the user may be able to write to (CVE-2023-25809).
        options = options._replace(tree_set=options.tree_set | options.set_ & _RDONLY)
    idmap = plan_idmap(mount.get("uidMappings"), mount.get("gidMappings"), where)
    if idmap and kind is not MountKind.BIND:
        raise InvalidArgumentError(f"{where}: only a bind mount can have id mappings")
    return MountPlan(kind, "/" + destination.lstrip("/"), fstype, source, options, idmap)


def _ignored_options(mount: oci.OCIMount) -> list[str]:
    """Return the options that have no effect on a bind mount."""
    options = parse(mount.get("options", ()))
    if Special.REMOUNT in options.special or not options.special & _BINDS:
        return []
    return [word for word, _ in options.filesystem if word not in SUPERBLOCK]


def warnings(config: oci.Config) -> list[str]:
    """Return warnings: values that are allowed but bad, and values that have no effect."""
    told = [
        f"mounts[{index}].destination {mount['destination']!r} is not absolute, which is"
        " deprecated; it is taken as relative to /"
        for index, mount in enumerate(config.get("mounts", ()))
        if not mount.get("destination", "/").startswith("/")
    ]
    told += [
        f"mounts[{index}]: options {', '.join(words)} are for a file system, and so ignored: this"
        " is a bind mount"
        for index, mount in enumerate(config.get("mounts", ()))
        if (words := _ignored_options(mount))
    ]
    told += [
        f"linux.resources.devices[{index}].access {rule['access']!r}: only r, w and m are known"
        for index, rule in enumerate(
            config.get("linux", {}).get("resources", {}).get("devices", ())
        )
        if set(rule.get("access", "")) - set(ACCESS)
    ]
    return told + capability_warnings(config.get("process", {}), config)


def capability_warnings(process: oci.Process, config: oci.Config) -> list[str]:
    """Return warnings about the capabilities that a process of *config* does not get."""
    told = []
    sets: dict[str, list[str]] = {**process.get("capabilities", {})}  # type: ignore[dict-item] # TypedDict
    named = dict.fromkeys(name for names in sets.values() for name in names)
    if unknown := [name for name in named if name not in capabilities.BIT]:
        told.append(f"process.capabilities: unknown, and so ignored: {', '.join(unknown)}")
    namespaces = config.get("linux", {}).get("namespaces", ())
    if not any(namespace.get("type") == "user" for namespace in namespaces):
        ours = capabilities.capget()[1]
        known = [name for name in named if name in capabilities.BIT]
        if lacking := [name for name in known if not ours >> capabilities.BIT[name] & 1]:
            told.append(f"process.capabilities: not ours to give: {', '.join(lacking)}")
    for kind, needed in _NEEDED_SETS.items():
        if lost := [n for n in sets.get(kind, ()) if any(n not in sets.get(k, ()) for k in needed)]:
            told.append(
                f"process.capabilities.{kind}: ignored, for they are not"
                f" {' and '.join(needed)} too: {', '.join(lost)}"
            )
    return told


def plan_process(process: oci.Process) -> ProcessPlan:
    """Check and compute everything that concerns only the process."""
    args, env, cwd = _command(process)
    if process.get("apparmorProfile") or process.get("selinuxLabel"):
        from orlop.runtime.labels import check_labels  # rare

        check_labels(process)
    oom_score_adj = process.get("oomScoreAdj")
    if oom_score_adj is not None and not -1000 <= oom_score_adj <= 1000:
        raise InvalidArgumentError(
            f"process.oomScoreAdj {oom_score_adj} is not between -1000 and 1000"
        )
    user = check_user(process.get("user", {}))
    size = process.get("consoleSize")
    return ProcessPlan(
        args=args,
        env=env,
        cwd=cwd,
        user=user,
        umask=user.get("umask", 0o022),
        capabilities=plan_capabilities(process.get("capabilities")),
        rlimits=plan_rlimits(process.get("rlimits", ())),
        oom_score_adj=oom_score_adj,
        no_new_privileges=process.get("noNewPrivileges", False),
        terminal=process.get("terminal", False),
        console_size=_console_size(size) if size else None,
        apparmor=process.get("apparmorProfile", ""),
        selinux=process.get("selinuxLabel", ""),
        scheduler=plan_scheduler(process),
        io_priority=plan_io_priority(process),
        affinity=plan_affinity(process),
    )


def _command(process: oci.Process) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Return the command, its environment, and its working directory."""
    args = tuple(process.get("args", ()))
    if not args or not args[0]:
        raise InvalidArgumentError("no command specified", hint="process.args is empty")
    env = tuple(process.get("env", ()))
    if any("\0" in text for text in (*args, *env)):
        raise InvalidArgumentError("process.args and process.env cannot hold a NUL character")
    for index, text in enumerate(env):
        if text.find("=") < 1:
            raise InvalidArgumentError(
                f"process.env[{index}] {text!r} is not of the form NAME=value"
            )
    cwd = process.get("cwd") or "/"
    if not cwd.startswith("/"):
        raise InvalidArgumentError(f"process.cwd {cwd!r} is not an absolute path")
    return args, env, cwd


def check_user(user: oci.User) -> oci.User:
    """Return *user* if its numbers can be ids; InvalidArgumentError otherwise."""
    for number in (user.get("uid", 0), user.get("gid", 0), *user.get("additionalGids", ())):
        if not 0 <= number <= _MOST_ID:
            raise InvalidArgumentError(
                f"process.user: invalid user or group id {number}", hint=f"ids are 0 to {_MOST_ID}"
            )
    if not 0 <= user.get("umask", 0) <= 0o777:
        raise InvalidArgumentError(f"process.user.umask {user['umask']:#o} is not up to 0777")
    return user


def plan_capabilities(sets: oci.Capabilities | None) -> Capabilities:
    """Convert names to bits, skipping unknown capabilities: warnings() reports them."""
    if sets is None:
        return Capabilities()
    return Capabilities(
        bounding=capabilities.mask(sets.get("bounding", ())),
        effective=capabilities.mask(sets.get("effective", ())),
        inheritable=capabilities.mask(sets.get("inheritable", ())),
        permitted=capabilities.mask(sets.get("permitted", ())),
        ambient=capabilities.mask(sets.get("ambient", ())),
    )


def _outside(mappings: tuple[IDMapping, ...], number: int) -> int:
    for inside, outside, size in mappings:
        if inside <= number < inside + size:
            return outside + number - inside
    raise InvalidArgumentError(f"the id mappings leave out {number}")


def _mappings(mappings: Iterable[oci.IDMapping], where: str) -> tuple[IDMapping, ...]:
    planned = tuple(IDMapping(m["containerID"], m["hostID"], m["size"]) for m in mappings)
    for index, mapping in enumerate(planned):
        if min(mapping) < 0 or max(mapping.inside, mapping.outside) + mapping.size >= 1 << 32:
            raise InvalidArgumentError(f"{where}[{index}] is not of ids, which have 32 bits")
    return planned


def plan_rlimits(limits: Iterable[oci.Rlimit]) -> tuple[Rlimit, ...]:
    """Check process.rlimits, and return them in the kernel's form."""
    planned: dict[int, Rlimit] = {}
    for index, limit in enumerate(limits):
        where, name = f"process.rlimits[{index}]", limit["type"]
        number = getattr(resource, name, None)
        if number is None or not name.startswith("RLIMIT_") or name == "RLIMIT_INFINITY":
            raise InvalidArgumentError(f"{where}.type {name!r} is unknown")
        if number in planned:
            raise InvalidArgumentError(f"{where}.type {name!r} is there twice")
        soft, hard = limit["soft"], limit["hard"]
        if not 0 <= soft <= hard < 1 << 64:
            raise InvalidArgumentError(
                f"{where}: soft limit {soft} and hard limit {hard} do not go together"
            )
        endless = 1 << 63
        soft, hard = (-1 if limit >= endless else limit for limit in (soft, hard))
        planned[number] = Rlimit(number, soft, hard)
    return tuple(planned.values())


def _console_size(size: oci.ConsoleSize) -> tuple[int, int]:
    sides = size.get("height", 0), size.get("width", 0)
    if not all(0 <= side < 1 << 16 for side in sides):
        raise InvalidArgumentError("process.consoleSize has sides that are not below 65536")
    return sides

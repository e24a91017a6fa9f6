"""From a bundle to a container's first process."""

from __future__ import annotations

import os
import stat

from orlop.errors import InvalidArgumentError, PermissionDeniedError, UnsupportedError
from orlop.kernel.capabilities import is_ordinary
from orlop.kernel.idmap import is_of_host, open_user_namespace
from orlop.kernel.mount import MountFlag, mount_setattr
from orlop.kernel.namespaces import FILES, Namespace, kind_of
from orlop.model.light import TYPE_CHECKING, NoReturn
from orlop.model.light_context import ExitStack, cache
from orlop.model.oci import Config, Resources, User
from orlop.runtime import cgroups, failure, init, seccomp
from orlop.runtime.bundle import Bundle, Gate, Starting, Stdio
from orlop.runtime.cgroups.devices import for_container
from orlop.runtime.child import Child, ContainerPlan
from orlop.runtime.container import plan_container
from orlop.runtime.devices import open_host_nodes
from orlop.runtime.mounts import bind_source, open_device
from orlop.runtime.options import Special
from orlop.runtime.parent import Launch, give_stdio, launch, settle, take_terminal, wait_ready
from orlop.runtime.plan import (
    IDMap,
    MountKind,
    MountPlan,
    Namespaces,
    ProcessPlan,
    plan_idmap,
    plan_namespaces,
    plan_process,
)
from orlop.runtime.rootfs import Owner, assemble
from orlop.runtime.scheduling import MemoryPolicy, plan_personality

if TYPE_CHECKING:
    from orlop.runtime.ahead import Ahead
    from orlop.runtime.cgroups.interface import Cgroup
    from orlop.runtime.cgroups.pools import SpareCgroups
    from orlop.runtime.hooks import Hooks
    from orlop.runtime.listener import Listener
    from orlop.runtime.noting import Notes
    from orlop.runtime.seccomp import Filter

_NOT_BY_CLONE = Namespace.CGROUP | Namespace.TIME  # the child's own doing, and the parent's
_IDMAPS = frozenset((Special.IDMAP, Special.RIDMAP))


def start(
    bundle: Bundle,
    stdio: Stdio | None,
    *,
    gate: Gate | None = None,
    preserve_fds: int = 0,
    ahead: Ahead | None = None,
) -> Starting:
    """Make the container's cgroup and its first process, which sets up the rest and execs.

    Returns as soon as the process is made (for a terminal: once the master is
    here); whether its steps succeed is told by wait_ready(), or by *report* and
    settle(). *stdio* may be None for a terminal. With a *gate*, wait_created()
    tells that the process has come to it. A caller that has made something
    *ahead* waits for nothing: it is to take_terminal() once the program runs.
    Only for a caller without threads.

    Raises OrlopError; nothing is left behind then.
    """
    what = f"cannot start container {bundle.id}"
    notes = _notes() if bundle.manner.timed else None
    note = notes or _unnoted
    process, namespaces = _planned(bundle, stdio)
    with ExitStack() as undo, ExitStack() as ours:
        note("plan_process")
        cgroup = _cgroup_or_none(bundle, ahead.cgroups if ahead else None)
        if cgroup is not None:
            undo.callback(cgroup.remove)
            _give_cgroup(cgroup, bundle.config, namespaces)
        note("make_cgroup")
        container = plan_container(bundle, namespaces, cgroup)
        child = _child(bundle, container, process, stdio)
        child.gate, child.preserve_fds = gate, preserve_fds
        for told in (child.hooks, child.listener):
            if told:
                ours.callback(told.close)
        note("plan_container")
        try:
            how = _launch(child, cgroup, ours, witness=bundle.manner.witnessed)
            if namespaces.idmap:
                _check_mapped(process.user, namespaces.idmap)
                give_stdio(stdio, namespaces.idmap)
            _prepare(child, bundle, ours)
            reserves = ahead.processes if ahead and _is_usual(child) else None
            note("prepare")
            starting = launch(how, child, _run, reserves=reserves, wait_terminal=not ahead)
        except OSError as error:
            raise failure.translate(what, "make_process", error) from error
        undo.pop_all()
    note("make_process")
    return starting._replace(steps=notes.steps) if notes else starting


def _planned(bundle: Bundle, stdio: Stdio | None) -> tuple[ProcessPlan, Namespaces]:
    process = plan_process(bundle.config.get("process", {}))
    namespaces = plan_namespaces(bundle.config.get("linux", {}))
    if stdio is None and not process.terminal:
        raise InvalidArgumentError("a process without a terminal needs standard streams")
    return process, _mapped(bundle, namespaces)


def _notes() -> Notes:
    from orlop.runtime.noting import Notes  # for who asks for them

    return Notes("shim")


def _unnoted(step: str) -> None:
    del step


def _child(
    bundle: Bundle, container: ContainerPlan, process: ProcessPlan, stdio: Stdio | None
) -> Child:
    config = bundle.config
    child = Child(process, container=container, stdio=stdio, filter_=make_filter(config))
    child.personality = plan_personality(config.get("linux", {}))
    child.memory_policy = memory_policy(config)
    child.timed = bundle.manner.timed
    child.keyring = "" if bundle.manner.no_new_keyring else keyring_name(bundle.id)
    if config.get("hooks"):
        child.hooks = _hooks(bundle, container)
    if child.filter and child.filter.listener:
        child.listener = _listener(bundle, child.filter)
    return child


def _check_mapped(user: User, idmap: IDMap) -> None:
    if not user.get("username"):
        idmap.host_uid(user.get("uid", 0))
        idmap.host_gid(user.get("gid", 0))
    for number in user.get("additionalGids", ()):
        idmap.host_gid(number)


def _is_usual(child: Child) -> bool:
    """Whether all that concerns it can be told to a process that exists already."""
    rare = child.hooks or child.listener or child.gate or child.plan.namespaces.idmap
    return not (rare or child.born_last or child.memory_policy or child.plan.net_devices)


def _launch(child: Child, cgroup: Cgroup | None, ours: ExitStack, *, witness: bool) -> Launch:
    namespaces = child.plan.namespaces
    near, child.join = _open_namespaces(namespaces, ours)
    how = Launch(
        what=f"cannot start container {child.plan.id}",
        cgroup=cgroup,
        owns_cgroup=True,
        namespaces=namespaces.new & ~_NOT_BY_CLONE,
        joined=near,
        time_offsets=_time_offsets(namespaces),
        idmap=namespaces.idmap if Namespace.USER in namespaces.new else None,
        net_devices=child.plan.net_devices,
        net_path=next((path for kind, path in namespaces.join if kind is Namespace.NET), ""),
        witness=witness,
    )
    if namespaces.idmap and Namespace.USER not in namespaces.new:
        how, child.join = how._replace(inside=child.join), ()
    elif any(kind is Namespace.PID for kind, _ in child.join):
        child.born_last = child.exposed = True
        how = how._replace(first=init.first_steps(child))
    return how


def _run(child: Child) -> NoReturn:
    init.run(child, init.last_steps(child))


def _mapped(bundle: Bundle, namespaces: Namespaces) -> Namespaces:
    """Add the mappings of a user namespace that is joined, as if they were our own."""
    path = next((path for kind, path in namespaces.join if kind is Namespace.USER), "")
    if not path:
        if not namespaces.idmap and is_ordinary():
            raise InvalidArgumentError(
                "linux.namespaces: an ordinary user's container needs a user namespace"
            )
        return namespaces
    from orlop.runtime.joining import read_maps  # rare

    try:
        found = read_maps(path)
    except OSError as error:
        what = f"cannot start container {bundle.id}"
        raise failure.translate(what, "join_user_namespace", error) from error
    linux = bundle.config.get("linux", {})
    given = plan_idmap(linux.get("uidMappings"), linux.get("gidMappings"))
    if given and [*map(sorted, given)] != [*map(sorted, found)]:
        raise InvalidArgumentError(
            "linux.uidMappings and linux.gidMappings are not those of the user namespace by path"
        )
    return namespaces._replace(idmap=found)


def _hooks(bundle: Bundle, container: ContainerPlan) -> Hooks | None:
    """Return the hooks that run before the program, if there are any."""
    from orlop.runtime.hooks import BEFORE, Hooks, plan_hooks  # rare

    wanted = plan_hooks(bundle.config)
    if not any(wanted.get(kind) for kind in BEFORE):
        return None
    if not container.root_path:
        raise InvalidArgumentError("hooks need root.path, for that is where they find the root")
    return Hooks(bundle, wanted)


def _listener(bundle: Bundle, filter_: Filter) -> Listener:
    from orlop.runtime.listener import for_container  # rare

    return for_container(filter_, bundle)


def _open_namespaces(
    namespaces: Namespaces, ours: ExitStack
) -> tuple[list[tuple[Namespace, int]], list[tuple[Namespace, int]]]:
    """Open what is joined by path: first what the parent joins for the child, then the rest."""
    near: list[tuple[Namespace, int]] = []
    far: list[tuple[Namespace, int]] = []
    for kind, path in namespaces.join:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        ours.callback(os.close, fd)
        if kind_of(fd) is not kind:
            raise InvalidArgumentError(f"linux.namespaces: {path!r} is no {FILES[kind]} namespace")
        in_new_user = Namespace.USER in namespaces.new and not is_ordinary()
        in_user = namespaces.idmap and kind is Namespace.PID
        by_parent = in_new_user or in_user or kind is Namespace.TIME
        (near if by_parent else far).append((kind, fd))
    return near, far


def _time_offsets(namespaces: Namespaces) -> str:
    """Return what makes the parent clone into a new time namespace, if there is to be one."""
    if Namespace.TIME not in namespaces.new:
        return ""
    return namespaces.time_offsets or "monotonic 0 0\n"


def _prepare(child: Child, bundle: Bundle, ours: ExitStack) -> None:
    """Make what only we may: id-mapped mounts, and in a user namespace all of host paths."""
    idmap = child.plan.namespaces.idmap
    if idmap and is_ordinary():
        _refuse_mapped_mounts(child)
        return
    if child.born_last:
        _open_proc(child, ours)
    if idmap:
        child.root = _mapped_root(child, idmap, is_of_mounts=bool(bundle.rootfs))
        ours.callback(os.close, child.root)
    if bundle.mounts:
        child.mounts.update(_given(child, bundle))
    for index, plan in enumerate(child.plan.mounts):
        if index not in child.mounts and (made := _made_for(plan, index, idmap)) is not None:
            child.mounts[index] = made
            ours.callback(os.close, made)
    if not idmap and not is_of_host():  # nodes that are made here would not work
        open_host_nodes(child)
        for fd in child.devices.values():
            ours.callback(os.close, fd)


def _given(child: Child, bundle: Bundle) -> dict[int, int]:
    """Return the bundle's detached mounts by their index in the plan."""
    given = dict(bundle.mounts)
    plans = enumerate(child.plan.mounts)
    return {index: given[p.destination] for index, p in plans if p.destination in given}


def _made_for(plan: MountPlan, index: int, idmap: IDMap | None) -> int | None:
    """Return a mount that the child could not make, None if it can; the caller closes it."""
    is_mapped = bool(plan.options.special & _IDMAPS)
    mapped = plan.idmap or (idmap if is_mapped else None)
    if is_mapped and not mapped:
        raise InvalidArgumentError(
            f"mounts[{index}] is to be id-mapped, but neither it nor the container has mappings"
        )
    if plan.kind is MountKind.BIND and (idmap or mapped):
        userns = _user_namespace(mapped) if mapped else None
        return bind_source(plan, userns_fd=userns, locked=bool(idmap))
    if plan.source.startswith("/dev/") and _is_disk(plan):
        return open_device(plan)
    return None


def _open_proc(child: Child, ours: ExitStack) -> None:
    """Get what the mounts of proc are made of, by one who is in the pid namespace."""
    from orlop.runtime.proc_contexts import open_contexts  # rare

    namespace = next(fd for kind, fd in child.join if kind is Namespace.PID)
    wanted = sum(plan.fstype == "proc" for plan in child.plan.mounts)
    if child.plan.sysctls and not wanted:
        wanted = 1
    child.contexts = open_contexts(namespace, wanted) if wanted else []
    for context in child.contexts:
        ours.callback(os.close, context)


def _refuse_mapped_mounts(child: Child) -> None:
    for index, plan in enumerate(child.plan.mounts):
        if plan.idmap or plan.options.special & _IDMAPS:
            raise UnsupportedError(f"mounts[{index}]: an ordinary user cannot have it id-mapped")


def _is_disk(plan: MountPlan) -> bool:
    if plan.kind is not MountKind.FILESYSTEM or not os.path.exists(plan.source):
        return False
    return stat.S_ISBLK(os.stat(plan.source).st_mode)


def _mapped_root(child: Child, idmap: IDMap, *, is_of_mounts: bool) -> int:
    """Make the root; what a bundle has in root.path already belongs to whom it should."""
    if is_of_mounts:
        owner = Owner(_user_namespace(idmap), idmap.host_uid(0), idmap.host_gid(0))
        return assemble(child.plan.root, owner=owner)
    root = assemble(child.plan.root)
    mount_setattr(root, propagation=int(MountFlag.SLAVE), recursive=True)
    return root


@cache
def _user_namespace(idmap: IDMap) -> int:
    """Return a user namespace for id-mapped mounts; kept open, one for each mapping."""
    return open_user_namespace(idmap.uids, idmap.gids)


def make_cgroup(bundle: Bundle, spares: SpareCgroups | None = None) -> Cgroup:
    """Make the bundle's cgroup with its limits in force, of a spare one where there is one."""
    path = bundle.config.get("linux", {}).get("cgroupsPath") or f"/orlop/{bundle.id}"
    resources = resources_of(bundle.config)
    if bundle.manner.systemd_cgroup:
        return _make_scope(bundle, resources)
    spare = spares.take(path, resources) if spares else None
    return spare or cgroups.create_or_take(path, resources)


def _is_of_before(major: int, minor: int, config: Config) -> bool:
    numbers = config.get("ociVersion", "").split(".")[:2]
    return all(map(str.isdecimal, numbers)) and [*map(int, numbers)] < [major, minor]


def resources_of(config: Config) -> Resources:
    """Return the limits of a container's cgroup, those on devices in full.

    No processes at all were as many as there may be, until version 1.3 of the specification.
    """
    resources: Resources = {**config.get("linux", {}).get("resources", {})}
    if resources.get("pids", {}).get("limit") == 0 and _is_of_before(1, 3, config):
        del resources["pids"]
    resources["devices"] = for_container(resources.get("devices", ()))
    return resources


def _cgroup_or_none(bundle: Bundle, spares: SpareCgroups | None) -> Cgroup | None:
    """Do as make_cgroup(); None for an ordinary user who can have none and names no limit."""
    if bundle.manner.no_cgroup:
        return None
    try:
        return make_cgroup(bundle, spares)
    except PermissionDeniedError:
        linux = bundle.config.get("linux", {})
        limits = linux.get("resources", {}).keys() - {"devices"}
        if limits or linux.get("cgroupsPath") or (os.geteuid() == 0 and is_of_host()):
            raise
        return None


def _give_cgroup(cgroup: Cgroup, config: Config, namespaces: Namespaces) -> None:
    """Give a cgroup that is mounted writable to the user. config-linux.md, "Cgroup ownership"."""
    if Namespace.CGROUP not in namespaces.new:
        return
    for mount in config.get("mounts", ()):
        if mount.get("type") in ("cgroup", "cgroup2") and "ro" not in mount.get("options", ()):
            uid = config.get("process", {}).get("user", {}).get("uid", 0)
            cgroup.give(namespaces.idmap.host_uid(uid) if namespaces.idmap else uid)


def _make_scope(bundle: Bundle, resources: Resources) -> Cgroup:
    from orlop.runtime.cgroups import systemd  # for those who ask for it

    path = bundle.config.get("linux", {}).get("cgroupsPath", "")
    annotations = bundle.config.get("annotations", {})
    return systemd.create(path, resources, container=bundle.id, annotations=annotations)


def keyring_name(container: str) -> str:
    """Return the name of a container's session keyring, by which its later processes find it."""
    return f"_ses.{container}"


def memory_policy(config: Config) -> MemoryPolicy | None:
    """Return the checked linux.memoryPolicy, with what the child needs for it loaded."""
    linux = config.get("linux", {})
    if linux.get("memoryPolicy") is None:
        return None
    from orlop.kernel import numa
    from orlop.runtime.scheduling import plan_memory_policy

    assert numa
    return plan_memory_policy(linux)


def make_filter(config: Config) -> Filter | None:
    """Return the compiled seccomp policy, or None where there is none."""
    policy = config.get("linux", {}).get("seccomp")
    return seccomp.compile(policy) if policy else None


__all__ = ["settle", "start", "take_terminal", "wait_ready"]

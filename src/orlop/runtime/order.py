"""The order of a start, from clone to execve, written once for both of its executors.

A Python child (init.py) can take every step; a table of system calls (recipe/table.py) only
some. A container whose start has another step is started by a Python child. The facts, which
are known before a start begins, decide which steps it has.
"""

from __future__ import annotations

from orlop.kernel.namespaces import Namespace
from orlop.model.light import TYPE_CHECKING, Mapping, NamedTuple, Sequence
from orlop.model.light_context import cache
from orlop.model.light_enum import STRICT, IntFlag

if TYPE_CHECKING:
    from orlop.runtime.child import ContainerPlan
    from orlop.runtime.plan import ProcessPlan


class Fact(IntFlag, boundary=STRICT):
    """The facts that decide which steps a start has."""

    EXEC = 1 << 0  # a later process, in a running container
    BY_TABLE = 1 << 1  # by system calls only, from a launcher, whose root is empty
    OWN_MOUNTS = 1 << 2  # in a mount namespace of its own
    OWN_ROOT = 1 << 3  # not the root of a mount namespace that it joins
    FROM_HOST = 1 << 4  # its root is attached on the host before it is entered
    HOOKS = 1 << 5
    USER = 1 << 6  # in a user namespace
    ROOTLESS = 1 << 7  # of an ordinary user: the parent may mount nothing
    TERMINAL = 1 << 8
    LABELS = 1 << 9
    SCHEDULING = 1 << 10
    NO_NEW_PRIVILEGES = 1 << 11
    GATE = 1 << 12
    LISTENER = 1 << 13  # an agent gets its filter's listener
    BORN_LAST = 1 << 14  # another process takes its first steps, and then makes it
    EXPOSED = 1 << 15  # processes in its pid namespace may trace it


class Place(NamedTuple):
    """A step, which a start has if all facts of *only* and none of *unless* hold."""

    step: str
    only: Fact = Fact(0)
    unless: Fact = Fact(0)


_F = Fact
_ROOT, _TABLE = Fact.OWN_ROOT, Fact.BY_TABLE

#: The order is the design. Each line says why the step stands where it does.
ORDER: Sequence[Place] = (
    Place("shield", unless=_F.ROOTLESS),
    Place("die_with_parent", only=_F.ROOTLESS),
    Place("set_initial_affinity", only=_F.EXEC | _F.SCHEDULING),  # the cgroup may change it
    Place("enter_cgroup"),  # so that everything it uses is counted
    # From inside: the kernel may let nobody move into it. cgroup-v2.rst, "nsdelegate"
    Place("join_cgroup_namespace", only=_F.EXEC, unless=_TABLE),  # a table joins all at once
    Place("set_oom_score", unless=_TABLE),  # in the host's /proc, while the file is ours
    Place("await_parent", unless=_F.EXEC | _TABLE),  # it maps ids, and moves network devices
    Place("become_root_inside", only=_F.USER),
    Place("shield", only=_F.ROOTLESS),  # only now: the parent maps ids only of dumpable processes
    Place("join_namespaces", unless=_F.EXEC),  # before mounts that show them
    Place("join_container", only=_F.EXEC),
    Place("leave_cgroup_namespace", unless=_F.EXEC),
    Place("cut_propagation", only=_F.OWN_MOUNTS, unless=_TABLE),  # before anything is mounted
    Place("make_root", only=_ROOT),
    Place("make_mounts", only=_ROOT),  # sources are host paths
    Place("open_hierarchies", only=_ROOT, unless=_TABLE),  # a pooled cgroup has them open
    Place("make_cgroup_mounts", only=_ROOT),
    Place("open_host_nodes", only=_F.USER | _ROOT),  # those made in a user namespace do not work
    Place("enter_root", only=_ROOT, unless=_F.FROM_HOST),  # no host path is used from here on
    Place("place_root", only=_ROOT | _F.FROM_HOST),
    Place("attach_mounts", only=_ROOT),  # destinations are the image's
    Place("make_devices", only=_ROOT),  # after the mount on /dev
    Place("await_runtime_hooks", only=_F.HOOKS),  # hooks find the complete root, and the host's
    Place("run_create_hooks", only=_F.HOOKS),
    Place("change_root", only=_ROOT | _F.FROM_HOST),  # no host path is used from here on
    Place("set_oom_score", only=_TABLE),  # a launcher has no /proc of the host
    Place("set_names", unless=_F.EXEC),
    Place("raise_loopback", unless=_F.EXEC | _TABLE),  # a pooled network is up already
    Place("write_sysctls", only=_ROOT, unless=_TABLE),  # before /proc/sys is made read-only
    Place("make_terminal", only=_F.TERMINAL),  # in the container's own devpts
    Place("mount_console", only=_ROOT | _F.TERMINAL),
    Place("mask_paths", only=_ROOT),  # after make_devices: it covers with the container's null
    Place("protect_paths", only=_ROOT),
    Place("protect_dev", only=_ROOT),
    Place("make_working_directory", unless=_F.EXEC),  # before the root is read-only
    Place("finish_root", only=_ROOT),  # after all steps that make files in the root
    Place("join_keyring"),
    Place("find_user", unless=_TABLE),  # in files of the root; a recipe knows its user
    Place("enter_working_directory"),  # as root, who may enter every folder
    Place("attach_stdio"),
    Place("own_stdio"),
    Place("label_process", only=_F.LABELS),  # through /proc, as root
    Place("set_scheduling", only=_F.SCHEDULING),  # may need CAP_SYS_NICE
    Place("become_user"),
    Place("check_working_directory", unless=_TABLE),  # a table enters none outside the root
    Place("find_program", unless=_TABLE),  # as the user; a table tries one after the other
    Place("raise_capabilities"),
    Place("wait_at_gate", only=_F.GATE, unless=_F.LISTENER),  # all errors have been found
    Place("seal_descriptors"),
    Place("release_signals"),
    Place("set_rlimits"),  # late, because they limit the interpreter, too
    # Needs CAP_SYS_ADMIN without no_new_privs; may forbid any call made above.
    Place("load_filter", unless=_F.NO_NEW_PRIVILEGES),
    Place("set_capabilities"),
    Place("forgo_privileges", only=_F.NO_NEW_PRIVILEGES),
    Place("load_filter", only=_F.NO_NEW_PRIVILEGES),
    Place("wait_at_gate", only=_F.GATE | _F.LISTENER),  # the parent is needed for the listener
    Place("run_start_hooks", only=_F.HOOKS),  # with no more privileges than the program
    Place("run_program"),
)

#: The steps of a process that is born with its filter, which may allow few calls.
_OWN = ("attach_stdio", "label_process", "wait_at_gate", "release_signals", "set_rlimits")
_WITHIN_CGROUP = ("enter_cgroup", "join_cgroup_namespace")


def facts_of(
    process: ProcessPlan, container: ContainerPlan | None, rest: Mapping[Fact, object]
) -> Fact:
    """Return the facts of a start, from its plans and *rest*; a later process has no container."""
    holds = {
        **rest,
        Fact.TERMINAL: process.terminal,
        Fact.LABELS: process.apparmor or process.selinux,
        Fact.NO_NEW_PRIVILEGES: process.no_new_privileges,
        Fact.EXEC: container is None,
    }
    if process.scheduler or process.io_priority or process.affinity:
        holds[Fact.SCHEDULING] = True
    if container is not None:
        own_mounts = Namespace.MOUNT in container.namespaces.new
        holds[Fact.OWN_MOUNTS] = own_mounts
        holds[Fact.OWN_ROOT] = own_mounts or container.root_path
        holds[Fact.FROM_HOST] = not own_mounts or container.no_pivot or rest.get(Fact.HOOKS)
        holds[Fact.USER] = container.namespaces.idmap
    facts = Fact(0)
    for fact, is_true in holds.items():
        if is_true:
            facts |= fact
    return facts


@cache
def steps(facts: Fact) -> tuple[str, ...]:
    """Return the names of all steps of a start with these facts."""
    return tuple(
        place.step
        for place in ORDER
        if place.only & facts == place.only and not place.unless & facts
    )


@cache
def first_steps(facts: Fact) -> tuple[str, ...]:
    """Return the steps that the maker takes before the process is born; usually none.

    For an exposed process the maker does so in its cgroup, so that the process never has more
    privileges than at the end. Otherwise outside it, where the maker is never frozen.
    """
    if not facts & Fact.BORN_LAST:
        return ()
    all_ = steps(facts)
    if facts & Fact.EXPOSED and not facts & Fact.NO_NEW_PRIVILEGES:
        inherited = (step for step in all_[: all_.index("load_filter")] if step not in _OWN)
        return (*inherited, "hide_stdio", "close_others", "load_filter", "limit_capabilities")
    last = "join_container" if facts & Fact.EXEC else "join_keyring"
    joined = all_[: all_.index(last) + 1]
    if facts & Fact.EXPOSED:
        return (*joined, "hide_stdio", "close_others", "limit_capabilities")
    outside = (step for step in joined if step not in _WITHIN_CGROUP)
    return (*outside, "hide_stdio", "limit_capabilities")


@cache
def last_steps(facts: Fact) -> tuple[str, ...]:
    """Return the steps of the process itself, after first_steps()."""
    first = first_steps(facts)
    if not first:
        return steps(facts)
    return ("die_with_parent", *(step for step in steps(facts) if step not in first))

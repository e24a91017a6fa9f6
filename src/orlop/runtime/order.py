"""The order of a start, from clone to execve, written once for both of its executors.

A Python child (init.py) knows every step. A table of system calls (recipe/table.py) knows some:
a container whose start has any other step is started by a Python child. What is known of
a start before it begins, its facts, decides which steps it has.
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
    """What decides on a start's steps."""

    EXEC = 1 << 0  # a later process, in a container that runs
    BY_TABLE = 1 << 1  # by system calls alone, from a launcher, whose root is empty
    OWN_MOUNTS = 1 << 2  # in a mount namespace of its own
    OWN_ROOT = 1 << 3  # not in the root of a mount namespace that it joins
    FROM_HOST = 1 << 4  # its root is attached where the host has it, before it is entered
    HOOKS = 1 << 5
    USER = 1 << 6  # in a user namespace
    ROOTLESS = 1 << 7  # of an ordinary user: the parent may mount nothing
    TERMINAL = 1 << 8
    LABELS = 1 << 9
    SCHEDULING = 1 << 10
    NO_NEW_PRIVILEGES = 1 << 11
    GATE = 1 << 12
    LISTENER = 1 << 13  # an agent is to get its filter's listener
    BORN_LAST = 1 << 14  # another process takes its first steps, and then makes it
    EXPOSED = 1 << 15  # to processes of its pid namespace that may trace it


class Place(NamedTuple):
    """A step, which a start takes if all of *only* and none of *unless* are facts."""

    step: str
    only: Fact = Fact(0)
    unless: Fact = Fact(0)


_F = Fact
_ROOT, _TABLE = Fact.OWN_ROOT, Fact.BY_TABLE

#: The order is the design. Each line says why it stands where it does.
ORDER: Sequence[Place] = (
    Place("shield", unless=_F.ROOTLESS),
    Place("die_with_parent", only=_F.ROOTLESS),
    Place("set_initial_affinity", only=_F.EXEC | _F.SCHEDULING),  # the cgroup may set another
    Place("enter_cgroup"),  # so that all it uses is counted
    # From inside: the kernel may let nobody move into it. cgroup-v2.rst, "nsdelegate"
    Place("join_cgroup_namespace", only=_F.EXEC, unless=_TABLE),  # which joins all at once
    Place("set_oom_score", unless=_TABLE),  # by the host's /proc, by whom the file belongs to
    Place("await_parent", unless=_F.EXEC | _TABLE),  # it maps ids, and moves network devices
    Place("become_root_inside", only=_F.USER),
    Place("shield", only=_F.ROOTLESS),  # the parent could map no ids of what cannot be dumped
    Place("join_namespaces", unless=_F.EXEC),  # before mounts that show them
    Place("join_container", only=_F.EXEC),
    Place("leave_cgroup_namespace", unless=_F.EXEC),
    Place("cut_propagation", only=_F.OWN_MOUNTS, unless=_TABLE),  # before anything is mounted
    Place("make_root", only=_ROOT),
    Place("make_mounts", only=_ROOT),  # sources are host paths
    Place("open_hierarchies", only=_ROOT, unless=_TABLE),  # a pool's cgroup comes with them
    Place("make_cgroup_mounts", only=_ROOT),
    Place("open_host_nodes", only=_F.USER | _ROOT),  # those made in a user namespace do not work
    Place("enter_root", only=_ROOT, unless=_F.FROM_HOST),  # no host path is used from here on
    Place("place_root", only=_ROOT | _F.FROM_HOST),
    Place("attach_mounts", only=_ROOT),  # destinations are the image's
    Place("make_devices", only=_ROOT),  # after the mount on /dev
    Place("await_runtime_hooks", only=_F.HOOKS),  # hooks find the root complete, and the host's
    Place("run_create_hooks", only=_F.HOOKS),
    Place("change_root", only=_ROOT | _F.FROM_HOST),  # no host path is used from here on
    Place("set_oom_score", only=_TABLE),  # a launcher has no /proc of the host's
    Place("set_names", unless=_F.EXEC),
    Place("raise_loopback", unless=_F.EXEC | _TABLE),  # a pool's network is up
    Place("write_sysctls", only=_ROOT, unless=_TABLE),  # before /proc/sys is made read-only
    Place("make_terminal", only=_F.TERMINAL),  # in the container's own devpts
    Place("mount_console", only=_ROOT | _F.TERMINAL),
    Place("mask_paths", only=_ROOT),  # after make_devices: the cover is the container's null device
    Place("protect_paths", only=_ROOT),
    Place("protect_dev", only=_ROOT),
    Place("make_working_directory", unless=_F.EXEC),  # before the root is read-only
    Place("finish_root", only=_ROOT),  # after all that makes files in the root
    Place("join_keyring"),
    Place("find_user", unless=_TABLE),  # by files of the root; a recipe knows its user
    Place("enter_working_directory"),  # as root, who may enter all
    Place("attach_stdio"),
    Place("own_stdio"),
    Place("label_process", only=_F.LABELS),  # by /proc, as root
    Place("set_scheduling", only=_F.SCHEDULING),  # may need CAP_SYS_NICE
    Place("become_user"),
    Place("check_working_directory", unless=_TABLE),  # which enters none outside the root
    Place("find_program", unless=_TABLE),  # as the user; a table tries to run one after the other
    Place("raise_capabilities"),
    Place("wait_at_gate", only=_F.GATE, unless=_F.LISTENER),  # what can be found wrong has been
    Place("seal_descriptors"),
    Place("release_signals"),
    Place("set_rlimits"),  # late: they bind the interpreter, too
    # Needs CAP_SYS_ADMIN where privileges can still be gained; may forbid any call made above.
    Place("load_filter", unless=_F.NO_NEW_PRIVILEGES),
    Place("set_capabilities"),
    Place("forgo_privileges", only=_F.NO_NEW_PRIVILEGES),
    Place("load_filter", only=_F.NO_NEW_PRIVILEGES),
    Place("wait_at_gate", only=_F.GATE | _F.LISTENER),  # the parent is still there for the listener
    Place("run_start_hooks", only=_F.HOOKS),  # with no more rights than the program
    Place("run_program"),
)

#: What a process that is born with its filter does itself. Such a filter allows few calls.
_OWN = ("attach_stdio", "label_process", "wait_at_gate", "release_signals", "set_rlimits")
_WITHIN_CGROUP = ("enter_cgroup", "join_cgroup_namespace")


def facts_of(
    process: ProcessPlan, container: ContainerPlan | None, rest: Mapping[Fact, object]
) -> Fact:
    """Return what the plans and *rest* say of a start; a later process has no container."""
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
    """Return the names of all steps of such a start."""
    return tuple(
        place.step
        for place in ORDER
        if place.only & facts == place.only and not place.unless & facts
    )


@cache
def first_steps(facts: Fact) -> tuple[str, ...]:
    """Return the steps that whoever makes the process takes before it is born; mostly none.

    For an exposed process that is done in its cgroup, so that it needs no more rights than it
    has in the end. Else it is done outside, where the maker is never frozen.
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

"""From clone3 to execve: the order in which a container is made.

The child takes the steps one by one and reports the first refusal by the step's
name. All thinking was done by the parent, before there was a child.

    parent                                  child
      | clone3 ------------------------------>|
      | user namespace: id maps written       | enter_cgroup
      | "go", one byte ---------------------->| await_parent
      |                                       | pivot_root, mounts attached, …
      |<---- terminal's master (SCM_RIGHTS)   | make_terminal
      |<---- "at gate"                        | wait_at_gate, if there is one
      | consent, one byte ------------------->|
      | gate, one byte (whose start it is) -->| from here on failures go to *outcome*
      | WITNESSED, where it has an eventfd -->| release_signals
      |<---- report: JSON, or end of file     | a step failed, or execve
"""

import errno
import gc
import os
import sys

from orlop.kernel import loopback, seccomp
from orlop.kernel.namespaces import Namespace, setns, unshare
from orlop.kernel.process import reset_affinity, set_dumpable, set_parent_death_signal
from orlop.model.light import Iterable, NoReturn, Sequence
from orlop.model.light_context import suppress
from orlop.runtime import failure
from orlop.runtime.child import Child, Step
from orlop.runtime.console import attach_stdio, hide_stdio, make_terminal, mount_console
from orlop.runtime.devices import make_devices, open_host_nodes
from orlop.runtime.hiding import mask_paths, protect_paths
from orlop.runtime.identity import (
    become_root_inside,
    become_user,
    find_user,
    forgo_privileges,
    limit_capabilities,
    own_stdio,
    raise_capabilities,
    set_capabilities,
)
from orlop.runtime.limits import (
    join_keyring,
    set_initial_affinity,
    set_names,
    set_oom_score,
    set_rlimits,
    set_scheduling,
)
from orlop.runtime.mounts import (
    attach_mounts,
    change_root,
    cut_propagation,
    enter_root,
    finish_root,
    make_cgroup_mounts,
    make_mounts,
    make_root,
    open_hierarchies,
    place_root,
    protect_dev,
)
from orlop.runtime.program import (
    check_working_directory,
    close_others,
    enter_working_directory,
    environment,
    find_program,
    label_process,
    release_signals,
    run_program,
    seal_descriptors,
    wait_at_gate,
)
from orlop.runtime.sysctl import write_sysctls

_SIGKILL = 9


def shield(child: Child) -> None:
    """Be nobody's to trace, no more than our parent's life long, and import no more.

    What is imported after pivot_root would be the container's, and run with our rights.
    """
    del child
    gc.disable()
    sys.meta_path.clear()
    set_parent_death_signal(_SIGKILL)
    set_dumpable(dumpable=False)
    os.umask(0)


def die_with_parent(child: Child) -> None:
    """Tie this process's life to the parent's. A child does not inherit that part of shield()."""
    del child
    set_parent_death_signal(_SIGKILL)


def enter_cgroup(child: Child) -> None:
    """Move into our cgroup, and onto all its processors, whichever our caller may use.

    By ourselves: the kernel takes long to move another process.
    """
    if child.held >= 0 and not os.read(child.held, 1):
        raise OSError(errno.ECANCELED, "the parent gave up")
    for door in child.doors:
        os.write(door, b"0")
        os.close(door)
    with suppress(OSError):
        reset_affinity()


def join_namespaces(child: Child) -> None:
    """Join the namespaces that the bundle names by path."""
    for kind, fd in child.join:
        setns(fd, kind)
        os.close(fd)
        if kind is Namespace.MOUNT and not child.plan.root_path:
            child.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def join_container(child: Child) -> None:
    """Join a running container: its namespaces at once, and the user's last.

    Our children alone are born in its pid namespace, and join its cgroup namespace themselves.
    """
    others, user = Namespace(0), Namespace(0)
    for kind, fd in child.join:
        if kind is Namespace.USER:
            user = kind
        elif fd < 0:
            others |= kind
    if others:
        setns(child.pidfd, others)
    if child.root >= 0:  # that of a container whose mount namespace has another one
        os.fchdir(child.root)
        os.chroot(".")
    else:
        child.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if user:
        setns(child.pidfd, user)


def join_cgroup_namespace(child: Child) -> None:
    """Join the cgroup namespace of a running container, from a cgroup that it shows."""
    for kind, fd in child.join:
        if kind is Namespace.CGROUP:
            setns(fd, kind)
    child.join = [one for one in child.join if one[0] is not Namespace.CGROUP]


def await_parent(child: Child) -> None:
    """Wait until the parent has done its part."""
    if child.go >= 0 and not os.read(child.go, 1):
        raise OSError(errno.ECANCELED, "the parent gave up")


def leave_cgroup_namespace(child: Child) -> None:
    """Make the cgroup that we are in the root of a new cgroup namespace."""
    if Namespace.CGROUP in child.plan.namespaces.new:
        unshare(Namespace.CGROUP)


def raise_loopback(child: Child) -> None:
    """Bring up the loopback interface of a network namespace that is new."""
    if Namespace.NET in child.plan.namespaces.new:
        loopback.raise_loopback()


def load_filter(child: Child) -> None:
    """Install the seccomp filter; it may forbid any call made above."""
    if child.listener is not None:
        child.listener.load()
    elif child.filter is not None:
        seccomp.load(child.filter.program, child.filter.flags)


def await_runtime_hooks(child: Child) -> None:
    """Let the parent run its hooks."""
    if child.hooks:
        child.hooks.await_runtime()


def run_create_hooks(child: Child) -> None:
    """Run the hooks that belong into our namespaces and still see the host's files."""
    if child.hooks:
        child.hooks.run_before_root()


def run_start_hooks(child: Child) -> None:
    """Run the hooks that the container has itself."""
    if child.hooks:
        child.hooks.run_before_program(environment(child))


_ENTER: Sequence[Step] = (
    enter_root,  # no host path is used from here on
    attach_mounts,  # destinations are resolved here, when no host path is left
    make_devices,  # after the mount on /dev
)

#: Hooks find the root complete and where it is on the host; so do the rarer ways to enter it.
_ENTER_FROM_THE_HOST: Sequence[Step] = (
    place_root,
    attach_mounts,
    make_devices,
    await_runtime_hooks,
    run_create_hooks,
    change_root,  # no host path is used from here on
)

_INSIDE: Sequence[Step] = (
    set_names,
    raise_loopback,
    write_sysctls,  # before /proc/sys is made read-only
    make_terminal,  # in the container's own devpts
    mount_console,
    mask_paths,  # after make_devices: the cover is our own null device
    protect_paths,
    protect_dev,
    finish_root,  # after all that makes files in the root
    join_keyring,
)

_PROCESS: Sequence[Step] = (
    find_user,  # by files of the root
    enter_working_directory,  # as root: it may have to be made
    attach_stdio,
    own_stdio,
    label_process,  # by /proc, as root
    set_scheduling,  # may need CAP_SYS_NICE
    become_user,
    check_working_directory,
    find_program,  # as the user
    raise_capabilities,
    wait_at_gate,  # what can be found wrong has been
    seal_descriptors,
    release_signals,
    set_rlimits,  # late: they bind our interpreter too
)

_LAST: Sequence[Step] = (
    load_filter,  # needs CAP_SYS_ADMIN where privileges can still be gained
    set_capabilities,
    run_start_hooks,  # with no more rights than the program
    run_program,
)

_LAST_WITHOUT_PRIVILEGES: Sequence[Step] = (
    set_capabilities,
    forgo_privileges,
    load_filter,  # after all but exec
    run_start_hooks,
    run_program,
)

_MAKE: Sequence[Step] = (
    shield,
    enter_cgroup,  # so that all we use is counted
    set_oom_score,  # by the host's /proc
    await_parent,  # it may move network devices to us
    cut_propagation,  # before anything is mounted
    join_namespaces,  # before mounts that show them
    make_root,
    make_mounts,  # sources are host paths
    open_hierarchies,
    leave_cgroup_namespace,
    make_cgroup_mounts,
)

#: In a user namespace the parent has made the root and opened the bind mounts.
_MAKE_IN_USER_NAMESPACE: Sequence[Step] = (
    shield,
    enter_cgroup,
    set_oom_score,  # while we are still who the file belongs to
    await_parent,  # our ids mean something from here on
    become_root_inside,
    leave_cgroup_namespace,
    cut_propagation,
    make_mounts,
    open_hierarchies,
    make_cgroup_mounts,
    open_host_nodes,  # nodes made in a user namespace do not work
)

#: As an ordinary user: the parent may mount nothing, and we are root in here alone.
_MAKE_ROOTLESS: Sequence[Step] = (
    die_with_parent,
    enter_cgroup,
    set_oom_score,
    await_parent,  # who could not map the ids of what cannot be dumped
    become_root_inside,
    shield,
    join_namespaces,
    leave_cgroup_namespace,
    cut_propagation,
    make_root,
    make_mounts,
    open_hierarchies,
    make_cgroup_mounts,
    open_host_nodes,
)

#: In a mount namespace that others are in, too, all that is mounted stays until it is undone.
_MAKE_IN_SHARED_MOUNTS: Sequence[Step] = (*(step for step in _MAKE if step is not cut_propagation),)

#: With the root of another mount namespace nothing is to be mounted.
_SET_UP_IN_GIVEN_ROOT: Sequence[Step] = (
    shield,
    enter_cgroup,
    set_oom_score,
    join_namespaces,
    leave_cgroup_namespace,
    set_names,
    raise_loopback,
    join_keyring,
)

#: Another process in a running container.
_EXEC: Sequence[Step] = (
    shield,
    set_initial_affinity,  # before the cgroup may set another
    enter_cgroup,
    join_cgroup_namespace,  # from inside: the kernel may let nobody move into it. nsdelegate
    set_oom_score,  # by the host's /proc
    join_container,
    join_keyring,
    make_terminal,
    *_PROCESS,
)


#: What a process that is born with its filter does itself. Such a filter allows few calls.
_OWN: Sequence[Step] = (
    attach_stdio,
    label_process,
    wait_at_gate,
    release_signals,  # it waits for the parent, and outlives it
    set_rlimits,
)


def container_steps(child: Child) -> Sequence[Step]:
    """Return the steps of a container's first process."""
    return (*_set_up(child), *_PROCESS, *_last(child))


def _set_up(child: Child) -> Sequence[Step]:
    plan = child.plan
    usual = Namespace.MOUNT in plan.namespaces.new and not child.hooks and not plan.no_pivot
    if Namespace.MOUNT not in plan.namespaces.new and not plan.root_path:
        return _SET_UP_IN_GIVEN_ROOT
    if plan.namespaces.idmap:
        make = _MAKE_ROOTLESS if child.root < 0 else _MAKE_IN_USER_NAMESPACE
    else:
        make = _MAKE if Namespace.MOUNT in plan.namespaces.new else _MAKE_IN_SHARED_MOUNTS
    enter = _ENTER if usual else _ENTER_FROM_THE_HOST
    return (*make, *enter, *_INSIDE)


def exec_steps(child: Child) -> Sequence[Step]:
    """Return the steps of a later process."""
    return (*_EXEC, *_last(child))


def first_steps(child: Child) -> Sequence[Step]:
    """Return the steps that whoever makes the process takes before it is born; mostly none.

    For an exposed process that is done in its cgroup, so that it needs no more rights than it
    has in the end. Else it is done outside, where the maker is never frozen.
    """
    if not child.born_last:
        return ()
    if child.exposed and not child.process.no_new_privileges:
        steps = (*_set_up(child), *_PROCESS) if child.container else _EXEC
        inherited = [step for step in steps if step not in _OWN]
        return (*inherited, hide_stdio, close_others, load_filter, limit_capabilities)
    steps = _set_up(child) if child.container else _EXEC[: _EXEC.index(join_keyring)]
    if child.exposed:
        return (*steps, hide_stdio, close_others, limit_capabilities)
    outside = [step for step in steps if step not in (enter_cgroup, join_cgroup_namespace)]
    return (*outside, hide_stdio, limit_capabilities)


def last_steps(child: Child, first: Sequence[Step]) -> Sequence[Step]:
    """Return the steps of the process itself, after *first*."""
    steps = container_steps(child) if child.container else exec_steps(child)
    if not first:
        return steps
    return (die_with_parent, *(step for step in steps if step not in first))


def _before_the_gate(steps: Sequence[Step]) -> Sequence[Step]:
    """Let the filter be loaded while the parent is there to hand its listener to an agent."""
    late = (wait_at_gate, run_start_hooks, run_program)
    return (*(step for step in steps if step not in late), *late)


def run(child: Child, steps: Sequence[Step]) -> NoReturn:
    """Take the *steps*; on the first refusal report it by name and exit with 1."""
    name = "run"
    if child.listener is not None:
        steps = _before_the_gate(steps)
    try:
        for step in _noted(child, steps) if child.timed else steps:
            name = step.__name__
            step(child)
    except BaseException as error:
        os.write(child.report, failure.encode(_blamed(child, name, steps), error))
    finally:
        os._exit(1)


def _noted(child: Child, steps: Sequence[Step]) -> Iterable[Step]:
    from orlop.runtime.noting import noted  # who asks for it has imported it before

    return noted(child, steps)


def _blamed(child: Child, name: str, steps: Sequence[Step]) -> str:
    """Return the name of the step that failed, with that of the filter that may be why."""
    names = [step.__name__ for step in steps]
    before = names[: names.index(name)] if name in names else []
    loaded = "load_filter" in before or (child.exposed and "load_filter" not in names)
    filtered = child.filter is not None and loaded
    return f"{name}, which linux.seccomp may forbid" if filtered else name


def _last(child: Child) -> Sequence[Step]:
    return _LAST_WITHOUT_PRIVILEGES if child.process.no_new_privileges else _LAST

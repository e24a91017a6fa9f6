"""A start's steps taken by a Python child, which knows all of them. Their order is order.py's.

The child takes them one by one and reports the first refusal by the step's
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
from orlop.model.light import Iterable, Mapping, NoReturn, Sequence
from orlop.model.light_context import suppress
from orlop.runtime import (
    console,
    devices,
    failure,
    hiding,
    identity,
    limits,
    mounts,
    order,
    program,
    sysctl,
)
from orlop.runtime.child import Child, Step
from orlop.runtime.order import Fact, facts_of

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
    assert child.hooks
    child.hooks.await_runtime()


def run_create_hooks(child: Child) -> None:
    """Run the hooks that belong into our namespaces and still see the host's files."""
    assert child.hooks
    child.hooks.run_before_root()


def run_start_hooks(child: Child) -> None:
    """Run the hooks that the container has itself."""
    assert child.hooks
    child.hooks.run_before_program(program.environment(child))


#: In no order: that is order.py's.
_STEPS: Mapping[str, Step] = {
    step.__name__: step
    for step in (
        await_parent,
        await_runtime_hooks,
        die_with_parent,
        enter_cgroup,
        join_cgroup_namespace,
        join_container,
        join_namespaces,
        leave_cgroup_namespace,
        load_filter,
        raise_loopback,
        run_create_hooks,
        run_start_hooks,
        shield,
        console.attach_stdio,
        console.hide_stdio,
        console.make_terminal,
        console.mount_console,
        devices.make_devices,
        devices.open_host_nodes,
        hiding.mask_paths,
        hiding.protect_paths,
        identity.become_root_inside,
        identity.become_user,
        identity.find_user,
        identity.forgo_privileges,
        identity.limit_capabilities,
        identity.own_stdio,
        identity.raise_capabilities,
        identity.set_capabilities,
        limits.join_keyring,
        limits.set_initial_affinity,
        limits.set_names,
        limits.set_oom_score,
        limits.set_rlimits,
        limits.set_scheduling,
        mounts.attach_mounts,
        mounts.change_root,
        mounts.cut_propagation,
        mounts.enter_root,
        mounts.finish_root,
        mounts.make_cgroup_mounts,
        mounts.make_mounts,
        mounts.make_root,
        mounts.open_hierarchies,
        mounts.place_root,
        mounts.protect_dev,
        program.check_working_directory,
        program.close_others,
        program.enter_working_directory,
        program.find_program,
        program.label_process,
        program.make_working_directory,
        program.release_signals,
        program.run_program,
        program.seal_descriptors,
        program.wait_at_gate,
        sysctl.write_sysctls,
    )
}


def first_steps(child: Child) -> Sequence[Step]:
    """Return the steps that whoever makes the process takes before it is born. order.py"""
    return [_STEPS[name] for name in order.first_steps(_facts(child))]


def last_steps(child: Child) -> Sequence[Step]:
    """Return the steps of the process itself, after first_steps()."""
    return [_STEPS[name] for name in order.last_steps(_facts(child))]


def _facts(child: Child) -> Fact:
    rare = child.personality is not None or child.memory_policy
    holds: Mapping[Fact, object] = {
        Fact.HOOKS: child.hooks,
        Fact.SCHEDULING: rare,
        Fact.GATE: child.gate,
        Fact.LISTENER: child.listener,
        Fact.BORN_LAST: child.born_last,
        Fact.EXPOSED: child.exposed,
        Fact.ROOTLESS: child.container and child.plan.namespaces.idmap and child.root < 0,
    }
    return facts_of(child.process, child.container, holds)


def run(child: Child, steps: Sequence[Step]) -> NoReturn:
    """Take the *steps*; on the first refusal report it by name and exit with 1."""
    name = "run"
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

"""Start another process in a running container."""

from __future__ import annotations

import os

from orlop.errors import InvalidArgumentError, NotRunningError, OrlopError, WrongStateError
from orlop.kernel.capabilities import is_ordinary
from orlop.kernel.namespaces import FILES, Namespace
from orlop.kernel.patience import is_readable
from orlop.kernel.procstat import is_ending
from orlop.model.light import TYPE_CHECKING, NoReturn
from orlop.model.light_context import ExitStack
from orlop.model.oci import Process
from orlop.runtime import failure, init
from orlop.runtime.bundle import Gate, Starting, Stdio, Target
from orlop.runtime.child import Child
from orlop.runtime.parent import Launch, give_stdio, launch
from orlop.runtime.plan import IDMap, Namespaces, ProcessPlan, plan_namespaces, plan_process
from orlop.runtime.scheduling import plan_personality
from orlop.runtime.start import keyring_name, make_filter, memory_policy

if TYPE_CHECKING:
    from orlop.runtime.ahead import Ahead
    from orlop.runtime.listener import Listener
    from orlop.runtime.seccomp import Filter


def execute(
    target: Target,
    process: Process,
    stdio: Stdio | None,
    *,
    gate: Gate | None = None,
    preserve_fds: int = 0,
    ahead: Ahead | None = None,
) -> Starting:
    """Run *process* in the container *target*: its namespaces, its cgroup, its seccomp filter.

    Returns like start(); wait for it in the same way. A failure does not affect the container.
    WrongStateError if the container's first process is gone.
    """
    planned = plan_process(process)
    what = f"cannot run a command in container {target.id}"
    if stdio is None and not planned.terminal:
        raise InvalidArgumentError("a process without a terminal needs standard streams")
    namespaces = plan_namespaces(target.config.get("linux", {}))
    kinds = [k for k in FILES if k in namespaces.new] + [k for k, _ in namespaces.join]
    child = _child(target, planned, stdio)
    child.gate, child.preserve_fds = gate, preserve_fds
    with ExitStack() as ours:
        _check_running(target)
        if child.filter and child.filter.listener:
            child.listener = _listener(target, child.filter)
            ours.callback(child.listener.close)
        try:
            if Namespace.USER in kinds:
                give_stdio(stdio, namespaces.idmap or _maps(target))
            if Namespace.MOUNT not in namespaces.new and target.config.get("root"):
                child.root = _open_root(target, ours)
            child.exposed = _is_exposed(target, namespaces)
            how = _launch(what, target, kinds, child, ours)
            usual = _is_usual(child) and Namespace.USER not in kinds
            reserves = ahead.processes if ahead and usual else None
            return launch(how, child, _run, reserves=reserves, wait_terminal=not ahead)
        except OrlopError:
            _check_lasting(target)
            raise
        except OSError as error:
            _check_lasting(target)
            if f"/proc/{target.pid}/" in str(error.filename):  # it is exiting, namespaces first
                raise _not_running(target) from error
            raise failure.translate(what, "make_process", error) from error


def _is_usual(child: Child) -> bool:
    """Whether an existing process can be told everything about it."""
    rare = child.gate or child.listener or child.memory_policy or child.root >= 0
    return not (rare or child.exposed)


def _launch(
    what: str, target: Target, kinds: list[Namespace], child: Child, ours: ExitStack
) -> Launch:
    how = Launch(what=what, cgroup=target.cgroup, owns_cgroup=False, beside=target.pid)
    if Namespace.USER in kinds and is_ordinary():
        child.join = ()
        return how._replace(inside=_open_for_parent(target, kinds, ours))
    late = _open_for_parent(target, [k for k in kinds if k is Namespace.CGROUP], ours)
    child.join = [*((kind, -1) for kind in kinds if kind is not Namespace.CGROUP), *late]
    child.born_last = True
    return how._replace(first=init.first_steps(child))


def _child(target: Target, process: ProcessPlan, stdio: Stdio | None) -> Child:
    child = Child(process, stdio=stdio, filter_=make_filter(target.config))
    child.pidfd = target.pidfd
    child.timed = target.timed
    child.personality = plan_personality(target.config.get("linux", {}))
    child.memory_policy = memory_policy(target.config)
    child.keyring = "" if target.no_new_keyring else keyring_name(target.id)
    return child


def _is_exposed(target: Target, namespaces: Namespaces) -> bool:
    """Whether others may trace a process that is new in the container."""
    bounding = target.config.get("process", {}).get("capabilities", {}).get("bounding", ())
    joined = any(kind is Namespace.PID for kind, _ in namespaces.join)
    return joined or target.shares_pids or "CAP_SYS_PTRACE" in bounding


def _open_root(target: Target, ours: ExitStack) -> int:
    """Open the root of a container that is not the root of its mount namespace."""
    root = os.open(f"/proc/{target.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    ours.callback(os.close, root)
    return root


def _maps(target: Target) -> IDMap:
    from orlop.runtime.joining import maps_of  # rare

    return maps_of(target.pid)


def _run(child: Child) -> NoReturn:
    init.run(child, init.last_steps(child))


def _listener(target: Target, filter_: Filter) -> Listener:
    from orlop.runtime.listener import for_exec  # rare

    return for_exec(filter_, target)


def _open_for_parent(
    target: Target, kinds: list[Namespace], ours: ExitStack
) -> list[tuple[Namespace, int]]:
    """Open what only a parent can join for its child."""
    near: list[tuple[Namespace, int]] = []
    for kind in kinds:
        fd = os.open(f"/proc/{target.pid}/ns/{FILES[kind]}", os.O_RDONLY | os.O_CLOEXEC)
        ours.callback(os.close, fd)
        near.append((kind, fd))
    _check_running(target)  # so that the pid was still its own
    return near


def _check_running(target: Target) -> None:
    """Raise WrongStateError if the first process has ended, reaped or not."""
    if is_readable(target.pidfd, timeout_s=0):
        raise _not_running(target)


def _check_lasting(target: Target) -> None:
    """Like _check_running(), also while it exits: no process can be made in its namespace then."""
    _check_running(target)
    if is_ending(target.pid):
        raise _not_running(target)


def _not_running(target: Target) -> WrongStateError:
    return NotRunningError(f"container {target.id} is not running")

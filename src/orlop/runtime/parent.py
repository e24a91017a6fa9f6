"""The parent's side of a start: descriptors for the child, clone3, and the undoing."""

from __future__ import annotations

import errno
import os
import stat

from orlop.errors import OrlopError, WrongStateError
from orlop.kernel import rights
from orlop.kernel.capabilities import is_ordinary, supported
from orlop.kernel.idmap import is_of_host, write_maps
from orlop.kernel.mount import MountAttr, clone_mount, mount_setattr
from orlop.kernel.namespaces import FILES, Namespace, setns, unshare
from orlop.kernel.patience import is_readable, read_in_time
from orlop.kernel.process import Clone, Cloned, clone3, pidfd_send_signal, set_dumpable
from orlop.kernel.procstat import FORKED, read_stat
from orlop.model.light import TYPE_CHECKING, Callable, Iterator, NamedTuple, NoReturn, Sequence
from orlop.model.light_context import ExitStack, cache, contextmanager, suppress
from orlop.runtime import allowance, failure
from orlop.runtime.bundle import AT_GATE, Starting, Stdio
from orlop.runtime.cgroups.control import leave_freezer
from orlop.runtime.child import Child, Step
from orlop.runtime.plan import IDMap

if TYPE_CHECKING:
    import _socket

    from orlop.runtime.cgroups.interface import Cgroup
    from orlop.runtime.hooks import Hooks
    from orlop.runtime.joining import Helper
    from orlop.runtime.listener import Listener
    from orlop.runtime.reserve import Reserves

_CLEAR_SIGHAND = int(Clone.CLEAR_SIGHAND)
_SIGKILL = 9
_MOST_REPORT = 64 << 10
_DEATH_S = 2.0
_FROZEN_S = 0.05  # who has not died by then may be in a frozen cgroup

#: A report in the name of a process that has not said how it gets on, for settle().
LATE = failure.encode(
    "run", failure.StepError("its program did not run in time; somebody may have stopped it")
)


class Launch(NamedTuple):
    """How to make the child."""

    what: str  # begins its errors: "cannot start container …"
    cgroup: Cgroup | None
    owns_cgroup: bool
    namespaces: Namespace = Namespace(0)  # new ones, by clone3
    joined: Sequence[tuple[Namespace, int]] = ()  # joined by the parent while it clones
    time_offsets: str = ""
    idmap: IDMap | None = None
    net_devices: Sequence[tuple[str, str]] = ()  # to be moved to the child's network namespace
    net_path: str = ""  # that namespace, if it is joined by path
    inside: Sequence[tuple[Namespace, int]] = ()  # joined by a helper, a user namespace among them
    first: Sequence[Step] = ()  # taken by who makes the child, before it is born
    witness: bool = False  # the program waits for what Starting.witness says
    beside: int = -1  # a process in whose cgroup the child may be, if it cannot be in *cgroup*


def launch(
    how: Launch,
    child: Child,
    run: Callable[[Child], NoReturn],
    *,
    reserves: Reserves | None = None,
    wait_terminal: bool = True,
) -> Starting:
    """Make the process, which goes on in *run*; the caller undoes what it made itself.

    One of the *reserves* makes it, if there is one.
    For a terminal this waits until the master has arrived, unless the caller is one who
    cannot wait, and will take_terminal(). OrlopError with the
    child's own reason if it failed before that; the child is gone then. OSError
    if there is no child.
    """
    with ExitStack() as undo, ExitStack() as ours:
        report, child.report = _pipe(ours)
        undo.callback(os.close, report)
        child.witness, child.parent = _witness(how, undo)
        console = _console(child, ours)
        if console is not None:
            undo.callback(console.close)
        go = _go(how, child, ours)
        cgroup_fd = _cgroup(how, child, ours)
        supported()  # looked up here once, and not in every child
        cloned = helper = None
        if reserves is not None and not _changes_time(how, child):
            cloned = _clone_by_reserve(reserves, how, child, cgroup_fd)
        if cloned is None:
            # The child is born with it, perhaps in sight of others. But what cannot be dumped
            # is no ordinary user's to give ids to.
            set_dumpable(dumpable=bool(how.idmap) and is_ordinary())
            helper = _helper(how, run, report)
            with joined(how.joined, time_offsets=how.time_offsets):
                cloned = _clone(how, child, cgroup_fd, helper)
                if not cloned.pid:
                    _part(report, child)
                    run(child) if helper is None else helper.run(child)
        starting = Starting(how.what, *cloned, report, None, how.cgroup, how.owns_cgroup)
        _accompany(starting, how, child, go)
        if helper is not None and child.exposed:
            starting = starting._replace(**helper.child(cloned)._asdict())
        undo.pop_all()
    if how.owns_cgroup and how.cgroup is not None:
        how.cgroup.entered()
    starting = starting._replace(console_socket=console, witness=child.witness)
    return _wait_terminal(starting) if console is not None and wait_terminal else starting


def _go(how: Launch, child: Child, ours: ExitStack) -> int:
    """Return where we tell the child that our part is done, if there is one."""
    if not how.idmap and not how.net_devices:
        return -1
    child.go, go = os.pipe()
    ours.callback(os.close, child.go)
    ours.callback(os.close, go)
    return go


def _helper(how: Launch, run: Callable[[Child], NoReturn], report: int) -> Helper | None:
    if not how.first:
        return None
    from orlop.runtime.joining import Helper  # not for a container that joins nothing

    return Helper(how.what, how.first, run, report)


def _clone(how: Launch, child: Child, cgroup_fd: int, helper: Helper | None) -> Cloned:
    try:
        return _make(how, child, cgroup_fd, helper)
    except OSError as error:
        if error.errno == errno.EACCES and cgroup_fd >= 0 and how.cgroup is not None:
            return _make_and_move(how, how.cgroup, child, helper)
        if error.errno != errno.EBUSY or how.beside < 0:
            raise
    # The container has moved its processes below and shares out controllers, as a systemd or
    # a Docker in it does; then only a leaf takes processes. cgroup-v2.rst, "No Internal Process".
    fd = _cgroup_beside(how)
    try:
        return _make(how, child, fd, helper)
    finally:
        os.close(fd)


def _make(how: Launch, child: Child, cgroup_fd: int, helper: Helper | None) -> Cloned:
    """Make the child, or the helper that will make it later, from its own cgroup."""
    if helper is not None and not child.exposed:
        with _confined(cgroup_fd) as child.cgroup:
            cloned = clone3(_CLEAR_SIGHAND)
            return helper.child(cloned) if cloned.pid else helper.run(child)
    flags = int(how.namespaces) | _CLEAR_SIGHAND
    if how.inside:
        from orlop.runtime.joining import clone_inside  # rare

        return clone_inside(how.what, flags, how.inside, cgroup_fd=cgroup_fd)
    return clone3(flags, cgroup_fd=cgroup_fd)


def _make_and_move(how: Launch, cgroup: Cgroup, child: Child, helper: Helper | None) -> Cloned:
    """Make the child where we are, and have it moved before it does anything.

    An ordinary user may not walk from his login session into his own systemd's slice.
    """
    child.held, hold = os.pipe()
    child.doors = ()
    cloned = _make(how, child, -1, helper)
    if not cloned.pid:
        os.close(hold)
        return cloned
    try:
        cgroup.enter(cloned.pid)
        os.write(hold, b"0")
    except (OSError, OrlopError):
        pidfd_send_signal(cloned.pidfd, _SIGKILL)
        os.waitid(os.P_PIDFD, cloned.pidfd, os.WEXITED)
        os.close(cloned.pidfd)
        raise
    finally:
        os.close(child.held)
        os.close(hold)
    return cloned


@contextmanager
def _confined(folder: int) -> Iterator[int]:
    """Lend the folder of a cgroup as a read-only mount of its own: nothing above it is reached."""
    if folder < 0:
        yield folder
        return
    alone = clone_mount(folder)
    try:
        mount_setattr(alone, set_=int(MountAttr.RDONLY))
        yield alone
    finally:
        os.close(alone)


def _changes_time(how: Launch, child: Child) -> bool:
    """Whether the child cannot share our memory, where the kernel keeps the clock's offsets."""
    kinds = [kind for kind, _ in (*how.joined, *child.join)]
    return bool(how.time_offsets) or Namespace.TIME in kinds


def _clone_by_reserve(
    reserves: Reserves, how: Launch, child: Child, cgroup_fd: int
) -> Cloned | None:
    from orlop.runtime.reserve import Order  # whoever starts once has no use for it

    flags = int(how.namespaces) | _CLEAR_SIGHAND
    try:
        with _confined(cgroup_fd if how.first else -1) as folder:
            seen = folder if how.first else cgroup_fd
            return reserves.clone(Order(flags, seen, how.joined, child))
    except OSError:
        return None  # _clone() knows what to do, or is refused as well


def _cgroup_beside(how: Launch) -> int:
    assert how.cgroup is not None
    with open(f"/proc/{how.beside}/cgroup") as file:
        lines = [line.strip().split(":", 2) for line in file]
    path = next(path for _, controllers, path in lines if not controllers)
    own = how.cgroup.path.rstrip("/")
    if not path.startswith(own + "/"):
        raise OSError(errno.EBUSY, "the cgroup takes no processes", path)
    return os.open(how.cgroup.directories[""] + path[len(own) :], os.O_PATH | os.O_CLOEXEC)


def _accompany(starting: Starting, how: Launch, child: Child, go: int) -> None:
    """Do what the child waits for, in the order in which it comes to it."""
    if go >= 0:
        _do_our_part(starting, how, child, go)
    if child.hooks:
        _run_hooks(starting, child.hooks)
    if child.listener:
        _deliver(starting, child.listener)


def _do_our_part(starting: Starting, how: Launch, child: Child, go: int) -> None:
    step = "write_id_maps"
    try:
        if how.idmap:
            _write_maps(starting, how.idmap)
            allowance.grant(starting.pid, child.process.rlimits, child.process.oom_score_adj)
        if how.net_devices:
            from orlop.runtime.netdevices import move_devices  # rare

            step = "move_net_devices"
            move_devices(how.net_devices, how.net_path or f"/proc/{starting.pid}/ns/net")
        os.write(go, b"g")
    except OSError as error:
        _end(starting, report=False)
        raise failure.translate(starting.what, step, error) from error


def _write_maps(starting: Starting, idmap: IDMap) -> None:
    if not is_ordinary():
        write_maps(starting.pid, idmap.uids, idmap.gids)
        return
    from orlop.runtime import rootless  # for those alone

    try:
        rootless.write_maps(starting.pid, idmap)
    except OrlopError:
        _end(starting, report=False)
        raise


def _run_hooks(starting: Starting, hooks: Hooks) -> None:
    try:
        hooks.run_for_runtime(starting.what, starting.pid)
    except OrlopError:
        _end(starting, report=False)
        raise


def _deliver(starting: Starting, listener: Listener) -> None:
    try:
        listener.deliver(starting.what, starting.pid)
    except OrlopError:
        _end(starting, report=False)
        raise


def give_stdio(stdio: Stdio | None, idmap: IDMap) -> None:
    """Make pipes and files the container root's, who could not open /dev/stdout otherwise."""
    for fd in stdio or ():
        if not stat.S_ISCHR(os.fstat(fd).st_mode):
            with suppress(OSError):
                os.fchown(fd, idmap.host_uid(0), idmap.host_gid(0))


def wait_ready(starting: Starting, *, timeout_s: float | None = None) -> None:
    """Block until the program runs, or raise as settle() does; after *timeout_s*, undo the start.

    A process can be stopped on its way by those whose pid namespace it has joined.
    """
    data = b""
    while len(data) <= _MOST_REPORT and (part := _next_report(starting, timeout_s)):
        data += part
    settle(starting, data)


def wait_created(starting: Starting, *, timeout_s: float | None = None) -> None:
    """Block until the process waits at its gate, or raise as wait_ready() does."""
    data = _next_report(starting, timeout_s)
    if data == AT_GATE:
        return
    while part := _next_report(starting, timeout_s):
        data += part
    settle(starting, data)
    raise OrlopError(f"{starting.what}: it did not wait at its gate")


def _next_report(starting: Starting, timeout_s: float | None) -> bytes:
    try:
        return read_in_time(starting.report, timeout_s)
    except TimeoutError:
        settle(starting, LATE)
        raise


def settle(starting: Starting, data: bytes) -> None:
    """Take note of the whole report, *data*; empty means that the program runs.

    Closes *report* and returns, or raises the OrlopError that the report stands
    for: then the child has been reaped, its cgroup removed if it was made for
    it, and every descriptor of *starting* closed.
    """
    if not data and has_executed(starting):
        os.close(starting.report)
        if starting.witness >= 0:
            os.close(starting.witness)
        return
    _end(starting)
    raise failure.decode(starting.what, data)


@contextmanager
def joined(
    namespaces: Sequence[tuple[Namespace, int]], *, time_offsets: str = ""
) -> Iterator[None]:
    """Be in other namespaces for a while, so that a child is born in them.

    PID and TIME work in no other way; the rest is for a child that would have
    no right to join. The child runs in here too, and never comes out.
    """
    kinds = [kind for kind, _ in namespaces]
    if time_offsets:
        kinds.append(Namespace.TIME)
    with ExitStack() as stack:
        for kind in kinds:
            own = os.open(f"/proc/self/ns/{FILES[kind]}", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, own)
            stack.callback(_return_to, own, kind)
        for kind, fd in namespaces:
            setns(fd, kind)
        if time_offsets:
            _new_time_namespace(time_offsets)
        yield


def _return_to(own: int, kind: Namespace) -> None:
    """Be where we were. Who is root in a user namespace alone may not, and has no more to start."""
    try:
        setns(own, kind)
    except PermissionError:
        if is_of_host():
            raise


def _new_time_namespace(offsets: str) -> None:
    unshare(Namespace.TIME)
    with open("/proc/self/timens_offsets", "w") as file:
        file.write(offsets)


def _pipe(ours: ExitStack) -> tuple[int, int]:
    reader, writer = os.pipe()
    ours.callback(os.close, writer)
    return reader, writer


def _witness(how: Launch, undo: ExitStack) -> tuple[int, int]:
    if not how.witness:
        return -1, -1
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    undo.callback(os.close, fd)
    return fd, _life()[0]


@cache
def _life() -> tuple[int, int]:
    """Return a pipe whose end children see when we have gone.

    No pidfd, for who may trace in the container could take our descriptors by that.
    """
    return os.pipe()


def _part(report: int, child: Child) -> None:
    """In the child: close what only its parent is to have."""
    os.close(report)
    if child.witness >= 0:
        os.close(_life()[1])


def _console(child: Child, ours: ExitStack) -> _socket.socket | None:
    if not child.process.terminal:
        return None
    near, far = rights.pair()
    child.console = far.fileno()
    ours.callback(far.close)
    return near


def _cgroup(how: Launch, child: Child, ours: ExitStack) -> int:
    if how.cgroup is None:
        return -1
    child.doors = how.cgroup.doors()
    for door in child.doors:
        ours.callback(os.close, door)
    fd = how.cgroup.clone_fd()
    if fd is None:
        return -1
    ours.callback(os.close, fd)
    return fd


def take_terminal(starting: Starting) -> int | None:
    """Return the terminal's master, which a program that runs has sent; None where none is."""
    if starting.console_socket is None:
        return None
    try:
        return rights.receive_descriptor(starting.console_socket)
    finally:
        starting.console_socket.close()


def _wait_terminal(starting: Starting) -> Starting:
    master = take_terminal(starting)
    starting = starting._replace(console_socket=None)
    if master is not None:
        return starting._replace(console=master)
    wait_ready(starting)
    raise OrlopError(f"{starting.what}: it made no terminal")


def has_executed(starting: Starting) -> bool:
    """Whether its program was reached. A child that is killed first gives no report either."""
    try:
        flags = int(read_stat(starting.pid)[6])
    except (OSError, ValueError, IndexError):
        return True
    return not flags & FORKED


def _end(starting: Starting, *, report: bool = True) -> None:
    try:
        _kill(starting)
        if starting.owns_cgroup and starting.cgroup is not None:
            starting.cgroup.remove()
    finally:
        if starting.console_socket is not None:
            starting.console_socket.close()
        report_fd = starting.report if report else -1
        for fd in (report_fd, starting.pidfd, starting.console, starting.witness):
            if fd is not None and fd >= 0:
                os.close(fd)


def _kill(starting: Starting) -> None:
    """Kill and reap the process; one that is frozen by cgroup v1 has to be let go to die."""
    with suppress(ProcessLookupError):
        pidfd_send_signal(starting.pidfd, _SIGKILL)
    if not is_readable(starting.pidfd, timeout_s=_FROZEN_S):
        leave_freezer(starting.pid)
        if not is_readable(starting.pidfd, timeout_s=_DEATH_S):
            raise WrongStateError(f"{starting.what}: its process {starting.pid} does not die")
    with suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, starting.pidfd, os.WEXITED)

"""A process in a user namespace or a pid namespace that exists already.

A process that joins a user namespace cannot return, and whoever is in a pid namespace
may trace a process in it. So a helper joins first, and the process is its child, but by
CLONE_PARENT ours:

    parent                     helper                         child
      | clone3 ------------------>|
      |                           | joins: clone_inside();
      |                           | or takes the first steps: Helper
      |                           | clone, CLONE_PARENT -------->| the usual steps; the others
      |<--- its pid --------------|
      |                           | _exit
"""

import errno
import os
import signal
import socket

from orlop.errors import OrlopError
from orlop.kernel.idmap import read_map
from orlop.kernel.memory import shared_number
from orlop.kernel.namespaces import Namespace, setns
from orlop.kernel.patience import is_readable
from orlop.kernel.process import (
    Clone,
    Cloned,
    clone,
    clone3,
    pidfd_open,
    pidfd_send_signal,
    set_dumpable,
    set_parent_death_signal,
)
from orlop.model.light import Callable, NoReturn, Sequence
from orlop.model.light_context import suppress
from orlop.runtime import failure, init
from orlop.runtime.cgroups.control import leave_freezer
from orlop.runtime.child import Child, Step
from orlop.runtime.plan import IDMap
from orlop.runtime.program import close_others

_PARENT = int(Clone.PARENT)
_SIGKILL = int(signal.SIGKILL)
_MOST_REPORT = 64 << 10
_BIRTH_S = 10.0
_REFUSALS = (errno.EACCES, errno.EBUSY)  # of the cgroup: another may take it. parent.py


def clone_inside(
    what: str, flags: int, namespaces: Sequence[tuple[Namespace, int]], *, cgroup_fd: int
) -> Cloned:
    """Make a child as clone3() does, in *namespaces*, of which one is a user namespace.

    OrlopError with the reason if the helper could not; *what* begins it.
    """
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far:
        helper = clone3(int(Clone.CLEAR_SIGHAND), cgroup_fd=cgroup_fd)
        if not helper.pid:
            return _help(flags, namespaces, far)
        far.close()
        data, fds, _, _ = socket.recv_fds(near, _MOST_REPORT, 1)
        os.waitid(os.P_PIDFD, helper.pidfd, os.WEXITED)
        os.close(helper.pidfd)
    if not fds:
        raise failure.decode(what, data)
    os.set_inheritable(fds[0], False)  # noqa: FBT003 - a positional-only parameter
    return Cloned(_pid(fds[0]), fds[0])


class Helper:
    """A process that takes the *steps* that come before a process is born, makes it, and ends.

    The process is our child, and goes on in *run*.
    A helper that is in the process's cgroup can be frozen with it, and is not waited for longer
    than *_BIRTH_S*.
    """

    def __init__(
        self, what: str, steps: Sequence[Step], run: Callable[[Child], NoReturn], report: int
    ) -> None:
        self._what = what
        self._steps = steps
        self._run = run
        self._report = report
        self._made = shared_number()

    def run(self, child: Child) -> NoReturn:
        """Be the helper."""
        init.run(child, (*self._steps, self.make_process))

    def child(self, helper: Cloned) -> Cloned:
        """Return our child that *helper* has made; it is reaped.

        OrlopError with its reason. OSError if the cgroup refuses the process.
        """
        try:
            if not is_readable(helper.pidfd, timeout_s=_BIRTH_S):
                leave_freezer(helper.pid)
                pidfd_send_signal(helper.pidfd, _SIGKILL)
            ended = os.waitid(os.P_PIDFD, helper.pidfd, os.WEXITED)
        finally:
            os.close(helper.pidfd)
        if self._made.value:
            return Cloned(self._made.value, pidfd_open(self._made.value))
        if ended and ended.si_code == os.CLD_EXITED and ended.si_status in _REFUSALS:
            raise OSError(ended.si_status, os.strerror(ended.si_status))
        told = is_readable(self._report, timeout_s=0)
        raise failure.decode(self._what, os.read(self._report, _MOST_REPORT) if told else b"")

    def make_process(self, child: Child) -> None:
        if not child.exposed:
            close_others(child)
        try:
            in_parent = clone(_PARENT, self._made, cgroup_fd=child.cgroup)
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            os._exit(error.errno)
        if not in_parent:
            self._run(child)
        os._exit(0)


def read_maps(path: str) -> IDMap:
    """Return the mappings of the user namespace at *path*, as we see them."""
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _read_maps(namespace)
    finally:
        os.close(namespace)


def _read_maps(namespace: int) -> IDMap:
    ready, done = os.pipe()
    inside = clone3(int(Clone.CLEAR_SIGHAND))
    if not inside.pid:
        set_parent_death_signal(_SIGKILL)
        try:
            setns(namespace, Namespace.USER)
            os.write(done, b"r")
            signal.pause()
        finally:
            os._exit(1)
    os.close(done)
    try:
        if not os.read(ready, 1):
            raise OrlopError("the user namespace cannot be joined")
        return maps_of(inside.pid)
    finally:
        os.close(ready)
        pidfd_send_signal(inside.pidfd, _SIGKILL)
        os.waitid(os.P_PIDFD, inside.pidfd, os.WEXITED)
        os.close(inside.pidfd)


def maps_of(pid: int) -> IDMap:
    """Return the mappings of the user namespace that process *pid* is in, as we see them."""
    return IDMap(tuple(read_map(pid, "uid_map")), tuple(read_map(pid, "gid_map")))


def _help(flags: int, namespaces: Sequence[tuple[Namespace, int]], far: socket.socket) -> Cloned:
    """Be the helper; returns in its child only."""
    try:
        set_parent_death_signal(_SIGKILL)
        _join(namespaces)
        child = clone3(flags | _PARENT)
        if not child.pid:
            return child
        socket.send_fds(far, [b"pidfd"], [child.pidfd])
    except BaseException as error:
        far.send(failure.encode("join_user_namespace", error))
        os._exit(1)
    os._exit(0)


def _join(namespaces: Sequence[tuple[Namespace, int]]) -> None:
    """Join them all: what is the host's before the user namespace, what is of it after it."""
    with suppress(PermissionError):  # an ordinary user has none that would count inside
        os.setgroups([])
    later: list[tuple[Namespace, int]] = []
    for kind, fd in namespaces:
        try:
            if kind is Namespace.USER:
                later.insert(0, (kind, fd))
            else:
                setns(fd, kind)
        except PermissionError:
            later.append((kind, fd))
    for kind, fd in later:
        setns(fd, kind)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    set_dumpable(dumpable=False)


def _pid(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))

"""User namespaces as id mappings: for a process, and for mounts. user_namespaces(7)."""

import _signal  # type: ignore[import-not-found]  # has no stub; the enums of signal cost 1 ms
import os

from orlop.kernel.capabilities import capget, capset
from orlop.kernel.light_ctypes import c_uint
from orlop.kernel.namespaces import Namespace
from orlop.kernel.process import clone3, pidfd_send_signal, set_parent_death_signal
from orlop.kernel.syscall import bind
from orlop.model.light import Iterator, NamedTuple, NoReturn, Sequence
from orlop.model.light_context import contextmanager

_setfsuid = bind("setfsuid", c_uint)
_setfsgid = bind("setfsgid", c_uint)
_SIGKILL = 9


class Mapping(NamedTuple):
    """*size* ids from *inside* up map to those from *outside* up."""

    inside: int
    outside: int
    size: int


def write_maps(pid: int, uids: Sequence[Mapping], gids: Sequence[Mapping]) -> None:
    """Give the user namespace of process *pid* its mappings; once, and from outside."""
    write_map(pid, "uid_map", uids)
    write_map(pid, "gid_map", gids)


def write_map(pid: int, name: str, mappings: Sequence[Mapping]) -> None:
    """Write one of the two: "uid_map" or "gid_map"."""
    text = "".join(f"{m.inside} {m.outside} {m.size}\n" for m in mappings)
    fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def read_map(pid: int, name: str) -> list[Mapping]:
    """Return one of the two maps of process *pid*'s user namespace, seen from our own."""
    with open(f"/proc/{pid}/{name}") as file:
        return [Mapping(*map(int, line.split())) for line in file]


@contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Access files as user *uid* of the host inside the block, keeping every capability.

    New files belong to that user, and a file system mounted in the block remembers it.
    setfsuid(2), capabilities(7) "Effect of user ID changes on capabilities".
    """
    effective, permitted, inheritable = capget()
    _setfsgid(gid)
    _setfsuid(uid)
    try:
        capset(effective, permitted, inheritable)
        yield
    finally:
        _setfsuid(os.geteuid())
        _setfsgid(os.getegid())
        capset(effective, permitted, inheritable)


def open_user_namespace(uids: Sequence[Mapping], gids: Sequence[Mapping]) -> int:
    """Return a descriptor of a new user namespace with these mappings and no process in it."""
    child = clone3(Namespace.USER)
    if not child.pid:
        _wait_for_the_end()
    try:
        write_maps(child.pid, uids, gids)
        return os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        pidfd_send_signal(child.pidfd, _SIGKILL)
        os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
        os.close(child.pidfd)


def _wait_for_the_end() -> NoReturn:
    set_parent_death_signal(_SIGKILL)
    while True:
        _signal.pause()


def is_of_host() -> bool:
    """Whether our user namespace is the initial one, where user 0 is the host's root."""
    try:
        with open("/proc/self/uid_map") as file:
            return file.read().split() == ["0", "0", str((1 << 32) - 1)]
    except FileNotFoundError:  # a kernel without user namespaces
        return True

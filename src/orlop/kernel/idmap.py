"""User namespaces as id mappings: for a process, and for mounts. user_namespaces(7)."""

import os
import signal
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from orlop.kernel.namespaces import Namespace
from orlop.kernel.process import clone3, pidfd_send_signal, set_parent_death_signal

_SIGKILL = int(signal.SIGKILL)


class Mapping(NamedTuple):
    """*size* ids from *inside* up are those from *outside* up."""

    inside: int
    outside: int
    size: int


def write_maps(pid: int, uids: Sequence[Mapping], gids: Sequence[Mapping]) -> None:
    """Give the user namespace of process *pid* its mappings; once, and from outside."""
    for name, mappings in (("uid_map", uids), ("gid_map", gids)):
        text = "".join(f"{m.inside} {m.outside} {m.size}\n" for m in mappings)
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


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
        signal.pause()

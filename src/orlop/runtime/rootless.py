"""Containers of ordinary users: map as many ids as the user may.

A user may map the own id into a user namespace; for the group's id, the namespace
must give up setgroups(2). Ranges are mapped by newuidmap and newgidmap, which check
them against /etc/subuid and /etc/subgid. user_namespaces(7)
"""

import os

from orlop.errors import PermissionDeniedError
from orlop.kernel.idmap import Mapping, write_map
from orlop.model.light import Sequence
from orlop.runtime.plan import IDMap

_MOST_SAID = 4096


def write_maps(pid: int, idmap: IDMap) -> None:
    """Give the user namespace of process *pid* its mappings.

    PermissionDeniedError with the message of newuidmap or newgidmap.
    """
    if _is_own(idmap.uids, os.geteuid()):
        write_map(pid, "uid_map", idmap.uids)
    else:
        _have_written("newuidmap", pid, idmap.uids)
    if _is_own(idmap.gids, os.getegid()):
        _give_up_setgroups(pid)
        write_map(pid, "gid_map", idmap.gids)
    else:
        _have_written("newgidmap", pid, idmap.gids)


def _is_own(mappings: Sequence[Mapping], number: int) -> bool:
    return [(m.outside, m.size) for m in mappings] == [(number, 1)]


def _give_up_setgroups(pid: int) -> None:
    fd = os.open(f"/proc/{pid}/setgroups", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"deny")
    finally:
        os.close(fd)


def _have_written(program: str, pid: int, mappings: Sequence[Mapping]) -> None:
    numbers = [str(number) for mapping in mappings for number in mapping]
    reader, writer = os.pipe()
    with open(reader, "rb") as said:
        try:
            made = os.posix_spawnp(
                program,
                [program, str(pid), *numbers],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, writer, 2)],
            )
        except FileNotFoundError:
            raise PermissionDeniedError(
                f"linux.uidMappings and linux.gidMappings of more than one's own ids need {program}"
            ) from None
        finally:
            os.close(writer)
        text = said.read(_MOST_SAID).decode(errors="replace").strip()
    _, status = os.waitpid(made, 0)
    if status:
        reason = text.removeprefix(f"{program}: ") or f"it ended with {status}"
        raise PermissionDeniedError(f"{program} {pid} {' '.join(numbers)}: {reason}")

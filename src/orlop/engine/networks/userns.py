"""Make a network namespace that belongs to a container's user namespace, before the container.

The user namespace in which a network namespace was made decides who may change it, and
mount its /sys. A separate program makes the two, because a process with threads cannot enter
a user namespace; it ends when we hold both.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from orlop.errors import OrlopError, UnsupportedError
from orlop.kernel.idmap import Mapping, write_maps
from orlop.kernel.loopback import raise_loopback
from orlop.model.oci import IDMapping
from orlop.network.namespace import Home

_PROGRAM = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
print(ctypes.get_errno() if libc.unshare(0x50000000) else 0, flush=True)
sys.stdin.read()
"""  # CLONE_NEWUSER | CLONE_NEWNET


class IDs:
    """The host's ids in a user namespace."""

    def __init__(self, uids: Sequence[Mapping], gids: Sequence[Mapping]) -> None:
        self.uids = uids
        self.gids = gids


def ids_of(uids: Sequence[IDMapping], gids: Sequence[IDMapping]) -> IDs:
    """Convert config.json's mappings."""
    return IDs(_mappings(uids), _mappings(gids))


def _mappings(given: Sequence[IDMapping]) -> list[Mapping]:
    return [Mapping(one["containerID"], one["hostID"], one["size"]) for one in given]


def make(home: Home, ids: IDs) -> dict[str, int]:
    """Return descriptors of a "user" and a "network" namespace; the caller closes them."""
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        ExitStack() as undo,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        undo.callback(process.kill)
        _check(process.stdout.readline())
        write_maps(process.pid, ids.uids, ids.gids)
        made = {}
        for kind, name in (("user", "user"), ("network", "net")):
            made[kind] = os.open(f"/proc/{process.pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            undo.callback(os.close, made[kind])
        with home.inside(made["network"]):
            raise_loopback()
        undo.pop_all()
        process.stdin.close()
    return made


def _check(said: bytes) -> None:
    if said.strip() == b"0":
        return
    if not said:
        raise OrlopError("no user namespace can be made: the program that makes it has ended")
    reason = os.strerror(int(said))
    raise UnsupportedError(
        f"no user namespace can be made: {reason}", hint="see /proc/sys/user/max_user_namespaces"
    )

"""What passes between the caller and a process: preserved descriptors, terminals, pids."""

from __future__ import annotations

import os

from orlop.errors import InvalidArgumentError
from orlop.lifecycle.folder import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.model.oci import Process

#: What runc calls the terminal it sends.
_TERMINAL = b"/dev/ptmx"


def preserved(process: Process, count: int) -> int:
    """Return how many descriptors from 3 up the process gets: those of systemd, and *count* more.

    The process is told of the former in its environment. sd_listen_fds(3).
    """
    listening = 0
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        number = os.environ.get("LISTEN_FDS", "")
        listening = int(number) if number.isdecimal() else 0
    if listening:
        names = os.environ.get("LISTEN_FDNAMES")
        process.setdefault("env", []).extend(
            [f"LISTEN_FDS={listening}", "LISTEN_PID=1"]
            + ([f"LISTEN_FDNAMES={names}"] if names else [])
        )
    for fd in range(3, 3 + listening + count):
        try:
            os.fstat(fd)
        except OSError:
            raise InvalidArgumentError(
                f"unable to stat preserved-fd {fd - 3} (of {listening + count})",
                hint=f"descriptor {fd} is not open",
            ) from None
        os.set_inheritable(fd, True)  # noqa: FBT003 - a positional-only parameter
    return listening + count


def send_terminal(path: str, master: int) -> None:
    """Send the terminal's master over the Unix socket at *path*. unix(7), SCM_RIGHTS."""
    import _socket

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(path)
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, master.to_bytes(4, "little"))
        connection.sendmsg([_TERMINAL], [rights])
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidArgumentError(f"cannot send the terminal to {path}: {reason}") from error
    finally:
        connection.close()


def write_pid(path: str, pid: int) -> None:
    """Write *pid* into the file at *path*, which appears whole."""
    try:
        replace(os.path.abspath(path), str(pid), mode=0o666)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidArgumentError(f"cannot write {path}: {reason}") from error

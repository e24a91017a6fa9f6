"""What passes between the caller and a process: preserved descriptors, terminals, pids."""

from __future__ import annotations

import os

from orlop.errors import InvalidArgumentError
from orlop.lifecycle.folder import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from orlop.model.oci import Process
    from orlop.runtime.bundle import Starting

    class Wishes(Protocol):
        """What a caller may want to be given of a process."""

        @property
        def console_socket(self) -> str: ...
        @property
        def pidfd_socket(self) -> str: ...
        @property
        def pid_file(self) -> str: ...
        @property
        def detach(self) -> bool: ...


#: What runc calls a terminal and a process that it sends.
_TERMINAL, _PROCESS = b"/dev/ptmx", b"standard"


def check_terminal(process: Process, wishes: Wishes) -> bool:
    """Return whether the process has a terminal; refuse one that nobody would serve."""
    terminal = bool(process.get("terminal"))
    if wishes.detach and terminal and not wishes.console_socket:
        raise InvalidArgumentError(
            "cannot allocate tty if orlop-runtime will detach without setting console socket"
        )
    if wishes.console_socket and not (wishes.detach and terminal):
        raise InvalidArgumentError(
            "cannot use console socket if orlop-runtime will not detach or allocate tty"
        )
    return terminal


def hand_over(wishes: Wishes, starting: Starting) -> Starting:
    """Give the terminal, the pidfd and the pid to who asked for them.

    A terminal that we serve ourselves adds no carriage returns: the caller's does, if there is one.
    """
    if wishes.console_socket and starting.console is not None:
        _send(wishes.console_socket, starting.console, _TERMINAL)
        os.close(starting.console)
        starting = starting._replace(console=None)
    elif starting.console is not None:
        from orlop.kernel.terminal import keep_newlines

        keep_newlines(starting.console)
    if wishes.pidfd_socket:
        _send(wishes.pidfd_socket, starting.pidfd, _PROCESS)
    if wishes.pid_file:
        _write_pid(wishes.pid_file, starting.pid)
    return starting


def inherited(process: Process, count: int) -> int:
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
    check_open(listening + count)
    return listening + count


def check_open(count: int) -> None:
    """Look that the *count* descriptors from 3 up are there to be passed on."""
    for fd in range(3, 3 + count):
        try:
            os.fstat(fd)
        except OSError:
            raise InvalidArgumentError(
                f"unable to stat preserved-fd {fd - 3} (of {count})",
                hint=f"descriptor {fd} is not open",
            ) from None


def _send(path: str, fd: int, name: bytes) -> None:
    """Send *fd* over the Unix socket at *path*, under a *name*."""
    from orlop.kernel import rights

    try:
        connection = rights.connect(path)
        try:
            rights.send_descriptor(connection, fd, name)
        finally:
            connection.close()
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidArgumentError(f"cannot send a descriptor to {path}: {reason}") from error


def _write_pid(path: str, pid: int) -> None:
    """Write *pid* into the file at *path*, which appears whole."""
    try:
        replace(os.path.abspath(path), str(pid), mode=0o666)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise InvalidArgumentError(f"cannot write {path}: {reason}") from error

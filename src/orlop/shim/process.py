"""One process that the shim holds, from before its clone until nothing is left of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from orlop.errors import OrlopError
from orlop.kernel.process import pidfd_exit_status, pidfd_send_signal
from orlop.model.timeline import OFF
from orlop.runtime.bundle import Starting
from orlop.runtime.cgroups.interface import Cgroup
from orlop.shim.loop import Timer
from orlop.shim.protocol import IO, Attach, Exit
from orlop.shim.records import Record, zombie_status

if TYPE_CHECKING:
    from orlop.shim.by_recipe import Order
    from orlop.shim.spawn import Spawn

UNKNOWN_STATUS = 255  # it ended while no shim ran, on a kernel that cannot tell how


class Waiter(NamedTuple):
    """A client that wants to be attached once the process runs."""

    attach: Attach
    fd: int


class Process:
    """What we know of a process, and the descriptors we hold for it.

    *fds* is what the stdio process pumps: stdin, stdout, stderr, or terminal. Our
    copies outlive a killed stdio process.
    """

    __slots__ = (
        "cgroup",
        "client",
        "exit",
        "fds",
        "io",
        "key",
        "limit",
        "listed",
        "oom_before",
        "order",
        "pidfd",
        "record",
        "removals",
        "report",
        "spawn",
        "starting",
        "times",
        "waiting",
    )

    def __init__(self, key: str, record: Record) -> None:
        self.key = key
        self.record = record
        self.io: IO = record["io"]
        self.fds: dict[str, int] = {}
        self.pidfd = -1
        self.cgroup: Cgroup | None = None
        self.starting: Starting | None = None  # until its program runs
        self.order: Order | None = None  # of a start by a recipe, until its launcher has answered
        self.times = OFF  # of a start whose steps somebody asked for
        self.report = b""
        self.limit = Timer(lambda: None)  # undoes a start that takes too long
        self.listed = False  # somebody was told of it before its program ran
        self.client: Waiter | None = None
        self.waiting: Any = None  # (channel, seq) to be told how the start went
        self.exit: Exit | None = None
        self.spawn: Spawn | None = None  # of one that was started by a recipe
        self.removals = 0  # times the cgroup has been found not empty
        self.oom_before = 0  # its container's oom_kills(), before it

    @property
    def is_init(self) -> bool:
        """Whether it is the container's first process, on whose end the container ends."""
        return "/" not in self.key

    @property
    def is_unborn(self) -> bool:
        """Whether a launcher is yet to make it."""
        return self.order is not None and self.pidfd < 0

    @property
    def running(self) -> bool:
        return self.starting is None and self.exit is None and self.pidfd >= 0

    def signal(self, number: int) -> None:
        """Send a signal; ProcessLookupError once it is reaped."""
        pidfd_send_signal(self.pidfd, number)

    def oom_kills(self) -> int:
        """How many its container has lost for want of memory; 0 where that cannot be asked."""
        group = self.spawn.group if self.spawn is not None else None
        counted = group or self.cgroup
        try:
            return 0 if counted is None else counted.oom_kills()
        except (OSError, OrlopError):
            return 0

    def close_fd(self, name: str) -> None:
        fd = self.fds.pop(name, None)
        if fd is not None:
            os.close(fd)

    def close_fds(self) -> None:
        for name in list(self.fds):
            self.close_fd(name)

    def close(self) -> None:
        """Close all that we hold."""
        self.close_fds()
        if self.client is not None:
            os.close(self.client.fd)
            self.client = None
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def split_status(status: int) -> tuple[int, int]:
    """Return the exit code as a shell gives it, and the signal or 0, of a wait status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return 128 + number, number
    return os.WEXITSTATUS(status), 0


def own_child_status(pidfd: int) -> tuple[int, int] | None:
    """Return exit code and signal of our child without reaping it, or None while it runs.

    ChildProcessError where it is not our child.
    """
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if result is None:
        return None
    if result.si_code == os.CLD_EXITED:
        return result.si_status, 0
    return 128 + result.si_status, result.si_status


def foreign_status(pidfd: int, pid: int) -> tuple[int, int]:
    """Return exit code and signal of an ended process that a shim before us had started."""
    status = zombie_status(pid)
    if status is None:
        status = pidfd_exit_status(pidfd)
    return (UNKNOWN_STATUS, 0) if status is None else split_status(status)


def reopen_pipes(pid: int, inodes: dict[str, int]) -> dict[str, int]:
    """Open the far ends of a process's pipes again, by its own descriptors.

    For when shim and stdio process were both killed. A pipe whose other end is
    gone is not dead: opened through /proc/PID/fd it has a reader again. Between
    the two a write gave EPIPE (and SIGPIPE), a read the end of file.
    """
    fds: dict[str, int] = {}
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        path = f"/proc/{pid}/fd/{number}"
        try:
            if name not in inodes or os.stat(path).st_ino != inodes[name]:
                continue
            mode = os.O_WRONLY if name == "stdin" else os.O_RDONLY
            fds[name] = os.open(path, mode | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
    return fds

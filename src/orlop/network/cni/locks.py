"""Who may run plugins now: one command at a time for a container, and nobody beside GC.

    LOCKS/NETWORK.network       shared by ADD, DEL and CHECK; alone by GC
    LOCKS/ID.container          alone by each command of that container

A lock is the kernel's (flock(2)): it is gone when its holder is. The plugin that a dead
holder ran is not. So the file says who that is, and the next holder waits for its end,
or makes one when the time is over, lest an ADD of yesterday come after today's DEL.
"""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from orlop.errors import UnavailableError
from orlop.kernel.procstat import has_ended, read_stat

_PAUSE_S = 0.01
_START = 19  # field 22 of proc_pid_stat(5), counted from the third
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Held(NamedTuple):
    """A lock that is held; it remembers which plugin runs under it."""

    fd: int

    def began(self, pid: int) -> None:
        """Write down that plugin *pid* runs, in a process group of its own."""
        os.pwrite(self.fd, _identity(pid).encode(), 0)

    def ended(self) -> None:
        """Write down that no plugin runs."""
        os.ftruncate(self.fd, 0)


def _identity(pid: int) -> str:
    """Return who *pid* is, in words that no later process of that number has."""
    return f"{pid} {_started(pid)} {_BOOT.read_text().strip()}\n"


def _started(pid: int) -> str | None:
    """Return when *pid* was started, in the kernel's ticks; None if it runs no more."""
    try:
        fields = read_stat(pid)
    except OSError:
        return None
    return None if has_ended(fields) else fields[_START].decode()


@contextlib.contextmanager
def container(folder: Path, name: str, *, wait_s: float) -> Iterator[Held]:
    """Be the only one who runs plugins for a container; its file is gone afterwards."""
    path = folder / f"{name}.container"
    fd = _take(path, fcntl.LOCK_EX, wait_s, f"container {name}")
    try:
        _await_orphan(fd, wait_s)
        yield Held(fd)
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        os.close(fd)


@contextlib.contextmanager
def network(folder: Path, name: str, *, wait_s: float, alone: bool = False) -> Iterator[Held]:
    """Be one of those who run plugins of a network, or *alone*."""
    path = folder / f"{name}.network"
    fd = _take(path, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, wait_s, f"network {name}")
    try:
        _await_orphan(fd, wait_s)
        yield Held(fd)
    finally:
        os.close(fd)


def _take(path: Path, how: int, wait_s: float, what: str) -> int:
    """Return a descriptor that holds the lock, of the file that has the name now."""
    deadline = time.monotonic() + wait_s
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, how | fcntl.LOCK_NB)
                if _is_still(path, fd):
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if time.monotonic() > deadline:
            raise UnavailableError(f"another CNI command for {what} has not ended in {wait_s:g} s")
        time.sleep(_PAUSE_S)


def _is_still(path: Path, fd: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(fd))
    return False


def _await_orphan(fd: int, wait_s: float) -> None:
    """Let the plugin of a holder that died before it come to its end, for a while.

    Not all plugins can undo half of what they do.
    """
    written = os.pread(fd, 200, 0).decode(errors="replace")
    if not written:
        return
    number = written.split()[0]
    if number.isdecimal() and int(number) > 1 and _BOOT.read_text().strip() in written:
        pid = int(number)
        deadline = time.monotonic() + wait_s
        while _identity(pid) == written and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)
        # Without its leader, a group that has members still keeps the number from others.
        if _started(pid) is None or _identity(pid) == written:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            while _identity(pid) == written:
                time.sleep(_PAUSE_S)
    os.ftruncate(fd, 0)

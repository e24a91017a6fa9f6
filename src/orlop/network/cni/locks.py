"""Locks for running plugins: one command at a time for a container, and GC alone.

    LOCKS/NETWORK.network       shared by ADD, DEL and CHECK; exclusive for GC
    LOCKS/ID.container          exclusive for each command of that container

A lock is the kernel's (flock(2)), so it ends with its holder. The plugin of a dead holder may
still run. So the file has its pid, and the next holder waits for its end, or kills it after a
timeout, so that an old ADD cannot follow a later DEL.
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
    """A held lock; it records the plugin that runs under it."""

    fd: int

    def began(self, pid: int) -> None:
        """Record that plugin *pid* runs, in a process group of its own."""
        os.pwrite(self.fd, _identity(pid).encode(), 0)

    def ended(self) -> None:
        """Record that no plugin runs."""
        os.ftruncate(self.fd, 0)


def _identity(pid: int) -> str:
    """Return an identity of *pid* that no later process with that number has."""
    return f"{pid} {_started(pid)} {_BOOT.read_text().strip()}\n"


def _started(pid: int) -> str | None:
    """Return when *pid* was started, in the kernel's ticks; None if it is not running."""
    try:
        fields = read_stat(pid)
    except OSError:
        return None
    return None if has_ended(fields) else fields[_START].decode()


@contextlib.contextmanager
def container(folder: Path, name: str, *, wait_s: float) -> Iterator[Held]:
    """Hold the lock to run plugins for a container; its file is removed afterwards."""
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
    """Hold the lock of a network, shared or *alone*."""
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
    """Wait a while for the plugin of a dead holder to end.

    Not all plugins can undo a half-done operation.
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
        # A group whose leader is dead keeps its number while it has members.
        if _started(pid) is None or _identity(pid) == written:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            while _identity(pid) == written:
                time.sleep(_PAUSE_S)
    os.ftruncate(fd, 0)

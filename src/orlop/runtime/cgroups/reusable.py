"""A cgroup that is used again: what its descriptors are, and what its present user has used.

When all that was in it has ended it is as good as new for the next with the same limits:
what it has counted is set back, or counted from there. One that has met a limit, or still
has memory of its last user, would show both to the next, and is not used again. What that
takes differs between the versions of cgroups: v1_group.py, v2_group.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from orlop.errors import OrlopError
from orlop.runtime.cgroups.files import below
from orlop.runtime.cgroups.view import make_view

if TYPE_CHECKING:
    from orlop.runtime.cgroups.interface import Cgroup

LITTLE_BYTES = 1 << 20  # of memory: what somebody may leave to the next, or to a limit


class Counters(NamedTuple):
    """Since the cgroup was made; 0 where the host does not count it."""

    user_ns: int
    system_ns: int
    oom_kills: int
    read_bytes: int = 0
    written_bytes: int = 0
    periods: int = 0  # of a quota of CPU time

    def since(self, before: Counters) -> Counters:
        """Return what was counted after *before*."""
        return Counters(*(now - then for now, then in zip(self, before, strict=True)))


class Usage(NamedTuple):
    """What a sandbox has used: the differences of counters, and the peak of its memory."""

    user_ns: int
    system_ns: int
    oom_kills: int
    read_bytes: int
    written_bytes: int
    periods: int
    peak_bytes: int | None  # None where the host does not count it


class Group:
    """One cgroup, with its descriptors open, unless it is shelved.

    One that is *changed* has other limits than it was made with, and is not used again.
    """

    doors: Sequence[int] = ()  # files that who enters writes "0" to
    folder = -1  # in which children are born, where there is v2
    _oom = -1

    def __init__(self, cgroup: Cgroup) -> None:
        """Take over a cgroup that was just made."""
        self.cgroup = cgroup
        self.changed = False
        self._opened: list[int] = []
        self._view = -1
        try:
            self.open()
            self._before = self._counters()
        except BaseException:
            self.remove()
            raise

    def open(self) -> None:
        """Have its descriptors open; doors and folder are not to be used but after this."""
        if self._opened:
            return
        try:
            self._open()
        except BaseException:
            self.shelve()
            raise

    @property
    def view(self) -> int:
        """A mount that shows the cgroup to who is in it, to be cloned."""
        if self._view < 0:
            opened = make_view(self.cgroup.directories)
            self._opened += opened
            self._view = opened[0]
        return self._view

    def shelve(self) -> None:
        """Close its descriptors: there may be thousands of them."""
        while self._opened:
            os.close(self._opened.pop())
        self._view = -1

    def usage(self) -> Usage:
        """Return what was used since it was handed out."""
        self.open()
        return Usage(*self._counters().since(self._before), self._peak_bytes())

    def oom_kills(self) -> int:
        """Return how many were killed for want of memory since it was made."""
        self.open()
        return table(self._oom).get(b"oom_kill", 0)

    def clear(self) -> bool:
        """Remove those below it; False while somebody is in it, or in one of them."""
        raise NotImplementedError

    def reset(self) -> bool:
        """Let it run, if its last was ended while frozen, and count from here on.

        False if its next user would see what the last has done: it is of no more use.
        """
        self.open()
        if self.oom_kills() or self._has_met_a_limit():
            return False
        self._start_anew()
        self._before = self._counters()
        return not self._has_memory()

    def remove(self) -> None:
        """Remove it; one that is in use stays, and is swept when its maker is gone."""
        self.shelve()
        with suppress(OSError, OrlopError):
            self.cgroup.remove(timeout_s=0)

    def _keep(self, fd: int) -> int:
        self._opened.append(fd)
        return fd

    def _file(self, directory: str, name: str, mode: int = os.O_RDONLY) -> int:
        """Open a file of the cgroup's; -1 where this host has none of that name."""
        try:
            return self._keep(os.open(f"{directory}/{name}", mode | os.O_CLOEXEC))
        except FileNotFoundError:
            return -1

    # What differs

    def _open(self) -> None:
        raise NotImplementedError

    def _counters(self) -> Counters:
        raise NotImplementedError

    def _peak_bytes(self) -> int | None:
        raise NotImplementedError

    def _has_met_a_limit(self) -> bool:
        """Whether it counts refusals or throttling, which cannot be set back."""
        raise NotImplementedError

    def _has_memory(self) -> bool:
        """Whether more than a little is charged to it, though nobody is in it."""
        raise NotImplementedError

    def _start_anew(self) -> None:
        """Thaw it, and set back what can be."""
        raise NotImplementedError


def remove_below(directory: str) -> bool:
    """Remove the cgroups below *directory*; False where somebody is in one of them."""
    for place in below(directory):
        try:
            os.rmdir(place)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def number(fd: int) -> int:
    """Return the number that the file has, from its beginning; 0 where there is no file."""
    return int(os.pread(fd, 32, 0)) if fd >= 0 else 0


def table(fd: int) -> dict[bytes, int]:
    """Return what its lines of "name number" say."""
    if fd < 0:
        return {}
    words = os.pread(fd, 4096, 0).split()
    return {key: int(value) for key, value in zip(words[::2], words[1::2], strict=False)}

"""v1 cgroups that are used again: to make one costs ten times what its next use does.

A cgroup of a sandbox is a directory in each of ten hierarchies, with limits and a list of
device rules. When all that was in it has ended it is as good as new for the next with the
same limits: what it has counted is set back, or counted from there.
"""

import itertools
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from orlop.errors import OrlopError, UnsupportedError
from orlop.kernel.mount import MountAttr, mount_setattr, move_mount
from orlop.model.light import NamedTuple
from orlop.model.oci import Resources
from orlop.runtime.cgroups import control
from orlop.runtime.cgroups.files import below, read
from orlop.runtime.cgroups.layout import Layout, detect
from orlop.runtime.cgroups.v1 import V1Cgroup
from orlop.runtime.filesystems import bind, filesystem
from orlop.runtime.options import Options

_PREFIX = ".pool-"
_SEALED = int(MountAttr.NOSUID | MountAttr.NODEV | MountAttr.NOEXEC)
_RDONLY = int(MountAttr.RDONLY)
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Usage(NamedTuple):
    """What a sandbox has used of its cgroup's; None where the host does not count it."""

    user_ns: int
    system_ns: int
    peak_bytes: int | None
    oom_kills: int


class _Counters(NamedTuple):
    user_ns: int
    system_ns: int
    oom_kills: int


class Group:
    """One cgroup, with all its descriptors open, unless it is shelved.

    One that is *changed* has other limits than it was made with, and is not used again.
    """

    def __init__(self, layout: Layout, path: str, resources: Resources) -> None:
        self.cgroup = V1Cgroup.create(layout, path, resources)
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
        self.doors = self._keep(*self.cgroup.doors())
        folder = self.cgroup.clone_fd()
        self.folder = -1 if folder is None else self._keep(folder)[0]
        places = self.cgroup.directories
        self._used = self._file(places, "cpuacct", "cpuacct.usage", os.O_RDWR)
        self._user = self._file(places, "cpuacct", "cpuacct.usage_user")
        self._system = self._file(places, "cpuacct", "cpuacct.usage_sys")
        self._oom = self._file(places, "memory", "memory.oom_control")
        self._peak = self._file(places, "memory", "memory.max_usage_in_bytes", os.O_RDWR)

    @property
    def view(self) -> int:
        """A mount that shows the cgroup to who is in it, to be cloned."""
        if self._view < 0:
            self._view = self._keep(_view(self.cgroup))[0]
        return self._view

    def shelve(self) -> None:
        """Close all its descriptors: there may be thousands of them."""
        while self._opened:
            os.close(self._opened.pop())
        self._view = -1

    def _keep(self, *fds: int) -> Sequence[int]:
        self._opened += fds
        return fds

    def _file(self, places: Mapping[str, str], controller: str, name: str, mode: int = 0) -> int:
        for controllers, directory in places.items():
            if controller in controllers.split(","):
                with suppress(FileNotFoundError):
                    fd = os.open(f"{directory}/{name}", mode | os.O_CLOEXEC)
                    return self._keep(fd)[0]
        return -1

    def usage(self) -> Usage:
        """Return what was used since it was handed out."""
        self.open()
        now, before = self._counters(), self._before
        peak = _number(self._peak) if self._peak >= 0 else None
        return Usage(
            now.user_ns - before.user_ns,
            now.system_ns - before.system_ns,
            peak,
            now.oom_kills - before.oom_kills,
        )

    def _counters(self) -> _Counters:
        """Read them. Only the whole time is exact; it is split as the ticks of the clock fell.

        Not cpuacct.stat, which after a reset stands still until it is what it has been.
        """
        used, user, system = map(_number, (self._used, self._user, self._system))
        user_ns = used * user // (user + system) if user + system else used
        oom_kills = _table(self._oom).get(b"oom_kill", 0)
        return _Counters(user_ns, used - user_ns, oom_kills)

    def clear(self) -> bool:
        """Remove those below it; False while somebody is in it, or in one of them.

        The list is opened each time: who reads an open one again within a second gets what it
        was, and for another second (cgroup_pidlist_start() in the kernel).
        """
        if read(f"{next(iter(self.cgroup.directories.values()))}/tasks"):
            return False
        for directory in self.cgroup.directories.values():
            for place in below(directory):
                try:
                    os.rmdir(place)
                except FileNotFoundError:
                    continue
                except OSError:
                    return False
        return True

    def reset(self) -> None:
        """Let it run, if its last was ended while frozen, and count from here on."""
        self.open()
        self.cgroup.thaw()
        for counter in (self._peak, self._used):
            if counter >= 0:
                os.pwrite(counter, b"0", 0)
        self._before = self._counters()

    def remove(self) -> None:
        """Remove it; one that is in use stays, and is swept when its maker is gone."""
        self.shelve()
        with suppress(OSError, OrlopError):
            self.cgroup.remove(timeout_s=0)


class Recycled:
    """Cgroups by their limits; up to *size* of each kind wait for their next use."""

    def __init__(
        self, parent: str = "/orlop", *, size: int = 128, layout: Layout | None = None
    ) -> None:
        self._parent = parent
        self._size = size
        self._layout = layout or detect()
        self._waiting: dict[str, list[Group]] = {}
        self._numbers = itertools.count()

    @property
    def waiting(self) -> int:
        """How many are ready."""
        return sum(map(len, self._waiting.values()))

    def take(self, kind: str, resources: Resources) -> Group:
        """Return an empty cgroup with the limits *resources*, of which *kind* is the name.

        Raises:
            UnsupportedError: the host has no v1 hierarchies.
            OrlopError: as cgroups.create().
        """
        if waiting := self._waiting.setdefault(kind, []):
            return waiting.pop()
        if not self._layout.v1:
            raise UnsupportedError("only v1 cgroups are used again")
        path = f"{self._parent}/{_PREFIX}{os.getpid()}-{next(self._numbers)}"
        return Group(self._layout, path, resources)

    def give_back(self, kind: str, group: Group) -> bool:
        """Keep it for the next, or remove it; False while somebody is in it yet."""
        if not group.clear():
            return False
        waiting = self._waiting.get(kind)
        if waiting is None or group.changed or len(waiting) >= self._size:
            group.remove()
            return True
        group.reset()
        waiting.append(group)
        return True

    def forget(self, kind: str) -> None:
        """Remove those with limits that nobody asks for any more, and what is given back later."""
        for group in self._waiting.pop(kind, ()):
            group.remove()

    def close(self) -> None:
        """Remove all that wait."""
        for kind in list(self._waiting):
            self.forget(kind)

    def sweep(self) -> None:
        """Remove the cgroups of processes that are no more, with who is in them."""
        for hierarchy in reversed(self._layout.hierarchies):  # v2 first, which can kill
            for place in below(hierarchy.mountpoint + self._parent):
                name = os.path.basename(place)
                owner = name.removeprefix(_PREFIX).partition("-")[0]
                if not name.startswith(_PREFIX) or not owner.isdigit():
                    continue
                if control.alive(int(owner)):
                    continue
                with suppress(OSError, OrlopError):
                    control.kill_by_rounds(place)
                    control.remove(place)


def _view(cgroup: V1Cgroup) -> int:
    """Return a detached tree of mounts that shows the cgroup's folders, read-only."""
    words = (("mode", "755"), ("size", "64k"))
    root = filesystem("tmpfs", "tmpfs", Options(set_=_SEALED, filesystem=words))
    try:
        for controllers, path in cgroup.directories.items():
            name = controllers.removeprefix("name=") or "unified"
            os.mkdir(name, 0o755, dir_fd=root)
            target = os.open(name, _PATH, dir_fd=root)
            shown = bind(path, recursive=False)
            try:
                mount_setattr(shown, set_=_SEALED | _RDONLY)
                move_mount(shown, target)
            finally:
                os.close(shown)
                os.close(target)
            for alias in name.split(",") if "," in name else ():
                os.symlink(name, alias, dir_fd=root)
        mount_setattr(root, set_=_RDONLY)
    except BaseException:
        os.close(root)
        raise
    return root


def _number(fd: int) -> int:
    return int(os.pread(fd, 32, 0)) if fd >= 0 else 0


def _table(fd: int) -> dict[bytes, int]:
    if fd < 0:
        return {}
    words = os.pread(fd, 4096, 0).split()
    return {key: int(value) for key, value in zip(words[::2], words[1::2], strict=False)}

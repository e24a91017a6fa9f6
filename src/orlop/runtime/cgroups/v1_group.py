"""A v1 cgroup that is used again, on hybrid hosts with its folder in v2's hierarchy.

It is a directory in each of ten hierarchies, with limits and a list of device rules: to make
one costs ten times what its next use does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orlop.kernel.mount import mount_setattr, move_mount
from orlop.runtime.cgroups.files import read
from orlop.runtime.cgroups.reusable import (
    PRIVATE,
    RDONLY,
    SEALED,
    Counters,
    Group,
    number,
    remove_below,
)
from orlop.runtime.cgroups.v1 import V1Cgroup
from orlop.runtime.filesystems import bind, filesystem
from orlop.runtime.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orlop.model.oci import Resources
    from orlop.runtime.cgroups.layout import Layout

_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class V1Group(Group):
    """See reusable.Group."""

    def __init__(self, layout: Layout, path: str, resources: Resources) -> None:
        super().__init__(V1Cgroup.create(layout, path, resources))

    def _open(self) -> None:
        doors = self.cgroup.doors()
        self._opened += doors
        self.doors = doors
        folder = self.cgroup.clone_fd()
        self.folder = -1 if folder is None else self._keep(folder)
        self._used = self._of("cpuacct", "cpuacct.usage", os.O_RDWR)
        self._user = self._of("cpuacct", "cpuacct.usage_user")
        self._system = self._of("cpuacct", "cpuacct.usage_sys")
        self._oom = self._of("memory", "memory.oom_control")
        self._peak = self._of("memory", "memory.max_usage_in_bytes", os.O_RDWR)

    def _of(self, controller: str, name: str, mode: int = os.O_RDONLY) -> int:
        for controllers, directory in self.cgroup.directories.items():
            if controller in controllers.split(","):
                return self._file(directory, name, mode)
        return -1

    def _make_view(self) -> int:
        return _view(self.cgroup.directories)

    def _peak_bytes(self) -> int | None:
        return number(self._peak) if self._peak >= 0 else None

    def _counters(self) -> Counters:
        """Read them. Only the whole time is exact; it is split as the ticks of the clock fell.

        Not cpuacct.stat, which after a reset stands still until it is what it has been.
        """
        used, user, system = map(number, (self._used, self._user, self._system))
        user_ns = used * user // (user + system) if user + system else used
        return Counters(user_ns, used - user_ns, self.oom_kills())

    def clear(self) -> bool:
        """See Group.clear.

        The list is opened each time: who reads an open one again within a second gets what it
        was, and for another second (cgroup_pidlist_start() in the kernel).
        """
        directories = self.cgroup.directories.values()
        return not read(f"{next(iter(directories))}/tasks") and all(map(remove_below, directories))

    def _start_anew(self) -> None:
        self.cgroup.thaw()
        for counter in (self._peak, self._used):
            if counter >= 0:
                os.pwrite(counter, b"0", 0)


def _view(directories: Mapping[str, str]) -> int:
    """Return a detached tree of mounts that shows the cgroup's folders, read-only."""
    words = (("mode", "755"), ("size", "64k"))
    root = filesystem("tmpfs", "tmpfs", Options(set_=SEALED, filesystem=words))
    try:
        for controllers, path in directories.items():
            name = controllers.removeprefix("name=") or "unified"
            os.mkdir(name, 0o755, dir_fd=root)
            target = os.open(name, _PATH, dir_fd=root)
            shown = bind(path, recursive=False)
            try:
                mount_setattr(shown, set_=SEALED | RDONLY, propagation=PRIVATE)
                move_mount(shown, target)
            finally:
                os.close(shown)
                os.close(target)
            for alias in name.split(",") if "," in name else ():
                os.symlink(name, alias, dir_fd=root)
        mount_setattr(root, set_=RDONLY)
    except BaseException:
        os.close(root)
        raise
    return root

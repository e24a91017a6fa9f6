"""A v1 cgroup that is used again, on hybrid hosts with its folder in v2's hierarchy.

It is a directory in each of ten hierarchies, with limits and a list of device rules: to make
one costs ten times what its next use does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orlop.runtime.cgroups.files import read, read_table
from orlop.runtime.cgroups.reusable import (
    LITTLE_BYTES,
    Counters,
    Group,
    number,
    remove_below,
    table,
)
from orlop.runtime.cgroups.v1 import V1Cgroup

if TYPE_CHECKING:
    from orlop.model.oci import Resources
    from orlop.runtime.cgroups.layout import Layout


class V1Group(Group):
    """See reusable.Group."""

    def __init__(self, layout: Layout, path: str, resources: Resources) -> None:
        self._most_bytes = resources.get("memory", {}).get("limit", -1)
        self._has_quota = resources.get("cpu", {}).get("quota", -1) > 0
        super().__init__(V1Cgroup.create(layout, path, resources))

    def _open(self) -> None:
        doors = self.cgroup.doors()
        self._opened += doors
        self.doors = doors
        folder = self.cgroup.clone_fd()
        self.folder = -1 if folder is None else self._keep(folder)
        self._refused = self._of("pids", "pids.events")
        self._scheduled = self._of("cpu", "cpu.stat") if self._has_quota else -1
        self._used = self._of("cpuacct", "cpuacct.usage", os.O_RDWR)
        self._user = self._of("cpuacct", "cpuacct.usage_user")
        self._system = self._of("cpuacct", "cpuacct.usage_sys")
        self._oom = self._of("memory", "memory.oom_control")
        self._peak = self._of("memory", "memory.max_usage_in_bytes", os.O_RDWR)
        self._set_back = (
            *(self._peak, self._used),
            self._of("memory", "memory.memsw.max_usage_in_bytes", os.O_WRONLY),
            self._of("memory", "memory.kmem.max_usage_in_bytes", os.O_WRONLY),
            self._of("blkio", "blkio.reset_stats", os.O_WRONLY),
        )

    def _of(self, controller: str, name: str, mode: int = os.O_RDONLY) -> int:
        directory = self._folder_of(controller)
        return self._file(directory, name, mode) if directory else -1

    def _folder_of(self, controller: str) -> str:
        for controllers, directory in self.cgroup.directories.items():
            if controller in controllers.split(","):
                return directory
        return ""

    def _peak_bytes(self) -> int | None:
        return number(self._peak) if self._peak >= 0 else None

    def _counters(self) -> Counters:
        """Read them. Only the whole time is exact; it is split as the ticks of the clock fell.

        Not cpuacct.stat, which after a reset stands still until it is what it has been.
        """
        used, user, system = map(number, (self._used, self._user, self._system))
        user_ns = used * user // (user + system) if user + system else used
        periods = table(self._scheduled).get(b"nr_periods", 0)
        return Counters(user_ns, used - user_ns, self.oom_kills(), periods=periods)

    def clear(self) -> bool:
        """See Group.clear.

        The list is opened each time: who reads an open one again within a second gets what it
        was, and for another second (cgroup_pidlist_start() in the kernel).
        """
        directories = self.cgroup.directories.values()
        return not read(f"{next(iter(directories))}/tasks") and all(map(remove_below, directories))

    def _start_anew(self) -> None:
        self.cgroup.thaw()
        for counter in self._set_back:
            if counter >= 0:
                os.pwrite(counter, b"0", 0)

    def _has_met_a_limit(self) -> bool:
        """See Group. Memory is charged in lots: refusals are counted a little below the limit."""
        is_full = 0 <= self._most_bytes < number(self._peak) + LITTLE_BYTES
        throttled = table(self._scheduled).get(b"nr_throttled", 0)
        return is_full or throttled > 0 or table(self._refused).get(b"max", 0) > 0

    def _has_memory(self) -> bool:
        """See Group. The peak was set back to what is charged now, lots of each CPU included."""
        if self._peak < 0 or number(self._peak) < LITTLE_BYTES:
            return False
        charged = read_table(f"{self._folder_of('memory')}/memory.stat")
        return charged["total_cache"] + charged["total_rss"] >= LITTLE_BYTES

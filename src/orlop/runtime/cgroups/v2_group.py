"""A v2 cgroup that is used again, on hosts that have no other.

One directory, in which children are born (CLONE_INTO_CGROUP): a start writes nothing. Its
limits and its program for devices stay. Its counters cannot be set back, but for the peak of
its memory, so they are counted from where they were.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orlop.runtime.cgroups.files import read_table
from orlop.runtime.cgroups.reusable import (
    LITTLE_BYTES,
    Counters,
    Group,
    remove_below,
    table,
)
from orlop.runtime.cgroups.v2 import V2Cgroup

if TYPE_CHECKING:
    from orlop.model.oci import Resources
    from orlop.runtime.cgroups.layout import Layout

_MOST_BYTES = 1 << 16


class V2Group(Group):
    """See reusable.Group."""

    def __init__(self, layout: Layout, path: str, resources: Resources) -> None:
        self._peak = -1
        super().__init__(V2Cgroup.create(layout, path, resources))

    def _open(self) -> None:
        folder = self.cgroup.clone_fd()
        assert folder is not None
        self.folder = self._keep(folder)
        directory = self.cgroup.directories[""]
        self._events = self._file(directory, "cgroup.events")
        self._below = self._file(directory, "cgroup.stat")
        self._freeze = self._file(directory, "cgroup.freeze", os.O_RDWR)
        self._cpu = self._file(directory, "cpu.stat")
        self._oom = self._file(directory, "memory.events")
        self._refused = self._file(directory, "pids.events")
        self._io = self._file(directory, "io.stat")
        if self._peak < 0:
            self._peak = self._file(directory, "memory.peak", os.O_RDWR)
            if self._peak >= 0:  # it is reset for who has reset it by this descriptor
                self._opened.remove(self._peak)

    def _peak_bytes(self) -> int | None:
        return int(os.pread(self._peak, 32, 0)) if self._peak >= 0 else None

    def _counters(self) -> Counters:
        times = table(self._cpu)
        transfers = os.pread(self._io, _MOST_BYTES, 0).split() if self._io >= 0 else []
        return Counters(
            times[b"user_usec"] * 1000,
            times[b"system_usec"] * 1000,
            self.oom_kills(),
            _sum(transfers, b"rbytes="),
            _sum(transfers, b"wbytes="),
            times.get(b"nr_periods", 0),
        )

    def clear(self) -> bool:
        """See Group.clear."""
        self.open()
        if table(self._events)[b"populated"]:
            return False
        return not table(self._below)[b"nr_descendants"] or remove_below(
            self.cgroup.directories[""]
        )

    def _start_anew(self) -> None:
        if os.pread(self._freeze, 8, 0) != b"0\n":
            self.cgroup.thaw()
        if self._peak >= 0:
            os.pwrite(self._peak, b"reset", 0)

    def _has_met_a_limit(self) -> bool:
        return bool(
            table(self._oom).get(b"max")
            or table(self._refused).get(b"max")
            or table(self._cpu).get(b"nr_throttled")
        )

    def _has_memory(self) -> bool:
        """See Group. The peak was set back to what is charged now, lots of each CPU included."""
        if self._peak < 0 or int(os.pread(self._peak, 32, 0)) < LITTLE_BYTES:
            return False
        charged = read_table(f"{self.cgroup.directories['']}/memory.stat")
        return charged["file"] + charged["anon"] >= LITTLE_BYTES

    def remove(self) -> None:
        if self._peak >= 0:
            os.close(self._peak)
            self._peak = -1
        super().remove()


def _sum(words: list[bytes], key: bytes) -> int:
    """Return what all devices have counted under *key*: lines of "8:0 rbytes=1 wbytes=2 …"."""
    return sum(int(word[len(key) :]) for word in words if word.startswith(key))

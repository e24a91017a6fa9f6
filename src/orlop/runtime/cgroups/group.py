"""A cgroup below the container's for one process and everything it starts.

It is in one hierarchy only, because it limits nothing: v2's if the host has it. Processes
that leave their parent, session or process group stay in it, so a kill reaches them all.
"""

from __future__ import annotations

import os

from orlop.model.light import TYPE_CHECKING, cast
from orlop.model.light_context import suppress
from orlop.runtime.cgroups import control
from orlop.runtime.cgroups.entrance import Entrance
from orlop.runtime.cgroups.files import read_number, read_table

if TYPE_CHECKING:
    from orlop.runtime.cgroups.interface import Cgroup


def make(cgroup: Cgroup, name: str) -> Cgroup:
    """Make the group *name* and return the handle that a child enters instead of *cgroup*."""
    hierarchy, directory = _place(cgroup, name)
    os.mkdir(directory)
    return cast("Cgroup", Entrance(cgroup.path, {**cgroup.directories, hierarchy: directory}))


def kill(cgroup: Cgroup, name: str) -> None:
    """Kill everything in it; a group that is gone is no error."""
    hierarchy, directory = _place(cgroup, name)
    if hierarchy == "":
        control.kill_v2(directory)
    else:
        control.kill_by_rounds(directory)


def remove(cgroup: Cgroup, name: str) -> None:
    """Remove it; while a process is still in it, it stays until the container's is removed."""
    with suppress(OSError):
        os.rmdir(_place(cgroup, name)[1])


def times_us(entered: Cgroup) -> tuple[int, int] | None:
    """Return the user and system time of everything that was in what make() returned.

    None if the group's hierarchy does not count it.
    """
    hierarchy = _hierarchy(entered)
    directory = entered.directories[hierarchy]
    if hierarchy == "":
        stat = read_table(f"{directory}/cpu.stat")
        return (stat["user_usec"], stat["system_usec"]) if "user_usec" in stat else None
    names = ("cpuacct.usage_user", "cpuacct.usage_sys")
    user_ns, system_ns = (read_number(f"{directory}/{name}", -1) for name in names)
    return (user_ns // 1000, system_ns // 1000) if min(user_ns, system_ns) >= 0 else None


def _place(cgroup: Cgroup, name: str) -> tuple[str, str]:
    hierarchy = _hierarchy(cgroup)
    return hierarchy, f"{cgroup.directories[hierarchy]}/{name}"


def _hierarchy(cgroup: Cgroup) -> str:
    directories = cgroup.directories
    usable = [name for name in directories if "cpuset" not in name]  # a new cpuset is empty
    counting = [name for name in usable if "cpuacct" in name]
    return "" if "" in directories else min(counting or usable)

"""A process in a container and all that it starts, as a cgroup below the container's.

In one hierarchy alone, as it limits nothing: v2's where the host has it. Whoever leaves
his parent, his session or his process group stays in it, so a kill of it misses nobody.
"""

from __future__ import annotations

import os

from orlop.model.light import TYPE_CHECKING, cast
from orlop.model.light_context import suppress
from orlop.runtime.cgroups import control
from orlop.runtime.cgroups.entrance import Entrance

if TYPE_CHECKING:
    from orlop.runtime.cgroups.interface import Cgroup


def make(cgroup: Cgroup, name: str) -> Cgroup:
    """Make the group *name* and return what a child enters in place of *cgroup*."""
    hierarchy, directory = _place(cgroup, name)
    os.mkdir(directory)
    return cast("Cgroup", Entrance(cgroup.path, {**cgroup.directories, hierarchy: directory}))


def kill(cgroup: Cgroup, name: str) -> None:
    """Kill all that is in it; one that is gone is no error."""
    hierarchy, directory = _place(cgroup, name)
    if hierarchy == "":
        control.kill_v2(directory)
    else:
        control.kill_by_rounds(directory)


def remove(cgroup: Cgroup, name: str) -> None:
    """Remove it, unless somebody is in it yet: then it goes with the container's."""
    with suppress(OSError):
        os.rmdir(_place(cgroup, name)[1])


def _place(cgroup: Cgroup, name: str) -> tuple[str, str]:
    directories = cgroup.directories
    usable = (name for name in directories if "cpuset" not in name)  # a new cpuset is empty
    hierarchy = "" if "" in directories else min(usable)
    return hierarchy, f"{directories[hierarchy]}/{name}"

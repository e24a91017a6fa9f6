"""The cgroup of an existing container, and cgroups below it."""

from __future__ import annotations

import os

from orlop.errors import InvalidArgumentError, NotFoundError
from orlop.model.light import TYPE_CHECKING, cast
from orlop.runtime import cgroups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orlop.lifecycle.statefile import Record
    from orlop.runtime.cgroups.interface import Cgroup


def of_record(record: Record) -> Cgroup | None:
    """Return a handle of the container's cgroup; None if it has no own one."""
    path = record["orlop"]["cgroup"]
    systemd = bool(record["config"]["cgroups"].get("Systemd"))
    return cgroups.open(path, systemd=systemd) if path else None


def below(cgroup: Cgroup, places: Sequence[str]) -> Cgroup:
    """Return what a child enters instead of *cgroup*: cgroups below it, which must exist.

    A place is a PATH, in every hierarchy that has it, or CONTROLLER,…:PATH.
    """
    from orlop.runtime.cgroups.entrance import Entrance  # rare

    directories = dict(cgroup.directories)
    for place in places:
        names, colon, path = place.rpartition(":")
        if ".." in path.split("/"):
            raise InvalidArgumentError(f"cgroup {place!r} is not below the container's")
        path = f"/{path.strip('/')}"
        wanted = names.split(",") if colon else None
        found = False
        for controllers, directory in cgroup.directories.items():
            chosen = wanted is None or any(name in controllers.split(",") for name in wanted)
            if chosen and os.path.isdir(directory + path):
                directories[controllers] = directory + path
                found = True
        if not found:
            raise NotFoundError(f"there is no cgroup {place!r} below the container's")
    return cast("Cgroup", Entrance(cgroup.path, directories))

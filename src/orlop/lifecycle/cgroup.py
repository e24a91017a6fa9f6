"""The cgroup of a container that is there already."""

from __future__ import annotations

from orlop.runtime import cgroups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.lifecycle.record import Record
    from orlop.runtime.cgroups.interface import Cgroup


def of_record(record: Record) -> Cgroup:
    """Return a handle of the container's cgroup."""
    return cgroups.open(record["orlop"]["cgroup"])

"""The processes of a container."""

from __future__ import annotations

from orlop.lifecycle.cgroup import of_record
from orlop.lifecycle.record import is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.lifecycle.statefile import Record


def pids(record: Record) -> list[int]:
    """Return the pids in our pid namespace; none if the container has stopped."""
    cgroup = of_record(record)
    if cgroup is None:
        return [record["init_process_pid"]] if is_alive(record) else []
    return sorted(cgroup.pids())

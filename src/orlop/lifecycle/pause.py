"""Pause and resume all processes of a container."""

from __future__ import annotations

from orlop.errors import UnsupportedError, WrongStateError
from orlop.lifecycle.folder import Folder, Lock
from orlop.lifecycle.record import CREATED, PAUSED, RUNNING, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.lifecycle.statefile import Record
    from orlop.runtime.cgroups.interface import Cgroup


def pause(folder: Folder) -> None:
    """Freeze the container. WrongStateError unless it runs, or waits for its start."""
    with Lock(folder):
        record = folder.load()
        if status(folder, record) not in (RUNNING, CREATED):
            raise WrongStateError("container not running")
        _cgroup(record).freeze()


def resume(folder: Folder) -> None:
    """Thaw the container. WrongStateError unless it is paused."""
    with Lock(folder):
        record = folder.load()
        if status(folder, record) != PAUSED:
            raise WrongStateError("container not paused")
        _cgroup(record).thaw()


def _cgroup(record: Record) -> Cgroup:
    from orlop.lifecycle.cgroup import of_record

    if (cgroup := of_record(record)) is None:
        raise UnsupportedError(f"container {record['id']} has no cgroup of its own")
    return cgroup

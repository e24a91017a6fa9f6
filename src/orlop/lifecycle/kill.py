"""Send signals to a container's first process, or to all of them."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # no stub; the enums of signal cost 5 ms
import os

from orlop.errors import WrongStateError
from orlop.lifecycle.record import is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.lifecycle.statefile import Record

SIGKILL = 9


def send(record: Record, number: int) -> None:
    """Signal the first process. WrongStateError if it is gone."""
    try:
        pidfd = os.pidfd_open(record["init_process_pid"])
    except (ProcessLookupError, OSError):
        raise WrongStateError("container not running") from None
    try:
        if not is_alive(record):  # checked after opening the pidfd, so it is the same process
            raise WrongStateError("container not running")
        _signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise WrongStateError("container not running") from None
    finally:
        os.close(pidfd)


def kill(record: Record, number: int) -> None:
    """Signal the first process, as runc does; SIGKILL also goes to all that would outlive it.

    WrongStateError if it is gone, and no process has outlived it.
    """
    own = record["orlop"]
    others_live_on = bool(own["cgroup"]) and not own["own_pids"]
    if number != SIGKILL or not others_live_on:
        send(record, number)
        return
    try:
        send(record, number)
    except WrongStateError:
        from orlop.lifecycle.processes import pids

        if not record["init_process_pid"] or not pids(record):
            raise
    send_all(record, number)


def send_all(record: Record, number: int) -> None:
    """Signal every process in the container's cgroup; having none is no error."""
    from orlop.lifecycle.cgroup import of_record

    if (cgroup := of_record(record)) is None:
        send(record, number)
    else:
        cgroup.kill(number)

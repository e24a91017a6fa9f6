"""Signals for a container's first process, or for all of them."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # no stub; the enums of signal cost 5 ms
import os

from orlop.errors import InvalidArgumentError, WrongStateError
from orlop.lifecycle.record import is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.lifecycle.statefile import Record

SIGKILL = 9


def signal_number(text: str) -> int:
    """Return the number of "KILL", "SIGKILL", "9", "RTMIN+1"; InvalidArgumentError for none."""
    if text.isascii() and text.isdigit():
        number = int(text)
    else:
        name, plus, more = text.upper().removeprefix("SIG").partition("+")
        number = getattr(_signal, f"SIG{name}", -1) if name.isalnum() else -1
        if number > 0 and plus:
            number = number + int(more) if more.isdigit() else -1
    if not 0 <= number < _signal.NSIG:  # 0 asks whether it is there. kill(2)
        raise InvalidArgumentError(f'unknown signal "{text}"')
    return number


def send(record: Record, number: int) -> None:
    """Signal the first process. WrongStateError if it is gone."""
    try:
        pidfd = os.pidfd_open(record["init_process_pid"])
    except (ProcessLookupError, OSError):
        raise WrongStateError("container not running") from None
    try:
        if not is_alive(record):  # looked at after it was opened, so that it is the same process
            raise WrongStateError("container not running")
        _signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise WrongStateError("container not running") from None
    finally:
        os.close(pidfd)


def kill(record: Record, number: int) -> None:
    """Signal the first process, as runc does; SIGKILL is for all that would outlive it.

    WrongStateError if it is gone, and nothing has outlived it.
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
    """Signal every process in the container's cgroup; none is no error."""
    from orlop.lifecycle.cgroup import of_record

    if (cgroup := of_record(record)) is None:
        send(record, number)
    else:
        cgroup.kill(number)

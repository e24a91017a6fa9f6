"""Start a created container."""

from __future__ import annotations

import os

from orlop.errors import OrlopError, WrongStateError
from orlop.kernel.patience import read_in_time
from orlop.lifecycle.folder import Folder, Lock
from orlop.lifecycle.patience import START_S, patience_s
from orlop.lifecycle.record import CREATED, PAUSED, STOPPED, is_frozen, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.lifecycle.statefile import Record

_REFUSED = {
    STOPPED: "cannot start a container that has stopped",
    PAUSED: "cannot start a container in the paused state",
}
_MOST_REPORT = 64 << 10


def start(folder: Folder) -> Record:
    """Let the container's program run; return when it does, or raise the reason why not.

    A container whose program cannot be run is stopped; if its poststart hooks fail it is deleted.
    """
    with Lock(folder):
        record = folder.load()
        if (current := status(folder, record)) != CREATED:
            raise WrongStateError(
                _REFUSED.get(current, "cannot start an already running container")
            )
        notifier = None
        if os.environ.get("NOTIFY_SOCKET"):
            from orlop.lifecycle.notify import listen

            notifier = listen(folder)
        report = _open_gate(folder, record)
    if report:
        from orlop.runtime.failure import decode

        raise decode(f"cannot start container {folder.name}", report)
    if record["orlop"]["poststart"]:
        _run_poststart(folder, record)
    if notifier is not None:
        notifier.wait(record["init_process_pid"])
    return record


def _run_poststart(folder: Folder, record: Record) -> None:
    """Run the hooks; if one fails, the container is deleted. runtime.md, "Lifecycle"."""
    from orlop.lifecycle import hooks
    from orlop.lifecycle.delete import delete
    from orlop.lifecycle.execute import load_config

    try:
        hooks.started(record, load_config(folder))
    except OrlopError as error:
        error.hint = "; ".join(delete(folder, force=True)) or None  # failures of other hooks
        raise


def _open_gate(folder: Folder, record: Record) -> bytes:
    """Write the byte that lets the program run; return the report: empty, if it runs.

    If others in its pid namespace stop it, so that it never runs, it is killed.
    """
    outcome = os.open(folder.file("outcome"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.set_blocking(outcome, True)
        try:
            gate = os.open(folder.file("gate"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # no process has it open for reading
            raise WrongStateError(_REFUSED[STOPPED]) from None
        os.write(gate, b"g")
        os.close(gate)
        os.unlink(folder.file("gate"))
        report = b""
        while len(report) < _MOST_REPORT and (part := _next_part(outcome, folder, record)):
            report += part
        return report
    finally:
        os.close(outcome)


def _next_part(outcome: int, folder: Folder, record: Record) -> bytes:
    while True:
        try:
            return read_in_time(outcome, START_S)
        except TimeoutError:
            if is_frozen(record) or not _is_late(folder):
                continue
        from orlop.lifecycle.delete import end
        from orlop.runtime.parent import LATE

        end(record)
        return LATE


def _is_late(folder: Folder) -> bool:
    from orlop.lifecycle.execute import load_config

    return patience_s(load_config(folder)) is not None

"""From created to running."""

from __future__ import annotations

import os

from orlop.errors import WrongStateError
from orlop.lifecycle.folder import Folder, Lock
from orlop.lifecycle.record import CREATED, PAUSED, STOPPED, status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.lifecycle.statefile import Record

_REFUSED = {
    STOPPED: "cannot start a container that has stopped",
    PAUSED: "cannot start a container in the paused state",
}
_MOST_REPORT = 64 << 10


def start(folder: Folder) -> Record:
    """Let the container's program run; return once it does, or raise what kept it from it.

    A container whose program could not be run is stopped.
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
        report = _open_gate(folder)
    if report:
        from orlop.runtime.failure import decode

        raise decode(f"cannot start container {folder.name}", report)
    if record["orlop"]["poststart"]:
        from orlop.lifecycle import hooks
        from orlop.lifecycle.execute import load_config

        hooks.started(record, load_config(folder))
    if notifier is not None:
        notifier.wait(record["init_process_pid"])
    return record


def _open_gate(folder: Folder) -> bytes:
    """Write the byte that lets the program run; return what is told of it: nothing, if it runs."""
    outcome = os.open(folder.file("outcome"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.set_blocking(outcome, True)
        try:
            gate = os.open(folder.file("gate"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # nobody has it open for reading
            raise WrongStateError(_REFUSED[STOPPED]) from None
        os.write(gate, b"g")
        os.close(gate)
        os.unlink(folder.file("gate"))
        report = b""
        while len(report) < _MOST_REPORT and (part := os.read(outcome, 4096)):
            report += part
        return report
    finally:
        os.close(outcome)

"""Let a process run only after it has been recorded: see the runtime's bundle.Gate.

Until then it dies with us, so a killed caller leaves no unrecorded process.
"""

from __future__ import annotations

import os

from orlop.errors import OrlopError
from orlop.model.light_context import ExitStack, suppress
from orlop.runtime.bundle import Gate, Starting
from orlop.runtime.parent import settle, wait_created

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from orlop.lifecycle.folder import Folder


def open_gate(ours: ExitStack, folder: Folder | None = None) -> Gate:
    """Return a gate, closed by *ours*; with *folder*, with the FIFOs for a later start."""
    consent, consenting = os.pipe()
    ours.callback(os.close, consent)
    ours.callback(os.close, consenting)
    if folder is None:
        return Gate(consent, consenting)
    fifos = []
    for name in ("gate", "outcome"):
        os.mkfifo(folder.file(name), 0o600)
        # Also open for writing, so that it has no end of file when a writer closes it. fifo(7)
        fifos.append(os.open(folder.file(name), os.O_RDWR | os.O_CLOEXEC))
        ours.callback(os.close, fifos[-1])
    return Gate(consent, consenting, *fifos)


def admit(
    starting: Starting,
    gate: Gate,
    note: Callable[[Starting], Starting],
    *,
    timeout_s: float | None,
) -> Starting:
    """Wait for the process at its gate, *note* it, and let it run; if that raises, kill it."""
    wait_created(starting, timeout_s=timeout_s)
    with ExitStack() as undo:
        undo.callback(_abort, starting)
        starting = note(starting)
        os.write(gate.consenting, b"g")
        undo.pop_all()
    return starting


def _abort(starting: Starting) -> None:
    with suppress(OrlopError):
        settle(starting, b"?")  # kills, reaps, removes the cgroup if it was made for it

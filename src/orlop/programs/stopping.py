"""`orlop engine --stop`: ends the engine that runs, and the shim too if it holds nothing."""

import fcntl
import os
import select
import signal
import time
from pathlib import Path

from orlop.errors import UnavailableError
from orlop.shim.client import Client

_TIMEOUT_S = 20.0
_SETTLING_S = 1.0


def stop(lock_file: Path, shim_socket: Path) -> str:
    """End the engine that holds *lock_file*; return what to tell the user.

    Containers run on, and with them the shim. UnavailableError if the engine
    does not end in time.
    """
    pid = _holder(lock_file)
    if pid:
        _end(pid)
    refusal = _shut_down(shim_socket)
    if refusal:
        return f"the engine has ended; containers run on: {refusal}"
    return "the engine has ended" if pid else "no engine runs"


def _holder(lock_file: Path) -> int:
    """Return the pid of the engine that holds the lock; 0 if nobody does."""
    try:
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 20).decode().strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return 0


def _end(pid: int) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], _TIMEOUT_S)[0]:
            raise UnavailableError(
                f"the engine (pid {pid}) did not end within {_TIMEOUT_S:g} s",
                hint="look into engine.log",
            )
    finally:
        os.close(process)


def _shut_down(shim_socket: Path) -> str:
    """End the shim; return why it will not, "" if it does or is not there.

    It is asked more than once, for the end of a container takes a moment.
    """
    try:
        shim = Client(str(shim_socket))
    except UnavailableError:
        return ""
    deadline = time.monotonic() + _SETTLING_S
    try:
        while failure := shim.call({"op": "shutdown"}).get("error"):
            if time.monotonic() > deadline:
                return str(failure["message"])
            time.sleep(0.05)
    except (OSError, UnavailableError):
        pass  # it has gone
    finally:
        shim.close()
    return ""

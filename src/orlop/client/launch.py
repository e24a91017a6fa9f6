"""Start the engine on demand: the first client that finds none starts one for all.

    client A   lock start.lock   no answer   spawn engine   wait for the socket   unlock
    client B      (waits for the lock)                                     answer: go on

The engine is a session of its own and outlives its starter. Its words go to
engine.log in the run folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import time

from orlop.errors import OrlopError, PermissionDeniedError, UnavailableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.client.address import Settings
    from orlop.client.http import Connection

LOG_NAME = "engine.log"
_LOCK_NAME = "start.lock"
_TAIL_BYTES = 2000
_POLL_S = 0.005
#: What connect(2) says when there is no engine: no socket, or one that nobody listens on.
_ABSENT = (errno.ENOENT, errno.ECONNREFUSED)


def connect(
    connection: Connection, settings: Settings, *, refusal: OSError, timeout_s: float = 20.0
) -> None:
    """Start the engine that *settings* mean, if it is ours to start, and connect to it.

    *refusal* is what a first attempt to connect met. Raises UnavailableError if the
    engine cannot be started or does not answer within *timeout_s*;
    PermissionDeniedError if the user may not.
    """
    if settings.host is not None or refusal.errno not in _ABSENT:
        raise _refused(settings, refusal) from refusal
    if os.geteuid() != 0:
        raise PermissionDeniedError(
            "no engine is running, and only root can start it", hint="use sudo"
        )
    _start_one(connection, settings, timeout_s=timeout_s)


def _refused(settings: Settings, error: OSError) -> OrlopError:
    address = settings.address
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionDeniedError(
            f"permission denied at the engine's socket {address}", hint="use sudo"
        )
    return UnavailableError(
        f"cannot reach the engine at {address}: {(error.strerror or str(error)).lower()}",
        hint="is it running? ORLOP_HOST or --host names another",
    )


def _start_one(connection: Connection, settings: Settings, *, timeout_s: float) -> None:
    """Start an engine unless somebody else does so meanwhile; then connect to it."""
    lock = _lock(settings)
    try:
        if not _answers(connection):
            pid = _spawn(settings)
            _await(connection, settings, pid=pid, timeout_s=timeout_s)
    finally:
        os.close(lock)


def _lock(settings: Settings) -> int:
    try:
        os.makedirs(settings.run, mode=0o700, exist_ok=True)
        lock = os.open(f"{settings.run}/{_LOCK_NAME}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(
            f"cannot use the run folder {settings.run}: {(error.strerror or '').lower()}",
            hint="choose another with --run or ORLOP_RUN",
        ) from error
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _answers(connection: Connection) -> bool:
    try:
        connection.connect()
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise
    return True


def _spawn(settings: Settings) -> int:
    """Start the engine's process, detached, and return its pid."""
    log = os.open(
        f"{settings.run}/{LOG_NAME}",
        os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
        0o600,
    )
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.chdir("/")
            for target, source in enumerate((null, log, log)):
                os.dup2(source, target)
            os.execv(sys.executable, engine_command(settings))
        finally:
            os._exit(127)
    os.close(log)
    os.close(null)
    return pid


def engine_command(settings: Settings) -> list[str]:
    """Return the words that start the engine of *settings*; its folders are for ps(1) to show."""
    # Never the current folder on the module path: it may be anyone's. PYTHONPATH is the
    # user's own word (a source tree that is not installed), so it is kept when it is set.
    isolation = "-P" if os.environ.get("PYTHONPATH") else "-I"
    folders = ["--root", settings.root, "--run", settings.run]
    return [sys.executable, isolation, "-m", "orlop.programs.engine", *folders]


def _await(connection: Connection, settings: Settings, *, pid: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not _answers(connection):
        ended, _ = os.waitpid(pid, os.WNOHANG)
        if ended:
            raise UnavailableError(f"the engine did not start: {_log_tail(settings)}")
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"the engine did not answer within {timeout_s:g} s",
                hint=f"see {settings.run}/{LOG_NAME}",
            )
        time.sleep(_POLL_S)


def _log_tail(settings: Settings) -> str:
    """The last thing the engine said, for the user to read."""
    path = f"{settings.run}/{LOG_NAME}"
    try:
        with open(path, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1].strip() if lines else f"it left no word in {path}"

"""Run the engine's event loop: open its socket and serve it until a signal ends it."""

import asyncio
import contextlib
import errno
import logging
import logging.handlers
import os
import resource
import signal
import socket
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orlop.api.connections import Limits
from orlop.api.direct import DirectServer
from orlop.api.docker.app import HEADERS, DockerAPI
from orlop.api.http import Server
from orlop.api.late import LateServer, Program
from orlop.engine.engine import Engine
from orlop.engine.settings import Settings
from orlop.engine.telemetry.watchdog import Watchdog
from orlop.errors import UnavailableError
from orlop.kernel import allocator, low_descriptors
from orlop.model.plain import one_line, plain
from orlop.programs.observing import observed

log = logging.getLogger(__name__)

_LOG_NAME = "engine.log"
_LOG_BYTES = 4 << 20
_LOG_FILES = 3
_FIRST_PASSED_FD = 3  # sd_listen_fds(3)
_SOCKET_MODE = 0o660
_FILTERS = 4  # connections to packet filters: one for rules, one for tunnels, and spare ones
_DESCRIPTORS = 4  # one client is allowed for this many descriptors
_TOO_MANY = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SAID_AGAIN_S = 10.0
_THREADS = 64  # each waits for a disk or a registry most of the time


def log_to(settings: Settings) -> None:
    """Log to stderr; rotate it if it is our own log file."""
    path = settings.run / _LOG_NAME
    handler: logging.Handler = logging.StreamHandler()
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(2), path.stat()):
            handler = logging.handlers.RotatingFileHandler(
                path, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES
            )
    handler.setFormatter(Format("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = logging.DEBUG if settings.debug else logging.INFO
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class Format(logging.Formatter):
    """One line per record, with the fields of "extra" as name=value after the text."""

    _KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        fields = [one_line(f"{k}={v}") for k, v in vars(record).items() if k not in self._KNOWN]
        first, newline, rest = text.partition("\n")
        return " ".join((first, *fields)) + newline + plain(rest)


def _allow_descriptors() -> None:
    """Raise the limit: a container with names needs four descriptors."""
    low_descriptors.keep(_FILTERS)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Troubles:
    """Logs the event loop's errors; repeated accept failures only now and then."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log *context*, or now and then that clients wait because no descriptor is free."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _TOO_MANY and "socket" in context):
            loop.default_exception_handler(context)
        elif time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _SAID_AGAIN_S
            log.warning("new clients wait: too many open files", extra={"why": error.strerror})


async def serve(settings: Settings, watchdog: Watchdog) -> None:
    """Open the engine and answer its socket until SIGTERM or SIGINT."""
    _allow_descriptors()
    allocator.keep_little()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(Troubles().handle)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="engine"))
    async with Engine.open(settings) as engine, observed(engine, settings):
        engine.telemetry.watched(watchdog)
        api = DockerAPI(engine)
        server = Server(api, headers=HEADERS, limits=_limits())
        with (
            _listener(settings) as listener,
            contextlib.closing(DirectServer(engine, settings.direct_socket)),
        ):
            late = [
                LateServer(settings.cri_socket, lambda: _cri(engine)),
                LateServer(settings.containerd_socket, lambda: _containerd(engine)),
            ]
            await server.listen(listener)
            log.info("engine ready", extra={"root": settings.root, "run": settings.run})
            _notify("READY=1")
            await stop.wait()
            _notify("STOPPING=1")
            await asyncio.gather(server.close(), *(one.close() for one in late))
        _leave_if_busy(*api.changes, *(change for one in late for change in one.changes))
    log.info("engine stopped")


def _limits() -> Limits:
    """Return the limits for clients, derived from our own limit of descriptors."""
    most = min(Limits().most, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _DESCRIPTORS)
    return Limits(most=most, most_of_one=most // 2)


def _cri(engine: Engine) -> Program:
    from orlop.api.cri.app import server  # takes long to import

    return server(engine)


def _containerd(engine: Engine) -> Program:
    from orlop.api.containerd.app import server  # takes long to import

    return server(engine)


def _leave_if_busy(*changes: asyncio.Future[Any]) -> None:
    """Exit now if a thread is still running, such as a pull from a slow registry.

    A thread cannot be stopped, and the store must not be closed while it runs. The next
    start cleans up, as after a killed engine.
    """
    busy = set(changes).union(task for task in asyncio.all_tasks() if task.cancelling())
    if busy:
        log.warning("stopped with work under way", extra={"tasks": len(busy)})
        logging.shutdown()
        os._exit(0)


@contextlib.contextmanager
def _listener(settings: Settings) -> Iterator[socket.socket]:
    """Return the listening socket: a service manager's, or our own."""
    passed = _passed_socket()
    if passed is not None:
        with passed:
            yield passed
        return
    path = settings.api_socket
    path.unlink(missing_ok=True)  # left by a killed engine; we hold the lock
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.umask(0o777 & ~_SOCKET_MODE)
        try:
            listener.bind(str(path))
        except OSError as error:
            raise UnavailableError(f"cannot listen on {path}: {error.strerror or error}") from error
        finally:
            os.umask(before)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _passed_socket() -> socket.socket | None:
    """Return the socket that a service manager has opened for us. sd_listen_fds(3)."""
    count, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal() or not int(count):
        return None
    if not stat.S_ISSOCK(os.fstat(_FIRST_PASSED_FD).st_mode):
        raise UnavailableError("the descriptor in LISTEN_FDS is no socket")
    os.set_inheritable(_FIRST_PASSED_FD, False)  # noqa: FBT003 - os has no keyword
    return socket.socket(fileno=_FIRST_PASSED_FD)


def _notify(state: str) -> None:
    """Tell the service manager. sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, contextlib.suppress(OSError):
        manager.sendto(state.encode(), address)

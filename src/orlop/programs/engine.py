"""`orlop engine`: the engine's process.

Under a service manager it stays in the foreground, logs to stderr, takes its socket from
LISTEN_FDS and sends READY=1 to NOTIFY_SOCKET. If it is started on demand, its stderr is
<run>/engine.log, which it rotates. SIGTERM and SIGINT end it; containers keep running.

Most of its start is imports, and the start of the shim. They happen at the same time, so
this module imports little.
"""

import argparse
import contextlib
import errno
import fcntl
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from orlop.engine.settings import Settings, from_environment
from orlop.errors import OrlopError, UnavailableError, WrongStateError
from orlop.shim.launch import launch


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the engine until it is told to stop; return the exit code."""
    try:
        settings, is_to_stop = _settings(arguments)
        if is_to_stop:
            from orlop.programs.stopping import stop

            print(stop(settings.lock_file, settings.shim_socket))
            return 0
        with _lock(settings):
            _run(settings)
    except OrlopError as error:
        print(f"orlop engine: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"orlop engine: {error.strerror}: {error.filename}", file=sys.stderr)
        return 1
    return 0


def _run(settings: Settings) -> None:
    early = threading.Thread(target=_launch_shim, args=(settings,))
    early.start()
    try:
        import asyncio

        from orlop.engine.telemetry.watchdog import Watchdog
        from orlop.programs import serving  # takes as long as the shim needs to start
    finally:
        early.join()
    serving.log_to(settings)
    watchdog = Watchdog()
    with asyncio.Runner(loop_factory=watchdog.new_loop) as runner, watchdog.watching():
        runner.run(serving.serve(settings, watchdog))


def _launch_shim(settings: Settings) -> None:
    with contextlib.suppress(OrlopError, OSError):  # the engine tries again, and reports errors
        launch(str(settings.run))


def _settings(arguments: Sequence[str] | None) -> tuple[Settings, bool]:
    """Return the settings, and whether to stop their engine."""
    parser = argparse.ArgumentParser(prog="orlop engine", description="Run the engine.")
    parser.add_argument("--root", type=Path, metavar="DIR", help="what survives a reboot")
    parser.add_argument("--run", type=Path, metavar="DIR", help="sockets and running state")
    parser.add_argument(
        "--snapshotter", metavar="NAME", help="snapshot driver (default: the best the host can do)"
    )
    parser.add_argument("--debug", action="store_true", default=None, help="log every request")
    parser.add_argument(
        "--stop", action="store_true", help="end the engine that runs; containers run on"
    )
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value}
    is_to_stop = given.pop("stop", False)
    for name in given.keys() & {"root", "run"}:
        given[name] = given[name].absolute()
    return replace(from_environment(), **given), is_to_stop


@contextlib.contextmanager
def _lock(settings: Settings) -> Iterator[None]:
    """Lock these folders; WrongStateError if one of them has an engine already."""
    if os.geteuid() != 0:
        raise UnavailableError("the engine needs root", hint="use sudo")
    for folder in (settings.root, settings.run):
        _make(folder)
    with contextlib.ExitStack() as ours:
        for folder, option in {settings.run: "--run", settings.root: "--root"}.items():
            path = folder / settings.lock_file.name
            descriptor = _open_lock(path)
            ours.callback(os.close, descriptor)
            _take(descriptor, folder, option)
        yield


def _open_lock(path: Path) -> int:
    """Open the file, perhaps read-only: that is enough for a lock, on a read-only disk."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        with contextlib.suppress(OSError):
            if error.errno == errno.EROFS:
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        raise _unusable(path.parent, error) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from error


def _unusable(folder: Path, error: OSError) -> UnavailableError:
    said = (error.strerror or str(error)).lower()
    return UnavailableError(
        f"cannot use the folder {folder}: {said}", hint="choose others with --root and --run"
    )


def _take(descriptor: int, folder: Path, option: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(descriptor, 20).decode().strip() or "unknown"
        raise WrongStateError(
            f"another engine runs on {folder} (pid {pid})", hint=f"choose another {option}"
        ) from None
    text = f"{os.getpid()}\n".encode()
    with contextlib.suppress(OSError):  # on a full disk: the lock is held all the same
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))


if __name__ == "__main__":
    sys.exit(main())

"""Run the command of a command line; turn errors into log lines and exit codes.

A command's module is imported when the command runs, and has:

    class Args(Arguments): …                     its options and operands
    def run(args: Args, settings: Settings) -> int

An error that it raises becomes the log's last line, which Docker and containerd show to their
users, and a line on stderr.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # has no stub; the enums of signal cost 1 ms
import gc
import os
import sys

from orlop import __version__
from orlop.cli.options import Arguments, flag, operands, text
from orlop.cli.parser import HelpWanted, UsageError, parse
from orlop.errors import OrlopError
from orlop.programs.oci import sealing
from orlop.programs.oci.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    class Command(Protocol):
        """The interface of each command's module."""

        Args: type[Arguments]
        run: Callable[[Any, Settings], int]


NAME = "orlop-runtime"
_FAILURE = 1
_FAILURES = {"exec": 255}
_UNKNOWN_COMMAND = 3  # as in runc

#: Command -> its summary, for --help. Each is a module of this room.
COMMANDS: dict[str, str] = {
    "checkpoint": "checkpoint a running container",
    "create": "create a container",
    "delete": "delete any resources held by a container",
    "events": "display container events such as OOM notifications, and usage statistics",
    "exec": "execute a new process inside a container",
    "features": "show the enabled features",
    "kill": "send a signal (default: SIGTERM) to a container's first process",
    "list": "list containers",
    "pause": "suspend all processes inside a container",
    "ps": "display the processes running inside a container",
    "restore": "restore a container from a checkpoint",
    "resume": "resume the processes of a paused container",
    "run": "create and run a container",
    "spec": "create a new specification file",
    "start": "run the program of a created container",
    "state": "output the state of a container",
    "update": "update a container's resource constraints",
}
_INSIDE = ("create", "exec", "restore", "run")  # they make processes inside containers
_MODULES = {"exec": "execute"}  # for Python's reserved words


class Settings(Arguments):
    """The options before the command."""

    interspersed = False

    debug = flag("--debug", help="enable debug logging")
    log = text("--log", metavar="FILE", help="set the log file to write to (default: stderr)")
    log_format = text(
        "--log-format", metavar="FORMAT", default="text", help="text (default), or json"
    )
    log_level = text("--log-level", metavar="LEVEL", help="debug, warning or error (as crun)")
    root = text("--root", metavar="FOLDER", help="where the state of containers is kept")
    systemd_cgroup = flag("--systemd-cgroup", help="let systemd make cgroups")
    cgroup_manager = text(
        "--cgroup-manager",
        metavar="MANAGER",
        help="cgroupfs, systemd or disabled (as crun)",
        choices=("cgroupfs", "systemd", "disabled"),
    )
    rootless = text("--rootless", metavar="WORD", default="auto", help="true, false or auto")
    criu = text("--criu", metavar="PATH", help="accepted, as runc does, and not used")
    no_pivot = flag("--no-pivot", help="for every create and run (as crun)")
    version = flag("-v", "-V", "--version", help="print the version")
    words = operands("COMMAND", optional=True)

    @property
    def folder(self) -> str:
        """Return the folder of the containers' folders."""
        if self.root:
            return os.path.abspath(self.root)
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        if runtime and self.is_rootless:
            return os.path.join(runtime, NAME)
        return f"/run/{NAME}"

    @property
    def journal(self) -> Log:
        """Return the log for the options."""
        return Log(self.log, self.log_format)

    @property
    def is_rootless(self) -> bool:
        """Whether we are an ordinary user, or root in a user namespace, as under Podman."""
        if self.rootless in ("true", "false"):
            return self.rootless == "true"
        from orlop.kernel.idmap import is_of_host

        return os.geteuid() != 0 or not is_of_host()

    @property
    def uses_systemd(self) -> bool:
        return self.systemd_cgroup or self.cgroup_manager == "systemd"


def main(words: Sequence[str]) -> int:
    """Run one command line; return its exit code. A failure becomes the log's last line."""
    journal, is_debugged, failure = Log(), False, _FAILURE
    try:
        settings = parse(Settings, words, one_dash=True)
        journal, is_debugged = settings.journal, settings.debug
        failure = _FAILURES.get("".join(settings.words[:1]), _FAILURE)
        code = _run(settings, journal)
        sys.stdout.flush()
    except HelpWanted:
        return _print_overview()
    except Exception as error:
        if not (isinstance(error, BrokenPipeError) and _is_unread(1)):
            journal.error(_sentence(error))
            if is_debugged and not isinstance(error, (OrlopError, OSError)):
                _print_traceback(error)
        return _FAILURE if isinstance(error, UsageError) else failure
    return code


def _run(settings: Settings, journal: Log) -> int:
    name, *rest = settings.words or ["help"]
    if settings.version:
        return _print_version()
    if name == "help" or name not in COMMANDS:
        return _overview(journal, name, rest)
    command = load(name)
    try:
        arguments = _arguments(name, command.Args, rest)
    except HelpWanted:
        return _print_help(name)
    if settings.debug:
        journal.debug(f"{name} {' '.join(rest)} (root {settings.folder})")
    if name in _INSIDE:
        sealing.check()
        if reason := os.environ.pop(sealing.UNSEALED, ""):
            journal.warning(
                f"the interpreter could not be sealed in {reason}; "
                "a copy in memory runs instead, and each command takes longer"
            )
    return command.run(arguments, settings)


def load(name: str) -> Command:
    """Return the module of command *name*, imported now."""
    module = f"orlop.programs.oci.{_MODULES.get(name, name)}"
    __import__(module)
    return sys.modules[module]


def _arguments(name: str, arguments: type[Arguments], words: list[str]) -> Arguments:
    try:
        return parse(arguments, words, one_dash=True)
    except UsageError as error:
        raise UsageError(f'{NAME}: "{name}": {error}') from None


def _sentence(error: Exception) -> str:
    if isinstance(error, OrlopError):
        return str(error)
    if isinstance(error, OSError):
        named = f": {os.fsdecode(error.filename)}" if error.filename is not None else ""
        return f"{(error.strerror or str(error)).lower()}{named}"
    if isinstance(error, MemoryError):
        return "there is too little memory"
    return (
        f"internal error: {type(error).__name__}: {error}; this is a bug of {NAME} {__version__}: "
        "please tell those from whom you have it, with what --debug adds"
    )


def _print_traceback(error: Exception) -> None:
    import traceback

    traceback.print_exception(error)


def _is_unread(fd: int) -> bool:
    """Whether *fd* is a pipe without a reader, as after `head`."""
    import select

    poller = select.poll()
    poller.register(fd, 0)
    return any(events & select.POLLERR for _, events in poller.poll(0))


def _overview(journal: Log, name: str, rest: list[str]) -> int:
    if name != "help":
        journal.error(f"No help topic for '{name}'")
        return _UNKNOWN_COMMAND
    if not rest:
        return _print_overview()
    return _print_help(rest[0]) if rest[0] in COMMANDS else _overview(journal, rest[0], [])


def _print_help(name: str) -> int:
    from orlop.programs.oci import manual

    sys.stdout.write(manual.command(NAME, name, COMMANDS[name], load(name).Args))
    return 0


def _print_overview() -> int:
    from orlop.programs.oci import manual

    sys.stdout.write(manual.overview(NAME, Settings, COMMANDS))
    return 0


def _print_version() -> int:
    from orlop.programs.oci import manual

    sys.stdout.write(manual.version(NAME))
    return 0


def program() -> int:
    """Run this process's command line; its output is flushed when this returns.

    An interrupt ends it at once, like SIGKILL; delete undoes its work.
    """
    gc.disable()  # imports make no garbage, and looking for some takes 1 ms
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    _open_standard_streams()
    return main(sys.argv[1:])


def _open_standard_streams() -> None:
    """Make sure 0, 1 and 2 are open: otherwise our next file would be the container's stdin."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)  # noqa: FBT003 - a positional-only parameter
    os.close(fd)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - there to the end
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115

"""`orlop-runtime exec`."""

from __future__ import annotations

import os

from orlop.cli.options import Arguments, flag, number, operand, operands, text, texts
from orlop.errors import CorruptError, InvalidArgumentError
from orlop.lifecycle import execute
from orlop.lifecycle.folder import Folder, read
from orlop.model import jsontext
from orlop.model.oci_shape import PROCESS, check
from orlop.runtime.bundle import Stdio
from orlop.runtime.plan import capability_warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.model.oci import Capabilities, Config, Process, User
    from orlop.programs.oci.main import Settings


class Args(Arguments):
    interspersed = False

    console_socket = text(
        "--console-socket",
        metavar="SOCKET",
        help="path to an AF_UNIX socket that is sent the terminal's master",
    )
    pidfd_socket = text(
        "--pidfd-socket",
        metavar="SOCKET",
        help="path to an AF_UNIX socket that is sent a pidfd of the process",
    )
    cwd = text("--cwd", metavar="FOLDER", help="current working directory in the container")
    env = texts("-e", "--env", metavar="NAME=VALUE", help="set environment variables")
    tty = flag("-t", "--tty", help="allocate a pseudo-TTY")
    user = text("-u", "--user", metavar="UID[:GID]", help="the user")
    additional_gids = texts("-g", "--additional-gids", metavar="GID", help="additional groups")
    process = text("-p", "--process", metavar="FILE", help="path to the process.json")
    detach = flag("-d", "--detach", help="detach from the container's process")
    pid_file = text("--pid-file", metavar="FILE", help="write the process's pid to FILE")
    process_label = text("--process-label", metavar="LABEL", help="SELinux label of the process")
    apparmor = text("--apparmor", metavar="PROFILE", help="AppArmor profile of the process")
    no_new_privs = flag("--no-new-privs", help="the process gains no privileges by exec")
    cap = texts("-c", "--cap", metavar="CAPABILITY", help="add a capability to the process's")
    preserve_fds = number("--preserve-fds", help="pass N descriptors more (stdio + N in total)")
    cgroup = texts(
        "--cgroup",
        metavar="[CONTROLLER:]PATH",
        help="run the process in (existing) cgroups below the container's",
    )
    ignore_paused = flag("--ignore-paused", help="allow exec in a paused container")
    no_subreaper = flag("--no-subreaper", help="accepted: the process is our child anyhow")
    container = operand("container-id")
    words = operands("command", optional=True)


def run(args: Args, settings: Settings) -> int:
    """Run a command in a container; its exit code is ours, unless detached."""
    folder = Folder(settings.folder, args.container)
    config = execute.load_config(folder)
    process = _process(args, config)
    told = capability_warnings(config.get("process", {}), config)
    for warning in capability_warnings(process, config):
        if warning not in told:  # it was logged when the container was made
            settings.journal.warning(warning)
    wanted = execute.Request(
        process=process,
        pid_file=args.pid_file,
        console_socket=args.console_socket,
        pidfd_socket=args.pidfd_socket,
        preserve_fds=args.preserve_fds or 0,
        cgroups=tuple(args.cgroup),
        ignore_paused=args.ignore_paused,
        detach=args.detach,
    )
    if args.detach:
        starting = execute.run(folder, config, wanted, Stdio(0, 1, 2))
        os.close(starting.pidfd)
        return 0
    from orlop.programs.oci.foreground import Foreground, Streams

    with Foreground() as foreground, Streams() as streams:
        return foreground.serve(execute.run(folder, config, wanted, streams.stdio), streams)


def _process(args: Args, config: Config) -> Process:
    """Return the process for the options: the container's own, with changes."""
    if args.process:
        return _read_process(args.process)
    if not args.words:
        raise InvalidArgumentError("process args cannot be empty")
    process: Process = {**config.get("process", {})}
    process["args"] = args.words
    process["terminal"] = args.tty
    process["env"] = [*process.get("env", ()), *args.env]
    if args.cwd:
        process["cwd"] = args.cwd
    if args.apparmor:
        process["apparmorProfile"] = args.apparmor
    if args.process_label:
        process["selinuxLabel"] = args.process_label
    if args.no_new_privs:
        process["noNewPrivileges"] = True
    if args.user or args.additional_gids:
        process["user"] = _user(args, process.get("user", {}))
    if args.cap:
        _add_capabilities(process, args.cap)
    return process


def _read_process(path: str) -> Process:
    try:
        process: Process = jsontext.loads(read(path))
    except CorruptError as error:
        raise InvalidArgumentError(f"cannot read {path}: {error}") from error
    check(process, PROCESS, "process")
    return process


def _user(args: Args, user: User) -> User:
    changed: User = {**user}
    if args.user:
        uid, colon, gid = args.user.partition(":")
        changed.pop("username", None)
        changed["uid"] = _id("user", uid)
        if colon:
            changed["gid"] = _id("group", gid)
    changed["additionalGids"] = [
        *changed.get("additionalGids", ()),
        *(_id("group", gid) for word in args.additional_gids for gid in word.split(",")),
    ]
    return changed


def _id(kind: str, word: str) -> int:
    """Return an id; only digits: no name, sign, blank or other base."""
    if not (word.isascii() and word.isdigit()):
        raise InvalidArgumentError(f"{kind} {word!r} is no number", hint="UID[:GID]")
    return int(word)


def _add_capabilities(process: Process, names: list[str]) -> None:
    sets: Capabilities = {**process.get("capabilities", {})}
    sets["bounding"] = [*sets.get("bounding", ()), *names]
    sets["effective"] = [*sets.get("effective", ()), *names]
    sets["permitted"] = [*sets.get("permitted", ()), *names]
    if sets.get("inheritable"):  # without, there is no ambient set
        sets["ambient"] = [*sets.get("ambient", ()), *names]
    process["capabilities"] = sets

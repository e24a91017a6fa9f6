"""The common options of `create` and `run`."""

from __future__ import annotations

from orlop.cli.options import Arguments, flag, number, operand, text
from orlop.lifecycle.create import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from orlop.lifecycle.create import Created
    from orlop.programs.oci.main import Settings


class Making(Arguments):
    """Options of commands that make a container."""

    bundle = text(
        "-b",
        "--bundle",
        metavar="FOLDER",
        default=".",
        help="path to the root of the bundle (default: the current folder)",
    )
    config = text(
        "-f",
        "--config",
        metavar="FILE",
        default="config.json",
        help="the bundle's configuration (as crun; default: config.json)",
    )
    console_socket = text(
        "--console-socket",
        metavar="SOCKET",
        help="path to an AF_UNIX socket that is sent the terminal's master",
    )
    pidfd_socket = text(
        "--pidfd-socket",
        metavar="SOCKET",
        help="path to an AF_UNIX socket that is sent a pidfd of the first process",
    )
    pid_file = text("--pid-file", metavar="FILE", help="write the first process's pid to FILE")
    no_pivot = flag("--no-pivot", help="do not use pivot_root; for a root on a ramdisk")
    no_new_keyring = flag("--no-new-keyring", help="keep the calling process's session keyring")
    preserve_fds = number(
        "--preserve-fds", help="pass N descriptors more (stdio + $LISTEN_FDS + N in total)"
    )
    container = operand("container-id")


def warn(created: Created, settings: Settings) -> None:
    """Log the bundle's warnings."""
    for warning in created.warnings:
        settings.journal.warning(warning)


def request(args: Making, settings: Settings, *, detach: bool = True) -> Request:
    """Convert the options for the lifecycle's create() and run()."""
    return Request(
        bundle=args.bundle,
        config_file=args.config,
        pid_file=args.pid_file,
        console_socket=args.console_socket,
        pidfd_socket=args.pidfd_socket,
        preserve_fds=args.preserve_fds or 0,
        no_pivot=args.no_pivot or settings.no_pivot,
        no_new_keyring=args.no_new_keyring,
        systemd_cgroup=settings.uses_systemd,
        no_cgroup=settings.cgroup_manager == "disabled",
        detach=detach,
    )
